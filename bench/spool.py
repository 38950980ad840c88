"""Two ways to store records on disk before the answer: an append log and SQLite. Both sync once a group."""

import os
import sqlite3
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench.common import console
from streams.capture.spool.segment_files import SpoolEntry, encode_frame, identity_hash

_RECORD = 150


def log(folder: Path, group: int, seconds: float) -> tuple[int, int]:
    """Groups and records written: frames with checksums to one file, one fdatasync a group."""
    descriptor = os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    groups, begun = 0, time.perf_counter()
    while time.perf_counter() - begun < seconds:
        entries = [
            SpoolEntry(0, identity_hash(str(each)), b"LP00000000000017", os.urandom(_RECORD)) for each in range(group)
        ]
        os.write(descriptor, encode_frame(groups, entries))
        os.fdatasync(descriptor)
        groups += 1
    os.close(descriptor)
    return groups, groups * group


def sqlite(folder: Path, group: int, seconds: float) -> tuple[int, int]:
    """The same in SQLite: WAL, synchronous=FULL, one transaction a group."""
    base = sqlite3.connect(folder / "base", isolation_level=None)
    base.execute("PRAGMA journal_mode=WAL")
    base.execute("PRAGMA synchronous=FULL")
    base.execute("CREATE TABLE spool (at INTEGER PRIMARY KEY, target INT, same BLOB, key BLOB, value BLOB)")
    groups, begun = 0, time.perf_counter()
    while time.perf_counter() - begun < seconds:
        rows = [(0, identity_hash(str(each)), b"LP00000000000017", os.urandom(_RECORD)) for each in range(group)]
        base.execute("BEGIN")
        base.executemany("INSERT INTO spool (target, same, key, value) VALUES (?, ?, ?, ?)", rows)
        base.execute("COMMIT")
        groups += 1
    base.close()
    return groups, groups * group


WAYS: dict[str, Callable[[Path, int, float], tuple[int, int]]] = {"append log": log, "SQLite": sqlite}


def main(seconds: float = 3.0) -> int:
    """Print groups/s and records/s of both, interleaved, for several group sizes."""
    for group in (1, 10, 100, 1_000):
        for name, way in WAYS.items():
            with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
                begun = time.perf_counter()
                groups, records = way(Path(folder), group, seconds)
                passed = time.perf_counter() - begun
            figures = f"{groups / passed:8,.0f} groups/s {records / passed:10,.0f} records/s"
            console.print(f"{name:11} groups of {group:5,}: {figures}")
    return 0
