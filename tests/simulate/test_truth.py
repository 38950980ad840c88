"""The truth file agrees with the log: it is compared with a second, plain reader of the log's bytes."""

import hashlib
import json
import struct

import mmh3
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.domain.containment import UNCONTAINED, ContainmentRecord, evaluate_containment
from streams.domain.kinds import KINDS
from streams.errors import Misconfigured
from streams.formats.record_decoder import RecordDecoder
from streams.kafka.bulk_producer import RecordColumnsEncoder
from streams.simulate.data_faults import DataFaults
from streams.simulate.day import Scenario, Simulation
from streams.simulate.truth import FORMAT, TruthFile, TruthRecord, expected_state

STAGES = {
    "ADVISED", "ARRIVED", "UNLOADED", "UNPACKED", "INDUCTED", "SORTED", "PACKED", "LOADED", "DISPATCHED", "DELIVERED",
    "RETURNED", "LOST",
}  # fmt: skip
MANY_FAULTS = DataFaults(
    duplicates=0.1, bursts=0.01, late=0.2, very_late=0.05, voids=0.15, wrong_time_zone=0.05, malformed=0.02,
    no_reads=0.3, recirculated=0.3, missorted=0.2, held=0.4, damaged=0.1, lost=0.1, unadvised=0.2, missed=0.1,
)  # fmt: skip


@pytest.fixture(scope="module")
def encoder():
    return RecordColumnsEncoder()


def simulated(folder, encoder, scenario):
    """The truth of a scenario, and the values of its log."""
    path = folder / "truth.json"
    log = []
    with TruthFile(path, scenario) as file:
        simulation = Simulation(scenario, file)
        for columns in simulation.batches():
            encoded = encoder.encode(columns)
            log += zip(columns.types.tolist(), encoded.values, strict=True)
        file.complete(simulation.counts)
    return json.loads(path.read_text()), log


def record_hash(name: bytes) -> bytes:
    return struct.pack(">QQ", *mmh3.hash64(name, 0, x64arch=True, signed=False))


def containment_record(record: dict, voided: bool) -> ContainmentRecord:
    inferred = record["inferred_from"] is not None
    return ContainmentRecord(record["kind"], record["site"], record["container_id"], inferred, voided, record["reason"])


