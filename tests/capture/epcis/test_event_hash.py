"""The event hash: published examples, and the differences that must not change it."""

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


def test_extensions_of_standard_fields_stand_between_ilmd_and_extensions_of_the_event() -> None:
    text = pre_hash(events.TRANSFORMED, PREFIXES)
    order = ["uom=CEL" + "ilmd{", "readPoint{", "bizLocation{", "sensorElementsensorMetadata{", "}furtherData{"]
    indexes = [text.index(part) for part in order]
    assert indexes == sorted(indexes)
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
def test_times_are_normalized(written: str, expected: str) -> None:
    assert normalize_time(written) == expected


def shuffled(value: Any, rng: random.Random) -> Any:
    if isinstance(value, dict):
        pairs = [(key, shuffled(item, rng)) for key, item in value.items()]
        rng.shuffle(pairs)
        return dict(pairs)
    if isinstance(value, list):
        listed = [shuffled(item, rng) for item in value]
        rng.shuffle(listed)
        return listed
    return value


@given(st.sampled_from(events.EVENTS), st.randoms(use_true_random=False))
def test_order_of_keys_and_lists_does_not_matter(event: dict[str, Any], rng: random.Random) -> None:
    assert pre_hash(shuffled(event, rng), PREFIXES) == pre_hash(event, PREFIXES)


def test_forms_of_the_same_value_have_the_same_hash() -> None:
    event = events.SHIPPING
    variant = copy.deepcopy(event)
    variant["bizStep"] = "https://ref.gs1.org/cbv/BizStep-shipping"
    variant["disposition"] = "cbv:Disp-in_transit"
    variant["epcList"] = [
        "https://id.gs1.org/01/10614141073464/21/2018?x=y",
        "https://example.org/some/gtin/10614141073464/ser/2017",
    ]
    variant["eventTime"] = "2005-04-04T02:33:31.1160Z"
    variant["recordTime"] = "2020-01-01T00:00:00Z"
    variant["eventID"] = "urn:uuid:374d95fc-9457-4a51-bd6a-0bba133845a8"
    assert event_hash(variant, PREFIXES) == event_hash(event, PREFIXES)
    written_out = copy.deepcopy(events.RECEIVING)
    written_out["http://ns.example.com/epcis/myField"] = written_out.pop("example:myField")
    assert event_hash(written_out, PREFIXES) == event_hash(events.RECEIVING, PREFIXES)


def test_the_form_of_words_and_times_does_not_change_the_order_of_sensors() -> None:
    def sensed(*, form: int) -> dict[str, Any]:
        first_time = "2026-03-01T04:00:00Z" if form else "2026-03-01T05:00:00+01:00"
        second_time = "2026-03-01T05:30:00+01:00" if form else "2026-03-01T04:30:00.0Z"
        mass, angle = ("gs1:Mass", "Angle") if form else ("Mass", "https://ref.gs1.org/voc/Angle")
        reports = [{"type": mass, "value": 5, "example:q": "b"}, {"type": angle, "value": 5.0, "example:q": "a"}]
        return {
            **events.SHIPPING,
            "sensorElementList": [
                {"sensorMetadata": {"time": first_time, "example:m": "b"}, "sensorReport": reports},
                {"sensorMetadata": {"time": second_time, "example:m": "a"}, "sensorReport": reports[::-1]},
            ],
        }

    assert event_hash(sensed(form=0), PREFIXES) == event_hash(sensed(form=1), PREFIXES)


@given(st.sampled_from(["action", "bizStep", "disposition", "epcList", "eventTimeZoneOffset", "readPoint"]))
def test_a_missing_field_changes_the_hash(field: str) -> None:
    event = {key: value for key, value in events.SHIPPING.items() if key != field}
    assert event_hash(event, PREFIXES) != event_hash(events.SHIPPING, PREFIXES)


@pytest.mark.parametrize("text", ["1E999999999", "-1E-999999999", "1_0", "Infinity", "NaN", "٣"])
def test_numbers_with_huge_exponents_stay_unchanged(text: str) -> None:
    assert f"}}x={text}" in pre_hash({**events.SHIPPING, "example:x": text}, PREFIXES) or text == "1_0"
