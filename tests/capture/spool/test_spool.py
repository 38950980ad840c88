"""The spool: an acknowledged record is on disk, whatever fails. Nothing else is promised."""

import dataclasses
import errno
import os
import random
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from streams.capture.spool.forward_checkpoint import ForwardCheckpoint, load_forward_checkpoint
from streams.capture.spool.segment_files import (
    SegmentDamage,
    SpoolEntry,
    SpoolPosition,
    Target,
    encode_frame,
    identity_hash,
    list_segments,
    read_frames,
    segment_path,
)
from streams.capture.spool.spool import Spool, SpoolDisk, SpoolLimits, SpoolUnavailableError, read_all_frames
from streams.errors import Misconfigured
from tests.conftest import unable


def frame(*words: str) -> bytes:
    return encode_frame(1_000, [SpoolEntry(0, identity_hash(word), word.encode(), word.encode() * 3) for word in words])


def keys_on_disk(folder: Path) -> list[str]:
    return [(entry.key or b"").decode() for each in read_all_frames(folder) for entry in each.entries]


def append_until_rejected(spool: Spool, word: str) -> int:
    """The number of frames that were accepted before one was rejected."""
    for number in range(5_000):
        try:
            spool.append_and_wait(frame(word))
        except SpoolUnavailableError:
            return number
    raise AssertionError("no frame was rejected")


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    opened = Spool(tmp_path / "spool")
    yield opened
    opened.close()


