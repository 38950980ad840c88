"""`parcels verify` must find every fault: each test plants one in a correct log, and checks the differences."""

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
    fields = {
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
    return fields | {"milestone_id": expected_milestone_id(fields)}


def digest(scans):
    entries = b""
    for entry in scans:
        location, voids = entry["details"], entry["voids"]
        content = [
            entry["record_hash"].hex(), entry["voided"], entry["utc_offset_minutes"], entry["inferred"],
            location and [location[name] for name in ("site", "station", "lane", "reason")], entry["container_id"],
            None if voids is None else voids.hex(), entry["plan"], entry["promised_at"],
        ]  # fmt: skip
        entries += json.dumps(content, sort_keys=True).encode()
    return sha256(entries).hexdigest()


class Log:
    """The records of two parcels as a worker writes them, and the truth about them; tests change some of them."""

    def __init__(self):
        first_timeline = [entry("a", "ARRIVED", NINE), entry("b", "UNLOADED", TEN)]
        # The UNLOADED scan at nine was voided: its milestone was reached, then retracted, then reached at ten.
        voided_entry = entry("c", "UNLOADED", NINE, voided=True)
        void = entry("v", "VOID", TEN + 1, voids=voided_entry["record_hash"])
        second_timeline = [voided_entry, entry("d", "UNLOADED", TEN), void]
        first_kinds = {"ARRIVED": (NINE, NINE, 1), "UNLOADED": (TEN, TEN, 1)}
        second_kinds = {"UNLOADED": (TEN, TEN, 1)}
        self.states = {"P1": state("P1", first_timeline, first_kinds), "P2": state("P2", second_timeline, second_kinds)}
        self.older_states = {
            "P1": state("P1", first_timeline[:1], {"ARRIVED": (NINE, NINE, 1)}, stage="ARRIVED", stage_time=NINE)
        }
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
        compared = (
            "version",
            "stage",
            "stage_time",
            "customs",
            "held",
            "site",
            "station",
            "plan",
            "damaged",
            "no_reads",
        )
        self.truth = {
            parcel_id: {name: parcel[name] for name in compared}
            | {"timeline_sha256": digest(parcel["timeline"])}
            | {"kinds": {each["kind"]: [each["first"], each["last"], each["count"]] for each in parcel["kinds"]}}
            for parcel_id, parcel in deepcopy(self.states).items()
        }
        self.reasons = {"TRUNCATED": 2}

    def verify(self) -> VerificationReport:
        report, evidence = VerificationReport(), ParcelRecordIndex()
        states = StateVerifier(PARTITIONS)
        all_states = [*self.older_states.values(), *self.states.values()]
        states.add(
            [
                *(
                    (POSITION_KEY, framed("InputPosition", position), partition, n)
                    for n, (partition, position) in enumerate(self.positions)
                ),
                *(
                    (
                        each["parcel_id"].encode(),
                        framed("ParcelState", each),
                        partition_of(each["parcel_id"].encode(), 4),
                        n,
                    )
                    for n, each in enumerate(all_states)
                ),
                *self.extra_states,
            ]
        )
        evidence.mark_retired(states.retired)
        report.differences = compare_states(self.truth, states.decode_states(), evidence) + states.differences
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


def sections_with_differences(report):
    """Names of the sections that have a difference."""
    return [name for name, differences in report.sections().items() if differences]


def test_a_correct_log_has_no_differences(log):
    report = log.verify()
    assert report.ok, report.sections()
    assert (report.parcels, report.milestones, report.dead_letters) == (2, 5, {"TRUNCATED": 2})


class TestStates:
    def test_a_missing_parcel(self, log):
        del log.states["P2"]
        report = log.verify()
        assert ("P2", "parcel") in {(difference.key, difference.field) for difference in report.differences}

    def test_an_unexpected_parcel(self, log):
        del log.truth["P2"]
        assert [(difference.key, difference.field) for difference in log.verify().differences] == [("P2", "parcel")]

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
        assert (difference.key, difference.field, difference.expected, difference.found) == (
            "P1",
            field,
            expected,
            value,
        )

    def test_a_record_that_is_voided_but_should_not_be(self, log):
        log.states["P1"]["timeline"][0]["voided"] = True
        assert [difference.field for difference in log.verify().differences] == ["timeline_sha256"]

    @pytest.mark.parametrize(
        "change",
        [
            {"utc_offset_minutes": 33},
            {"inferred": True},
            {"container_id": "BAG9"},
            {"promised_at": 1},
            {"voids": b"v" * 16},
        ],
    )
    def test_a_record_with_other_fields(self, log, change):
        log.states["P1"]["timeline"][0] |= change
        assert [difference.field for difference in log.verify().differences] == ["timeline_sha256"]

    @pytest.mark.parametrize("field", ["site", "station", "lane", "reason"])
    def test_a_record_of_another_location(self, log, field):
        log.states["P1"]["timeline"][0]["details"] |= {field: "elsewhere"}
        assert "timeline_sha256" in [difference.field for difference in log.verify().differences]

    @pytest.mark.parametrize("field", ["first", "last", "count"])
    def test_a_wrong_time_or_count_of_a_kind(self, log, field):
        log.states["P1"]["kinds"][1][field] += 1
        assert [difference.field for difference in log.verify().differences] == ["kinds"]

    def test_a_record_counted_twice(self, log):
        log.states["P1"]["timeline"].append(log.states["P1"]["timeline"][-1])
        assert "timeline" in [difference.field for difference in log.verify().differences]

    def test_a_timeline_in_wrong_order(self, log):
        log.states["P1"]["timeline"].reverse()
        assert [difference.field for difference in log.verify().differences] == ["timeline", "timeline_sha256"]

    def test_a_version_that_decreases(self, log):
        log.older_states["P1"] |= {"version": 3}
        (difference,) = log.verify().differences
        assert difference.field.startswith("version at")

    def test_a_state_in_a_wrong_partition(self, log):
        del log.older_states["P1"]
        value = framed("ParcelState", log.states.pop("P1"))
        log.extra_states = [(b"P1", value, (partition_of(b"P1", PARTITIONS) + 1) % PARTITIONS, 0)]
        assert [difference.field for difference in log.verify().differences] == ["partition"]

    def test_a_state_with_the_key_of_another_parcel(self, log):
        log.extra_states = [(b"P2", framed("ParcelState", log.states["P1"]), partition_of(b"P2", PARTITIONS), 9)]
        assert "parcel_id" in [difference.field for difference in log.verify().differences]

    @pytest.mark.parametrize("value", [b"", b"\0\0\0\0\4", b"\0\0\0\0\1abc", b"junk!!", None])
    def test_a_value_that_is_no_state(self, log, value):
        log.extra_states = [(b"P2", value, partition_of(b"P2", PARTITIONS), 9)]
        assert sections_with_differences(log.verify()) == ["states"]

    def test_a_position_that_decreases(self, log):
        log.positions.append((0, {"next_offset": 8, "hub_time": TEN}))
        assert [difference.field for difference in log.verify().differences] == ["position"]

    def test_a_hub_time_that_decreases(self, log):
        log.positions.append((0, {"next_offset": 10, "hub_time": None}))
        assert [difference.field for difference in log.verify().differences] == ["hub_time"]

    def test_positions_are_compared_within_a_partition(self, log):
        log.positions.append((1, {"next_offset": 1, "hub_time": None}))
        assert log.verify().ok


class TestMilestones:
    def test_a_duplicate(self, log):
        log.milestones.append(log.milestones[0])
        assert sections_with_differences(log.verify()) == ["milestones doubled"]

    @pytest.mark.parametrize("missing", range(5))
    def test_a_missing_one_has_a_section_of_its_own(self, log, missing):
        del log.milestones[missing]
        assert sections_with_differences(log.verify()) == ["milestones missing"]

    def test_an_id_that_does_not_fit_the_content(self, log):
        log.milestones[1]["milestone_id"] = bytes(16)
        assert sections_with_differences(log.verify()) == ["milestones wrong"]

    def test_one_without_a_record(self, log):
        log.milestones[1] = milestone("P1", 2, "REACHED", "UNLOADED", "unknown", TEN)
        assert sections_with_differences(log.verify()) == ["milestones wrong"]

    def test_one_with_the_time_of_another_record(self, log):
        log.milestones[1] = milestone("P1", 2, "REACHED", "UNLOADED", "b", NINE)
        assert "milestones wrong" in sections_with_differences(log.verify())

    def test_one_with_the_location_of_another_record(self, log):
        log.milestones[1]["station"] = "DOCK-2"
        assert sections_with_differences(log.verify()) == ["milestones wrong"]

    def test_a_retraction_without_a_void(self, log):
        log.milestones[3] = milestone("P2", 2, "RETRACTED", "UNLOADED", "unknown", NINE)
        assert sections_with_differences(log.verify()) == ["milestones wrong"]

    def test_one_of_a_version_that_the_parcel_never_had(self, log):
        log.milestones[1] = milestone("P1", 3, "REACHED", "UNLOADED", "b", TEN)
        assert sections_with_differences(log.verify()) == ["milestones wrong"]

    def test_two_out_of_order(self, log):
        log.milestones[:2] = reversed(log.milestones[:2])
        assert sections_with_differences(log.verify()) == ["milestones wrong"]

    def test_a_stage_that_the_truth_does_not_have(self, log):
        del log.truth["P1"]["kinds"]["ARRIVED"]
        assert "milestones missing" in sections_with_differences(log.verify())


class TestDeadLetters:
    def test_a_missing_one(self, log):
        log.letters.pop()
        assert sections_with_differences(log.verify()) == ["dead letters"]

    def test_one_of_another_reason(self, log):
        log.letters[0] = letter(0, 0, RejectReason.INVALID_UTF8, 11)
        assert [difference.field for difference in log.verify().dead_letter_differences] == [
            "INVALID_UTF8",
            "TRUNCATED",
        ]

    def test_a_duplicate(self, log):
        log.letters.append(letter(0, 1, RejectReason.TRUNCATED, 11))
        log.reasons["TRUNCATED"] = 3
        assert sections_with_differences(log.verify()) == ["dead letters"]

    def test_one_of_the_other_topic(self, log):
        log.letters[0] = DeadLetter((0, 0), 0, ("hub.containers", 0, 11), "TRUNCATED", "", b"", b"", [])
        assert [difference.key for difference in log.verify().dead_letter_differences] == [
            "dead letters of hub.containers", "dead letters of hub.scans",
        ]  # fmt: skip

    def test_one_in_a_wrong_partition(self, log):
        log.letters[0] = DeadLetter((2, 0), 0, ("hub.scans", 0, 11), "TRUNCATED", "", b"", b"", [])
        assert sections_with_differences(log.verify()) == ["dead letters"]

    def test_one_without_headers(self, log):
        log.letters[0] = DeadLetter((0, 0), 0, None, "TRUNCATED", "", b"", b"", [])
        assert sections_with_differences(log.verify()) == ["dead letters"]


@pytest.mark.parametrize("content", [None, b"", b"[]", b'{"format": "other"}', b"\xff"])
def test_a_file_that_is_no_truth_is_rejected(tmp_path, content):
    path = tmp_path / "truth.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(Misconfigured, match="truth"):
        load_truth(path)
