"""Capture jobs of EPCIS 2.0: what became of each document that was posted to /capture.

They are kept in memory and, a line each, in a file, so that a client finds its job again after a restart. The events
themselves are in the spool; losing the file loses no event.
"""

import json
import secrets
import time
from collections import OrderedDict, deque
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

_KEPT: Final = 1_000
# Lines that their file has at most; then it is written anew, with those that are known.
_LINES: Final = 8 * _KEPT
# Of all that is wrong with a document: enough to mend it by, and little enough to keep a thousand jobs in memory.
_PROBLEMS: Final = 200


@dataclass(slots=True)
class CaptureJob:
    """One capture job. (running, success): TT going well, TF failing, FT all stored, FF rejected or part stored."""

    capture_id: str
    owner: str
    behaviour: str
    created: str
    finished: str | None = None
    running: bool = True
    success: bool = True
    errors: list[dict[str, Any]] = field(default_factory=list)
    accepted: int = 0
    duplicates: int = 0

    def shown(self) -> dict[str, Any]:
        """As the standard shows it."""
        said: dict[str, Any] = {
            "captureID": self.capture_id,
            "createdAt": self.created,
            "running": self.running,
            "success": self.success,
            "captureErrorBehaviour": self.behaviour,
            "errors": self.errors,
        }
        return said | ({"finishedAt": self.finished} if self.finished is not None else {})

    def finish(self, errors: list[dict[str, Any]]) -> None:
        """All is done."""
        self.errors, left = [], _PROBLEMS
        for error in errors[:100]:
            listed = error.get("errors", [])[: max(left, 1)]
            left -= len(listed)
            self.errors.append({**error, "errors": listed} if listed else error)
        self.success = not errors
        self.running, self.finished = False, epcis_timestamp()


class CaptureJobs:
    """The newest jobs."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._jobs: OrderedDict[str, CaptureJob] = OrderedDict()
        self._lines = 0
        if path is not None and path.exists():
            with path.open(encoding="utf-8", errors="replace") as stream:
                newest = deque(stream, maxlen=_KEPT)
            for line in newest:
                self._remember(line)
            self._rewrite(path, newest)
            self._lines = len(newest)

    def begin(self, owner: str, error_behaviour: str) -> CaptureJob:
        """A job with an id that nobody can guess."""
        job = CaptureJob(secrets.token_hex(16), owner, error_behaviour, epcis_timestamp())
        self._jobs[job.capture_id] = job
        while len(self._jobs) > _KEPT:
            self._jobs.popitem(last=False)
        return job

    def forget(self, job: CaptureJob) -> None:
        """A job that came to nothing."""
        self._jobs.pop(job.capture_id, None)

    def keep(self, job: CaptureJob) -> None:
        """Write a finished job down; a full disk is no reason to fail what is stored already."""
        if self._path is None:
            return
        try:
            with self._path.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(asdict(job)) + "\n")
        except OSError:
            return
        self._lines += 1
        if self._lines >= _LINES:
            done = [json.dumps(asdict(each)) + "\n" for each in self._jobs.values() if not each.running]
            self._rewrite(self._path, done)
            self._lines = len(done)

    def find(self, capture_id: str, owner: str) -> CaptureJob | None:
        """The owner's job of this id."""
        job = self._jobs.get(capture_id)
        return job if job is not None and job.owner == owner else None

    def page(self, owner: str, size: int, after: str | None) -> tuple[list[CaptureJob], str | None]:
        """The owner's jobs, the newest first, from behind `after` on; and where the next page begins, if there is one.

        Raises:
            KeyError: there is no job `after`.
        """
        mine = [job for job in reversed(self._jobs.values()) if job.owner == owner]
        start = 0
        if after is not None:
            start = next((index + 1 for index, job in enumerate(mine) if job.capture_id == after), -1)
            if start < 0:
                raise KeyError(after)
        shown = mine[start : start + size]
        return shown, shown[-1].capture_id if len(mine) > start + size else None

    def _rewrite(self, path: Path, lines: Iterable[str]) -> None:
        """Only what is still known: the file would grow for ever."""
        temporary = path.with_suffix(".new")
        try:
            temporary.write_text("".join(lines), encoding="utf-8")
            temporary.replace(path)
        except OSError:
            return

    def _remember(self, line: str) -> None:
        try:
            said: Mapping[str, Any] = json.loads(line)
            job = CaptureJob(**said)
        except (ValueError, TypeError):
            return
        self._jobs[job.capture_id] = job


def epcis_timestamp() -> str:
    """Now, as the standard writes it."""
    now = time.time()
    return time.strftime("%Y-%m-%dT%H:%M:%S.", time.gmtime(now)) + f"{int(now * 1000) % 1000:03}Z"
