"""The forward checkpoint: the position up to which a spool has been forwarded to Kafka, and for which targets.

A new version of the gateway may forward a target that earlier versions did not. This target then begins at the oldest
record of the spool, and the other targets do not begin again.
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
    """All of `targets` before `position` is in Kafka, and all of `previous_targets` before `previous_position`."""

    position: SpoolPosition = _START
    targets: frozenset[int] = frozenset({int(Target.SCANS)})
    previous_position: SpoolPosition = _START
    previous_targets: frozenset[int] = frozenset()

    def with_targets(self, targets: Iterable[int]) -> "ForwardCheckpoint":
        """The checkpoint of a forwarder that forwards these targets from now on."""
        new_targets = frozenset(targets)
        if new_targets <= self.targets or self.position == _START:
            return replace(self, targets=new_targets)
        if self.previous_position > self.position:
            # An earlier new target is still catching up.
            return ForwardCheckpoint(_START, new_targets, self.previous_position, self.previous_targets)
        return ForwardCheckpoint(_START, new_targets, self.position, self.targets)

    def targets_already_sent(self, frame_end: SpoolPosition) -> frozenset[int]:
        """The targets that are in Kafka up to the frame that ends here, even if `position` is before it."""
        return self.previous_targets if frame_end <= self.previous_position else frozenset()

    def is_sent(self, target: int, frame_end: SpoolPosition) -> bool:
        """Are the entries for this target in Kafka, of the frame that ends here?"""
        return (frame_end <= self.position and target in self.targets) or target in self.targets_already_sent(frame_end)

    @property
    def furthest_position(self) -> SpoolPosition:
        """The position before which nothing is unsent, except for targets that catch up."""
        return max(self.position, self.previous_position)

    def save(self, folder: Path) -> None:
        """Write the checkpoint into the folder of the spool.

        Raises:
            OSError: the disk does not accept the file.
        """
        content: dict[str, Any] = {**_position_as_json(self.position), "targets": sorted(self.targets)}
        if self.previous_position > self.position:
            content["before"] = {
                **_position_as_json(self.previous_position),
                "targets": sorted(self.previous_targets),
            }
        temporary = folder / f"{_FILE}.new"
        temporary.write_text(json.dumps(content))
        temporary.replace(folder / _FILE)


def load_forward_checkpoint(folder: Path) -> ForwardCheckpoint:
    """The saved checkpoint of a spool; the initial one if there is none or it cannot be read."""
    try:
        content: Any = json.loads((folder / _FILE).read_text())
        position = _parse_position(content)
        previous = content.get("before")
        if previous is None:
            return ForwardCheckpoint(position, _parse_targets(content))
        return ForwardCheckpoint(position, _parse_targets(content), _parse_position(previous), _parse_targets(previous))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return ForwardCheckpoint()


def _position_as_json(position: SpoolPosition) -> dict[str, Any]:
    return {"segment": position.segment, "offset": position.offset}


def _parse_position(content: Any) -> SpoolPosition:
    return SpoolPosition(int(content["segment"]), int(content["offset"]))


def _parse_targets(content: Any) -> frozenset[int]:
    return frozenset(int(target) for target in content.get("targets", [Target.SCANS]))
