"""`parcels verify` must find every fault: each test plants one in a log that is right, and says what must be found."""

import json
from copy import deepcopy
from hashlib import sha256

import pytest

from streams.audit.verify import (
    ParcelRecordIndex,
    StateVerifier,
    VerificationReport,
    compare_dead_letters,
    compare_states,
    load_truth,
    record_hash,
)
from streams.audit.verify_milestones import MilestoneVerifier, expected_milestone_id
from streams.domain.reject_reasons import RejectReason
from streams.errors import Misconfigured
from streams.formats.topics import POSITION_KEY, partition_of
from streams.kafka.dead_letters import DeadLetter
from tests.formats.avro import framed

PARTITIONS = 4
NINE = 1_772_355_600_000
TEN = NINE + 3_600_000


def entry(event_id, kind, event_time, **others):
    return {
        "record_hash": record_hash(event_id.encode()),
        "kind": kind,
        "event_time": event_time,
        "utc_offset_minutes": 60,
        "voided": False,
        "inferred": False,
        "details": {"site": "LGG", "station": "DOCK-1", "lane": None, "reason": None},
        "container_id": None,
        "voids": None,
        "plan": None,
        "promised_at": None,
    } | others


def state(parcel_id, scans, kinds, **others):
    return {
        "parcel_id": parcel_id,
        "version": len(scans),
        "stage": "UNLOADED",
        "stage_time": TEN,
        "customs": None,
        "held": False,
        "hold_reason": None,
        "site": "LGG",
        "station": "DOCK-1",
        "container_id": None,
        "lane": None,
        "damaged": False,
        "no_reads": 0,
        "recirculations": 0,
        "plan": None,
        "promised_at": None,
        "kinds": [{"kind": kind, "first": first, "last": last, "count": n} for kind, (first, last, n) in kinds.items()],
        "timeline": scans,
    } | others


def milestone(parcel_id, version, kind, stage, event_id, event_time, previous_time=None):
    said = {
        "parcel_id": parcel_id,
        "version": version,
        "type": kind,
        "stage": stage,
        "event_time": event_time,
        "previous_time": previous_time,
        "evidence": record_hash(event_id.encode()),
        "site": "" if kind == "RETRACTED" else "LGG",
        "station": "" if kind == "RETRACTED" else "DOCK-1",
        "direction": "UNKNOWN",
    }
    return said | {"milestone_id": expected_milestone_id(said)}


def digest(scans):
    entries = b""
    for each in scans:
        at, voids = each["details"], each["voids"]
        said = [
            each["record_hash"].hex(), each["voided"], each["utc_offset_minutes"], each["inferred"],
            None if at is None else [at["site"], at["station"], at["lane"], at["reason"]], each["container_id"],
            None if voids is None else voids.hex(), each["plan"], each["promised_at"],
        ]  # fmt: skip
        entries += json.dumps(said, sort_keys=True).encode()
    return sha256(entries).hexdigest()


class Log:
    """Two parcels as a worker writes them, the truth about them, and room for faults."""

    def __init__(self):
        one = [entry("a", "ARRIVED", NINE), entry("b", "UNLOADED", TEN)]
        # The UNLOADED scan at nine was voided: first told, then lost, then reached again at ten.
        wrong = entry("c", "UNLOADED", NINE, voided=True)
        void = entry("v", "VOID", TEN + 1, voids=wrong["record_hash"])
        two = [wrong, entry("d", "UNLOADED", TEN), void]
        one_kinds = {"ARRIVED": (NINE, NINE, 1), "UNLOADED": (TEN, TEN, 1)}
        two_kinds = {"UNLOADED": (TEN, TEN, 1)}
        self.states = {"P1": state("P1", one, one_kinds), "P2": state("P2", two, two_kinds)}
        self.older_states = {"P1": state("P1", one[:1], {"ARRIVED": (NINE, NINE, 1)}, stage="ARRIVED", stage_time=NINE)}
        self.positions = [(0, {"next_offset": 7, "hub_time": NINE}), (0, {"next_offset": 9, "hub_time": TEN})]
        self.milestones = [
            milestone("P1", 1, "REACHED", "ARRIVED", "a", NINE),
            milestone("P1", 2, "REACHED", "UNLOADED", "b", TEN),
            milestone("P2", 1, "REACHED", "UNLOADED", "c", NINE),
            milestone("P2", 2, "RETRACTED", "UNLOADED", "v", NINE),
            milestone("P2", 3, "REACHED", "UNLOADED", "d", TEN),
        ]
        self.letters = [letter(0, 0, RejectReason.TRUNCATED, 11), letter(1, 0, RejectReason.TRUNCATED, 3)]
        self.extra_states = []
        shown = ("version", "stage", "stage_time", "customs", "held", "site", "station", "plan", "damaged", "no_reads")
        self.truth = {
            parcel_id: {name: parcel[name] for name in shown}
            | {"entries": digest(parcel["timeline"])}
            | {"kinds": {each["kind"]: [each["first"], each["last"], each["count"]] for each in parcel["kinds"]}}
            for parcel_id, parcel in deepcopy(self.states).items()
        }
        self.reasons = {"TRUNCATED": 2}

    def verify(self) -> VerificationReport:
        report, evidence = VerificationReport(), ParcelRecordIndex()
        states = StateVerifier(PARTITIONS)
        written = [*self.older_states.values(), *self.states.values()]
        states.add(
            [
                *(
                    (POSITION_KEY, framed("InputPosition", position), at, n)
                    for n, (at, position) in enumerate(self.positions)
                ),
                *(
                    (
                        each["parcel_id"].encode(),
                        framed("ParcelState", each),
                        partition_of(each["parcel_id"].encode(), 4),
                        n,
                    )
                    for n, each in enumerate(written)
                ),
                *self.extra_states,
            ]
        )
        evidence.retire(states.retired)
        report.differences = compare_states(self.truth, states.decoded(), evidence) + states.differences
        report.parcels = len(states.latest)
        milestones = MilestoneVerifier(report, evidence)
        milestones.add(
            (each["parcel_id"].encode(), framed("Milestone", each), partition_of(each["parcel_id"].encode(), 4), n)
            for n, each in enumerate(self.milestones)
        )
        milestones.compare(self.truth)
        compare_dead_letters({"hub.scans": self.reasons, "hub.containers": {}}, self.letters, report)
        return report


