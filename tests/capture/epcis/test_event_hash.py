"""The content hash: what others published, and what must not change it."""

import copy
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.capture.epcis.contexts import context_namespaces
from streams.capture.epcis.event_hash import event_hash, normalize_time, pre_hash
from tests.capture.epcis import reference_events as events

PREFIXES = context_namespaces(events.PREFIXES)


@pytest.mark.parametrize(("event", "digest"), events.HASHES)
def test_published_hashes(event: dict[str, Any], digest: str) -> None:
    assert event_hash(event, PREFIXES) == f"ni:///sha-256;{digest}?ver=CBV2.0"


def test_extensions_of_standard_fields_stand_behind_ilmd_and_before_those_of_the_event() -> None:
    text = pre_hash(events.TRANSFORMED, PREFIXES)
    order = ["uom=CEL" + "ilmd{", "readPoint{", "bizLocation{", "sensorElementsensorMetadata{", "}furtherData{"]
    places = [text.index(each) for each in order]
    assert places == sorted(places)
    assert "Employee" not in text and "sensorElementList" not in text


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("2023-02-02T11:04:03.1415Z", "2023-02-02T11:04:03.142Z"),
        ("2023-02-02T11:04:03.1414Z", "2023-02-02T11:04:03.141Z"),
        ("2023-12-31T23:59:59.9995Z", "2024-01-01T00:00:00.000Z"),
        ("2023-02-02T12:04:03+01:00", "2023-02-02T11:04:03.000Z"),
        ("2023-02-02T11:04:03.1Z", "2023-02-02T11:04:03.100Z"),
        ("no time", "no time"),
    ],
)
def test_times(written: str, expected: str) -> None:
    assert normalize_time(written) == expected


def shuffled(value: Any, chance: random.Random) -> Any:
    if isinstance(value, dict):
        pairs = [(key, shuffled(each, chance)) for key, each in value.items()]
        chance.shuffle(pairs)
        return dict(pairs)
    if isinstance(value, list):
        listed = [shuffled(each, chance) for each in value]
        chance.shuffle(listed)
        return listed
    return value


@given(st.sampled_from(events.EVENTS), st.randoms(use_true_random=False))
def test_no_order_matters(event: dict[str, Any], chance: random.Random) -> None:
    assert pre_hash(shuffled(event, chance), PREFIXES) == pre_hash(event, PREFIXES)


def test_the_forms_of_one_thing_have_one_hash() -> None:
    event = events.SHIPPING
    forms = copy.deepcopy(event)
    forms["bizStep"] = "https://ref.gs1.org/cbv/BizStep-shipping"
    forms["disposition"] = "cbv:Disp-in_transit"
    forms["epcList"] = [
        "https://id.gs1.org/01/10614141073464/21/2018?x=y",
        "https://example.org/some/gtin/10614141073464/ser/2017",
    ]
    forms["eventTime"] = "2005-04-04T02:33:31.1160Z"
    forms["recordTime"] = "2020-01-01T00:00:00Z"
    forms["eventID"] = "urn:uuid:374d95fc-9457-4a51-bd6a-0bba133845a8"
    assert event_hash(forms, PREFIXES) == event_hash(event, PREFIXES)
    written_out = copy.deepcopy(events.RECEIVING)
    written_out["http://ns.example.com/epcis/myField"] = written_out.pop("example:myField")
    assert event_hash(written_out, PREFIXES) == event_hash(events.RECEIVING, PREFIXES)


def test_how_words_and_times_are_written_puts_no_sensors_in_another_order() -> None:
    def sensed(*, form: int) -> dict[str, Any]:
        one = "2026-03-01T04:00:00Z" if form else "2026-03-01T05:00:00+01:00"
        other = "2026-03-01T05:30:00+01:00" if form else "2026-03-01T04:30:00.0Z"
        mass, angle = ("gs1:Mass", "Angle") if form else ("Mass", "https://ref.gs1.org/voc/Angle")
        reports = [{"type": mass, "value": 5, "example:q": "b"}, {"type": angle, "value": 5.0, "example:q": "a"}]
        return {
            **events.SHIPPING,
            "sensorElementList": [
                {"sensorMetadata": {"time": one, "example:m": "b"}, "sensorReport": reports},
                {"sensorMetadata": {"time": other, "example:m": "a"}, "sensorReport": reports[::-1]},
            ],
        }

    assert event_hash(sensed(form=0), PREFIXES) == event_hash(sensed(form=1), PREFIXES)


@given(st.sampled_from(["action", "bizStep", "disposition", "epcList", "eventTimeZoneOffset", "readPoint"]))
def test_what_is_left_out_changes_it(field: str) -> None:
    event = {key: value for key, value in events.SHIPPING.items() if key != field}
    assert event_hash(event, PREFIXES) != event_hash(events.SHIPPING, PREFIXES)


@pytest.mark.parametrize("text", ["1E999999999", "-1E-999999999", "1_0", "Infinity", "NaN", "٣"])
def test_numbers_made_to_explode_stay_texts(text: str) -> None:
    assert f"}}x={text}" in pre_hash({**events.SHIPPING, "example:x": text}, PREFIXES) or text == "1_0"
