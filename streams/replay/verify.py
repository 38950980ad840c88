"""An independent reader of what the workers wrote: is it what it must be?

It shares no code with the compiled kernel: fastavro, dicts and mmh3. The checks are functions over iterables of
records, so that a test can plant any fault; `streams/replay/verify_topics.py` feeds them from Kafka.

Five things are compared with the truth file of a simulation: the newest state of every parcel, the last milestone of
every parcel and stage, every alert (streams/replay/verify_alerts.py), the sums of the throughput
(streams/replay/verify_throughput.py), and the dead letters by reason. Beside the truth, what must hold of any log is
checked: positions and versions never go back; every milestone is there once, says what its id says, and follows from a
record of its parcel.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from operator import itemgetter
from pathlib import Path
from struct import Struct
from typing import Any, Final

import mmh3

from streams.domain.kinds import KINDS, MILESTONE_TYPES, MILESTONES
from streams.errors import Misconfigured
from streams.pipeline.deadletters import DeadLetter
from streams.pipeline.plain_decoder import Decoder, Undecodable
from streams.pipeline.topics import POSITION_KEY, partition_of

TRUTH_FORMAT: Final = "parcel-streams truth 2"

# Key, value, partition, offset.
Record = tuple[bytes | None, bytes | None, int, int]
Parcel = Mapping[str, Any]

_KIND: Final = {kind: number for number, kind in enumerate(KINDS)}
_TYPE: Final = {name: number for number, name in enumerate(MILESTONE_TYPES)}
_WITH_MILESTONES: Final = frozenset(kind for number, kind in enumerate(KINDS) if MILESTONES >> number & 1)
_EVIDENCE: Final = itemgetter("parcel_id", "evidence", "stage", "event_time", "site", "station")
_SAID: Final = Struct(">IBB16sqq")
_HALVES: Final = Struct(">QQ")
_NO_TIME: Final = -(1 << 63)


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not as it must be."""

    # The parcel_id, or the partition for what concerns a whole partition.
    where: str
    # The field, or what kind of thing it is.
    what: str
    expected: Any
    found: Any

    def __str__(self) -> str:
        return f"{self.where}: {self.what}: expected {self.expected}, found {self.found}"


