"""The spool: what was accepted is on stable storage before anybody is told so.

One thread writes. It takes all requests that wait, writes their frames, and syncs once for all of them (group commit);
while it syncs, the next group gathers. A write or a sync that fails is told to exactly those whose frames were in it;
the next group is tried again, so that the spool goes on by itself when there is space. After a failed sync nothing is
known about the file any more (the kernel may have dropped the pages and will not say so twice), so it is left and
another one begun.
"""

import fcntl
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from streams.capture.spool.forward_checkpoint import load_forward_checkpoint
from streams.capture.spool.segment_files import (
    SegmentDamage,
    SpoolFrame,
    SpoolPosition,
    Target,
    list_segments,
    read_frames,
    segment_path,
)
from streams.errors import Misconfigured, StreamsError

DEFAULT_SEGMENT_BYTES: Final = 64 << 20
# Frames that one group takes at most, so that the first of them does not wait for a write without end.
_GROUP_BYTES: Final = 16 << 20
_SAVE_SECONDS: Final = 1.0

DoneCallback = Callable[[Exception | None], None]


class SpoolUnavailableError(StreamsError):
    """The record is not on disk: try again later. `reason` is a word of a closed set."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class SpoolDisk:
    """What the spool asks of the operating system; tests give one that fails."""

    def open(self, path: Path) -> int:
        """A new file to append to, known to its folder for good."""
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        return descriptor

    def write(self, descriptor: int, content: bytes) -> int:
        """Write, possibly less than all of it."""
        return os.write(descriptor, content)

    def sync(self, descriptor: int) -> None:
        """Return when everything written is on stable storage."""
        os.fdatasync(descriptor)

    def truncate(self, descriptor: int, size: int) -> None:
        """Cut the file."""
        os.ftruncate(descriptor, size)
        os.lseek(descriptor, size, os.SEEK_SET)


@dataclass(frozen=True, slots=True)
class SpoolLimits:
    """How much the spool takes, and how long it keeps it."""

    # Bytes that wait for Kafka at most; beyond them nothing is accepted.
    waiting_bytes: int = 8 << 30
    retention_days: float = 7.0
    segment_bytes: int = DEFAULT_SEGMENT_BYTES
    # While the disk has not answered for so long, nothing more is accepted.
    stall_timeout_seconds: float = 10.0


@dataclass(slots=True)
class SpoolCounters:
    """What the writer did; read by metrics."""

    frames: int = 0
    groups: int = 0
    bytes: int = 0
    failures: int = 0
    sync_seconds: float = 0.0


class Spool:
    """One folder of segments, held by one process; `append` from any thread."""

    def __init__(
        self,
        folder: Path,
        limits: SpoolLimits = SpoolLimits(),
        deliver: Callable[[list[tuple[DoneCallback, Exception | None]]], None] | None = None,
        disk: SpoolDisk | None = None,
    ) -> None:
        """deliver: hands outcomes of a group over to whoever waits; by default they are called in the writer's thread.

        Raises:
            Misconfigured: the folder cannot be used, or another process holds it.
        """
        self.folder, self.limits = folder, limits
        self.tally = SpoolCounters()
        self._deliver = deliver or _call
        self._disk = disk or SpoolDisk()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock_file = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
            fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Misconfigured(f"{folder} is in use by another gateway; each needs a spool of its own") from None
        except OSError as error:
            raise Misconfigured(f"the spool {folder} cannot be used: {error.strerror}") from error
        found = list_segments(folder)
        self._settle(found)
        # Everything before `sent` is in Kafka; everything before `durable` is on disk.
        self.progress = load_forward_checkpoint(folder)
        self._segment = max([*found, self.progress.reached.segment, 0])
        # Before it there is none; those after it may be gone.
        self._oldest = min(found, default=self._segment)
        self._descriptor: int | None = None
        self._size = 0
        self._sizes = {number: segment_path(folder, number).stat().st_size for number in found}
        self.durable_position = SpoolPosition(self._segment, self._sizes.get(self._segment, 0))
        self._saved_at = 0.0
        # When the group on its way was begun (time.monotonic); None without one.
        self._begun: float | None = None
        # Segments that hold what nobody sends yet.
        self._held = set[int]()
        self.write_error: SpoolUnavailableError | None = None
        self._queue: deque[tuple[bytes, DoneCallback]] = deque()
        self._wake = threading.Condition()
        self._closing = False
        self.data_available = threading.Event()
        self._thread = threading.Thread(target=self._run, name="spool", daemon=True)
        self._thread.start()

    @property
    def sent(self) -> SpoolPosition:
        """Everything before this is in Kafka."""
        return self.progress.position

    # What requests call.

    @property
    def waiting_bytes(self) -> int:
        """Bytes on disk that are not in Kafka yet."""
        sent = self.progress.reached
        # Asked with every request: only what waits is counted, however much is kept behind it.
        total = sum(self._sizes.get(number, 0) for number in range(sent.segment, self._segment + 1))
        return max(total - sent.offset, 0) if sent.segment in self._sizes else total

    def unavailable_reason(self) -> SpoolUnavailableError | None:
        """Why nothing can be accepted now; None when it can be tried."""
        if self._closing:
            return SpoolUnavailableError("stopping", "the gateway is stopping")
        if self.waiting_bytes >= self.limits.waiting_bytes:
            return SpoolUnavailableError("full", "Kafka is away and the spool is as full as it may be")
        begun = self._begun
        if begun is not None and time.monotonic() - begun > self.limits.stall_timeout_seconds:
            # What came now would be answered too late, and wait in memory beside what comes again because of that.
            return SpoolUnavailableError("slow", "the disk does not answer")
        return None

    def append(self, frame: bytes, done: DoneCallback) -> None:
        """Write a frame; `done` is called with None when it is on stable storage, else with SpoolUnavailable."""
        with self._wake:
            if not self._closing:
                self._queue.append((frame, done))
                self._wake.notify()
                return
        self._deliver([(done, SpoolUnavailableError("stopping", "the gateway is stopping"))])

    def append_and_wait(self, frame: bytes, seconds: float = 30.0) -> None:
        """Write a frame and return when it is on stable storage.

        Raises:
            SpoolUnavailable: it is not.
        """
        finished = threading.Event()
        outcome: list[Exception | None] = []

        def done(error: Exception | None) -> None:
            outcome.append(error)
            finished.set()

        self.append(frame, done)
        if not finished.wait(seconds):
            raise SpoolUnavailableError("slow", f"the disk did not answer within {seconds:g} s")
        if outcome[0] is not None:
            raise outcome[0]

    def close(self) -> None:
        """Write what waits, and stop."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join()
        self._leave_segment()
        self._save_sent(force=True)
        os.close(self._lock_file)

    # What the sender calls.

    def send(self, targets: Iterable[int]) -> None:
        """From now on records of these targets are sent; of a target that is new, from the oldest on."""
        self.progress = self.progress.with_targets(targets)

    def read_unsent(self, start: SpoolPosition | None = None) -> Iterator[SpoolFrame]:
        """Durable frames from `start` (by default: from where Kafka has everything) to the end as it is now."""
        begin, end = start or self.sent, self.durable_position
        # Asked hundreds of times a second: the folder is not listed, which takes as long as there are segments kept.
        for number in range(max(begin.segment, self._oldest), end.segment + 1):
            last = end.offset if number == end.segment else None
            yield from read_frames(self.folder, number, begin.offset if number == begin.segment else 0, last)

    def mark_sent(self, position: SpoolPosition) -> None:
        """Everything before `position` is acknowledged by Kafka."""
        if position > self.sent:
            self.progress = replace(self.progress, position=position)
            self._save_sent()

    def delete_expired_segments(self, now: float | None = None) -> int:
        """Delete segments that are in Kafka and older than they are kept; how many were.

        Those with records of a target that nobody sends yet stay until somebody does.
        """
        before = (time.time() if now is None else now) - self.limits.retention_days * 86400
        gone = 0
        for number in list_segments(self.folder):
            path = segment_path(self.folder, number)
            if number >= min(self.sent.segment, self._segment) or path.stat().st_mtime >= before:
                continue
            if not self._holds_back(number):
                path.unlink()
                self._sizes.pop(number, None)
                gone += 1
        return gone

    def _holds_back(self, number: int) -> bool:
        if number not in self._held:
            sent = self.progress.targets | {Target.EVENT_ONLY}
            if any(entry.target not in sent for frame in read_frames(self.folder, number) for entry in frame.entries):
                self._held.add(number)
        return number in self._held

    def _settle(self, numbers: Sequence[int]) -> None:
        """Sync what an earlier process left: a frame that it wrote and did not sync can be read, and is not on disk.

        Whoever sends it again is told that it is known; that is true only behind this.
        """
        try:
            for number in numbers:
                descriptor = os.open(segment_path(self.folder, number), os.O_RDONLY | os.O_CLOEXEC)
                try:
                    self._disk.sync(descriptor)
                finally:
                    os.close(descriptor)
        except OSError as error:
            raise Misconfigured(f"the spool {self.folder} cannot be synced: {error.strerror}") from error

    # The writer's thread.

    def _run(self) -> None:
        while True:
            with self._wake:
                while not self._queue and not self._closing:
                    self._wake.wait()
                if not self._queue:
                    return
                group, size = [], 0
                while self._queue and size < _GROUP_BYTES:
                    group.append(self._queue.popleft())
                    size += len(group[-1][0])
            self._begun = time.monotonic()
            error = self._commit([frame for frame, _ in group], size)
            self._begun = None
            self._deliver([(done, error) for _, done in group])

    def _commit(self, frames: Sequence[bytes], size: int) -> SpoolUnavailableError | None:
        refused = None if self._closing else self.unavailable_reason()
        if refused is not None:
            return refused
        try:
            if self._descriptor is None or self._size >= self.limits.segment_bytes:
                self._begin_segment()
            assert self._descriptor is not None
            self._write(self._descriptor, b"".join(frames))
        except OSError as error:
            return self._failed("disk", error)
        begun = time.monotonic()
        try:
            self._disk.sync(self._descriptor)
        except OSError as error:
            # Its pages may be gone without another error: never sync this file again.
            self._leave_segment()
            return self._failed("sync", error)
        self.tally.sync_seconds += time.monotonic() - begun
        self._size += size
        self._sizes[self._segment] = self._size
        self.durable_position = SpoolPosition(self._segment, self._size)
        self.write_error = None
        self.tally.groups += 1
        self.tally.frames += len(frames)
        self.tally.bytes += size
        self.data_available.set()
        return None

    def _write(self, descriptor: int, content: bytes) -> None:
        view, written = memoryview(content), 0
        try:
            while written < len(content):
                written += self._disk.write(descriptor, bytes(view[written:]) if written else content)
        except OSError:
            try:
                self._disk.truncate(descriptor, self._size)
            except OSError:
                self._leave_segment()
            raise

    def _begin_segment(self) -> None:
        self._leave_segment()
        number = max([self._segment, *list_segments(self.folder)]) + 1
        self._descriptor = self._disk.open(segment_path(self.folder, number))
        self._segment, self._size = number, 0
        self._sizes[number] = 0

    def _leave_segment(self) -> None:
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            os.close(descriptor)

    def _failed(self, reason: str, error: OSError) -> SpoolUnavailableError:
        self.tally.failures += 1
        self.write_error = SpoolUnavailableError(reason, f"the spool cannot be written: {error.strerror or error}")
        return self.write_error

    def _save_sent(self, *, force: bool = False) -> None:
        # Behind by a second at most: what is sent again after a crash is a duplicate, and those are harmless.
        now = time.monotonic()
        if not force and now - self._saved_at < _SAVE_SECONDS:
            return
        try:
            self.progress.write(self.folder)
        except OSError:
            # A full disk: the position stays behind, which costs duplicates only.
            return
        self._saved_at = now


def read_all_frames(
    folder: Path, damage: SegmentDamage | None = None, only: Sequence[int] | None = None
) -> Iterator[SpoolFrame]:
    """All frames of a spool, or those of some segments; nobody need hold it."""
    for number in list_segments(folder) if only is None else only:
        yield from read_frames(folder, number, damage=damage)


def _call(outcomes: list[tuple[DoneCallback, Exception | None]]) -> None:
    for done, error in outcomes:
        done(error)
