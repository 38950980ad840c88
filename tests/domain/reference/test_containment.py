"""The two forms of the rules of containment agree on any records of a child, and a mistake in either one shows."""

import importlib.util
import random
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.domain import containment
from streams.domain.kinds import KINDS, NO_LOCATION, UNCONTAINED, kind_names
from streams.domain.reference import containment as reference

EVERY_KIND = [kind for kind in KINDS if kind not in ("ADVISED", "VOID")]
# Packings, removals and dispatches are the most frequent ones, because they contradict each other.
KIND = st.sampled_from(("PACKED", "PACKED", "UNPACKED", "ARRIVED", "DISPATCHED")) | st.sampled_from(EVERY_KIND)
RECORDS = st.lists(
    st.tuples(
        KIND,
        st.sampled_from(("LGG", "LUX")),
        st.sampled_from(("BAG", "ULD", None)),
        st.booleans(),
        st.sampled_from((False, False, False, True)),
        st.sampled_from((None, "EMPTIED")),
    ),
    max_size=16,
)


def verdicts(records, worker=containment, oracle=reference):
    """The verdicts of both forms, as plain tuples: the worker's, the reference's."""
    ours = worker.evaluate_containment([worker.ContainmentRecord(*record) for record in records])
    theirs = oracle.derive_containment([oracle.ChildScan(*record) for record in records])
    fields = ("superseded", "containers_after", "found_outside", "emptied", "found_extra")
    return tuple(
        tuple(
            [tuple(each) if isinstance(each, tuple) else each for each in getattr(verdict, field)] for field in fields
        )
        for verdict in (ours, theirs)
    )


@settings(max_examples=500, deadline=None)
@given(RECORDS)
def test_both_forms_give_the_same_verdict_on_any_records_of_a_child(records):
    ours, theirs = verdicts(records)
    assert ours == theirs


def test_both_forms_know_the_same_kinds():
    assert kind_names(UNCONTAINED) == reference.UNCONTAINED
    assert kind_names(NO_LOCATION) == reference.NO_LOCATION


def random_records(dice):
    kinds = ("PACKED", "PACKED", "UNPACKED", "ARRIVED", "DISPATCHED", dice.choice(EVERY_KIND))
    return [
        (
            dice.choice(kinds),
            dice.choice(("LGG", "LUX")),
            dice.choice(("BAG", "ULD", None)),
            dice.random() < 0.5,
            dice.random() < 0.2,
            dice.choice((None, "EMPTIED")),
        )
        for _ in range(dice.randrange(1, 12))
    ]


def with_mistake(module: ModuleType, right: str, wrong: str) -> ModuleType:
    """The module as it would be with this piece of its source replaced, wherever it stands."""
    source = importlib.util.find_spec(module.__name__).loader.get_source(module.__name__)
    assert right in source, "the mistake is made nowhere"
    mistaken = ModuleType(module.__name__)
    exec(compile(source.replace(right, wrong), module.__file__, "exec"), mistaken.__dict__)  # noqa: S102
    return mistaken


def shows(worker, oracle):
    dice = random.Random(14)
    return any(
        ours != theirs
        for ours, theirs in (verdicts(random_records(dice), worker, oracle) for _ in range(10_000))
    )  # fmt: skip


