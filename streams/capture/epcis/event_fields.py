"""Checks of the fields of EPCIS 2.0 events: their values, lists and objects, each by itself.

Rules between the fields of an event are in `streams/capture/epcis/events.py`.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from streams.capture.epcis import vocabulary as words
from streams.capture.epcis.checks import Checker, format_value
from streams.capture.epcis.contexts import check_context
from streams.capture.epcis.vocabulary import ACTIONS

ValueCheck = Callable[[Checker, str, Any], None]


def check_uri(checker: Checker, path: str, value: Any) -> None:
    """A URI."""
    checker.uri(path, value)


def _check_epc(checker: Checker, path: str, value: Any) -> None:
    checker.epc(path, value)


def check_instance(checker: Checker, path: str, value: Any) -> None:
    """A URI that can name a single object."""
    checker.instance_epc(path, value)


def check_instance_or_lot(checker: Checker, path: str, value: Any) -> None:
    """A URI that can name a single object or a lot."""
    # An example of the reference project of the CBV 2.0 event hash has a lot in its epcList.
    checker.instance_epc(path, value, allow_lots=True)


def _word_of(vocabulary: words.Vocabulary) -> ValueCheck:
    return lambda checker, path, value: checker.vocabulary_word(path, value, vocabulary)


def list_of(check: ValueCheck, *, min_items: int = 0, unique: bool = False) -> ValueCheck:
    """A list whose values satisfy `check`."""

    def check_value(checker: Checker, path: str, value: Any) -> None:
        checker.array(path, value, lambda item_path, item: check(checker, item_path, item), min_items=min_items)
        if unique:
            checker.unique_items(path, value)

    return check_value


def object_of(
    fields: Mapping[str, ValueCheck],
    required: tuple[str, ...],
    *,
    allow_extensions: bool,
    rule: ValueCheck | None = None,
) -> ValueCheck:
    """An object of these fields; `rule` then checks the object as a whole."""

    def check_value(checker: Checker, path: str, value: Any) -> None:
        if not checker.mapping(path, value):
            return
        checker.required_fields(path, value, required)
        checker.known_fields(path, value, fields, allow_extensions=allow_extensions)
        for name, check in fields.items():
            if name in value:
                check(checker, f"{path}.{name}" if path else name, value[name])
        if rule is not None:
            rule(checker, path, value)

    return check_value


def check_action(checker: Checker, path: str, value: Any) -> None:
    """An action: ADD, OBSERVE or DELETE."""
    if checker.text(path, value) and value not in ACTIONS:
        checker.add_violation(
            path, "enum", f"{format_value(value)} is not an action: it must be ADD, OBSERVE or DELETE"
        )


def _check_text(checker: Checker, path: str, value: Any) -> None:
    checker.text(path, value)


def _check_certification(checker: Checker, path: str, value: Any) -> None:
    if isinstance(value, list):
        checker.array(path, value, checker.uri)
    else:
        checker.uri(path, value)


def _check_persistent_disposition(checker: Checker, path: str, value: Mapping[str, Any]) -> None:
    if not value.keys() & {"set", "unset"}:
        checker.add_violation(path, "one-of", "must have set or unset")
    lists = [value[name] if isinstance(value.get(name), list) else [] for name in ("set", "unset")]
    set_uris, unset_uris = (
        {words.DISPOSITION.to_uri(item) for item in items if isinstance(item, str)} for items in lists
    )
    if set_uris & unset_uris:
        both = ", ".join(sorted(map(format_value, set_uris & unset_uris)))
        checker.add_violation(path, "set-and-unset", f"one event cannot set and unset {both}")


def _check_quantity(checker: Checker, path: str, value: Mapping[str, Any]) -> None:
    """EPCIS 2.0, 7.3.3.3: a positive amount with a unit, a positive number of pieces, or no quantity at all."""
    if "quantity" not in value:
        if "uom" in value:
            checker.add_violation(f"{path}.uom", "quantity", "uom needs a quantity: give both, or leave uom out")
        return
    quantity = value["quantity"]
    if isinstance(quantity, bool) or not isinstance(quantity, int | float):
        return
    if quantity <= 0:
        checker.add_violation(f"{path}.quantity", "quantity", f"{format_value(quantity)} is not more than 0")
    elif "uom" not in value and quantity != int(quantity):
        checker.add_violation(
            f"{path}.quantity",
            "quantity",
            f"{format_value(quantity)} is not a whole number: a quantity without uom is a number of pieces",
        )


def _check_declaration(checker: Checker, path: str, value: Mapping[str, Any]) -> None:
    reason = value.get("reason")
    if (
        isinstance(reason, str)
        and words.ERROR_REASON.bare_word(reason) == "did_not_occur"
        and value.get("correctiveEventIDs")
    ):
        checker.add_violation(
            f"{path}.correctiveEventIDs",
            "did-not-occur",
            "an event that did not occur has no corrective events (CBV 2.0): leave them out, or use incorrect_data",
        )


_DISPOSITIONS: Final = list_of(_word_of(words.DISPOSITION), min_items=1, unique=True)
_PERSISTENT_DISPOSITION: Final = object_of(
    {"set": _DISPOSITIONS, "unset": _DISPOSITIONS}, (), allow_extensions=False, rule=_check_persistent_disposition
)
QUANTITIES: Final = list_of(
    object_of(
        {"epcClass": Checker.class_epc, "quantity": Checker.number, "uom": Checker.uom},
        ("epcClass",),
        allow_extensions=False,
        rule=_check_quantity,
    )
)
_LOCATION: Final = object_of({"id": _check_epc}, ("id",), allow_extensions=True)
_DECLARATION: Final = object_of(
    {
        "declarationTime": Checker.date_time,
        "reason": _word_of(words.ERROR_REASON),
        "correctiveEventIDs": list_of(check_uri),
    },
    ("declarationTime",),
    allow_extensions=True,
    rule=_check_declaration,
)
_SENSOR_METADATA: Final = object_of(
    {
        "time": Checker.date_time,
        "deviceID": _check_epc,
        "deviceMetadata": check_uri,
        "rawData": check_uri,
        "startTime": Checker.date_time,
        "endTime": Checker.date_time,
        "dataProcessingMethod": check_uri,
        "bizRules": check_uri,
    },
    (),
    allow_extensions=True,
)
_SENSOR_REPORT: Final = object_of(
    {
        "type": _word_of(words.MEASUREMENT_TYPE),
        "exception": _word_of(words.SENSOR_ALERT_TYPE),
        "deviceID": _check_epc,
        "deviceMetadata": check_uri,
        "rawData": check_uri,
        "dataProcessingMethod": check_uri,
        # An example of the standard (8) has bizRules in a report; the schema allows it in the metadata only.
        "bizRules": check_uri,
        "time": Checker.date_time,
        "microorganism": check_uri,
        "chemicalSubstance": check_uri,
        "coordinateReferenceSystem": check_uri,
        "value": Checker.number,
        "component": _word_of(words.COMPONENT),
        "stringValue": _check_text,
        "booleanValue": Checker.boolean,
        "hexBinaryValue": Checker.hexadecimal,
        "uriValue": check_uri,
        "minValue": Checker.number,
        "maxValue": Checker.number,
        "meanValue": Checker.number,
        "sDev": Checker.number,
        "percRank": Checker.number,
        "percValue": Checker.number,
        "uom": _check_text,
    },
    ("type",),
    allow_extensions=True,
)
_SENSOR_ELEMENT: Final = object_of(
    {"sensorMetadata": _SENSOR_METADATA, "sensorReport": list_of(_SENSOR_REPORT, min_items=1)},
    ("sensorReport",),
    allow_extensions=True,
)


def typed_reference(key: str, vocabulary: words.Vocabulary, *, type_required: bool) -> ValueCheck:
    """An object of a URI in `key` and a type from the vocabulary."""
    required = ("type", key) if type_required else (key,)
    return object_of({"type": _word_of(vocabulary), key: _check_epc}, required, allow_extensions=False)


_COMMON_FIELDS: Final[Mapping[str, ValueCheck]] = {
    "@context": check_context,
    "type": _check_text,
    "eventTime": Checker.date_time,
    "recordTime": Checker.date_time,
    "eventTimeZoneOffset": Checker.time_zone_offset,
    "eventID": check_uri,
    "certificationInfo": _check_certification,
    "errorDeclaration": _DECLARATION,
}
OBSERVATION_FIELDS: Final[Mapping[str, ValueCheck]] = {
    **_COMMON_FIELDS,
    "bizStep": _word_of(words.BIZ_STEP),
    "disposition": _word_of(words.DISPOSITION),
    "readPoint": _LOCATION,
    "bizLocation": _LOCATION,
    "bizTransactionList": list_of(typed_reference("bizTransaction", words.BIZ_TRANSACTION_TYPE, type_required=False)),
    "sourceList": list_of(typed_reference("source", words.SOURCE_DEST_TYPE, type_required=True)),
    "destinationList": list_of(typed_reference("destination", words.SOURCE_DEST_TYPE, type_required=True)),
    "sensorElementList": list_of(_SENSOR_ELEMENT),
}
# These events apply a persistent disposition to all their objects alike (EPCIS 2.0, 7.3.6.2.2).
WITH_PERSISTENT_DISPOSITION: Final[Mapping[str, ValueCheck]] = {
    **OBSERVATION_FIELDS,
    "persistentDisposition": _PERSISTENT_DISPOSITION,
}
EPCS: Final = list_of(check_instance, unique=True)
EPCS_OR_LOTS: Final = list_of(check_instance_or_lot, unique=True)
AGGREGATION_FIELDS: Final[Mapping[str, ValueCheck]] = {
    **OBSERVATION_FIELDS,
    "action": check_action,
    "parentID": check_instance,
    "childEPCs": list_of(check_instance),
    "childQuantityList": QUANTITIES,
}
ILMD: Final = object_of({}, (), allow_extensions=True)