def naive_state(records: dict[bytes, dict]) -> dict:
    """The state, field by field, each from the whole set of records."""
    ordered = sorted(records, key=lambda key: (records[key]["event_time"], KINDS.index(records[key]["kind"]), key))
    ineffective = {record_hash(record["voids"].encode()) for record in records.values() if record.get("voids")}
    scan_hashes = [key for key in ordered if records[key]["kind"] != "VOID" and "site" in records[key]]
    result = evaluate_containment([containment_record(records[key], key in ineffective) for key in scan_hashes])
    ineffective |= {key for key, is_superseded in zip(scan_hashes, result.superseded, strict=True) if is_superseded}
    containers_after = dict(zip(scan_hashes, result.containers_after, strict=True))
    effective = [records[key] for key in ordered if key not in ineffective and records[key]["kind"] != "VOID"]
    scans = [record for record in effective if "site" in record]
    advices = [record for record in effective if "site" not in record]

    def last(found):
        return found[-1] if found else {}

    stage_records = [record for record in effective if record["kind"] in STAGES]
    stage_record = last([record for record in stage_records if record["kind"] != "ADVISED"] or stage_records)
    customs = last([record for record in scans if record["kind"].startswith("CUSTOMS")])
    held = customs.get("kind") == "CUSTOMS_HELD"
    location = last(
        [
            scan
            for scan in scans
            if not scan["kind"].startswith("CUSTOMS") and scan["kind"] not in ("OTHER", "ADVISED", "LOST")
        ]
    )
    containers = [containers_after[key] for key in ordered if key in containers_after and key not in ineffective]
    exits = [
        index
        for index, record in enumerate(scans)
        if record["kind"] in UNCONTAINED or (index and containers[index - 1] and not containers[index])
    ]
    container_ids = [
        record["container_id"] for record in scans[max(exits, default=-1) + 1 :] if record["container_id"] is not None
    ]
    if exits and scans[exits[-1]]["kind"] not in UNCONTAINED and scans[exits[-1]]["container_id"] is not None:
        container_ids = container_ids or [scans[exits[-1]]["container_id"]]
    lanes = [
        record["lane"] for record in scans if record["kind"] in ("SORTED", "LOADED") and record["lane"] is not None
    ]
    times = {kind: [record["event_time"] for record in effective if record["kind"] == kind] for kind in KINDS}
    fields = ("direction", "service", "origin", "destination", "planned_lane", "owner")
    entries = b""
    for key in ordered:
        record = records[key]
        advice = "site" not in record
        entry = [
            key.hex(), key in ineffective and record["kind"] != "VOID", record.get("utc_offset_minutes", 0),
            record.get("inferred_from") is not None,
            None if advice else [record["site"], record["station"], record["lane"], record["reason"]],
            record.get("container_id"), record_hash(record["voids"].encode()).hex() if record.get("voids") else None,
            {field: record[field] for field in fields} if advice else None, record.get("promised_at"),
        ]  # fmt: skip
        entries += json.dumps(entry, sort_keys=True).encode()
    return {
        "version": len(records),
        "stage": stage_record.get("kind"),
        "stage_time": stage_record.get("event_time"),
        "customs": customs.get("kind"),
        "held": held,
        "hold_reason": customs["reason"] if held else None,
        "site": location.get("site"),
        "station": location.get("station"),
        "container_id": container_ids[-1] if container_ids else None,
        "lane": lanes[-1] if lanes else None,
        "damaged": bool(times["DAMAGED"]),
        "no_reads": len(times["NO_READ"]),
        "recirculations": len(times["RECIRCULATED"]),
        "plan": {field: last(advices)[field] for field in fields} if advices else None,
        "promised_at": last(advices).get("promised_at"),
        "kinds": {kind: [min(found), max(found), len(found)] for kind, found in times.items() if found},
        "timeline_sha256": hashlib.sha256(entries).hexdigest(),
    }


@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 2**63 - 1),
    after_hours=st.sampled_from([0, 5, 100]),
    faults=st.sampled_from([DataFaults(), MANY_FAULTS]),
)
def test_the_truth_agrees_with_a_plain_reader_of_the_log(tmp_path_factory, encoder, seed, after_hours, faults):
    scenario = Scenario(60, seed, after_hours=after_hours, faults=faults, scans_only=True)
    truth, log = simulated(tmp_path_factory.mktemp("truth"), encoder, scenario)
    decoders = {0: RecordDecoder("Scan"), 1: RecordDecoder("Advice")}
    parcels: dict[str, dict[bytes, dict]] = {}
    repeats = 0
    for type_, value in log:
        if type_ not in decoders:
            continue
        record = dict(decoders[type_](value))
        if type_ == 1:
            record["kind"] = "ADVISED"
        name = record["event_id"].encode()
        key = record_hash(name + b"\0" + struct.pack(">q", record["event_time"]) if record["kind"] == "VOID" else name)
        records = parcels.setdefault(record["parcel_id"], {})
        repeats += key in records
        records.setdefault(key, record)
    # Clocks and alerts: tests/simulate/test_expected_alerts.py.
    other_fields = ("journeys", "clocks", "active_alerts", "alerts")
    states = {
        parcel_id: {name: value for name, value in parcel.items() if name not in other_fields}
        for parcel_id, parcel in truth["parcels"].items()
    }
    assert states == {parcel_id: naive_state(records) for parcel_id, records in parcels.items()}
    assert truth["format"] == FORMAT
    assert truth["records"] == sum(len(records) for records in parcels.values())
    assert truth["duplicates"] == repeats
    assert sum(truth["dead_letters"].values()) == sum(type_ == 3 for type_, _ in log)


