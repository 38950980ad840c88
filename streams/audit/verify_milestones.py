"""Milestones, read independently: is each told once, is it what its id says, and do they follow from the records?"""

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

_KIND: Final = {kind: number for number, kind in enumerate(KINDS)}
_TYPE: Final = {name: number for number, name in enumerate(MILESTONE_TYPES)}
_WITH_MILESTONES: Final = frozenset(kind for number, kind in enumerate(KINDS) if MILESTONE_KINDS >> number & 1)
_SAID: Final = Struct(">IBB16sqq")
_NO_TIME: Final = -(1 << 63)


class MilestoneVerifier:
    """What parcel.milestones says, told milestone by milestone in the order of the log."""

    def __init__(self, report: VerificationReport, evidence: ParcelRecordIndex) -> None:
        self._report = report
        self._evidence = evidence
        self._ids: set[bytes] = set()
        self._versions: dict[str, int] = {}
        # Parcel and stage -> first time as last told; None after RETRACTED.
        self._told: dict[tuple[str, str], int | None] = {}
        self._decode = RecordDecoder("Milestone")

    def add(self, records: Iterable[LogRecord]) -> None:
        """Take in records in the order of the log within each partition."""
        for key, value, partition, offset in records:
            self._report.milestones += 1
            where = (partition, offset)
            try:
                milestone = self._decode(value)
            except DecodingError as error:
                self._report.wrong_milestones.append(
                    Difference(key_text(key), f"milestone at {partition}:{offset}", "a Milestone", str(error))
                )
                continue
            if key != milestone["parcel_id"].encode():
                self._wrong(milestone, where, f"the key {milestone['parcel_id']}", key_text(key))
            if milestone["milestone_id"] in self._ids:
                twice = Difference(milestone["parcel_id"], _name(milestone, where), "once", "again")
                self._report.duplicate_milestones.append(twice)
                continue
            self._ids.add(milestone["milestone_id"])
            self._check(milestone, where)

    def compare(self, truth: Mapping[str, ParcelFields]) -> None:
        """The last milestone of each parcel and stage must be the first time that the truth has for it."""
        for parcel_id, parcel in truth.items():
            if "retired" in parcel:
                continue
            for stage, (first, _, _) in parcel["kinds"].items():
                if stage in _WITH_MILESTONES:
                    told = self._told.pop((parcel_id, stage), None)
                    if told != first:
                        self._missing(parcel_id, stage, first, told)
        for (parcel_id, stage), told in self._told.items():
            if told is not None and "retired" not in truth.get(parcel_id, ()):
                self._missing(parcel_id, stage, None, told)

    def _check(self, milestone: Mapping[str, Any], where: tuple[int, int]) -> None:
        parcel_id, stage, kind = milestone["parcel_id"], milestone["stage"], milestone["type"]
        if milestone["milestone_id"] != expected_milestone_id(milestone):
            said = milestone["milestone_id"].hex()
            self._wrong(milestone, where, f"the id {expected_milestone_id(milestone).hex()}", said)
        if not self._evidence.proves(milestone):
            self._wrong(milestone, where, "a record of the parcel that says so", milestone["evidence"].hex())
        # A parcel that retired may come again, with few records.
        version = 0 if self._evidence.retired(parcel_id) else self._versions.get(parcel_id, 0)
        # One record may change the first times of several kinds, when it says that the parcel was not in its container.
        if milestone["version"] < version:
            self._wrong(milestone, where, f"a version of at least {version}", milestone["version"])
        self._versions[parcel_id] = max(version, milestone["version"])
        before = self._told.get((parcel_id, stage))
        if kind not in _BELIEVED or stage not in _WITH_MILESTONES:
            self._wrong(milestone, where, "a type and a stage that milestones have", f"{kind} {stage}")
        elif before != _BELIEVED[kind](milestone) and not self._evidence.retired(parcel_id):
            self._missing(parcel_id, f"{stage} before {_name(milestone, where)}", _BELIEVED[kind](milestone), before)
        self._told[parcel_id, stage] = None if kind == "RETRACTED" else milestone["event_time"]

    def _wrong(self, milestone: Mapping[str, Any], where: tuple[int, int], expected: Any, found: Any) -> None:
        wrong = Difference(milestone["parcel_id"], _name(milestone, where), expected, found)
        self._report.wrong_milestones.append(wrong)

    def _missing(self, parcel_id: str, stage: str, expected: int | None, told: int | None) -> None:
        self._report.missing_milestones.append(Difference(parcel_id, f"last milestone of {stage}", expected, told))


# The first time that was known before a milestone of each type.
_BELIEVED: Final[Mapping[str, Callable[[Mapping[str, Any]], int | None]]] = {
    "REACHED": lambda _: None,
    "CORRECTED": itemgetter("previous_time"),
    "RETRACTED": itemgetter("event_time"),
}


def expected_milestone_id(milestone: Mapping[str, Any]) -> bytes:
    """The id that a milestone must have, from what it says (schemas/Milestone.avsc)."""
    kind, previous = milestone["type"], milestone["previous_time"]
    said = _SAID.pack(
        milestone["version"],
        _TYPE[kind],
        _KIND[milestone["stage"]],
        milestone["evidence"],
        milestone["event_time"],
        _NO_TIME if previous is None else previous,
    )
    return record_hash(milestone["parcel_id"].encode() + b"\0" + said)


def _name(milestone: Mapping[str, Any], where: tuple[int, int]) -> str:
    return f"{milestone['type']} {milestone['stage']} of version {milestone['version']} at {where[0]}:{where[1]}"
