"""Whatever the order of arrival, a parcel gets the events of its containers from the time when it was inside."""

import itertools
import random

from hypothesis import given, settings
from hypothesis import strategies as st

from streams.processors import container_processor, fan_out_queue, rate_limiter
from tests.kernel.oracle import Oracle
from tests.processors.container_days import PARCELS, START, Hub, Model, history

# Records of a transaction: a packing of more than three children does not fit into one.
LARGEST = 6
DERIVED = ("stage", "stage_time", "site", "station", "container_id", "kinds", "customs", "held", "lane", "damaged")


def expected(model):
    oracle = Oracle()
    for parcel in PARCELS:
        for scan in model.scans(parcel):
            fields = {name: scan.get(name) for name in ("container_id", "inferred_from", "reason", "lane", "voids")}
            oracle.add({**scan, **fields, "utc_offset_minutes": 0})
    return derived(oracle.states())


def found(hub):
    return derived({parcel: hub.state(parcel) for parcel in PARCELS})


def derived(states):
    """The derived fields of the states; a parcel without any counting record may also be unknown."""
    known = {parcel: state for parcel, state in states.items() if state and state["kinds"]}
    return {parcel: {name: state[name] for name in DERIVED} for parcel, state in known.items()}


def check(seed, size):
    events = history(seed, size)
    dice = random.Random(seed + 1)
    hub = Hub(dice.choice((1, 2, 3)), dice)
    sent = events + dice.sample(events, len(events) // 4)
    disorder = dice.choice((0, 3, 10, size))
    for _, event in sorted(enumerate(sent), key=lambda pair: pair[0] % len(events) + dice.random() * disorder):
        hub.send(event)
        if dice.random() < 0.1:
            hub.run()
    hub.run()
    assert hub.rejects == []
    assert found(hub) == expected(Model(events))
    return hub


@given(st.integers(0, 2**32), st.integers(1, 60))
@settings(deadline=None, max_examples=60)
def test_parcels_are_where_their_containers_are(seed, size):
    check(seed, size)


def test_a_wrong_packing_before_the_scan_makes_no_difference():
    """The bag says that the parcel was put in, then that this was wrong; the parcel's own label says that it is in."""
    said = {"event_time": START, "site": "LGG", "station": "S", "record_time": START}
    bag = {**said, "type": "container", "container_id": "B1"}
    packed = {**bag, "event_id": "packed", "kind": "PACKED", "parcels": ["P0"]}
    own = {**said, "type": "scan", "event_id": "own", "parcel_id": "P0", "kind": "PACKED", "container_id": "B1"}
    wrong = {**bag, "event_id": "wrong", "kind": "VOID", "voids": "packed"}
    loaded = {**bag, "event_id": "loaded", "kind": "LOADED", "event_time": START + 1}
    emptied = {**bag, "event_id": "emptied", "kind": "UNPACKED", "event_time": START + 2}
    for order in itertools.permutations((packed, own, wrong, loaded, emptied)):
        hub = Hub(1, random.Random(1))
        for event in order:
            hub.send(event)
            hub.run()
        state = hub.state("P0")
        assert (state["stage"], state["container_id"]) == ("PACKED", "B1")
        assert [each["kind"] for each in state["kinds"]] == ["PACKED"]


def test_small_chunks_lead_to_the_same_states(monkeypatch):
    """With transactions of a few records, so that other containers and restarts interrupt every fan-out."""
    chunk = 2
    for module in (fan_out_queue, container_processor):
        monkeypatch.setattr(module, "FAN_OUT_CHUNK_SIZE", chunk)
    for name in ("MAX_TRANSACTION_RECORDS", "_PROMPT_TRANSACTION_RECORDS"):
        monkeypatch.setattr(container_processor, name, LARGEST)
    monkeypatch.setattr(container_processor, "_MAX_EVENT_RECORDS", LARGEST - chunk)
    monkeypatch.setattr(container_processor, "_UNLIMITED_RECORDS", 1)
    monkeypatch.setattr(rate_limiter, "_BURST_RECORDS", 3)
    monkeypatch.setattr(rate_limiter, "_RECORDS_PER_SECOND", 60)
    monkeypatch.setattr(fan_out_queue, "_LONG_FAN_OUT_RECORDS", 2)
    monkeypatch.setattr(fan_out_queue, "_TYPICAL_RECORDS", 2)
    monkeypatch.setattr(fan_out_queue, "_EMPTY_FAN_OUT_COST", 1)
    for seed in range(40):
        assert check(seed, 50).largest <= LARGEST