class TestExpectedState:
    HISTORY = (
        TruthRecord("a", "ARRIVED", 10, "LGG-AIR", "APR-01", container_id="AKE1"),
        TruthRecord("b", "UNPACKED", 20, "LGG", "BAG-01", container_id="BAG1"),
        TruthRecord("c", "SORTED", 30, "LGG", "SRT-01", lane="R-DE"),
        TruthRecord("d", "PACKED", 40, "LGG", "PCK-01", container_id="BAG2"),
    )

    def test_an_unpacked_parcel_is_in_no_container_until_it_is_packed(self):
        containers = [expected_state(self.HISTORY[: n + 1])["container_id"] for n in range(4)]
        assert containers == ["AKE1", None, None, "BAG2"]

    def test_a_void_removes_its_target_whichever_comes_first(self):
        void = TruthRecord("v", "VOID", 5, "LGG", "SRT-01", voids="c")
        state = expected_state([void, *self.HISTORY[:3]])
        assert (state["version"], state["stage"], state["lane"]) == (4, "UNPACKED", None)
        assert "SORTED" not in state["kinds"]

    def test_a_void_of_a_void_or_of_no_record_changes_nothing(self):
        plain = expected_state(self.HISTORY)
        voids = [TruthRecord("v", "VOID", 5, voids="nothing"), TruthRecord("w", "VOID", 6, voids="v")]
        state = expected_state([*self.HISTORY, *voids])
        assert {**state, "version": 4, "timeline_sha256": ""} == {**plain, "timeline_sha256": ""}

    def test_an_advice_corrected_later_does_not_move_the_parcel_back(self):
        advice = TruthRecord("x", "ADVISED", 99, plan={"direction": "IMPORT"}, promised_at=100)
        state = expected_state([*self.HISTORY, advice])
        assert (state["stage"], state["stage_time"], state["promised_at"]) == ("PACKED", 40, 100)
        assert expected_state([advice])["stage"] == "ADVISED"

    def test_a_hold_lasts_until_the_release_and_keeps_its_reason(self):
        hold = TruthRecord("h", "CUSTOMS_HELD", 50, "LGG", "CUS-01", reason="VALUE_IN_DOUBT")
        release = TruthRecord("r", "CUSTOMS_RELEASED", 60, "LGG", "CUS-01")
        state = expected_state([*self.HISTORY, hold])
        assert (state["held"], state["hold_reason"], state["station"]) == (True, "VALUE_IN_DOUBT", "PCK-01")
        assert (expected_state([hold, release])["held"], expected_state([hold, release])["hold_reason"]) == (
            False,
            None,
        )

    def test_the_order_of_arrival_does_not_matter(self):
        assert expected_state(self.HISTORY) == expected_state(reversed(self.HISTORY))

    def test_scans_of_the_same_instant_are_in_the_order_of_their_kinds(self):
        both = [TruthRecord("z", "UNLOADED", 10, "LGG", "UNL-01"), TruthRecord("y", "ARRIVED", 10, "LGG", "TRK-01")]
        assert expected_state(both)["stage"] == "UNLOADED"


class TestTruthFile:
    def test_does_not_exist_after_a_failed_simulation(self, tmp_path):
        path = tmp_path / "truth.json"

        def fail():
            with TruthFile(path, Scenario(1)) as file:
                for columns in Simulation(Scenario(10), file).batches():
                    raise RuntimeError(columns.rows)

        with pytest.raises(RuntimeError):
            fail()
        assert not list(tmp_path.iterdir())

    def test_that_cannot_be_written_is_reported_at_once(self, tmp_path):
        with pytest.raises(Misconfigured, match="the truth file cannot be written"):
            TruthFile(tmp_path / "nowhere" / "truth.json", Scenario(1)).__enter__()
