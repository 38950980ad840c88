"""Capture jobs of EPCIS 2.0: the result of each document that was posted to /capture.

Jobs are kept in memory and in a file, one per line, so that a client finds its job again after a restart. The events
themselves are in the spool; a loss of the file loses no event.
"""

import json
import secrets
import time
from collections import OrderedDict, deque
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

_MAX_JOBS: Final = 1_000
# When the file has this many lines, it is rewritten with the jobs that are in memory.
_MAX_LINES: Final = 8 * _MAX_JOBS
# Limits for the errors of one document: enough to mend it, and small enough to keep a thousand jobs in memory.
_MAX_ERRORS: Final = 100
_MAX_VIOLATIONS: Final = 200


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

    def to_json(self) -> dict[str, Any]:
        """The job in the JSON form of EPCIS 2.0."""
        job: dict[str, Any] = {
            "captureID": self.capture_id,
            "createdAt": self.created,
            "running": self.running,
            "success": self.success,
            "captureErrorBehaviour": self.behaviour,
            "errors": self.errors,
        }
        return job | ({"finishedAt": self.finished} if self.finished is not None else {})

    def finish(self, errors: list[dict[str, Any]]) -> None:
        """End the job; it has failed if there are errors."""
        self.errors, remaining = [], _MAX_VIOLATIONS
        for error in errors[:_MAX_ERRORS]:
            violations = error.get("errors", [])[: max(remaining, 1)]
            remaining -= len(violations)
            self.errors.append({**error, "errors": violations} if violations else error)
        self.success = not errors
        self.running, self.finished = False, epcis_timestamp()


class CaptureJobs:
    """The newest jobs."""

    def __init__(self, path: Path | None) -> None:
        """path: file of the jobs; None keeps them in memory only."""
        self._path = path
        self._jobs: OrderedDict[str, CaptureJob] = OrderedDict()
        self._line_count = 0
        if path is not None and path.exists():
            with path.open(encoding="utf-8", errors="replace") as stream:
                newest_lines = deque(stream, maxlen=_MAX_JOBS)
            for line in newest_lines:
                self._load_line(line)
            self._rewrite(path, newest_lines)
            self._line_count = len(newest_lines)

    def start(self, owner: str, error_behaviour: str) -> CaptureJob:
        """A new job, with an id that cannot be guessed."""
        job = CaptureJob(secrets.token_hex(16), owner, error_behaviour, epcis_timestamp())
        self._jobs[job.capture_id] = job
        while len(self._jobs) > _MAX_JOBS:
            self._jobs.popitem(last=False)
        return job

    def save(self, job: CaptureJob) -> None:
        """Append a finished job to the file. A full disk is ignored, because the events of the job are stored."""
        if self._path is None:
            return
        try:
            with self._path.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(asdict(job)) + "\n")
        except OSError:
            return
        self._line_count += 1
        if self._line_count >= _MAX_LINES:
            lines = [json.dumps(asdict(known)) + "\n" for known in self._jobs.values() if not known.running]
            self._rewrite(self._path, lines)
            self._line_count = len(lines)

    def find(self, capture_id: str, owner: str) -> CaptureJob | None:
        """The owner's job of this id."""
        job = self._jobs.get(capture_id)
        return job if job is not None and job.owner == owner else None

    def page(self, owner: str, size: int, after_id: str | None) -> tuple[list[CaptureJob], str | None]:
        """A page of the owner's jobs, newest first.

        Args:
            owner: name of the principal that sent the documents.
            size: jobs on a page.
            after_id: id of the job before the page; None for the first page.

        Returns:
            The jobs, and the `after_id` of the next page, or None if there is none.

        Raises:
            KeyError: the owner has no job `after_id`.
        """
        owned = [job for job in reversed(self._jobs.values()) if job.owner == owner]
        start = 0
        if after_id is not None:
            start = next((index + 1 for index, job in enumerate(owned) if job.capture_id == after_id), -1)
            if start < 0:
                raise KeyError(after_id)
        page = owned[start : start + size]
        return page, page[-1].capture_id if len(owned) > start + size else None

    def _rewrite(self, path: Path, lines: Iterable[str]) -> None:
        """Replace the file, so that it does not grow without limit."""
        temporary = path.with_suffix(".new")
        try:
            temporary.write_text("".join(lines), encoding="utf-8")
            temporary.replace(path)
        except OSError:
            return

    def _load_line(self, line: str) -> None:
        try:
            fields: Mapping[str, Any] = json.loads(line)
            job = CaptureJob(**fields)
        except (ValueError, TypeError):
            return
        self._jobs[job.capture_id] = job


def epcis_timestamp() -> str:
    """The current time in the form of EPCIS 2.0."""
    now = time.time()
    return time.strftime("%Y-%m-%dT%H:%M:%S.", time.gmtime(now)) + f"{int(now * 1000) % 1000:03}Z"
