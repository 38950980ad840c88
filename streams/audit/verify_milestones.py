"""Verifies milestones: each is there once, has the id that its content gives, and follows from a record."""

from collections.abc import Callable, Iterable, Mapping
from operator import itemgetter
from struct import Struct
from typing import Any, Final

from streams.audit.verify import (
    Difference,
    LogRecord,
    ParcelFields,
    ParcelRecordIndex,
    VerificationReport,
    key_text,
    record_hash,
)
from streams.domain.kinds import KINDS, MILESTONE_KINDS, MILESTONE_TYPES
from streams.formats.record_decoder import DecodingError, RecordDecoder

_KIND_NUMBERS: Final = {kind: number for number, kind in enumerate(KINDS)}
_TYPE_NUMBERS: Final = {name: number for number, name in enumerate(MILESTONE_TYPES)}
_MILESTONE_STAGES: Final = frozenset(kind for number, kind in enumerate(KINDS) if MILESTONE_KINDS >> number & 1)
_HASH_INPUT: Final = Struct(">IBB16sqq")
_NO_TIME: Final = -(1 << 63)


class MilestoneVerifier:
    """Checks parcel.milestones, milestone by milestone in log order."""

    def __init__(self, report: VerificationReport, evidence: ParcelRecordIndex) -> None:
        self._report = report
        self._evidence = evidence
        self._ids: set[bytes] = set()
        self._versions: dict[str, int] = {}
        # (parcel_id, stage) -> first time by the last milestone; None after RETRACTED.
        self._first_times: dict[tuple[str, str], int | None] = {}
        self._decode = RecordDecoder("Milestone")

    def add(self, records: Iterable[LogRecord]) -> None:
        """Add records, in log order within each partition."""
        for key, value, partition, offset in records:
            self._report.milestones += 1
            partition_offset = (partition, offset)
            try:
                milestone = self._decode(value)
            except DecodingError as error:
                self._report.wrong_milestones.append(
                    Difference(key_text(key), f"milestone at {partition}:{offset}", "a Milestone", str(error))
                )
                continue
            if key != milestone["parcel_id"].encode():
                self._wrong(milestone, partition_offset, f"the key {milestone['parcel_id']}", key_text(key))
            if milestone["milestone_id"] in self._ids:
                duplicate = Difference(milestone["parcel_id"], _name(milestone, partition_offset), "once", "again")
                self._report.duplicate_milestones.append(duplicate)
                continue
            self._ids.add(milestone["milestone_id"])
            self._check(milestone, partition_offset)

    def compare(self, truth: Mapping[str, ParcelFields]) -> None:
        """The last milestone of each parcel and stage must have the first time of the truth."""
        for parcel_id, parcel in truth.items():
            if "retired" in parcel:
                continue
            for stage, (first, _, _) in parcel["kinds"].items():
                if stage in _MILESTONE_STAGES:
                    found = self._first_times.pop((parcel_id, stage), None)
                    if found != first:
                        self._missing(parcel_id, stage, first, found)
        for (parcel_id, stage), found in self._first_times.items():
            if found is not None and "retired" not in truth.get(parcel_id, ()):
                self._missing(parcel_id, stage, None, found)

    def _check(self, milestone: Mapping[str, Any], partition_offset: tuple[int, int]) -> None:
        parcel_id, stage, kind = milestone["parcel_id"], milestone["stage"], milestone["type"]
        if milestone["milestone_id"] != expected_milestone_id(milestone):
            found = milestone["milestone_id"].hex()
            self._wrong(milestone, partition_offset, f"the id {expected_milestone_id(milestone).hex()}", found)
        if not self._evidence.proves(milestone):
            self._wrong(
                milestone, partition_offset, "a record of the parcel that leads to it", milestone["evidence"].hex()
            )
        # A parcel that retired may come back with fewer records.
        version = 0 if self._evidence.is_retired(parcel_id) else self._versions.get(parcel_id, 0)
        # One record may change the first times of several kinds, if it shows that the parcel was not in its container.
        if milestone["version"] < version:
            self._wrong(milestone, partition_offset, f"a version of at least {version}", milestone["version"])
        self._versions[parcel_id] = max(version, milestone["version"])
        previous = self._first_times.get((parcel_id, stage))
        if kind not in _PREVIOUS_TIME or stage not in _MILESTONE_STAGES:
            self._wrong(milestone, partition_offset, "a type and a stage that milestones have", f"{kind} {stage}")
        elif previous != _PREVIOUS_TIME[kind](milestone) and not self._evidence.is_retired(parcel_id):
            self._missing(
                parcel_id,
                f"{stage} before {_name(milestone, partition_offset)}",
                _PREVIOUS_TIME[kind](milestone),
                previous,
            )
        self._first_times[parcel_id, stage] = None if kind == "RETRACTED" else milestone["event_time"]

    def _wrong(
        self, milestone: Mapping[str, Any], partition_offset: tuple[int, int], expected: Any, found: Any
    ) -> None:
        difference = Difference(milestone["parcel_id"], _name(milestone, partition_offset), expected, found)
        self._report.wrong_milestones.append(difference)

    def _missing(self, parcel_id: str, stage: str, expected: int | None, found: int | None) -> None:
        self._report.missing_milestones.append(Difference(parcel_id, f"last milestone of {stage}", expected, found))


# The first time before a milestone, by its type.
_PREVIOUS_TIME: Final[Mapping[str, Callable[[Mapping[str, Any]], int | None]]] = {
    "REACHED": lambda _: None,
    "CORRECTED": itemgetter("previous_time"),
    "RETRACTED": itemgetter("event_time"),
}


def expected_milestone_id(milestone: Mapping[str, Any]) -> bytes:
    """The id that the content of a milestone gives (schemas/Milestone.avsc)."""
    kind, previous = milestone["type"], milestone["previous_time"]
    content = _HASH_INPUT.pack(
        milestone["version"],
        _TYPE_NUMBERS[kind],
        _KIND_NUMBERS[milestone["stage"]],
        milestone["evidence"],
        milestone["event_time"],
        _NO_TIME if previous is None else previous,
    )
    return record_hash(milestone["parcel_id"].encode() + b"\0" + content)


def _name(milestone: Mapping[str, Any], partition_offset: tuple[int, int]) -> str:
    partition, offset = partition_offset
    return f"{milestone['type']} {milestone['stage']} of version {milestone['version']} at {partition}:{offset}"