@dataclass
class Report:
    """What a verification found."""

    parcels: int = 0
    differences: list[Difference] = field(default_factory=list)
    milestones: int = 0
    # A milestone with an id that was there before.
    doubled_milestones: list[Difference] = field(default_factory=list)
    # A milestone that contradicts itself, its parcel's records or the order of the log.
    wrong_milestones: list[Difference] = field(default_factory=list)
    # A milestone that must have been written and is not there. Kafka's own crash recovery may take a part of a
    # transaction; whoever kills brokers judges these on their own.
    missing_milestones: list[Difference] = field(default_factory=list)
    alerts: int = 0
    # An alert with an id that was there before.
    doubled_alerts: list[Difference] = field(default_factory=list)
    # An alert that contradicts itself, or that must not have been told.
    wrong_alerts: list[Difference] = field(default_factory=list)
    # An alert that must have been told and is not there.
    missing_alerts: list[Difference] = field(default_factory=list)
    deltas: int = 0
    # A delta that contradicts itself, or a sum that is not as it must be.
    throughput_differences: list[Difference] = field(default_factory=list)
    # Records that were inferred from events of containers.
    inferred: int = 0
    # Repeats of them: what comes late may be handed on again with what is on its way.
    repeated_inferred: int = 0
    # One that does not follow from what was said of its container.
    wrong_inferred: list[Difference] = field(default_factory=list)
    # One that must be there and is not, or is taken back.
    missing_inferred: list[Difference] = field(default_factory=list)
    dead_letters: Counter[str] = field(default_factory=Counter)
    dead_letter_differences: list[Difference] = field(default_factory=list)
    # Partition -> records of hub.scans that no position covers yet.
    behind: dict[int, int] = field(default_factory=dict)
    # The same of hub.containers; what is left of a fan-out counts as one.
    containers_behind: dict[int, int] = field(default_factory=dict)
    # Partitions of hub.scans in which no tick follows what was inferred: nobody was told yet what follows from it.
    unsettled: list[int] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Nothing is different, doubled, wrong or missing."""
        return not any(self.sections().values())

    def sections(self) -> dict[str, list[Difference]]:
        """Everything that was found, by what it is."""
        return {
            "states": self.differences,
            "milestones doubled": self.doubled_milestones,
            "milestones wrong": self.wrong_milestones,
            "milestones missing": self.missing_milestones,
            "alerts doubled": self.doubled_alerts,
            "alerts wrong": self.wrong_alerts,
            "alerts missing": self.missing_alerts,
            "throughput": self.throughput_differences,
            "inferred wrong": self.wrong_inferred,
            "inferred missing": self.missing_inferred,
            "dead letters": self.dead_letter_differences,
        }


def load_truth(path: Path) -> dict[str, Any]:
    """The truth file that a simulation wrote.

    Raises:
        Misconfigured: the file cannot be read or is no truth file.
    """
    try:
        truth = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise Misconfigured(f"{path} cannot be read as a truth file: {error}") from error
    if not isinstance(truth, dict) or truth.get("format") != TRUTH_FORMAT:
        raise Misconfigured(f'{path} is no truth file: "parcels simulate --truth FILE" writes one')
    return truth


def identity(said: bytes) -> bytes:
    """128-bit MurmurHash3 (x64, seed 0), the two halves big-endian: how records are named in states and milestones."""
    return _HALVES.pack(*mmh3.hash64(said, 0, x64arch=True, signed=False))


class States:
    """What parcel.state holds: the newest state of each parcel, as bytes, and whether it got there in order."""

    def __init__(self, partitions: int) -> None:
        self.newest: dict[bytes, bytes] = {}
        # Parcels of which there was a tombstone.
        self.retired: set[bytes] = set()
        self.positions: dict[int, int] = {}
        self.differences: list[Difference] = []
        self._partitions = partitions
        self._versions: dict[bytes, int] = {}
        self._hub_times: dict[int, int] = {}
        self._decode = Decoder("ParcelState")
        self._head = Decoder("ParcelState", first_fields=2)
        self._position = Decoder("Position")

    def add(self, records: Iterable[Record]) -> None:
        """Take in records in the order of the log within each partition."""
        for key, value, partition, offset in records:
            if key == POSITION_KEY:
                self._add_position(value, partition, offset)
            elif key is not None and value is None and not key.startswith(b"\0"):
                self._retire(key, partition, offset)
            elif key is None or value is None:
                self._differ(f"{partition}:{offset}", "record", "a key and a value", (key, value))
            elif not key.startswith(b"\0"):
                self._add_state(key, value, partition, offset)

    def decoded(self) -> Iterator[Parcel]:
        """The newest state of each parcel; those that cannot be decoded are differences."""
        for key, value in self.newest.items():
            try:
                yield self._decode(value)
            except Undecodable as error:
                self._differ(_text(key), "state", "a ParcelState", str(error))

    def _add_position(self, value: bytes | None, partition: int, offset: int) -> None:
        try:
            position = self._position(value)
        except Undecodable as error:
            self._differ(f"partition {partition}, offset {offset}", "position", "a Position", str(error))
            return
        for what, known, now in (
            ("position", self.positions, position["next_offset"]),
            ("hub_time", self._hub_times, position["hub_time"]),
        ):
            before = known.get(partition)
            if before is not None and (now is None or now < before):
                self._differ(f"partition {partition}, offset {offset}", what, f"at least {before}", now)
            elif now is not None:
                known[partition] = now

    def _retire(self, key: bytes, partition: int, offset: int) -> None:
        # Compaction may have taken the state before it.
        self.newest.pop(key, None)
        self._versions.pop(key, None)
        if partition_of(key, self._partitions) != partition:
            self._differ(_text(key), f"tombstone at offset {offset}", partition_of(key, self._partitions), partition)
        self.retired.add(key)

    def _add_state(self, key: bytes, value: bytes, partition: int, offset: int) -> None:
        try:
            head = self._head(value)
        except Undecodable as error:
            self._differ(_text(key), "state", "a ParcelState", str(error))
            return
        if head["parcel_id"].encode() != key:
            self._differ(_text(key), "parcel_id", _text(key), head["parcel_id"])
        before = self._versions.get(key)
        if before is None and partition_of(key, self._partitions) != partition:
            self._differ(_text(key), "partition", partition_of(key, self._partitions), partition)
        if before is not None and head["version"] < before:
            self._differ(_text(key), f"version at {partition}:{offset}", f"at least {before}", head["version"])
        self._versions[key] = head["version"]
        self.newest[key] = value

    def _differ(self, where: str, what: str, expected: Any, found: Any) -> None:
        self.differences.append(Difference(where, what, expected, found))


class Evidence:
    """Which records the parcels have, as the states list them: a milestone must follow from one of them."""

    def __init__(self) -> None:
        self._known: set[int] = set()
        self._versions: dict[str, int] = {}
        self._retired: set[str] = set()

    def retire(self, keys: Iterable[bytes]) -> None:
        """Of these parcels nobody knows any more what their records were."""
        self._retired.update(_text(key) for key in keys)

    def retired(self, parcel_id: str) -> bool:
        """Is it one of those?"""
        return parcel_id in self._retired

    def add(self, state: Parcel) -> None:
        """Take in the records of a parcel."""
        parcel_id = state["parcel_id"]
        self._versions[parcel_id] = state["version"]
        for entry in state["scans"]:
            at = entry["at"] or {"site": "", "station": ""}
            self._known.add(hash((parcel_id, entry["identity"])))
            if entry["kind"] != "VOID":
                said = (parcel_id, entry["identity"], entry["kind"], entry["event_time"], at["site"], at["station"])
                self._known.add(hash(said))

    def proves(self, milestone: Mapping[str, Any]) -> bool:
        """Whether a milestone follows from a record of its parcel; of one that retired nobody can say."""
        if milestone["parcel_id"] in self._retired:
            return True
        if milestone["version"] > self._versions.get(milestone["parcel_id"], 0):
            return False
        if milestone["type"] == "LOST":
            return hash((milestone["parcel_id"], milestone["evidence"])) in self._known
        return hash(_EVIDENCE(milestone)) in self._known


def compare_states(truth: Mapping[str, Parcel], states: Iterable[Parcel], evidence: Evidence) -> list[Difference]:
    """Every field in which a state differs from the truth, and every parcel that is missing or was not expected."""
    differences: list[Difference] = []
    unseen = dict.fromkeys(truth)
    for state in states:
        parcel_id = state["parcel_id"]
        evidence.add(state)
        differences += _disorder(state)
        unseen.pop(parcel_id, None)
        expected = truth.get(parcel_id)
        if expected is None or "kinds" not in expected:
            differences.append(Difference(parcel_id, "parcel", "not in the truth", f"version {state['version']}"))
            continue
        for name, wanted in expected.items():
            if name in _NOT_IN_STATES:
                continue
            if name == "standing" and "perhaps" in expected:
                differences += _standing(parcel_id, expected, _SHORT[name](state))
                continue
            found = _SHORT[name](state) if name in _SHORT else state.get(name)
            if found != wanted:
                differences.append(Difference(parcel_id, name, wanted, found))
    for parcel_id in unseen:
        if "kinds" not in truth[parcel_id]:
            continue
        differences.append(Difference(parcel_id, "parcel", f"version {truth[parcel_id].get('version')}", "no state"))
    return differences


def _standing(parcel_id: str, expected: Parcel, found: Mapping[str, str]) -> list[Difference]:
    """Alerts that stand and should not, or the other way round; of some the truth does not know."""
    wanted = expected["standing"]
    return [
        Difference(parcel_id, f"standing {about}", wanted.get(about), found.get(about))
        for about in sorted(wanted.keys() | found.keys())
        if wanted.get(about) != found.get(about)
        and (about not in expected["perhaps"] or found.get(about) not in ("AT_RISK", "ANOMALY"))
    ]


def _live(state: Parcel) -> str:
    """SHA-256 of the identities of the records that count, in their order."""
    live = (e["identity"] for e in state["scans"] if not e["voided"] and e["kind"] != "VOID")
    return sha256(b"".join(live)).hexdigest()


def _digest(state: Parcel) -> str:
    """SHA-256 of the identities of all records in their order, each followed by 1 where it is voided, else 0."""
    return sha256(b"".join(e["identity"] + (b"\1" if e["voided"] else b"\0") for e in state["scans"])).hexdigest()


# Fields that the truth says in a shorter way than the state.
_SHORT: Final[Mapping[str, Callable[[Parcel], Any]]] = {
    "kinds": lambda state: {each["kind"]: [each["first"], each["last"], each["count"]] for each in state["kinds"]},
    "entries": _digest,
    "live": _live,
    "standing": lambda state: {each["about"]: each["type"] for each in state["alerts"]},
}
# What the truth says of a parcel beside its state.
_NOT_IN_STATES: Final = frozenset({"told", "retired", "perhaps"})


def _disorder(state: Parcel) -> list[Difference]:
    """What contradicts itself in a state, whatever the truth is."""
    parcel_id, scans = state["parcel_id"], state["scans"]
    found: list[Difference] = []
    if len({entry["identity"] for entry in scans}) != len(scans) or len(scans) != state["version"]:
        found.append(Difference(parcel_id, "scans", f"{state['version']} distinct records", len(scans)))
    order = [(entry["event_time"], _KIND[entry["kind"]], entry["identity"]) for entry in scans]
    if order != sorted(order):
        found.append(Difference(parcel_id, "scans", "in the order of event_time, kind, identity", "another order"))
    return found


class Milestones:
    """What parcel.milestones says, told milestone by milestone in the order of the log."""

    def __init__(self, report: Report, evidence: Evidence) -> None:
        self._report = report
        self._evidence = evidence
        self._ids: set[bytes] = set()
        self._versions: dict[str, int] = {}
        # Parcel and stage -> first time as last told; None after LOST.
        self._told: dict[tuple[str, str], int | None] = {}
        self._decode = Decoder("Milestone")

    def add(self, records: Iterable[Record]) -> None:
        """Take in records in the order of the log within each partition."""
        for key, value, partition, offset in records:
            self._report.milestones += 1
            where = (partition, offset)
            try:
                milestone = self._decode(value)
            except Undecodable as error:
                self._report.wrong_milestones.append(
                    Difference(_text(key), f"milestone at {partition}:{offset}", "a Milestone", str(error))
                )
                continue
            if key != milestone["parcel_id"].encode():
                self._wrong(milestone, where, f"the key {milestone['parcel_id']}", _text(key))
            if milestone["milestone_id"] in self._ids:
                twice = Difference(milestone["parcel_id"], _name(milestone, where), "once", "again")
                self._report.doubled_milestones.append(twice)
                continue
            self._ids.add(milestone["milestone_id"])
            self._check(milestone, where)

    def compare(self, truth: Mapping[str, Parcel]) -> None:
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
        if milestone["milestone_id"] != milestone_id(milestone):
            said = milestone["milestone_id"].hex()
            self._wrong(milestone, where, f"the id {milestone_id(milestone).hex()}", said)
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
        self._told[parcel_id, stage] = None if kind == "LOST" else milestone["event_time"]

    def _wrong(self, milestone: Mapping[str, Any], where: tuple[int, int], expected: Any, found: Any) -> None:
        wrong = Difference(milestone["parcel_id"], _name(milestone, where), expected, found)
        self._report.wrong_milestones.append(wrong)

    def _missing(self, parcel_id: str, stage: str, expected: int | None, told: int | None) -> None:
        self._report.missing_milestones.append(Difference(parcel_id, f"last milestone of {stage}", expected, told))


# The first time that was known before a milestone of each type.
_BELIEVED: Final[Mapping[str, Callable[[Mapping[str, Any]], int | None]]] = {
    "REACHED": lambda _: None,
    "CORRECTED": itemgetter("previous_time"),
    "LOST": itemgetter("event_time"),
}


def milestone_id(milestone: Mapping[str, Any]) -> bytes:
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
    return identity(milestone["parcel_id"].encode() + b"\0" + said)


def compare_dead_letters(truth: Mapping[str, int], letters: Iterable[DeadLetter], report: Report) -> None:
    """Every unusable record must be there once, in its own partition, and as many of each reason as in the truth."""
    differences = report.dead_letter_differences
    sources: defaultdict[tuple[str, int, int], int] = defaultdict(int)
    for letter in letters:
        where = f"dead letter {letter.place[0]}:{letter.place[1]}"
        report.dead_letters[letter.reason] += 1
        if letter.source is None:
            differences.append(Difference(where, "headers", "topic, partition and offset", "none"))
            continue
        if letter.source[1] != letter.place[0]:
            differences.append(Difference(where, "partition", letter.source[1], letter.place[0]))
        sources[letter.source] += 1
        if sources[letter.source] > 1:
            differences.append(Difference(where, f"{letter.source[0]} [{letter.source[1]}]", "once", letter.source[2]))
    for reason in sorted(truth.keys() | report.dead_letters.keys()):
        expected, found = truth.get(reason, 0), report.dead_letters.get(reason, 0)
        if expected != found:
            differences.append(Difference("dead letters", reason, expected, found))


def _name(milestone: Mapping[str, Any], where: tuple[int, int]) -> str:
    return f"{milestone['type']} {milestone['stage']} of version {milestone['version']} at {where[0]}:{where[1]}"


def _text(key: bytes | None) -> str:
    return "no key" if key is None else key.decode(errors="backslashreplace")
