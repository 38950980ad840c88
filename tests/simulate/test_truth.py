"""The truth file says what the log says: held against the bytes of the log, read in another way."""

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

MOVES = {
    "ADVISED", "ARRIVED", "UNLOADED", "UNPACKED", "INDUCTED", "SORTED", "PACKED", "LOADED", "DISPATCHED", "DELIVERED",
    "RETURNED", "LOST",
}  # fmt: skip
FILTHY = DataFaults(
    duplicates=0.1, bursts=0.01, late=0.2, very_late=0.05, voids=0.15, wrong_clock=0.05, broken=0.02, no_reads=0.3,
    recirculated=0.3, mis_sorted=0.2, held=0.4, damaged=0.1, lost=0.1, unadvised=0.2, missed=0.1,
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


def identity(name: bytes) -> bytes:
    return struct.pack(">QQ", *mmh3.hash64(name, 0, x64arch=True, signed=False))


def told(said: dict, voided: bool) -> ContainmentRecord:
    inferred = said["inferred_from"] is not None
    return ContainmentRecord(said["kind"], said["site"], said["container_id"], inferred, voided, said["reason"])


def naive_state(known: dict[bytes, dict]) -> dict:
    """The state, field by field, each from the whole set of records."""
    order = sorted(known, key=lambda each: (known[each]["event_time"], KINDS.index(known[each]["kind"]), each))
    wrong = {identity(said["voids"].encode()) for said in known.values() if said.get("voids")}
    seen = [each for each in order if known[each]["kind"] != "VOID" and "site" in known[each]]
    judged = evaluate_containment([told(known[each], each in wrong) for each in seen])
    wrong |= {each for each, aside in zip(seen, judged.superseded, strict=True) if aside}
    held_by = dict(zip(seen, judged.containers_after, strict=True))
    live = [known[each] for each in order if each not in wrong and known[each]["kind"] != "VOID"]
    scans = [said for said in live if "site" in said]
    advices = [said for said in live if "site" not in said]

    def last(found):
        return found[-1] if found else {}

    moves = [said for said in live if said["kind"] in MOVES]
    move = last([said for said in moves if said["kind"] != "ADVISED"] or moves)
    customs = last([said for said in scans if said["kind"].startswith("CUSTOMS")])
    held = customs.get("kind") == "CUSTOMS_HELD"
    place = last(
        [s for s in scans if not s["kind"].startswith("CUSTOMS") and s["kind"] not in ("OTHER", "ADVISED", "LOST")]
    )
    within = [held_by[each] for each in order if each in held_by and each not in wrong]
    left = [n for n, said in enumerate(scans) if said["kind"] in UNCONTAINED or (n and within[n - 1] and not within[n])]
    inside = [said["container_id"] for said in scans[max(left, default=-1) + 1 :] if said["container_id"] is not None]
    if left and scans[left[-1]]["kind"] not in UNCONTAINED and scans[left[-1]]["container_id"] is not None:
        inside = inside or [scans[left[-1]]["container_id"]]
    lanes = [said["lane"] for said in scans if said["kind"] in ("SORTED", "LOADED") and said["lane"] is not None]
    times = {kind: [said["event_time"] for said in live if said["kind"] == kind] for kind in KINDS}
    fields = ("direction", "service", "origin", "destination", "planned_lane", "owner")
    entries = b""
    for each in order:
        said = known[each]
        advice = "site" not in said
        entry = [
            each.hex(), each in wrong and said["kind"] != "VOID", said.get("utc_offset_minutes", 0),
            said.get("inferred_from") is not None,
            None if advice else [said["site"], said["station"], said["lane"], said["reason"]],
            said.get("container_id"), identity(said["voids"].encode()).hex() if said.get("voids") else None,
            {field: said[field] for field in fields} if advice else None, said.get("promised_at"),
        ]  # fmt: skip
        entries += json.dumps(entry, sort_keys=True).encode()
    return {
        "version": len(known),
        "stage": move.get("kind"),
        "stage_time": move.get("event_time"),
        "customs": customs.get("kind"),
        "held": held,
        "hold_reason": customs["reason"] if held else None,
        "site": place.get("site"),
        "station": place.get("station"),
        "container_id": inside[-1] if inside else None,
        "lane": lanes[-1] if lanes else None,
        "damaged": bool(times["DAMAGED"]),
        "no_reads": len(times["NO_READ"]),
        "recirculations": len(times["RECIRCULATED"]),
        "plan": {field: last(advices)[field] for field in fields} if advices else None,
        "promised_at": last(advices).get("promised_at"),
        "kinds": {kind: [min(found), max(found), len(found)] for kind, found in times.items() if found},
        "entries": hashlib.sha256(entries).hexdigest(),
    }


@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 2**63 - 1),
    after_hours=st.sampled_from([0, 5, 100]),
    dirt=st.sampled_from([DataFaults(), FILTHY]),
)
def test_the_truth_is_what_a_plain_reader_of_the_log_finds(tmp_path_factory, encoder, seed, after_hours, dirt):
    scenario = Scenario(60, seed, after_hours=after_hours, dirt=dirt, expanded=True)
    truth, log = simulated(tmp_path_factory.mktemp("truth"), encoder, scenario)
    decoders = {0: RecordDecoder("Scan"), 1: RecordDecoder("Advice")}
    parcels: dict[str, dict[bytes, dict]] = {}
    repeats = 0
    for type_, value in log:
        if type_ not in decoders:
            continue
        said = dict(decoders[type_](value))
        if type_ == 1:
            said["kind"] = "ADVISED"
        name = said["event_id"].encode()
        known_by = identity(name + b"\0" + struct.pack(">q", said["event_time"]) if said["kind"] == "VOID" else name)
        known = parcels.setdefault(said["parcel_id"], {})
        repeats += known_by in known
        known.setdefault(known_by, said)
    # Clocks and alerts: tests/simulate/test_expected_alerts.py.
    beside = ("journeys", "clocks", "standing", "told")
    states = {
        parcel_id: {name: value for name, value in parcel.items() if name not in beside}
        for parcel_id, parcel in truth["parcels"].items()
    }
    assert states == {parcel_id: naive_state(known) for parcel_id, known in parcels.items()}
    assert truth["format"] == FORMAT
    assert truth["records"] == sum(len(known) for known in parcels.values())
    assert truth["duplicates"] == repeats
    assert sum(truth["dead_letters"].values()) == sum(type_ == 3 for type_, _ in log)


