"""Independent verification of the records that workers wrote, against the truth file of a simulation.

It shares no code with the compiled kernel, but uses fastavro, dicts and mmh3. The checks are functions over iterables
of records, so that a test can plant any fault; `streams/audit/verify_topics.py` feeds them from Kafka.

Five things are compared with the truth: the newest state of every parcel, the last milestone of every parcel and stage,
every alert, the sums of the throughput, and the dead letters by reason. Milestones, alerts and throughput have modules
of their own. Other checks hold for any log: positions and versions never decrease; every milestone is there once, has
the id that its content gives, and follows from a record of its parcel.
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
    """One value that differs from the expected one."""

    # The parcel_id; or a partition, an offset or a topic, if it does not concern a parcel.
    key: str
    # The field, or the type of the record.
    field: str
    expected: Any
    found: Any

    def __str__(self) -> str:
        return f"{self.key}: {self.field}: expected {self.expected}, found {self.found}"


@dataclass
class VerificationReport:
    """The result of a verification."""

    parcels: int = 0
    differences: list[Difference] = field(default_factory=list)
    milestones: int = 0
    # A milestone whose id was there before.
    duplicate_milestones: list[Difference] = field(default_factory=list)
    # A milestone that contradicts its id, its parcel's records or the order of the log.
    wrong_milestones: list[Difference] = field(default_factory=list)
    # A milestone that must have been written, but is not there. Kafka's crash recovery may drop a part of a
    # transaction, so tests that kill brokers judge these separately.
    missing_milestones: list[Difference] = field(default_factory=list)
    alerts: int = 0
    # An alert whose id was there before.
    duplicate_alerts: list[Difference] = field(default_factory=list)
    # An alert that contradicts its id, or must not have been written.
    wrong_alerts: list[Difference] = field(default_factory=list)
    # An alert that must have been written, but is not there.
    missing_alerts: list[Difference] = field(default_factory=list)
    deltas: int = 0
    # An invalid delta, or a sum that differs from the truth.
    throughput_differences: list[Difference] = field(default_factory=list)
    # Records that were inferred from container events.
    inferred_records: int = 0
    # Repetitions of them: after a late event, a record may be propagated a second time.
    repeated_inferred_records: int = 0
    # One that does not follow from the events of its container.
    wrong_inferred: list[Difference] = field(default_factory=list)
    # One that must be there, but is missing or retracted.
    missing_inferred: list[Difference] = field(default_factory=list)
    dead_letters: Counter[str] = field(default_factory=Counter)
    dead_letter_differences: list[Difference] = field(default_factory=list)
    # Partition -> records of hub.scans beyond the position.
    lag: dict[int, int] = field(default_factory=dict)
    # The same for hub.containers; each pending fan-out counts as one record.
    container_lag: dict[int, int] = field(default_factory=dict)
    # Partitions of hub.scans in which no tick follows the inferred records, so that alerts are not final.
    unsettled_partitions: list[int] = field(default_factory=list)
    # Hub time of the final tick, in ISO 8601.
    settled_at: str = ""

    @property
    def ok(self) -> bool:
        """Whether there are no differences."""
        return not any(self.sections().values())

    def sections(self) -> dict[str, list[Difference]]:
        """The differences by section of the report."""
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
    """Load the truth file of a simulation.

    Raises:
        Misconfigured: the file cannot be read, or is no truth file.
    """
    try:
        truth = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise Misconfigured(f"{path} cannot be read as a truth file: {error}") from error
    if not isinstance(truth, dict) or truth.get("format") != TRUTH_FORMAT:
        raise Misconfigured(f'{path} is no truth file: "parcels simulate --truth FILE" writes one')
    return truth


def record_hash(content: bytes) -> bytes:
    """128-bit MurmurHash3 (x64, seed 0), both halves big-endian: it names records in states and milestones."""
    return _HALVES.pack(*mmh3.hash64(content, 0, x64arch=True, signed=False))


class StateVerifier:
    """Checks the order of parcel.state, and keeps the newest state of each parcel as bytes."""

    def __init__(self, partitions: int) -> None:
        self.latest: dict[bytes, bytes] = {}
        # Parcels with a tombstone.
        self.retired: set[bytes] = set()
        self.positions: dict[int, int] = {}
        self.differences: list[Difference] = []
        self._partitions = partitions
        self._versions: dict[bytes, int] = {}
        self._hub_times: dict[int, int] = {}
        self._decode = RecordDecoder("ParcelState")
        self._decode_head = RecordDecoder("ParcelState", leading_fields=2)
        self._decode_position = RecordDecoder("InputPosition")

    def add(self, records: Iterable[LogRecord]) -> None:
        """Add records, in log order within each partition."""
        for key, value, partition, offset in records:
            if key == POSITION_KEY:
                self._add_position(value, partition, offset)
            elif key is not None and value is None and not key.startswith(b"\0"):
                self._add_tombstone(key, partition, offset)
            elif key is None or value is None:
                self._differ(f"{partition}:{offset}", "record", "a key and a value", (key, value))
            elif not key.startswith(b"\0"):
                self._add_state(key, value, partition, offset)

    def decode_states(self) -> Iterator[ParcelFields]:
        """Yield the newest state of each parcel; a state that cannot be decoded becomes a difference."""
        for key, value in self.latest.items():
            try:
                yield self._decode(value)
            except DecodingError as error:
                self._differ(key_text(key), "state", "a ParcelState", str(error))

    def _add_position(self, value: bytes | None, partition: int, offset: int) -> None:
        try:
            position = self._decode_position(value)
        except DecodingError as error:
            self._differ(f"partition {partition}, offset {offset}", "position", "an InputPosition", str(error))
            return
        for name, latest, number in (
            ("position", self.positions, position["next_offset"]),
            ("hub_time", self._hub_times, position["hub_time"]),
        ):
            previous = latest.get(partition)
            if previous is not None and (number is None or number < previous):
                self._differ(f"partition {partition}, offset {offset}", name, f"at least {previous}", number)
            elif number is not None:
                latest[partition] = number

    def _add_tombstone(self, key: bytes, partition: int, offset: int) -> None:
        # Compaction may have removed the state before the tombstone.
        self.latest.pop(key, None)
        self._versions.pop(key, None)
        if partition_of(key, self._partitions) != partition:
            self._differ(key_text(key), f"tombstone at offset {offset}", partition_of(key, self._partitions), partition)
        self.retired.add(key)

    def _add_state(self, key: bytes, value: bytes, partition: int, offset: int) -> None:
        try:
            head = self._decode_head(value)
        except DecodingError as error:
            self._differ(key_text(key), "state", "a ParcelState", str(error))
            return
        if head["parcel_id"].encode() != key:
            self._differ(key_text(key), "parcel_id", key_text(key), head["parcel_id"])
        previous = self._versions.get(key)
        if previous is None and partition_of(key, self._partitions) != partition:
            self._differ(key_text(key), "partition", partition_of(key, self._partitions), partition)
        if previous is not None and head["version"] < previous:
            self._differ(key_text(key), f"version at {partition}:{offset}", f"at least {previous}", head["version"])
        self._versions[key] = head["version"]
        self.latest[key] = value

    def _differ(self, key: str, field: str, expected: Any, found: Any) -> None:
        self.differences.append(Difference(key, field, expected, found))


class ParcelRecordIndex:
    """The records of all parcels, as their states list them; a milestone must follow from one of these."""

    def __init__(self) -> None:
        self._record_keys: set[int] = set()
        self._versions: dict[str, int] = {}
        self._retired: set[str] = set()

    def mark_retired(self, keys: Iterable[bytes]) -> None:
        """Note parcels that retired at some time, so that their earlier records are not known."""
        self._retired.update(key_text(key) for key in keys)

    def is_retired(self, parcel_id: str) -> bool:
        """Whether the parcel is one of those."""
        return parcel_id in self._retired

    def add(self, state: ParcelFields) -> None:
        """Add the records of a parcel."""
        parcel_id = state["parcel_id"]
        self._versions[parcel_id] = state["version"]
        for entry in state["timeline"]:
            location = entry["details"] or {"site": "", "station": ""}
            self._record_keys.add(hash((parcel_id, entry["record_hash"])))
            if entry["kind"] != "VOID":
                evidence = (
                    parcel_id,
                    entry["record_hash"],
                    entry["kind"],
                    entry["event_time"],
                    location["site"],
                    location["station"],
                )
                self._record_keys.add(hash(evidence))

    def proves(self, milestone: Mapping[str, Any]) -> bool:
        """Whether a milestone follows from a record of its parcel; always true for a parcel that retired."""
        if milestone["parcel_id"] in self._retired:
            return True
        if milestone["version"] > self._versions.get(milestone["parcel_id"], 0):
            return False
        if milestone["type"] == "RETRACTED":
            return hash((milestone["parcel_id"], milestone["evidence"])) in self._record_keys
        return hash(_EVIDENCE(milestone)) in self._record_keys


def compare_states(
    truth: Mapping[str, ParcelFields], states: Iterable[ParcelFields], evidence: ParcelRecordIndex
) -> list[Difference]:
    """Every field in which a state differs from the truth, and every missing or unexpected parcel."""
    differences: list[Difference] = []
    unseen = dict.fromkeys(truth)
    for state in states:
        parcel_id = state["parcel_id"]
        evidence.add(state)
        differences += _contradictions(state)
        unseen.pop(parcel_id, None)
        expected = truth.get(parcel_id)
        if expected is None or "kinds" not in expected:
            differences.append(Difference(parcel_id, "parcel", "not in the truth", f"version {state['version']}"))
            continue
        for name, value in expected.items():
            if name in _NOT_IN_STATES:
                continue
            if name == "active_alerts" and "optional_alerts" in expected:
                differences += _compare_active_alerts(parcel_id, expected, _SHORTENED[name](state))
                continue
            found = _SHORTENED[name](state) if name in _SHORTENED else state.get(name)
            if found != value:
                differences.append(Difference(parcel_id, name, value, found))
    for parcel_id in unseen:
        if "kinds" not in truth[parcel_id]:
            continue
        differences.append(Difference(parcel_id, "parcel", f"version {truth[parcel_id].get('version')}", "no state"))
    return differences


def _compare_active_alerts(parcel_id: str, expected: ParcelFields, found: Mapping[str, str]) -> list[Difference]:
    """Compare the active alerts of a state; for some conditions, the truth allows an alert or none."""
    wanted = expected["active_alerts"]
    return [
        Difference(parcel_id, f"active_alerts {condition}", wanted.get(condition), found.get(condition))
        for condition in sorted(wanted.keys() | found.keys())
        if wanted.get(condition) != found.get(condition)
        and (condition not in expected["optional_alerts"] or found.get(condition) not in ("AT_RISK", "ANOMALY"))
    ]


def _effective_digest(state: ParcelFields) -> str:
    """SHA-256 of the effective records, in their order."""
    return sha256(b"".join(_entry(e) for e in state["timeline"] if not e["voided"] and e["kind"] != "VOID")).hexdigest()


def _timeline_digest(state: ParcelFields) -> str:
    """SHA-256 of all records in their order."""
    return sha256(b"".join(map(_entry, state["timeline"]))).hexdigest()


def _entry(entry: Mapping[str, Any]) -> bytes:
    location = entry["details"] and [entry["details"][name] for name in ("site", "station", "lane", "reason")]
    voids = entry["voids"] and entry["voids"].hex()
    content = (
        entry["record_hash"].hex(), entry["voided"], entry["utc_offset_minutes"], entry["inferred"], location,
        entry["container_id"], voids, entry["plan"], entry["promised_at"],
    )  # fmt: skip
    return json.dumps(content, sort_keys=True).encode()


# Fields of the truth that are a shortened form of the state's fields.
_SHORTENED: Final[Mapping[str, Callable[[ParcelFields], Any]]] = {
    "kinds": lambda state: {each["kind"]: [each["first"], each["last"], each["count"]] for each in state["kinds"]},
    "timeline_sha256": _timeline_digest,
    "effective_sha256": _effective_digest,
    "active_alerts": lambda state: {each["condition"]: each["type"] for each in state["active_alerts"]},
}
# Fields of a parcel's truth that are not in its state.
_NOT_IN_STATES: Final = frozenset({"alerts", "retired", "optional_alerts"})


def _contradictions(state: ParcelFields) -> list[Difference]:
    """Contradictions within a state, independent of the truth."""
    parcel_id, timeline = state["parcel_id"], state["timeline"]
    differences: list[Difference] = []
    if len({entry["record_hash"] for entry in timeline}) != len(timeline) or len(timeline) != state["version"]:
        differences.append(Difference(parcel_id, "timeline", f"{state['version']} distinct records", len(timeline)))
    order = [(entry["event_time"], _KIND[entry["kind"]], entry["record_hash"]) for entry in timeline]
    if order != sorted(order):
        differences.append(
            Difference(parcel_id, "timeline", "in the order of event_time, kind, record_hash", "another order")
        )
    return differences


def compare_dead_letters(
    truth: Mapping[str, Mapping[str, int]], letters: Iterable[DeadLetter], report: VerificationReport
) -> None:
    """Each unusable record is there once, in the partition of its source, and each reason as often as in the truth.

    Args:
        truth: topic (with its prefix) -> reason -> records.
        letters: all of hub.dlq.
        report: gets the dead letters by reason, and the differences.
    """
    counts: Counter[tuple[str, str]] = Counter()
    differences = report.dead_letter_differences
    sources: defaultdict[tuple[str, int, int], int] = defaultdict(int)
    for letter in letters:
        letter_key = f"dead letter {letter.partition_offset[0]}:{letter.partition_offset[1]}"
        report.dead_letters[letter.reason] += 1
        if letter.source is None:
            differences.append(Difference(letter_key, "headers", "topic, partition and offset", "none"))
            continue
        if letter.source[1] != letter.partition_offset[0]:
            differences.append(Difference(letter_key, "partition", letter.source[1], letter.partition_offset[0]))
        counts[letter.source[0], letter.reason] += 1
        sources[letter.source] += 1
        if sources[letter.source] > 1:
            differences.append(
                Difference(letter_key, f"{letter.source[0]} [{letter.source[1]}]", "once", letter.source[2])
            )
    expected_counts = {(topic, reason): count for topic, reasons in truth.items() for reason, count in reasons.items()}
    for topic, reason in sorted(expected_counts.keys() | counts.keys()):
        expected, found = expected_counts.get((topic, reason), 0), counts[topic, reason]
        if expected != found:
            differences.append(Difference(f"dead letters of {topic}", reason, expected, found))


def key_text(key: bytes | None) -> str:
    """A key as readable text."""
    return "no key" if key is None else key.decode(errors="backslashreplace")
