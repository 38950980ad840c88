"""What children get of the events of their containers, told by hand."""

from itertools import permutations

from streams.domain.reference.propagation import ReferenceContainerEvent, propagate


def event(name, container, kind, time, site="LGG", **others):
    return ReferenceContainerEvent(name, container, kind, time, site, **others)


def told(*events):
    """(child, event, path) -> must it be there; (child, event, path) -> what takes it back."""
    must, back = {}, {}
    for handed in propagate(events):
        for child in (*handed.parcels, *handed.containers):
            about = child, handed.cause.event_id, handed.path
            must[about] = handed.required
            if handed.void is not None:
                back[about] = handed.void.event_id
    return must, back


BAG = event("p", "BAG", "PACKED", 10, parcels=["X", "Y"])
ULD = event("u", "ULD", "PACKED", 20, containers=["BAG"])
ARRIVED = event("a", "ULD", "ARRIVED", 30)


def test_what_is_inside_hears_of_the_scans_of_what_is_around_it():
    must, back = told(BAG, ULD, ARRIVED)
    assert must == {
        ("X", "p", ("BAG",)): True,
        ("Y", "p", ("BAG",)): True,
        ("BAG", "u", ("ULD",)): True,
        ("BAG", "a", ("ULD",)): True,
        ("X", "a", ("ULD", "BAG")): True,
        ("Y", "a", ("ULD", "BAG")): True,
    }
    assert back == {}


def test_the_order_of_the_events_does_not_matter():
    events = [BAG, ULD, ARRIVED, event("e", "BAG", "UNPACKED", 40), event("l", "ULD", "LOADED", 50)]
    said = [told(*each) for each in permutations(events)]
    assert all(each == said[0] for each in said)


def test_a_removal_takes_out_whom_it_names_and_an_emptying_the_rest():
    removed = event("r", "BAG", "UNPACKED", 12, parcels=["X", "Z"])
    must, _ = told(BAG, removed, event("s", "BAG", "LOADED", 13), event("e", "BAG", "UNPACKED", 14))
    assert {child for child, name, _ in must if name == "r"} == {"X", "Z"}, "whether Z was inside, Z judges"
    assert {child for child, name, _ in must if name == "s"} == {"Y"}
    assert {child for child, name, _ in must if name == "e"} == {"Y"}


def test_a_bag_that_was_seen_elsewhere_hands_on_nothing_of_its_uld_any_more():
    seen = event("s", "BAG", "ARRIVED", 25, site="ELSEWHERE")
    must, _ = told(BAG, ULD, seen, ARRIVED)
    assert ("X", "s", ("BAG",)) in must
    assert ("BAG", "a", ("ULD",)) in must
    assert ("X", "a", ("ULD", "BAG")) not in must


def test_a_packing_that_is_declared_wrong_is_taken_back_and_nothing_follows_from_it():
    void = event("v", "BAG", "VOID", 11, voids="p")
    must, back = told(BAG, void, event("s", "BAG", "LOADED", 13))
    assert back == {("X", "p", ("BAG",)): "v", ("Y", "p", ("BAG",)): "v"}
    assert not any(name == "s" for _, name, _ in must)
    assert not any(must.values())


def test_what_was_handed_on_before_a_packing_was_declared_wrong_may_be_there():
    must, back = told(BAG, ULD, ARRIVED, event("v", "ULD", "VOID", 35, voids="u"))
    assert must["X", "a", ("ULD", "BAG")] is False
    assert back["X", "a", ("ULD", "BAG")] == "v"


def test_what_is_a_parcel_and_a_container_hears_as_both_and_what_is_in_it_hears_too():
    packed = event("u", "ULD", "PACKED", 20, parcels=["BAG"], containers=["BAG"])
    handed = [each for each in propagate([BAG, packed, ARRIVED]) if each.cause.event_id == "a"]
    assert [(each.path, each.parcels, each.containers) for each in handed] == [
        (("ULD",), ["BAG"], ["BAG"]),
        (("ULD", "BAG"), ["X", "Y"], []),
    ]
    out = event("r", "ULD", "UNPACKED", 25, parcels=["BAG"])
    handed = [each for each in propagate([BAG, packed, out, ARRIVED]) if each.cause.event_id == "a"]
    assert (handed[0].parcels, handed[0].containers) == ([], ["BAG"])


def test_containers_in_a_circle_are_left_out():
    one = event("1", "A", "PACKED", 1, containers=["B"])
    other = event("2", "B", "PACKED", 2, containers=["A"], parcels=["X"])
    assert told(one, other, BAG)[0].keys() == told(BAG)[0].keys()


def test_a_declaration_of_another_container_s_event_is_nobody_s_affair():
    assert told(BAG, event("v", "ULD", "VOID", 11, voids="p")) == told(BAG)
