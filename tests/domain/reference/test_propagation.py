"""The records that children receive of the events of their containers, in cases written by hand."""

from itertools import permutations

from streams.domain.reference.propagation import ReferenceContainerEvent, propagate


def event(name, container, kind, time, site="LGG", **others):
    return ReferenceContainerEvent(name, container, kind, time, site, **others)


def received(*events):
    """(child, event, path) -> is it required; (child, event, path) -> the VOID that retracts it."""
    required, voids = {}, {}
    for propagation in propagate(events):
        for child in (*propagation.parcels, *propagation.containers):
            key = child, propagation.cause.event_id, propagation.path
            required[key] = propagation.required
            if propagation.void is not None:
                voids[key] = propagation.void.event_id
    return required, voids


BAG = event("p", "BAG", "PACKED", 10, parcels=["X", "Y"])
ULD = event("u", "ULD", "PACKED", 20, containers=["BAG"])
ARRIVED = event("a", "ULD", "ARRIVED", 30)


def test_scans_of_a_container_reach_everything_inside():
    required, voids = received(BAG, ULD, ARRIVED)
    assert required == {
        ("X", "p", ("BAG",)): True,
        ("Y", "p", ("BAG",)): True,
        ("BAG", "u", ("ULD",)): True,
        ("BAG", "a", ("ULD",)): True,
        ("X", "a", ("ULD", "BAG")): True,
        ("Y", "a", ("ULD", "BAG")): True,
    }
    assert voids == {}


def test_the_order_of_the_events_does_not_matter():
    events = [BAG, ULD, ARRIVED, event("e", "BAG", "UNPACKED", 40), event("l", "ULD", "LOADED", 50)]
    results = [received(*each) for each in permutations(events)]
    assert all(each == results[0] for each in results)


def test_a_removal_reaches_the_children_that_it_names_and_an_emptying_the_rest():
    removed = event("r", "BAG", "UNPACKED", 12, parcels=["X", "Z"])
    required, _ = received(BAG, removed, event("s", "BAG", "LOADED", 13), event("e", "BAG", "UNPACKED", 14))
    assert {child for child, name, _ in required if name == "r"} == {"X", "Z"}, (
        "Z decides by its own records whether it was inside"
    )
    assert {child for child, name, _ in required if name == "s"} == {"Y"}
    assert {child for child, name, _ in required if name == "e"} == {"Y"}


def test_a_bag_that_was_scanned_elsewhere_no_longer_passes_on_the_scans_of_its_uld():
    seen = event("s", "BAG", "ARRIVED", 25, site="ELSEWHERE")
    required, _ = received(BAG, ULD, seen, ARRIVED)
    assert ("X", "s", ("BAG",)) in required
    assert ("BAG", "a", ("ULD",)) in required
    assert ("X", "a", ("ULD", "BAG")) not in required


def test_a_voided_packing_is_retracted_and_nothing_follows_from_it():
    void = event("v", "BAG", "VOID", 11, voids="p")
    required, voids = received(BAG, void, event("s", "BAG", "LOADED", 13))
    assert voids == {("X", "p", ("BAG",)): "v", ("Y", "p", ("BAG",)): "v"}
    assert not any(name == "s" for _, name, _ in required)
    assert not any(required.values())


def test_scans_that_were_propagated_before_a_packing_was_voided_may_be_there():
    required, voids = received(BAG, ULD, ARRIVED, event("v", "ULD", "VOID", 35, voids="u"))
    assert required["X", "a", ("ULD", "BAG")] is False
    assert voids["X", "a", ("ULD", "BAG")] == "v"


def test_a_child_that_is_a_parcel_and_a_container_receives_as_both_and_so_do_its_children():
    packed = event("u", "ULD", "PACKED", 20, parcels=["BAG"], containers=["BAG"])
    scans = [each for each in propagate([BAG, packed, ARRIVED]) if each.cause.event_id == "a"]
    assert [(each.path, each.parcels, each.containers) for each in scans] == [
        (("ULD",), ["BAG"], ["BAG"]),
        (("ULD", "BAG"), ["X", "Y"], []),
    ]
    removed = event("r", "ULD", "UNPACKED", 25, parcels=["BAG"])
    scans = [each for each in propagate([BAG, packed, removed, ARRIVED]) if each.cause.event_id == "a"]
    assert (scans[0].parcels, scans[0].containers) == ([], ["BAG"])


def test_containers_in_a_cycle_are_left_out():
    first = event("1", "A", "PACKED", 1, containers=["B"])
    second = event("2", "B", "PACKED", 2, containers=["A"], parcels=["X"])
    assert received(first, second, BAG)[0].keys() == received(BAG)[0].keys()


def test_a_void_of_an_event_of_another_container_has_no_effect():
    assert received(BAG, event("v", "ULD", "VOID", 11, voids="p")) == received(BAG)
