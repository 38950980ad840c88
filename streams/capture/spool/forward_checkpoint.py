"""How far a spool has been sent, and of which targets: what is written down so that nothing is left out after a change.

A target that gets its topic with a new version begins at the oldest record of the spool; the others do not begin again.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from streams.capture.spool.segment_files import SpoolPosition, Target

_FILE: Final = "sent.json"
_START: Final = SpoolPosition(0, 0)


@dataclass(frozen=True, slots=True)
class ForwardCheckpoint:
    """Everything of `targets` before `position` is in Kafka, and everything of `already` before `before`."""

    position: SpoolPosition = _START
    targets: frozenset[int] = frozenset({int(Target.SCANS)})
    before: SpoolPosition = _START
    previous_targets: frozenset[int] = frozenset()

    def with_targets(self, targets: Iterable[int]) -> "ForwardCheckpoint":
        """The progress of whoever sends these targets from now on."""
        wanted = frozenset(targets)
        if wanted <= self.targets or self.position == _START:
            return replace(self, targets=wanted)
        if self.before > self.position:
            # Still catching up with another one.
            return ForwardCheckpoint(_START, wanted, self.before, self.previous_targets)
        return ForwardCheckpoint(_START, wanted, self.position, self.targets)

    def targets_already_sent(self, end: SpoolPosition) -> frozenset[int]:
        """Targets of which the records of the frame that ends here are in Kafka, although `position` is before it."""
        return self.previous_targets if end <= self.before else frozenset()

    def is_sent(self, target: int, end: SpoolPosition) -> bool:
        """Is what a frame that ends here holds for this target in Kafka?"""
        return (end <= self.position and target in self.targets) or target in self.targets_already_sent(end)

    @property
    def reached(self) -> SpoolPosition:
        """Up to where nothing waits but what a target has to catch up with."""
        return max(self.position, self.before)

    def write(self, folder: Path) -> None:
        """Write it down.

        Raises:
            OSError: the disk does not take it.
        """
        said: dict[str, Any] = {**_said(self.position), "targets": sorted(self.targets)}
        if self.before > self.position:
            said["before"] = {**_said(self.before), "targets": sorted(self.previous_targets)}
        temporary = folder / f"{_FILE}.new"
        temporary.write_text(json.dumps(said))
        temporary.replace(folder / _FILE)


def load_forward_checkpoint(folder: Path) -> ForwardCheckpoint:
    """How far the spool of this folder has been sent, as it was last written down."""
    try:
        said: Any = json.loads((folder / _FILE).read_text())
        position = _position(said)
        before = said.get("before")
        if before is None:
            return ForwardCheckpoint(position, _targets(said))
        return ForwardCheckpoint(position, _targets(said), _position(before), _targets(before))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return ForwardCheckpoint()


def _said(position: SpoolPosition) -> dict[str, Any]:
    return {"segment": position.segment, "offset": position.offset}


def _position(said: Any) -> SpoolPosition:
    return SpoolPosition(int(said["segment"]), int(said["offset"]))


def _targets(said: Any) -> frozenset[int]:
    return frozenset(int(each) for each in said.get("targets", [Target.SCANS]))
