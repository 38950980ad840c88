"""How far a spool has been sent, and of which targets: what is written down so that nothing is left out after a change.

A target that gets its topic with a new version begins at the oldest record of the spool; the others do not begin again.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from streams.capture.spool.segment_files import Position, Target

_FILE: Final = "sent.json"
_START: Final = Position(0, 0)


@dataclass(frozen=True, slots=True)
class Progress:
    """Everything of `targets` before `position` is in Kafka, and everything of `already` before `before`."""

    position: Position = _START
    targets: frozenset[int] = frozenset({int(Target.SCANS)})
    before: Position = _START
    already: frozenset[int] = frozenset()

    def sending(self, targets: Iterable[int]) -> "Progress":
        """The progress of whoever sends these targets from now on."""
        wanted = frozenset(targets)
        if wanted <= self.targets or self.position == _START:
            return replace(self, targets=wanted)
        if self.before > self.position:
            # Still catching up with another one.
            return Progress(_START, wanted, self.before, self.already)
        return Progress(_START, wanted, self.position, self.targets)

    def sent_before(self, end: Position) -> frozenset[int]:
        """Targets of which the records of the frame that ends here are in Kafka, although `position` is before it."""
        return self.already if end <= self.before else frozenset()

    def is_sent(self, target: int, end: Position) -> bool:
        """Is what a frame that ends here holds for this target in Kafka?"""
        return (end <= self.position and target in self.targets) or target in self.sent_before(end)

    @property
    def reached(self) -> Position:
        """Up to where nothing waits but what a target has to catch up with."""
        return max(self.position, self.before)

    def write(self, folder: Path) -> None:
        """Write it down.

        Raises:
            OSError: the disk does not take it.
        """
        said: dict[str, Any] = {**_said(self.position), "targets": sorted(self.targets)}
        if self.before > self.position:
            said["before"] = {**_said(self.before), "targets": sorted(self.already)}
        temporary = folder / f"{_FILE}.new"
        temporary.write_text(json.dumps(said))
        temporary.replace(folder / _FILE)


def read_progress(folder: Path) -> Progress:
    """How far the spool of this folder has been sent, as it was last written down."""
    try:
        said: Any = json.loads((folder / _FILE).read_text())
        position = _position(said)
        before = said.get("before")
        if before is None:
            return Progress(position, _targets(said))
        return Progress(position, _targets(said), _position(before), _targets(before))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return Progress()


def _said(position: Position) -> dict[str, Any]:
    return {"segment": position.segment, "offset": position.offset}


def _position(said: Any) -> Position:
    return Position(int(said["segment"]), int(said["offset"]))


def _targets(said: Any) -> frozenset[int]:
    return frozenset(int(each) for each in said.get("targets", [Target.SCANS]))
