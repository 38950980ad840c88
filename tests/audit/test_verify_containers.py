"""`parcels verify` must find every fault in inferred records: each test plants one in correct logs."""

import pytest

from streams.audit.verify import VerificationReport
from streams.audit.verify_containers import ContainerVerifier, container_positions, expected_inferred_id
from tests.formats.avro import framed

LOCATION_FIELDS = {
    "utc_offset_minutes": 60,
    "site": "LGG",
    "station": "DOCK-1",
    "lane": None,
    "reason": None,
    "device_id": "",
}
NINE = 1_772_355_600_000


def container_event(event_id, container, kind, time, **others):
    defaults = {"parcels": [], "containers": [], "path": [], "parent_id": None, "voids": None, "inferred_from": None}
    own_fields = {
        "event_id": event_id,
        "container_id": container,
        "kind": kind,
        "event_time": time,
        "record_time": time,
    }
    return {**LOCATION_FIELDS, **defaults, **own_fields, "device_seq": 0, **others}


def scan(event_id, parcel, kind, time, container, root_event_id, **others):
    own_fields = {"event_id": event_id, "parcel_id": parcel, "kind": kind, "event_time": time, "record_time": time}
    other_fields = {
        "container_id": container,
        "inferred_from": root_event_id,
        "voids": None,
        "weight_g": None,
        "device_seq": 0,
    }
    return {**LOCATION_FIELDS, **own_fields, **other_fields, **others}


class Logs:
    """A parcel in a bag in a ULD that arrives, in both logs; tests change some records."""

    def __init__(self):
        packed, arrived = (expected_inferred_id(cause, "BAG") for cause in ("u", "a"))
        self.containers = [
            container_event("p", "BAG", "PACKED", NINE, parcels=["X"]),
            container_event("u", "ULD", "PACKED", NINE + 1, containers=["BAG"]),
            container_event("a", "ULD", "ARRIVED", NINE + 2),
            container_event(packed, "BAG", "PACKED", NINE + 1, parent_id="ULD", inferred_from="u", path=["ULD"]),
            container_event(arrived, "BAG", "ARRIVED", NINE + 2, parent_id="ULD", inferred_from="a", path=["ULD"]),
        ]
        self.scans = [
            scan(expected_inferred_id("p", "X"), "X", "PACKED", NINE, "BAG", "p"),
            scan(expected_inferred_id(arrived, "X"), "X", "ARRIVED", NINE + 2, "BAG", "a"),
        ]
        self.ticks = [(2, NINE + 9)]

    def verify(self) -> VerificationReport:
        report = VerificationReport()
        containers = ContainerVerifier(report)
        containers.add_events(
            (record["container_id"].encode(), framed("ContainerEvent", record), 0, offset)
            for offset, record in enumerate(self.containers)
        )
        ticks = [(None, framed("Tick", {"hub_time": time, "producer": ""}), 0, offset) for offset, time in self.ticks]
        scans = [
            (record["parcel_id"].encode(), framed("Scan", record), 0, offset)
            for offset, record in enumerate(self.scans)
        ]
        containers.add_scans([*scans, *ticks])
        containers.compare()
        report.unsettled_partitions = containers.unsettled_partitions(NINE + 9)
        return report


@pytest.fixture
def logs():
    return Logs()


def sections_with_differences(report):
    return {name: len(differences) for name, differences in report.sections().items() if differences}


def test_correct_logs_have_no_differences(logs):
    report = logs.verify()
    assert report.ok, report.sections()
    assert (report.inferred_records, report.repeated_inferred_records, report.unsettled_partitions) == (4, 0, [])


