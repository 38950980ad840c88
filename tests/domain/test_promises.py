"""The promises: the default is valid, a wrong file is refused with a helpful message, durations are read right."""

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from streams.config import load_promises
from streams.domain.promise_arrays import build_promise_rules
from streams.domain.promises import MAX_PROMISES, Promises, format_duration, parse_duration
from streams.errors import Misconfigured

GOOD = {"name": "sort", "starts": ["UNLOADED"], "stops": ["SORTED"], "limit": "6h"}


class TestTheDefaultPromises:
    def test_are_those_of_a_hub(self):
        names = [promise.name for promise in Promises.default().promises]
        assert names == ["unload", "sort", "customs", "dispatch", "door", "silence"]

    def test_survive_being_written_and_read_again(self):
        default = Promises.default()
        again = Promises.parse(yaml.safe_load(yaml.safe_dump(default.model_dump(mode="json"))))
        assert (again, again.digest()) == (default, default.digest())

    def test_a_limit_in_another_unit_has_the_same_digest(self):
        content = Promises.default().model_dump(mode="json")
        content["promises"][0]["limit"] = "180m"
        assert Promises.parse(content).digest() == Promises.default().digest()
        content["promises"][0]["limit"] = "181m"
        assert Promises.parse(content).digest() != Promises.default().digest()