class FaultyDisk(SpoolDisk):
    """A disk with the number of failures that a test sets."""

    def __init__(self) -> None:
        self.write_errors: list[int] = []
        self.sync_errors = 0
        self.truncate_errors = 0
        self.short = False
        self.syncs = 0

    def write(self, descriptor: int, content: bytes) -> int:
        if self.write_errors:
            # A disk that fills up still writes the first part.
            os.write(descriptor, content[: len(content) // 2])
            raise OSError(self.write_errors.pop(0), "no space left")
        return super().write(descriptor, content[: max(1, len(content) // 3)] if self.short else content)

    def sync(self, descriptor: int) -> None:
        self.syncs += 1
        if self.sync_errors:
            self.sync_errors -= 1
            raise OSError(errno.EIO, "input/output error")
        super().sync(descriptor)

    def truncate(self, descriptor: int, size: int) -> None:
        if self.truncate_errors:
            self.truncate_errors -= 1
            raise OSError(errno.EIO, "input/output error")
        super().truncate(descriptor, size)


class HangingDisk(SpoolDisk):
    """A disk whose sync blocks while `answers` is not set."""

    def __init__(self) -> None:
        self.answers = threading.Event()
        self.answers.set()

    def sync(self, descriptor: int) -> None:
        self.answers.wait()
        super().sync(descriptor)


def test_appended_frames_are_there_for_the_next_process(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    spool.append_and_wait(frame("a", "b"))
    spool.append_and_wait(frame("c"))
    assert [entry.value for each in spool.read_unsent() for entry in each.entries] == [b"aaa", b"bbb", b"ccc"]
    spool.close()
    again = Spool(tmp_path / "spool")
    again.append_and_wait(frame("d"))
    assert keys_on_disk(tmp_path / "spool") == ["a", "b", "c", "d"]
    assert [entry.key for each in again.read_unsent() for entry in each.entries] == [b"a", b"b", b"c", b"d"]
    again.close()


def test_waiting_requests_share_one_sync(tmp_path: Path) -> None:
    disk = FaultyDisk()
    go = threading.Event()
    slow = disk.sync

    def sync(descriptor: int) -> None:
        go.wait(10)
        slow(descriptor)

    disk.sync = sync  # type: ignore[method-assign]
    spool = Spool(tmp_path / "spool", disk=disk)
    outcomes: list[Exception | None] = []
    for number in range(200):
        spool.append(frame(str(number)), outcomes.append)
    assert outcomes == []
    go.set()
    spool.close()
    assert outcomes == [None] * 200
    assert disk.syncs <= 3
    assert len(keys_on_disk(tmp_path / "spool")) == 200


def test_a_full_disk_is_reported_and_the_spool_recovers_by_itself(tmp_path: Path) -> None:
    disk = FaultyDisk()
    spool = Spool(tmp_path / "spool", disk=disk)
    spool.append_and_wait(frame("a"))
    disk.write_errors = [errno.ENOSPC] * 2
    for word in ("b", "c"):
        with pytest.raises(SpoolUnavailableError) as error:
            spool.append_and_wait(frame(word))
        assert error.value.reason == "disk" and spool.write_error is not None
    spool.append_and_wait(frame("d"))
    assert spool.write_error is None and spool.unavailable_reason() is None
    damage = SegmentDamage()
    assert [entry.key for each in read_all_frames(tmp_path / "spool", damage) for entry in each.entries] == [b"a", b"d"]
    assert damage == SegmentDamage()
    spool.close()


def test_a_torn_frame_that_cannot_be_truncated_ends_its_segment(tmp_path: Path) -> None:
    disk = FaultyDisk()
    spool = Spool(tmp_path / "spool", disk=disk)
    spool.append_and_wait(frame("a"))
    disk.write_errors, disk.truncate_errors = [errno.EIO], 1
    with pytest.raises(SpoolUnavailableError):
        spool.append_and_wait(frame("b"))
    spool.append_and_wait(frame("c"))
    assert len(list_segments(tmp_path / "spool")) == 2
    damage = SegmentDamage()
    assert [entry.key for each in read_all_frames(tmp_path / "spool", damage) for entry in each.entries] == [b"a", b"c"]
    assert damage.torn_bytes > 0 and damage.lost_bytes == 0
    assert [entry.key for each in spool.read_unsent() for entry in each.entries] == [b"a", b"c"]
    spool.close()


def test_a_file_whose_sync_failed_is_never_synced_again(tmp_path: Path) -> None:
    disk = FaultyDisk()
    spool = Spool(tmp_path / "spool", disk=disk)
    spool.append_and_wait(frame("a"))
    disk.sync_errors = 1
    with pytest.raises(SpoolUnavailableError) as error:
        spool.append_and_wait(frame("b"))
    assert error.value.reason == "sync"
    spool.append_and_wait(frame("c"))
    first, second = list_segments(tmp_path / "spool")
    assert [entry.key for each in read_frames(tmp_path / "spool", second) for entry in each.entries] == [b"c"]
    assert b"a" in [entry.key for each in read_frames(tmp_path / "spool", first) for entry in each.entries]
    spool.close()


def test_short_writes_are_completed(tmp_path: Path) -> None:
    disk = FaultyDisk()
    disk.short = True
    spool = Spool(tmp_path / "spool", disk=disk)
    spool.append_and_wait(frame("a", "b"))
    spool.close()
    assert keys_on_disk(tmp_path / "spool") == ["a", "b"]


def test_it_accepts_up_to_the_limit_and_goes_on_after_forwarding(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", SpoolLimits(max_waiting_bytes=2_000))
    accepted = append_until_rejected(spool, "parcel")
    error = spool.unavailable_reason()
    assert error is not None and error.reason == "full" and accepted > 5
    spool.mark_sent(spool.durable_position)
    assert spool.waiting_bytes == 0 and spool.unavailable_reason() is None
    spool.append_and_wait(frame("more"))
    spool.close()
    assert len(keys_on_disk(tmp_path / "spool")) == accepted + 1


def test_segments_are_deleted_only_when_sent_and_expired(tmp_path: Path) -> None:
    folder = tmp_path / "spool"
    spool = Spool(folder, SpoolLimits(segment_bytes=200, retention_days=1))
    for number in range(20):
        spool.append_and_wait(frame(f"parcel {number}"))
    assert len(list_segments(folder)) > 3
    for number in list_segments(folder):
        os.utime(segment_path(folder, number), (0, 0))
    assert spool.delete_expired_segments() == 0
    spool.mark_sent(spool.durable_position)
    for number in list_segments(folder)[2:]:
        os.utime(segment_path(folder, number))
    assert spool.delete_expired_segments() == 2
    spool.close()
    assert load_forward_checkpoint(folder).position == spool.durable_position
    again = Spool(folder)
    assert list(again.read_unsent()) == [] and again.waiting_bytes == 0
    again.append_and_wait(frame("next"))
    assert [entry.key for each in again.read_unsent() for entry in each.entries] == [b"next"]
    again.close()


@pytest.mark.parametrize("zeros", [0, 1, 7, 8, 9, 4096])
def test_zeros_after_the_magic_of_a_frame_are_a_torn_write(tmp_path: Path, zeros: int) -> None:
    torn = b"PSF1" + bytes(zeros)
    segment_path(tmp_path, 1).write_bytes(frame("a") + torn)
    damage = SegmentDamage()
    assert [entry.key for each in read_frames(tmp_path, 1, damage=damage) for entry in each.entries] == [b"a"]
    assert (damage.torn_bytes, damage.lost_bytes) == (len(torn), 0)


def unsent(spool: Spool) -> list[bytes | None]:
    """The keys that a forwarder would send now, in order."""
    return [
        entry.key
        for each in spool.read_unsent()
        for entry in each.entries
        if entry.target in spool.checkpoint.targets - spool.checkpoint.targets_already_sent(each.end)
    ]


def frame_for_all_targets(name: str) -> bytes:
    """A frame with an entry for each target."""
    entries = [
        SpoolEntry(target, identity_hash(name, str(target)), f"{name}{target}".encode(), b"x" * 400)
        for target in (0, 1, 2)
    ]
    return encode_frame(1, entries)


def test_entries_of_targets_that_are_not_forwarded_yet_are_kept(tmp_path: Path) -> None:
    folder, limits = tmp_path / "spool", SpoolLimits(segment_bytes=500, retention_days=1)
    spool = Spool(folder, limits)
    for number in range(4):
        spool.append_and_wait(frame_for_all_targets(f"f{number}") if number % 2 else frame(f"f{number}" * 100))
    spool.mark_sent(spool.durable_position)
    for number in list_segments(folder):
        os.utime(segment_path(folder, number), (0, 0))
    assert (spool.delete_expired_segments(), len(list_segments(folder))) == (2, 2)
    assert spool.delete_expired_segments() == 0
    spool.close()
    # A version that forwards the new target begins with its oldest entry, and sends no other target again.
    spool = Spool(folder, limits)
    assert unsent(spool) == []
    spool.set_targets([0, 1])
    spool.append_and_wait(frame_for_all_targets("g"))
    assert unsent(spool) == [b"f11", b"f31", b"g0", b"g1"]
    assert spool.waiting_bytes == len(frame_for_all_targets("g")) and spool.delete_expired_segments() == 0
    spool.mark_sent(next(spool.read_unsent()).end)
    spool.close()
    # After a restart it goes on at the saved position.
    spool = Spool(folder, limits)
    spool.set_targets([0, 1])
    assert unsent(spool) == [b"f31", b"g0", b"g1"]
    spool.mark_sent(spool.durable_position)
    for number in list_segments(folder):
        os.utime(segment_path(folder, number), (0, 0))
    assert unsent(spool) == [] and spool.waiting_bytes == 0 and spool.delete_expired_segments() == 2
    spool.close()
    assert (
        load_forward_checkpoint(folder).targets == {0, 1}
        and load_forward_checkpoint(folder).position == spool.durable_position
    )


def test_a_target_added_while_another_catches_up_begins_at_the_oldest_record() -> None:
    first, later = SpoolPosition(1, 100), SpoolPosition(2, 50)
    initial = ForwardCheckpoint(later).with_targets([0, 1])
    assert (initial.position, initial.previous_position, initial.previous_targets) == (SpoolPosition(0, 0), later, {0})
    halfway = dataclasses.replace(initial, position=first)
    joined = halfway.with_targets([0, 1, 2])
    assert (joined.position, joined.previous_position, joined.previous_targets) == (SpoolPosition(0, 0), later, {0})
    assert joined.is_sent(0, first) and not joined.is_sent(1, first) and not joined.is_sent(2, first)
    assert halfway.is_sent(1, first) and not halfway.is_sent(1, later)
    # In a new spool there is nothing to catch up with.
    assert ForwardCheckpoint().with_targets([0, 1]).previous_position == SpoolPosition(0, 0)


def test_two_gateways_cannot_share_a_spool(spool: Spool) -> None:
    with pytest.raises(Misconfigured, match="in use"):
        Spool(spool.folder)


def test_the_error_names_a_folder_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Misconfigured, match="file"):
        Spool(tmp_path / "file" / "spool")


def test_after_closing_nothing_is_accepted(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    spool.close()
    outcomes: list[Exception | None] = []
    spool.append(frame("a"), outcomes.append)
    assert isinstance(outcomes[0], SpoolUnavailableError)


@given(data=st.data())
@examples(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damage_costs_only_the_frames_it_touches(tmp_path: Path, data: st.DataObject) -> None:
    folder = tmp_path / f"d{random.random()}"
    folder.mkdir()
    frames = [frame(f"word {number}") for number in range(8)]
    content = bytearray(b"".join(frames))
    kind = data.draw(st.sampled_from(["flip", "cut", "insert"]))
    offset = data.draw(st.integers(0, len(content) - 1))
    if kind == "flip":
        content[offset] ^= data.draw(st.integers(1, 255))
    elif kind == "cut":
        del content[offset:]
    else:
        content[offset:offset] = data.draw(st.binary(min_size=1, max_size=40))
    segment_path(folder, 1).write_bytes(content)
    ends = [sum(map(len, frames[: number + 1])) for number in range(8)]
    touched = next(number for number, end in enumerate(ends) if offset < end)
    damage = SegmentDamage()
    words = [(each.entries[0].key or b"").decode() for each in read_frames(folder, 1, damage=damage)]
    expected = [f"word {number}" for number in range(8)]
    if kind == "cut":
        expected = expected[:touched]
    elif kind == "flip" or offset != ends[touched] - len(frames[touched]):
        expected.remove(f"word {touched}")
    assert words == expected
    assert damage.lost_bytes + damage.torn_bytes > 0 or (kind == "cut" and offset in (0, *ends))
    shutil.rmtree(folder)


def test_positions_are_ordered() -> None:
    assert SpoolPosition(1, 900) < SpoolPosition(2, 0) < SpoolPosition(2, 5)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a file system of a fixed size needs root")
def test_a_file_system_that_is_really_full(tmp_path: Path) -> None:
    mount = tmp_path / "small"
    mount.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "spool", mount], capture_output=True, check=False)
    if done.returncode:
        unable(f"no file system can be mounted here: {done.stderr.decode()}")
    spool = Spool(mount / "spool")
    try:
        accepted = append_until_rejected(spool, "parcel" * 10)
        assert 10 < accepted < 2_000 and spool.write_error is not None and spool.write_error.reason == "disk"
        with pytest.raises(SpoolUnavailableError):
            spool.append_and_wait(frame("no" * 2_000))
        subprocess.run(["mount", "-o", "remount,size=1m", mount], check=True)
        spool.append_and_wait(frame("yes"))
        damage = SegmentDamage()
        words = [entry.key for each in read_all_frames(mount / "spool", damage) for entry in each.entries]
        assert words == [b"parcel" * 10] * accepted + [b"yes"] and damage == SegmentDamage()
    finally:
        spool.close()
        subprocess.run(["umount", mount], check=True)


def test_frames_of_an_earlier_process_are_synced_first(tmp_path: Path) -> None:
    class Counting(SpoolDisk):
        synced = 0

        def sync(self, descriptor: int) -> None:
            self.synced += 1
            super().sync(descriptor)

    frame = encode_frame(1, [SpoolEntry(Target.SCANS, identity_hash("a"), b"k", b"v")])
    segment_path(tmp_path, 1).write_bytes(frame)
    disk = Counting()
    spool = Spool(tmp_path, disk=disk)
    assert disk.synced == 1
    spool.close()


def test_sent_segments_are_not_visited_again_and_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "spool"
    first = Spool(folder, SpoolLimits(segment_bytes=200))
    for number in range(20):
        first.append_and_wait(frame(str(number)))
    first.mark_sent(first.durable_position)
    first.close()
    spool = Spool(folder)
    spool.append_and_wait(frame("new"))
    requested = list[int]()

    class Sizes(dict[int, int]):
        def get(self, number: int, default: int = 0) -> int:  # type: ignore[override]
            requested.append(number)
            return super().get(number, default)

        def items(self) -> NoReturn:
            raise AssertionError("all segments were counted")

    monkeypatch.setattr(spool, "_sizes", Sizes(spool._sizes))
    monkeypatch.setattr("streams.capture.spool.spool.list_segments", lambda _: pytest.fail("the folder was listed"))
    assert unsent(spool) == [b"new"] and spool.unavailable_reason() is None
    assert 0 < len(requested) <= 3
    monkeypatch.undo()
    spool.close()
