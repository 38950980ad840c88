"""Whatever order things come in, a parcel went through what its containers went through while it was inside."""

import itertools
import random

from hypothesis import given, settings
from hypothesis import strategies as st

from streams.processors import container_processor, fan_out_queue, rate_limiter
from tests.kernel.oracle import Oracle
from tests.processors.container_days import PARCELS, START, Hub, Model, history

# Of a transaction: a packing of more than three children does not go into one.
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
    """What states say; a parcel of which nothing counts may also be unknown."""
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
    assert hub.refused == []
    assert found(hub) == expected(Model(events))
    return hub


@given(st.integers(0, 2**32), st.integers(1, 60))
@settings(deadline=None, max_examples=60)
def test_parcels_are_where_their_containers_are(seed, size):
    check(seed, size)


def test_who_was_thought_to_be_inside_when_it_was_scanned_makes_no_difference():
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


def test_in_portions_as_well_as_at_once(monkeypatch):
    """With transactions of a few records, so that every fan-out is interrupted, by other containers and by restarts."""
    for name in ("LARGEST_TRANSACTION", "_PROMPT_TRANSACTION"):
        monkeypatch.setattr(container_processor, name, LARGEST)
    for module in (fan_out_queue, container_processor):
        monkeypatch.setattr(module, "PORTION", 2)
    monkeypatch.setattr(container_processor, "_NOT_PACED", 1)
    monkeypatch.setattr(rate_limiter, "_AT_ONCE", 3)
    monkeypatch.setattr(rate_limiter, "_RATE", 60)
    monkeypatch.setattr(fan_out_queue, "_FOR_LONG_ONES", 2)
    monkeypatch.setattr(fan_out_queue, "_TYPICAL", 2)
    monkeypatch.setattr(fan_out_queue, "_STEP", 1)
    for seed in range(40):
        assert check(seed, 50).largest <= LARGEST
