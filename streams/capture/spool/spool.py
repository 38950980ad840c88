"""The spool: it brings records to stable storage before their acceptance is acknowledged.

One thread writes. It takes all waiting frames, writes them, and syncs once for all of them (group commit). Meanwhile
the next group gathers. A failed write or sync fails exactly the frames of its group. The next group tries again, so
that the spool recovers by itself when there is space. After a failed sync the state of the file is unknown, because the
kernel may have dropped the pages and reports the error only once. So the spool leaves this file and begins another.
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
# Limit of a group, so that its first frame does not wait for an endless write.
_MAX_GROUP_BYTES: Final = 16 << 20
_CHECKPOINT_SECONDS: Final = 1.0

DoneCallback = Callable[[Exception | None], None]


class SpoolUnavailableError(StreamsError):
    """The record is not on disk: try again later. `reason` is stopping, full, slow, disk or sync."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class SpoolDisk:
    """The calls of the spool to the operating system; tests replace it by one that fails."""

    def open(self, path: Path) -> int:
        """Create a file for appending, and sync its folder."""
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        return descriptor

    def write(self, descriptor: int, content: bytes) -> int:
        """Write; return the number of bytes written, which may be less than all."""
        return os.write(descriptor, content)

    def sync(self, descriptor: int) -> None:
        """Return when everything written is on stable storage."""
        os.fdatasync(descriptor)

    def truncate(self, descriptor: int, size: int) -> None:
        """Truncate the file."""
        os.ftruncate(descriptor, size)
        os.lseek(descriptor, size, os.SEEK_SET)


@dataclass(frozen=True, slots=True)
class SpoolLimits:
    """Limits of the size of the spool and of the time that it keeps records."""

    # Limit of the bytes that wait for Kafka; above it nothing is accepted.
    max_waiting_bytes: int = 8 << 30
    retention_days: float = 7.0
    segment_bytes: int = DEFAULT_SEGMENT_BYTES
    # Nothing is accepted while a write or sync has taken longer than this.
    stall_timeout_seconds: float = 10.0


@dataclass(slots=True)
class SpoolCounters:
    """Totals of the writer since its start, for metrics."""

    frames: int = 0
    group_commits: int = 0
    bytes: int = 0
    failures: int = 0
    sync_seconds: float = 0.0