class TestAWrongFile:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"starts": ["UNLODED"]}, r"promises\[0\].starts\[0\] \(sort\): 'UNLODED' is not a kind of scan"),
            ({"starts": ["VOID"]}, "'VOID' is not a kind of scan"),
            ({"starts": []}, r"promises\[0\].starts \(sort\)"),
            ({"stops": ["UNLOADED"]}, "UNLOADED cannot both start and stop"),
            ({"limit": "6"}, r"limit \(sort\): a duration is a number with ms, s, m, h or d.*here: '6'"),
            ({"limit": 6}, "a duration is a number"),
            ({"limit": "0h"}, "longer than 0"),
            ({"limit": "4000d"}, "shorter than ten years"),
            (
                {"starts": "UNLOADED"},
                r"promises\[0\].starts \(sort\): must be a list, for example \[A, B\] .*'UNLOADED'",
            ),
            ({"name": None}, r"promises\[0\].name: must be a text \(here: None\)"),
            ({"limits": "6h"}, r"limits \(sort\): there is no such key; did you mean limit\?"),
            ({"colour": "blue"}, r"colour \(sort\): there is no such key \(here"),
            ({"pauses": ["CUSTOMS_PRESENTED"]}, r"pauses\[0\] \(sort\).*CUSTOMS_HELD"),
            ({"directions": ["INBOUND"]}, r"directions\[0\] \(sort\).*IMPORT"),
            ({"directions": []}, r"directions \(sort\)"),
            ({"renews": ["PACKED"]}, "renews needs a clock that restarts"),
            ({"restarts": True, "renews": ["SORTED"]}, "SORTED in renews cannot start or stop the clock as well"),
            ({"restarts": True, "limit": "promised_at"}, "needs a duration as its limit"),
            ({"name": "Sort"}, r"promises\[0\].name \(Sort\)"),
            ({"limits": "6h"}, r"promises\[0\].limits \(sort\)"),
        ],
    )
    def test_is_refused_with_the_key_and_the_accepted_values(self, change, message):
        with pytest.raises(Misconfigured, match=message):
            Promises.parse({"promises": [GOOD | change]})

    def test_a_misspelt_kind_is_one_mistake(self):
        with pytest.raises(Misconfigured) as caught:
            Promises.parse({"promises": [GOOD | {"starts": ["UNLODED"]}]})
        assert len(str(caught.value).splitlines()) == 2

    @pytest.mark.parametrize("share", [0, 0.00004, 0.00015, 0.99996, 1.0, -0.5, float("nan"), "80%", True])
    def test_a_share_of_the_limit_that_is_no_whole_number_of_basis_points_is_refused(self, share):
        with pytest.raises(Misconfigured, match=r"at_risk \(sort\): .* from 0.0001 to 0.9999, in steps of 0.0001"):
            Promises.parse({"promises": [GOOD | {"at_risk": share}]})

    @pytest.mark.parametrize(("share", "parts"), [(0.0001, 1), (0.9999, 9_999), (0.1 + 0.2, 3_000), (None, 0)])
    def test_a_share_becomes_basis_points(self, share, parts):
        assert build_promise_rules(
            Promises.parse({"promises": [GOOD | {"at_risk": share}]})
        ).at_risk_basis_points.tolist() == [parts]

    def test_a_list_that_is_a_mapping_or_misspelt_or_holds_texts_is_refused(self):
        for content, message in (
            ({"promises": {"sort": GOOD}}, "promises: must be a list"),
            ({"promises": ["sort"]}, r"promises\[0\]: must have keys with values.*here: 'sort'"),
            ({"promisses": []}, r"promisses: there is no such key; did you mean promises\?"),
            (
                {"anomalies": {"repeated_no_read": "often"}},
                "anomalies.repeated_no_read: must be a whole number.*'often'",
            ),
            ({"anomalies": {"repeated_no_read": 0}}, "anomalies.repeated_no_read: must be at least 1"),
            ({"anomalies": {"misrouted": "perhaps"}}, "anomalies.misrouted: must be true or false"),
        ):
            with pytest.raises(Misconfigured, match=message) as caught:
                Promises.parse(content)
            assert len(str(caught.value).splitlines()) == 2

    def test_two_promises_of_one_name_are_refused(self):
        with pytest.raises(Misconfigured, match="promise sort is there more than once"):
            Promises.parse({"promises": [GOOD, GOOD]})

    def test_more_than_16_promises_are_refused(self):
        with pytest.raises(Misconfigured, match="at most 16"):
            Promises.parse({"promises": [GOOD | {"name": f"p{number}"} for number in range(MAX_PROMISES + 1)]})

    def test_the_message_names_the_file(self, tmp_path):
        for content, message in (
            ("promises: [", "is not YAML"),
            ("promises: 7", "promises"),
            ("", "promises are wrong:\n  promises: the file is empty$"),
            (
                "promises:\n  - name: a\n    starts: [ARRIVED]\n    stops: [SORTED]\n    limit: 3h\n    limit: 5h\n",
                "the key 'limit' is there twice, in lines 5 and 6",
            ),
            ("promises: []\nanomalies: {}\n'promises': []\n", "the key 'promises' is there twice, in lines 1 and 3"),
            ("promises: &a [*a]", r"promises\[0\]: must have keys"),
        ):
            path = tmp_path / "mine.yaml"
            path.write_text(content)
            with pytest.raises(Misconfigured, match=message) as caught:
                load_promises(path)
            assert "mine.yaml" in str(caught.value)
        with pytest.raises(Misconfigured, match="cannot be read"):
            load_promises(tmp_path / "none.yaml")


class TestDurations:
    @given(st.integers(1, 3660 * 86_400_000))
    def test_are_read_as_they_are_written(self, ms):
        assert parse_duration(format_duration(ms)) == ms

    def test_may_have_several_units(self):
        assert parse_duration("1d12h30m5s7ms") == 131_405_007


def test_rules_have_a_row_for_each_promise_and_the_texts_of_its_lists():
    promises = Promises.parse({"promises": [GOOD | {"services": ["é", "X"], "lanes": ["N"]}, GOOD | {"name": "b"}]})
    rules = build_promise_rules(promises)
    assert rules.services.tolist() == [[0, 2], [3, 3]]
    assert rules.lanes.tolist() == [[2, 3], [3, 3]]
    assert rules.text.tobytes() == "éXN\0".encode()
    assert rules.text_offsets.tolist() == [0, 2, 3, 4]