def test_without_a_mistake_nothing_shows():
    assert not shows(containment, reference)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        # An emptying is no removal that names the child.
        ('record.kind == "UNPACKED" and record.reason != EMPTIED', 'record.kind == "UNPACKED"'),
        ("record.inferred and record.reason == EMPTIED", "record.reason == EMPTIED"),
        # A scan of its own elsewhere ends the stay, where the site of the container is known.
        ("return is_elsewhere and site is not None and record.site != site", "return False"),
        (
            "return is_elsewhere and site is not None and record.site != site",
            "return is_elsewhere and record.site != site",
        ),
        ("is_elsewhere = not record.inferred and ", "is_elsewhere = "),
        ("record.kind not in NO_LOCATION and record.container != container", "record.container != container"),
        ("record.kind not in NO_LOCATION and record.container != container", "record.kind not in NO_LOCATION"),
        ('site = None if record.kind == "DISPATCHED" else record.site', "site = record.site"),
        # A packing of its own needs the container's word, and its last one.
        ("(not own_packing or record.container in declared_by or _is_named_removal(record))", "True"),
        (" or _is_named_removal(record))", ")"),
        ("declared_by.discard(record.container)", "pass"),
        # A packing that was declared wrong is known all the same.
        ('known |= record.kind == "PACKED" and record.container is not None', "pass"),
        ("container, packing, site, known = None, None, None, True", "container, packing, site = None, None, None"),
        # Found outside: not after the dispatch, and not where it was taken out.
        (" and not dispatched:", ":"),
        ("True, False\n            own_packing", "True, dispatched\n            own_packing"),
        ("contradicts and record.kind not in _REGULAR_ENDS and", "contradicts and"),
        ("return record.container != container\n", "return True\n"),
        # Found extra: never put in.
        ("record.container not in packed_into and container", "container"),
        ("never_packed and (record.inferred or container is not None)", "never_packed"),
        ("superseded.append(not counts and not record.voided)", "superseded.append(not counts)"),
    ],
)
def test_a_mistake_in_the_worker_s_form_shows(right, wrong):
    assert shows(with_mistake(containment, right, wrong), reference)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        # An emptying is no removal that names the child, and is inferred.
        (" and not scan.voided and scan.reason != EMPTIED", " and not scan.voided"),
        ('"UNPACKED" and scan.inferred and scan.reason == EMPTIED', '"UNPACKED" and scan.reason == EMPTIED'),
        # A scan of its own elsewhere ends the stay, where the site of the container is known.
        ("return _container_site(scans, packing, index) not in (None, scan.site)", "return False"),
        ("not in (None, scan.site)", "!= scan.site"),
        ("if scan.inferred or scan.kind in NO_LOCATION or", "if scan.kind in NO_LOCATION or"),
        ("if scan.inferred or scan.kind in NO_LOCATION or", "if scan.inferred or"),
        (" or scan.container == scans[packing].container:", ":"),
        ('return None if located[-1].kind == "DISPATCHED" else located[-1].site', "return located[-1].site"),
        # A packing of its own needs the container's word, and its last one.
        ('return last_word == ["PACKED"]', "return True"),
        ("for scan in scans[:index]\n", "for scan in scans\n"),
        (" or _is_removal_by_name(scans[index]):", ":"),
        ("if scan.inferred and not scan.voided and", "if scan.inferred and"),
        # Outside of stays everything counts until the child was packed or handled.
        ("index <= first_handling if stay is None", "index < first_handling if stay is None"),
        ("return _packed_into(scan) is not None or", "return (_packed_into(scan) and not scan.voided) or"),
        ("(scan.kind in UNCONTAINED and not scan.voided)", "False"),
        # Found outside: not after the dispatch, and not where it was taken out or packed again.
        ('scans[index].kind != "DISPATCHED" for index', "True for index"),
        ("scan.kind in _ORDERLY_EXITS or", ""),
        (" or _packed_into(scan) == stay.container:", ":"),
        # Found extra: never put in, and another container is known or tells of it.
        ("and (scan.inferred or before[index] is not None)", ""),
        ("and stay.packing < index for stay in stays", "for stay in stays"),
        ("(self.end is None or index <= self.end)", "(self.end is None or index < self.end)"),
        ("not scan.voided and _needs_support(scan) and not _is", "_needs_support(scan) and not _is"),
    ],
)
def test_a_mistake_in_the_reference_shows(right, wrong):
    assert shows(containment, with_mistake(reference, right, wrong))


class TestByHand:
    """Verdicts of the reference, one rule at a time."""

    PACKED = reference.ChildScan("PACKED", "HGH", "BAG", inferred=True)
    OWN_PACKED = reference.ChildScan("PACKED", "LGG", "BAG", inferred=False)
    ARRIVED = reference.ChildScan("ARRIVED", "LGG", "BAG", inferred=True)
    LOADED = reference.ChildScan("LOADED", "LGG", "BAG", inferred=True)
    SORTED = reference.ChildScan("SORTED", "LGG", None, inferred=False)

    def test_a_stay_lasts_from_the_packing_to_what_is_done_to_the_child_on_its_own(self):
        scans = [self.PACKED, self.ARRIVED, self.SORTED, self.LOADED]
        assert reference.container_stays(scans) == [("BAG", 0, 2)]
        verdict = reference.derive_containment(scans)
        assert verdict.superseded == [False, False, False, True]
        assert verdict.containers_after == ["BAG", "BAG", None, None]
        assert verdict.found_outside == [(2, 0)]

    def test_an_own_scan_elsewhere_ends_a_stay_and_one_at_the_site_of_the_container_does_not(self):
        elsewhere = reference.ChildScan("DAMAGED", "LUX", None, inferred=False)
        assert reference.container_stays([self.PACKED, self.ARRIVED, elsewhere]) == [("BAG", 0, 2)]
        assert reference.container_stays([self.PACKED, self.ARRIVED, elsewhere._replace(site="LGG")])[0].end is None
        dispatched = self.ARRIVED._replace(kind="DISPATCHED")
        assert reference.container_stays([self.PACKED, dispatched, elsewhere])[0].end is None

    def test_a_packing_of_its_own_needs_the_word_of_the_container(self):
        assert reference.derive_containment([self.OWN_PACKED, self.LOADED]).superseded == [False, True]
        assert reference.derive_containment([self.PACKED, self.OWN_PACKED, self.LOADED]).superseded == [False] * 3

    def test_an_emptying_differs_from_a_removal_of_a_child_that_was_never_put_in(self):
        emptied = self.ARRIVED._replace(kind="UNPACKED", reason="EMPTIED")
        assert reference.derive_containment([self.PACKED, emptied]).emptied == [(1, 0)]
        assert reference.derive_containment([emptied._replace(reason=None)]).found_extra == [(0, None)]