class Spool:
    """One folder of segments, locked by one process; `append` may be called from any thread."""

    def __init__(
        self,
        folder: Path,
        limits: SpoolLimits = SpoolLimits(),
        deliver: Callable[[list[tuple[DoneCallback, Exception | None]]], None] | None = None,
        disk: SpoolDisk | None = None,
    ) -> None:
        """Open the spool, and sync what an earlier process left.

        Args:
            folder: folder of the segments; it is created if it does not exist.
            limits: limits of size and time.
            deliver: calls the callbacks of a group; by default they are called in the writer's thread.
            disk: calls to the operating system.

        Raises:
            Misconfigured: the folder cannot be used, or another process has locked it.
        """
        self.folder, self.limits = folder, limits
        self.counters = SpoolCounters()
        self._deliver = deliver or _call_each
        self._disk = disk or SpoolDisk()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock_file = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
            fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Misconfigured(f"{folder} is in use by another gateway; each needs a spool of its own") from None
        except OSError as error:
            raise Misconfigured(f"the spool {folder} cannot be used: {error.strerror}") from error
        numbers = list_segments(folder)
        self._sync_segments(numbers)
        # Everything before `sent_position` is in Kafka; everything before `durable_position` is on disk.
        self.checkpoint = load_forward_checkpoint(folder)
        self._segment = max([*numbers, self.checkpoint.furthest_position.segment, 0])
        # No segment is older. Newer ones may have been deleted since.
        self._oldest = min(numbers, default=self._segment)
        self._descriptor: int | None = None
        self._size = 0
        self._sizes = {number: segment_path(folder, number).stat().st_size for number in numbers}
        self.durable_position = SpoolPosition(self._segment, self._sizes.get(self._segment, 0))
        self._checkpoint_saved_at = 0.0
        # Begin of the running group commit (time.monotonic); None between group commits.
        self._commit_begun: float | None = None
        # Segments with entries of targets that are not forwarded yet.
        self._retained = set[int]()
        self.write_error: SpoolUnavailableError | None = None
        self._queue: deque[tuple[bytes, DoneCallback]] = deque()
        self._wake = threading.Condition()
        self._closing = False
        self.data_available = threading.Event()
        self._thread = threading.Thread(target=self._run, name="spool", daemon=True)
        self._thread.start()

    @property
    def sent_position(self) -> SpoolPosition:
        """Everything before this is in Kafka."""
        return self.checkpoint.position

    # Called for requests.

    @property
    def waiting_bytes(self) -> int:
        """Bytes on disk that are not in Kafka yet."""
        sent = self.checkpoint.furthest_position
        # Called with every request, so it counts only the segments that wait, not those that are kept.
        total = sum(self._sizes.get(number, 0) for number in range(sent.segment, self._segment + 1))
        return max(total - sent.offset, 0) if sent.segment in self._sizes else total

    def unavailable_reason(self) -> SpoolUnavailableError | None:
        """Why nothing can be accepted now; None when it can be tried."""
        if self._closing:
            return SpoolUnavailableError("stopping", "the gateway is stopping")
        if self.waiting_bytes >= self.limits.max_waiting_bytes:
            return SpoolUnavailableError("full", "the spool is full because Kafka does not accept records")
        begun = self._commit_begun
        if begun is not None and time.monotonic() - begun > self.limits.stall_timeout_seconds:
            # A request accepted now would be answered too late. It would wait in memory beside its own repeats.
            return SpoolUnavailableError("slow", "the disk of the gateway does not answer")
        return None

    def append(self, frame: bytes, on_done: DoneCallback) -> None:
        """Write a frame. `on_done` gets None when the frame is on stable storage, else a SpoolUnavailableError."""
        with self._wake:
            if not self._closing:
                self._queue.append((frame, on_done))
                self._wake.notify()
                return
        self._deliver([(on_done, SpoolUnavailableError("stopping", "the gateway is stopping"))])

    def append_and_wait(self, frame: bytes, timeout_seconds: float = 30.0) -> None:
        """Write a frame and return when it is on stable storage.

        Raises:
            SpoolUnavailableError: the frame could not be stored.
        """
        finished = threading.Event()
        outcome: list[Exception | None] = []

        def finish(error: Exception | None) -> None:
            outcome.append(error)
            finished.set()

        self.append(frame, finish)
        if not finished.wait(timeout_seconds):
            raise SpoolUnavailableError("slow", f"the disk did not answer within {timeout_seconds:g} s")
        if outcome[0] is not None:
            raise outcome[0]

    def close(self) -> None:
        """Write the waiting frames, and stop."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join()
        self._close_segment()
        self._save_checkpoint(force=True)
        os.close(self._lock_file)

    # Called by the forwarder.

    def set_targets(self, targets: Iterable[int]) -> None:
        """Forward these targets from now on; a new one from the oldest record on."""
        self.checkpoint = self.checkpoint.with_targets(targets)

    def read_unsent(self, start: SpoolPosition | None = None) -> Iterator[SpoolFrame]:
        """Durable frames from `start` (by default the sent position) to the current end."""
        begin, end = start or self.sent_position, self.durable_position
        # Called hundreds of times a second. Listing the folder would take longer the more segments are kept.
        for number in range(max(begin.segment, self._oldest), end.segment + 1):
            last_offset = end.offset if number == end.segment else None
            first_offset = begin.offset if number == begin.segment else 0
            yield from read_frames(self.folder, number, first_offset, last_offset)

    def mark_sent(self, position: SpoolPosition) -> None:
        """Note that Kafka has acknowledged everything before `position`."""
        if position > self.sent_position:
            self.checkpoint = replace(self.checkpoint, position=position)
            self._save_checkpoint()

    def delete_expired_segments(self, now: float | None = None) -> int:
        """Delete the segments that are in Kafka and older than the retention time; return their number.

        Segments with entries of a target that is not forwarded yet are kept until it is.
        """
        expiry_time = (time.time() if now is None else now) - self.limits.retention_days * 86400
        deleted = 0
        for number in list_segments(self.folder):
            path = segment_path(self.folder, number)
            if number >= min(self.sent_position.segment, self._segment) or path.stat().st_mtime >= expiry_time:
                continue
            if not self._has_unsent_targets(number):
                path.unlink()
                self._sizes.pop(number, None)
                deleted += 1
        return deleted

    def _has_unsent_targets(self, number: int) -> bool:
        if number not in self._retained:
            settled = self.checkpoint.targets | {Target.EVENT_ONLY}
            if any(
                entry.target not in settled for frame in read_frames(self.folder, number) for entry in frame.entries
            ):
                self._retained.add(number)
        return number in self._retained

    def _sync_segments(self, numbers: Sequence[int]) -> None:
        """Sync what an earlier process left. A frame that it wrote but did not sync is readable, but not yet durable.

        The caches are filled from these frames, and a repeat is acknowledged as a duplicate. So they must be durable.
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

    # The thread of the writer.

    def _run(self) -> None:
        while True:
            with self._wake:
                while not self._queue and not self._closing:
                    self._wake.wait()
                if not self._queue:
                    return
                group, size = [], 0
                while self._queue and size < _MAX_GROUP_BYTES:
                    group.append(self._queue.popleft())
                    size += len(group[-1][0])
            self._commit_begun = time.monotonic()
            error = self._commit([frame for frame, _ in group], size)
            self._commit_begun = None
            self._deliver([(on_done, error) for _, on_done in group])

    def _commit(self, frames: Sequence[bytes], size: int) -> SpoolUnavailableError | None:
        unavailable = None if self._closing else self.unavailable_reason()
        if unavailable is not None:
            return unavailable
        try:
            if self._descriptor is None or self._size >= self.limits.segment_bytes:
                self._begin_segment()
            assert self._descriptor is not None
            self._write(self._descriptor, b"".join(frames))
        except OSError as error:
            return self._record_failure("disk", error)
        begun = time.monotonic()
        try:
            self._disk.sync(self._descriptor)
        except OSError as error:
            # The kernel may drop the unsynced pages without another error: never sync this file again.
            self._close_segment()
            return self._record_failure("sync", error)
        self.counters.sync_seconds += time.monotonic() - begun
        self._size += size
        self._sizes[self._segment] = self._size
        self.durable_position = SpoolPosition(self._segment, self._size)
        self.write_error = None
        self.counters.group_commits += 1
        self.counters.frames += len(frames)
        self.counters.bytes += size
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
                self._close_segment()
            raise

    def _begin_segment(self) -> None:
        self._close_segment()
        number = max([self._segment, *list_segments(self.folder)]) + 1
        self._descriptor = self._disk.open(segment_path(self.folder, number))
        self._segment, self._size = number, 0
        self._sizes[number] = 0

    def _close_segment(self) -> None:
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            os.close(descriptor)

    def _record_failure(self, reason: str, error: OSError) -> SpoolUnavailableError:
        self.counters.failures += 1
        self.write_error = SpoolUnavailableError(
            reason, f"the spool of the gateway cannot be written: {error.strerror or error}"
        )
        return self.write_error

    def _save_checkpoint(self, *, force: bool = False) -> None:
        # The saved checkpoint is up to a second old. After a crash, records since then are sent again as duplicates.
        now = time.monotonic()
        if not force and now - self._checkpoint_saved_at < _CHECKPOINT_SECONDS:
            return
        try:
            self.checkpoint.save(self.folder)
        except OSError:
            # The disk is full. An old checkpoint costs duplicates only.
            return
        self._checkpoint_saved_at = now


def read_all_frames(folder: Path, damage: SegmentDamage | None = None) -> Iterator[SpoolFrame]:
    """All frames of a spool. This needs no lock on the spool."""
    for number in list_segments(folder):
        yield from read_frames(folder, number, damage=damage)


def _call_each(outcomes: list[tuple[DoneCallback, Exception | None]]) -> None:
    for on_done, error in outcomes:
        on_done(error)