class TestTheStateOf:
    HISTORY = (
        TruthRecord("a", "ARRIVED", 10, "LGG-AIR", "APR-01", container_id="AKE1"),
        TruthRecord("b", "UNPACKED", 20, "LGG", "BAG-01", container_id="BAG1"),
        TruthRecord("c", "SORTED", 30, "LGG", "SRT-01", lane="R-DE"),
        TruthRecord("d", "PACKED", 40, "LGG", "PCK-01", container_id="BAG2"),
    )

    def test_a_parcel_out_of_its_bag_is_in_none_until_it_is_packed(self):
        containers = [expected_state(self.HISTORY[: n + 1])["container_id"] for n in range(4)]
        assert containers == ["AKE1", None, None, "BAG2"]

    def test_a_void_takes_back_what_it_names_whichever_comes_first(self):
        void = TruthRecord("v", "VOID", 5, "LGG", "SRT-01", voids="c")
        state = expected_state([void, *self.HISTORY[:3]])
        assert (state["version"], state["stage"], state["lane"]) == (4, "UNPACKED", None)
        assert "SORTED" not in state["kinds"]

    def test_a_void_of_a_void_and_of_nothing_changes_nothing(self):
        plain = expected_state(self.HISTORY)
        voids = [TruthRecord("v", "VOID", 5, voids="nothing"), TruthRecord("w", "VOID", 6, voids="v")]
        state = expected_state([*self.HISTORY, *voids])
        assert {**state, "version": 4, "entries": ""} == {**plain, "entries": ""}

    def test_an_advice_corrected_later_does_not_move_the_parcel_back(self):
        advice = TruthRecord("x", "ADVISED", 99, plan={"direction": "IMPORT"}, promised_at=100)
        state = expected_state([*self.HISTORY, advice])
        assert (state["stage"], state["stage_time"], state["promised_at"]) == ("PACKED", 40, 100)
        assert expected_state([advice])["stage"] == "ADVISED"

    def test_a_hold_lasts_until_the_release_and_keeps_its_reason(self):
        held = TruthRecord("h", "CUSTOMS_HELD", 50, "LGG", "CUS-01", reason="VALUE_IN_DOUBT")
        free = TruthRecord("r", "CUSTOMS_RELEASED", 60, "LGG", "CUS-01")
        state = expected_state([*self.HISTORY, held])
        assert (state["held"], state["hold_reason"], state["station"]) == (True, "VALUE_IN_DOUBT", "PCK-01")
        assert (expected_state([held, free])["held"], expected_state([held, free])["hold_reason"]) == (False, None)

    def test_the_order_of_arrival_does_not_matter(self):
        assert expected_state(self.HISTORY) == expected_state(reversed(self.HISTORY))

    def test_scans_of_the_same_instant_are_in_the_order_of_their_kinds(self):
        both = [TruthRecord("z", "UNLOADED", 10, "LGG", "UNL-01"), TruthRecord("y", "ARRIVED", 10, "LGG", "TRK-01")]
        assert expected_state(both)["stage"] == "UNLOADED"


class TestTheFile:
    def test_is_not_there_when_the_simulation_fails(self, tmp_path):
        path = tmp_path / "truth.json"

        def fail():
            with TruthFile(path, Scenario(1)) as file:
                for columns in Simulation(Scenario(10), file).batches():
                    raise RuntimeError(columns.rows)

        with pytest.raises(RuntimeError):
            fail()
        assert not list(tmp_path.iterdir())

    def test_that_cannot_be_written_is_said_at_once(self, tmp_path):
        with pytest.raises(Misconfigured, match="the truth file cannot be written"):
            TruthFile(tmp_path / "nowhere" / "truth.json", Scenario(1)).__enter__()
