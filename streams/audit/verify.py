"""An independent reader of what the workers wrote: is it what it must be?

It shares no code with the compiled kernel: fastavro, dicts and mmh3. The checks are functions over iterables of
records, so that a test can plant any fault; `streams/audit/verify_topics.py` feeds them from Kafka.

Five things are compared with the truth file of a simulation, three of them in modules of their own beside this: the
newest state of every parcel, the last milestone of every parcel and stage, every alert, the sums of the throughput, and
the dead letters by reason. Beside the truth, what must hold of any log is checked: positions and versions never go
back; every milestone is there once, says what its id says, and follows from a record of its parcel.
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

from streams.domain.kinds import KINDS
from streams.errors import Misconfigured
from streams.formats.record_decoder import DecodingError, RecordDecoder
from streams.formats.topics import POSITION_KEY, partition_of
from streams.kafka.dead_letters import DeadLetter

TRUTH_FORMAT: Final = "parcel-streams truth 3"

# Key, value, partition, offset.
LogRecord = tuple[bytes | None, bytes | None, int, int]
ParcelFields = Mapping[str, Any]

_KIND: Final = {kind: number for number, kind in enumerate(KINDS)}
_EVIDENCE: Final = itemgetter("parcel_id", "evidence", "stage", "event_time", "site", "station")
_HALVES: Final = Struct(">QQ")


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
class VerificationReport:
    """What a verification found."""

    parcels: int = 0
    differences: list[Difference] = field(default_factory=list)
    milestones: int = 0
    # A milestone with an id that was there before.
    duplicate_milestones: list[Difference] = field(default_factory=list)
    # A milestone that contradicts itself, its parcel's records or the order of the log.
    wrong_milestones: list[Difference] = field(default_factory=list)
    # A milestone that must have been written and is not there. Kafka's own crash recovery may take a part of a
    # transaction; whoever kills brokers judges these on their own.
    missing_milestones: list[Difference] = field(default_factory=list)
    alerts: int = 0
    # An alert with an id that was there before.
    duplicate_alerts: list[Difference] = field(default_factory=list)
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
    repeated_inferred_records: int = 0
    # One that does not follow from what was said of its container.
    wrong_inferred: list[Difference] = field(default_factory=list)
    # One that must be there and is not, or is taken back.
    missing_inferred: list[Difference] = field(default_factory=list)
    dead_letters: Counter[str] = field(default_factory=Counter)
    dead_letter_differences: list[Difference] = field(default_factory=list)
    # Partition -> records of hub.scans that no position covers yet.
    behind: dict[int, int] = field(default_factory=dict)
    # The same of hub.containers; what is left of a fan-out counts as one.
    container_lag: dict[int, int] = field(default_factory=dict)
    # Partitions of hub.scans in which no tick follows what was inferred: nobody was told yet what follows from it.
    unsettled_partitions: list[int] = field(default_factory=list)
    # Hub time of the tick that settles it, in ISO 8601.
    settled_at: str = ""

    @property
    def ok(self) -> bool:
        """Nothing is different, doubled, wrong or missing."""
        return not any(self.sections().values())

    def sections(self) -> dict[str, list[Difference]]:
        """Everything that was found, by what it is."""
        return {
            "states": self.differences,
            "milestones doubled": self.duplicate_milestones,
            "milestones wrong": self.wrong_milestones,
            "milestones missing": self.missing_milestones,
            "alerts doubled": self.duplicate_alerts,
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


def record_hash(said: bytes) -> bytes:
    """128-bit MurmurHash3 (x64, seed 0), the two halves big-endian: how records are named in states and milestones."""
    return _HALVES.pack(*mmh3.hash64(said, 0, x64arch=True, signed=False))


class StateVerifier:
    """What parcel.state holds: the newest state of each parcel, as bytes, and whether it got there in order."""

    def __init__(self, partitions: int) -> None:
        self.latest: dict[bytes, bytes] = {}
        # Parcels of which there was a tombstone.
        self.retired: set[bytes] = set()
        self.positions: dict[int, int] = {}
        self.differences: list[Difference] = []
        self._partitions = partitions
        self._versions: dict[bytes, int] = {}
        self._hub_times: dict[int, int] = {}
        self._decode = RecordDecoder("ParcelState")
        self._head = RecordDecoder("ParcelState", leading_fields=2)
        self._position = RecordDecoder("InputPosition")

    def add(self, records: Iterable[LogRecord]) -> None:
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

    def decoded(self) -> Iterator[ParcelFields]:
        """The newest state of each parcel; those that cannot be decoded are differences."""
        for key, value in self.latest.items():
            try:
                yield self._decode(value)
            except DecodingError as error:
                self._differ(key_text(key), "state", "a ParcelState", str(error))

    def _add_position(self, value: bytes | None, partition: int, offset: int) -> None:
        try:
            position = self._position(value)
        except DecodingError as error:
            self._differ(f"partition {partition}, offset {offset}", "position", "an InputPosition", str(error))
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
        self.latest.pop(key, None)
        self._versions.pop(key, None)
        if partition_of(key, self._partitions) != partition:
            self._differ(key_text(key), f"tombstone at offset {offset}", partition_of(key, self._partitions), partition)
        self.retired.add(key)

    def _add_state(self, key: bytes, value: bytes, partition: int, offset: int) -> None:
        try:
            head = self._head(value)
        except DecodingError as error:
            self._differ(key_text(key), "state", "a ParcelState", str(error))
            return
        if head["parcel_id"].encode() != key:
            self._differ(key_text(key), "parcel_id", key_text(key), head["parcel_id"])
        before = self._versions.get(key)
        if before is None and partition_of(key, self._partitions) != partition:
            self._differ(key_text(key), "partition", partition_of(key, self._partitions), partition)
        if before is not None and head["version"] < before:
            self._differ(key_text(key), f"version at {partition}:{offset}", f"at least {before}", head["version"])
        self._versions[key] = head["version"]
        self.latest[key] = value

    def _differ(self, where: str, what: str, expected: Any, found: Any) -> None:
        self.differences.append(Difference(where, what, expected, found))


class ParcelRecordIndex:
    """Which records the parcels have, as the states list them: a milestone must follow from one of them."""

    def __init__(self) -> None:
        self._known: set[int] = set()
        self._versions: dict[str, int] = {}
        self._retired: set[str] = set()

    def retire(self, keys: Iterable[bytes]) -> None:
        """Of these parcels nobody knows any more what their records were."""
        self._retired.update(key_text(key) for key in keys)

    def retired(self, parcel_id: str) -> bool:
        """Is it one of those?"""
        return parcel_id in self._retired

    def add(self, state: ParcelFields) -> None:
        """Take in the records of a parcel."""
        parcel_id = state["parcel_id"]
        self._versions[parcel_id] = state["version"]
        for entry in state["timeline"]:
            at = entry["details"] or {"site": "", "station": ""}
            self._known.add(hash((parcel_id, entry["record_hash"])))
            if entry["kind"] != "VOID":
                said = (parcel_id, entry["record_hash"], entry["kind"], entry["event_time"], at["site"], at["station"])
                self._known.add(hash(said))

    def proves(self, milestone: Mapping[str, Any]) -> bool:
        """Whether a milestone follows from a record of its parcel; of one that retired nobody can say."""
        if milestone["parcel_id"] in self._retired:
            return True
        if milestone["version"] > self._versions.get(milestone["parcel_id"], 0):
            return False
        if milestone["type"] == "RETRACTED":
            return hash((milestone["parcel_id"], milestone["evidence"])) in self._known
        return hash(_EVIDENCE(milestone)) in self._known


def compare_states(
    truth: Mapping[str, ParcelFields], states: Iterable[ParcelFields], evidence: ParcelRecordIndex
) -> list[Difference]:
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


def _standing(parcel_id: str, expected: ParcelFields, found: Mapping[str, str]) -> list[Difference]:
    """Alerts that stand and should not, or the other way round; of some the truth does not know."""
    wanted = expected["standing"]
    return [
        Difference(parcel_id, f"standing {about}", wanted.get(about), found.get(about))
        for about in sorted(wanted.keys() | found.keys())
        if wanted.get(about) != found.get(about)
        and (about not in expected["perhaps"] or found.get(about) not in ("AT_RISK", "ANOMALY"))
    ]


def _live(state: ParcelFields) -> str:
    """SHA-256 of the records that count, in their order."""
    return sha256(b"".join(_entry(e) for e in state["timeline"] if not e["voided"] and e["kind"] != "VOID")).hexdigest()


def _digest(state: ParcelFields) -> str:
    """SHA-256 of all records in their order."""
    return sha256(b"".join(map(_entry, state["timeline"]))).hexdigest()


def _entry(entry: Mapping[str, Any]) -> bytes:
    at = entry["details"] and [entry["details"][name] for name in ("site", "station", "lane", "reason")]
    voids = entry["voids"] and entry["voids"].hex()
    said = (
        entry["record_hash"].hex(), entry["voided"], entry["utc_offset_minutes"], entry["inferred"], at,
        entry["container_id"], voids, entry["plan"], entry["promised_at"],
    )  # fmt: skip
    return json.dumps(said, sort_keys=True).encode()


# Fields that the truth says in a shorter way than the state.
_SHORT: Final[Mapping[str, Callable[[ParcelFields], Any]]] = {
    "kinds": lambda state: {each["kind"]: [each["first"], each["last"], each["count"]] for each in state["kinds"]},
    "entries": _digest,
    "live": _live,
    "standing": lambda state: {each["condition"]: each["type"] for each in state["active_alerts"]},
}
# What the truth says of a parcel beside its state.
_NOT_IN_STATES: Final = frozenset({"told", "retired", "perhaps"})


def _disorder(state: ParcelFields) -> list[Difference]:
    """What contradicts itself in a state, whatever the truth is."""
    parcel_id, scans = state["parcel_id"], state["timeline"]
    found: list[Difference] = []
    if len({entry["record_hash"] for entry in scans}) != len(scans) or len(scans) != state["version"]:
        found.append(Difference(parcel_id, "timeline", f"{state['version']} distinct records", len(scans)))
    order = [(entry["event_time"], _KIND[entry["kind"]], entry["record_hash"]) for entry in scans]
    if order != sorted(order):
        found.append(
            Difference(parcel_id, "timeline", "in the order of event_time, kind, record_hash", "another order")
        )
    return found


def compare_dead_letters(
    truth: Mapping[str, Mapping[str, int]], letters: Iterable[DeadLetter], report: VerificationReport
) -> None:
    """Every unusable record must be there once, in its own partition, and as many of each reason as in the truth.

    Args:
        truth: topic (with its prefix) -> reason -> records.
        letters: all of hub.dlq.
        report: gets what differs.
    """
    counted: Counter[tuple[str, str]] = Counter()
    differences = report.dead_letter_differences
    sources: defaultdict[tuple[str, int, int], int] = defaultdict(int)
    for letter in letters:
        where = f"dead letter {letter.partition_offset[0]}:{letter.partition_offset[1]}"
        report.dead_letters[letter.reason] += 1
        if letter.source is None:
            differences.append(Difference(where, "headers", "topic, partition and offset", "none"))
            continue
        if letter.source[1] != letter.partition_offset[0]:
            differences.append(Difference(where, "partition", letter.source[1], letter.partition_offset[0]))
        counted[letter.source[0], letter.reason] += 1
        sources[letter.source] += 1
        if sources[letter.source] > 1:
            differences.append(Difference(where, f"{letter.source[0]} [{letter.source[1]}]", "once", letter.source[2]))
    wanted = {(topic, reason): count for topic, reasons in truth.items() for reason, count in reasons.items()}
    for topic, reason in sorted(wanted.keys() | counted.keys()):
        expected, found = wanted.get((topic, reason), 0), counted[topic, reason]
        if expected != found:
            differences.append(Difference(f"dead letters of {topic}", reason, expected, found))


def key_text(key: bytes | None) -> str:
    """A key, to be read."""
    return "no key" if key is None else key.decode(errors="backslashreplace")
