"""A power cut: every record that the spool acknowledged is on the disk, undamaged.

An ext4 file system in a file is copied while the spool writes to it. What the kernel holds in memory is not in the
copy, so it is what a machine finds after its power was cut; the journal is replayed when the copy is mounted.
"""

import os
import random
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import pytest

from streams.capture.spool.segment_files import SegmentDamage, SpoolEntry, encode_frame, identity_hash
from streams.capture.spool.spool import Spool, SpoolDisk, read_all_frames
from tests.conftest import unable

SEED = 20_260_305
MEBIBYTES = 24


@contextmanager
def mounted(image: Path, at: Path) -> Iterator[Path]:
    at.mkdir(exist_ok=True)
    done = subprocess.run(["mount", "-o", "loop", image, at], capture_output=True, text=True, check=False)
    if done.returncode:
        unable(f"no file system in a file can be mounted here: {done.stderr.strip()}")
    try:
        yield at
    finally:
        subprocess.run(["umount", at], check=True)


class Cuttable(SpoolDisk):
    """A disk of which an image can be taken between any two steps of the spool."""

    def __init__(self) -> None:
        # Held while the image is copied, so that the copy is consistent.
        self.moment = threading.Lock()

    def open(self, path: Path) -> int:
        with self.moment:
            return super().open(path)

    def write(self, descriptor: int, content: bytes) -> int:
        with self.moment:
            # Sometimes only a part is written, so that the power cut hits the middle of a frame.
            return super().write(descriptor, content[: random.randint(1, len(content))])

    def sync(self, descriptor: int) -> None:
        with self.moment:
            super().sync(descriptor)


class Writers:
    """Threads that append, and keep the acknowledged records."""

    def __init__(self, spool: Spool, threads: int = 8) -> None:
        self.acknowledged: list[bytes] = []
        self._spool, self._stopping = spool, threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(threads)]

    def __enter__(self) -> Self:
        for each in self._threads:
            each.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for each in self._threads:
            each.join(30)

    def _run(self, number: int) -> None:
        count = 0
        while not self._stopping.is_set():
            keys = [f"{number}-{count}-{each}".encode() for each in range(random.randint(1, 4))]
            entries = [SpoolEntry(0, identity_hash(key.decode()), key, os.urandom(60)) for key in keys]
            self._spool.append_and_wait(encode_frame(count, entries))
            self.acknowledged += keys
            count += 1


class Lying(Cuttable):
    """A disk that reports a sync without doing it."""

    def sync(self, descriptor: int) -> None:
        pass


def cut_power(tmp_path: Path, cuts: int, disk: Cuttable) -> tuple[int, int, int]:
    """Cut the power so often; returns the records acknowledged before, those missing, and the bytes damaged."""
    if os.geteuid() != 0:
        unable("mounting needs root")
    if shutil.which("mkfs.ext4") is None:
        unable("mkfs.ext4 is not there")
    chance = random.Random(SEED)
    image, copy = tmp_path / "disk", tmp_path / "copy"
    image.touch()
    os.truncate(image, MEBIBYTES << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", image], check=True)
    checked = missing = lost = 0
    with mounted(image, tmp_path / "before") as before:
        for cut in range(cuts):
            folder = before / f"spool{cut}"
            spool = Spool(folder, disk=disk)
            try:
                with Writers(spool) as writers:
                    time.sleep(chance.uniform(0.02, 0.25))
                    with disk.moment:
                        acknowledged = list(writers.acknowledged)
                        shutil.copyfile(image, copy)
            finally:
                spool.close()
            with mounted(copy, tmp_path / "after") as after:
                damage = SegmentDamage()
                found = {e.key for frame in read_all_frames(after / folder.name, damage) for e in frame.entries}
            checked += len(acknowledged)
            missing += sum(key not in found for key in acknowledged)
            lost += damage.lost_bytes
            shutil.rmtree(folder)
            os.sync()
    return checked, missing, lost


@pytest.mark.parametrize("cuts", [pytest.param(15, id="15"), pytest.param(100, id="100", marks=pytest.mark.faults)])
def test_no_acknowledged_record_is_missing_after_a_power_cut(tmp_path: Path, cuts: int) -> None:
    checked, missing, lost = cut_power(tmp_path, cuts, Cuttable())
    assert checked > 20 * cuts
    assert (missing, lost) == (0, 0)


def test_the_experiment_finds_a_spool_that_does_not_sync(tmp_path: Path) -> None:
    _, missing, _ = cut_power(tmp_path, 3, Lying())
    assert missing > 0