def letter(partition, offset, reason, source_offset):
    source = ("hub.scans", partition, source_offset)
    return DeadLetter((partition, offset), 0, source, reason.name, "", b"", b"", [])


@pytest.fixture
def log():
    return Log()


def found_in(report):
    """Names of the sections with a difference."""
    return [name for name, differences in report.sections().items() if differences]


def test_a_log_that_is_right_has_no_differences(log):
    report = log.verify()
    assert report.ok, report.sections()
    assert (report.parcels, report.milestones, report.dead_letters) == (2, 5, {"TRUNCATED": 2})


class TestStates:
    def test_a_missing_parcel(self, log):
        del log.states["P2"]
        report = log.verify()
        assert ("P2", "parcel") in {(each.where, each.what) for each in report.differences}

    def test_a_parcel_nobody_expected(self, log):
        del log.truth["P2"]
        assert [(each.where, each.what) for each in log.verify().differences] == [("P2", "parcel")]

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("stage", "ARRIVED"),
            ("stage", None),
            ("stage_time", NINE),
            ("held", True),
            ("site", None),
            ("damaged", True),
            ("no_reads", 1),
            ("customs", "CUSTOMS_HELD"),
        ],
    )
    def test_a_wrong_field(self, log, field, value):
        expected = log.truth["P1"][field]
        log.states["P1"][field] = value
        (difference,) = log.verify().differences
        assert (difference.where, difference.what, difference.expected, difference.found) == (
            "P1",
            field,
            expected,
            value,
        )

    def test_a_record_that_is_voided_and_should_not_be(self, log):
        log.states["P1"]["timeline"][0]["voided"] = True
        assert [each.what for each in log.verify().differences] == ["entries"]

    @pytest.mark.parametrize(
        "said",
        [
            {"utc_offset_minutes": 33},
            {"inferred": True},
            {"container_id": "BAG9"},
            {"promised_at": 1},
            {"voids": b"v" * 16},
        ],
    )
    def test_a_record_that_says_something_else(self, log, said):
        log.states["P1"]["timeline"][0] |= said
        assert [each.what for each in log.verify().differences] == ["entries"]

    @pytest.mark.parametrize("field", ["site", "station", "lane", "reason"])
    def test_a_record_of_another_place(self, log, field):
        log.states["P1"]["timeline"][0]["details"] |= {field: "elsewhere"}
        assert "entries" in [each.what for each in log.verify().differences]

    @pytest.mark.parametrize("field", ["first", "last", "count"])
    def test_a_wrong_time_or_count_of_a_kind(self, log, field):
        log.states["P1"]["kinds"][1][field] += 1
        assert [each.what for each in log.verify().differences] == ["kinds"]

    def test_a_record_counted_twice(self, log):
        log.states["P1"]["timeline"].append(log.states["P1"]["timeline"][-1])
        assert "timeline" in [each.what for each in log.verify().differences]

    def test_entries_in_a_wrong_order(self, log):
        log.states["P1"]["timeline"].reverse()
        assert [each.what for each in log.verify().differences] == ["timeline", "entries"]

    def test_a_state_that_goes_back(self, log):
        log.older_states["P1"] |= {"version": 3}
        (difference,) = log.verify().differences
        assert difference.what.startswith("version at")

    def test_a_state_in_another_partition(self, log):
        del log.older_states["P1"]
        value = framed("ParcelState", log.states.pop("P1"))
        log.extra_states = [(b"P1", value, (partition_of(b"P1", PARTITIONS) + 1) % PARTITIONS, 0)]
        assert [each.what for each in log.verify().differences] == ["partition"]

    def test_a_state_under_a_key_of_another_parcel(self, log):
        log.extra_states = [(b"P2", framed("ParcelState", log.states["P1"]), partition_of(b"P2", PARTITIONS), 9)]
        assert "parcel_id" in [each.what for each in log.verify().differences]

    @pytest.mark.parametrize("value", [b"", b"\0\0\0\0\4", b"\0\0\0\0\1abc", b"junk!!", None])
    def test_a_value_that_is_no_state(self, log, value):
        log.extra_states = [(b"P2", value, partition_of(b"P2", PARTITIONS), 9)]
        assert found_in(log.verify()) == ["states"]

    def test_a_position_that_goes_back(self, log):
        log.positions.append((0, {"next_offset": 8, "hub_time": TEN}))
        assert [each.what for each in log.verify().differences] == ["position"]

    def test_a_hub_time_that_goes_back(self, log):
        log.positions.append((0, {"next_offset": 10, "hub_time": None}))
        assert [each.what for each in log.verify().differences] == ["hub_time"]

    def test_positions_of_other_partitions_are_their_own(self, log):
        log.positions.append((1, {"next_offset": 1, "hub_time": None}))
        assert log.verify().ok


