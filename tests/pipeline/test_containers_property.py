"""Whatever order things come in, a parcel went through what its containers went through while it was inside."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from streams.pipeline import container_stage, fan_outs
from tests.kernel.oracle import Oracle
from tests.pipeline.container_days import PARCELS, Hub, Model, history

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


def test_in_portions_as_well_as_at_once(monkeypatch):
    """With transactions of a few records, so that every fan-out is interrupted, by other containers and by restarts."""
    for name in ("LARGEST_TRANSACTION", "_PROMPT_TRANSACTION"):
        monkeypatch.setattr(container_stage, name, LARGEST)
    for module in (fan_outs, container_stage):
        monkeypatch.setattr(module, "PORTION", 2)
    monkeypatch.setattr(fan_outs, "_FOR_LONG_ONES", 2)
    monkeypatch.setattr(fan_outs, "_TYPICAL", 2)
    monkeypatch.setattr(fan_outs, "_STEP", 1)
    for seed in range(40):
        assert check(seed, 50).largest <= LARGEST