@pytest.mark.parametrize("missing", ["neither", "scan", "event"])
def test_an_id_of_a_parcel_and_a_container_needs_the_records_of_both(logs, missing):
    logs.containers[1]["parcels"] = ["BAG"]
    logs.scans += [
        scan(logs.containers[3]["event_id"], "BAG", "PACKED", NINE + 1, "ULD", "u"),
        scan(logs.containers[4]["event_id"], "BAG", "ARRIVED", NINE + 2, "ULD", "a"),
    ]
    logs.ticks = [(4, NINE + 9)]
    if missing == "scan":
        del logs.scans[3]
    elif missing == "event":
        del logs.containers[3]
    report = logs.verify()
    assert [each.key for each in report.missing_inferred] == ([] if missing == "neither" else ["BAG"])
    assert (report.wrong_inferred, report.repeated_inferred_records) == ([], 0)


@pytest.mark.parametrize("missing", range(2))
def test_a_missing_scan(logs, missing):
    del logs.scans[missing]
    (difference,) = logs.verify().missing_inferred
    assert (difference.key, difference.expected, difference.found) == ("X", "one record", 0)


def test_a_missing_event_of_a_bag_is_missing_for_its_parcels_as_well(logs):
    del logs.containers[4]
    assert {each.key for each in logs.verify().missing_inferred} == {"BAG", "X"}


def test_a_scan_that_is_retracted_but_should_not_be(logs):
    event_id = logs.scans[1]["event_id"]
    logs.scans.append(scan(event_id, "X", "VOID", NINE + 3, None, None, voids=event_id))
    logs.ticks = [(3, NINE + 9)]
    assert sections_with_differences(logs.verify()) == {"inferred missing": 1}


def test_a_scan_that_is_inferred_again_after_a_retraction_is_correct(logs):
    event_id = logs.scans[1]["event_id"]
    new_event_id = expected_inferred_id(expected_inferred_id("a", "BAG"), "X", 1)
    logs.scans.append(scan(event_id, "X", "VOID", NINE + 3, None, None, voids=event_id))
    logs.scans.append(scan(new_event_id, "X", "ARRIVED", NINE + 2, "BAG", "a"))
    assert logs.verify().ok
    logs.scans.remove(logs.scans[2])
    assert sections_with_differences(logs.verify()) == {"inferred missing": 1}, "it is there twice"


def test_a_repetition_is_counted_and_is_no_difference(logs):
    logs.scans.append(logs.scans[0])
    report = logs.verify()
    assert report.ok
    assert report.repeated_inferred_records == 1


@pytest.mark.parametrize(
    "change",
    [
        {"event_id": expected_inferred_id("a", "X")},
        {"kind": "LOADED"},
        {"event_time": NINE + 5},
        {"site": "CDG"},
        {"inferred_from": "nothing"},
        {"parcel_id": "Y"},
        {"container_id": "ULD"},
    ],
)
def test_a_scan_without_a_cause(logs, change):
    logs.scans.append(logs.scans[1] | {"event_id": expected_inferred_id("a", "Y")} | change)
    assert sections_with_differences(logs.verify()) == {"inferred wrong": 1}


def test_a_scan_of_a_parcel_that_was_never_inside(logs):
    logs.scans.append(scan(expected_inferred_id("p", "Y"), "Y", "PACKED", NINE, "BAG", "p"))
    (difference,) = logs.verify().wrong_inferred
    assert difference.expected == "a child of BAG"


def test_alerts_are_not_final_without_a_later_tick(logs):
    logs.ticks = [(1, NINE + 9)]
    assert logs.verify().unsettled_partitions == [0]
    logs.ticks = [(2, NINE + 8)]
    assert logs.verify().unsettled_partitions == [0]


def test_positions_have_the_number_of_pending_fan_outs():
    fan_out = {"container_id": "ULD", "kind": "PROPAGATE", "cause": b"i" * 16}
    older = {
        "next_offset": 7,
        "hub_time": None,
        "promises_digest": None,
        "transaction_number": 3,
        "pending_fan_outs": [fan_out],
    }
    newer = older | {"next_offset": 9, "pending_fan_outs": []}
    records = [(b"\0position", framed("InputPosition", each), 0, n) for n, each in enumerate((older, newer))]
    assert container_positions([*records, (b"ULD", b"", 0, 6)]) == ({0: 9}, {})
    assert container_positions(records[:1]) == ({0: 7}, {0: 1})