class TestMilestones:
    def test_one_that_is_there_twice(self, log):
        log.milestones.append(log.milestones[0])
        assert found_in(log.verify()) == ["milestones doubled"]

    @pytest.mark.parametrize("missing", range(5))
    def test_one_that_is_missing_is_named_on_its_own(self, log, missing):
        del log.milestones[missing]
        assert found_in(log.verify()) == ["milestones missing"]

    def test_one_whose_id_does_not_say_what_it_says(self, log):
        log.milestones[1]["milestone_id"] = bytes(16)
        assert found_in(log.verify()) == ["milestones wrong"]

    def test_one_that_follows_from_no_record(self, log):
        log.milestones[1] = milestone("P1", 2, "REACHED", "UNLOADED", "nobody", TEN)
        assert found_in(log.verify()) == ["milestones wrong"]

    def test_one_with_the_time_of_another_record(self, log):
        log.milestones[1] = milestone("P1", 2, "REACHED", "UNLOADED", "b", NINE)
        assert "milestones wrong" in found_in(log.verify())

    def test_one_at_another_place_than_its_evidence(self, log):
        log.milestones[1]["station"] = "DOCK-2"
        assert found_in(log.verify()) == ["milestones wrong"]

    def test_one_that_was_lost_by_no_void(self, log):
        log.milestones[3] = milestone("P2", 2, "RETRACTED", "UNLOADED", "nobody", NINE)
        assert found_in(log.verify()) == ["milestones wrong"]

    def test_one_of_a_version_that_the_parcel_never_had(self, log):
        log.milestones[1] = milestone("P1", 3, "REACHED", "UNLOADED", "b", TEN)
        assert found_in(log.verify()) == ["milestones wrong"]

    def test_two_out_of_order(self, log):
        log.milestones[:2] = reversed(log.milestones[:2])
        assert found_in(log.verify()) == ["milestones wrong"]

    def test_a_stage_that_the_truth_does_not_have(self, log):
        del log.truth["P1"]["kinds"]["ARRIVED"]
        assert "milestones missing" in found_in(log.verify())


class TestDeadLetters:
    def test_one_too_few(self, log):
        log.letters.pop()
        assert found_in(log.verify()) == ["dead letters"]

    def test_one_of_another_reason(self, log):
        log.letters[0] = letter(0, 0, RejectReason.INVALID_UTF8, 11)
        assert [each.what for each in log.verify().dead_letter_differences] == ["INVALID_UTF8", "TRUNCATED"]

    def test_one_that_is_there_twice(self, log):
        log.letters.append(letter(0, 1, RejectReason.TRUNCATED, 11))
        log.reasons["TRUNCATED"] = 3
        assert found_in(log.verify()) == ["dead letters"]

    def test_one_of_the_other_log(self, log):
        log.letters[0] = DeadLetter((0, 0), 0, ("hub.containers", 0, 11), "TRUNCATED", "", b"", b"", [])
        assert [each.where for each in log.verify().dead_letter_differences] == [
            "dead letters of hub.containers", "dead letters of hub.scans",
        ]  # fmt: skip

    def test_one_in_another_partition(self, log):
        log.letters[0] = DeadLetter((2, 0), 0, ("hub.scans", 0, 11), "TRUNCATED", "", b"", b"", [])
        assert found_in(log.verify()) == ["dead letters"]

    def test_one_without_headers(self, log):
        log.letters[0] = DeadLetter((0, 0), 0, None, "TRUNCATED", "", b"", b"", [])
        assert found_in(log.verify()) == ["dead letters"]


@pytest.mark.parametrize("content", [None, b"", b"[]", b'{"format": "other"}', b"\xff"])
def test_a_file_that_is_no_truth_is_refused(tmp_path, content):
    path = tmp_path / "truth.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(Misconfigured, match="truth"):
        load_truth(path)
