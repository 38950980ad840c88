"""Checks of the five event types of EPCIS 2.0, as chapter 7 of the standard and its JSON schema define them.

Where the two differ, the stricter one applies, with two exceptions. Extensions are allowed wherever the standard has an
extension point, and everything that the examples of the standard do is allowed.
"""

from collections.abc import Mapping
from typing import Any, Final

from streams.capture.epcis import vocabulary as words
from streams.capture.epcis.checks import Checker, format_value
from streams.capture.epcis.event_fields import (
    AGGREGATION_FIELDS,
    EPCS,
    EPCS_OR_LOTS,
    ILMD,
    OBSERVATION_FIELDS,
    QUANTITIES,
    WITH_PERSISTENT_DISPOSITION,
    ValueCheck,
    check_action,
    check_instance,
    check_instance_or_lot,
    check_uri,
    list_of,
    object_of,
    typed_reference,
)
from streams.capture.epcis.mapping import classify_epc
from streams.capture.epcis.vocabulary import EVENT_TYPES


def _check_objects(checker: Checker, path: str, event: Mapping[str, Any]) -> None:
    has_sensors = event.get("sensorElementList") and "readPoint" in event
    if "epcList" not in event and not event.get("quantityList") and not has_sensors:
        checker.add_violation(
            path or "epcList",
            "no-objects",
            "an ObjectEvent must have an epcList, a non-empty quantityList, or a readPoint and sensorElementList",
        )
    if "ilmd" in event and event.get("action") != "ADD":
        checker.add_violation(
            f"{path}.ilmd" if path else "ilmd", "ilmd-only-with-add", "ilmd is allowed with action ADD only"
        )


def _check_children(checker: Checker, path: str, event: Mapping[str, Any]) -> None:
    parent, children = event.get("parentID"), event.get("childEPCs")
    if isinstance(parent, str) and isinstance(children, list):
        parent_id = classify_epc(parent)[1]
        for index, child in enumerate(children):
            roles, child_id = classify_epc(child) if isinstance(child, str) else ((), None)
            if child == parent or (child_id == parent_id and roles != ("parcel",)):
                child_path = f"{path}.childEPCs[{index}]" if path else f"childEPCs[{index}]"
                checker.add_violation(
                    child_path,
                    "parent-among-children",
                    f"{format_value(child)} is the parent: it cannot be its own child",
                )
    if event.get("action") in ("ADD", "DELETE") and "parentID" not in event:
        parent_path = f"{path}.parentID" if path else "parentID"
        checker.add_violation(parent_path, "parent", "parentID is missing; it may be left out with action OBSERVE only")
    if event.get("action") == "DELETE":
        return
    if not event.get("childEPCs") and not event.get("childQuantityList"):
        checker.add_violation(
            path or "childEPCs",
            "children",
            f"an {event.get('type')} must have non-empty childEPCs or childQuantityList, unless its action is DELETE",
        )


def _check_transaction(checker: Checker, path: str, event: Mapping[str, Any]) -> None:
    if event.get("action") != "DELETE" and "epcList" not in event and not event.get("quantityList"):
        checker.add_violation(
            path or "epcList",
            "no-objects",
            "a TransactionEvent must have an epcList or a non-empty quantityList, unless its action is DELETE",
        )


def _check_transformation(checker: Checker, path: str, event: Mapping[str, Any]) -> None:
    inputs = event.get("inputEPCList") or event.get("inputQuantityList")
    outputs = event.get("outputEPCList") or event.get("outputQuantityList")
    if "transformationID" in event:
        if not inputs and not outputs:
            checker.add_violation(
                path or "inputEPCList", "transformation", "a TransformationEvent must have inputs or outputs"
            )
    elif not inputs or not outputs:
        checker.add_violation(
            path or "transformationID",
            "transformation",
            "a TransformationEvent without a transformationID must have both inputs and outputs",
        )


_CHECK_BY_TYPE: Final[Mapping[str, ValueCheck]] = {
    "ObjectEvent": object_of(
        {
            **WITH_PERSISTENT_DISPOSITION,
            "action": check_action,
            "epcList": EPCS_OR_LOTS,
            "quantityList": QUANTITIES,
            "ilmd": ILMD,
        },
        ("type", "eventTime", "eventTimeZoneOffset", "action"),
        allow_extensions=True,
        rule=_check_objects,
    ),
    "AggregationEvent": object_of(
        AGGREGATION_FIELDS,
        ("type", "eventTime", "eventTimeZoneOffset", "action"),
        allow_extensions=True,
        rule=_check_children,
    ),
    "AssociationEvent": object_of(
        AGGREGATION_FIELDS,
        ("type", "eventTime", "eventTimeZoneOffset", "action", "parentID"),
        allow_extensions=True,
        rule=_check_children,
    ),
    "TransactionEvent": object_of(
        {
            **OBSERVATION_FIELDS,
            "action": check_action,
            "parentID": check_instance,
            "epcList": list_of(check_instance_or_lot),
            "quantityList": QUANTITIES,
            "bizTransactionList": list_of(
                typed_reference("bizTransaction", words.BIZ_TRANSACTION_TYPE, type_required=False), min_items=1
            ),
        },
        ("type", "eventTime", "eventTimeZoneOffset", "action", "bizTransactionList"),
        allow_extensions=True,
        rule=_check_transaction,
    ),
    "TransformationEvent": object_of(
        {
            **WITH_PERSISTENT_DISPOSITION,
            "inputEPCList": EPCS,
            "inputQuantityList": QUANTITIES,
            "outputEPCList": EPCS,
            "outputQuantityList": QUANTITIES,
            "transformationID": check_uri,
            "ilmd": ILMD,
        },
        ("type", "eventTime", "eventTimeZoneOffset"),
        allow_extensions=True,
        rule=_check_transformation,
    ),
}
_ALL_FIELDS: Final[Mapping[str, ValueCheck]] = {
    **WITH_PERSISTENT_DISPOSITION,
    **AGGREGATION_FIELDS,
    "epcList": EPCS_OR_LOTS,
    "quantityList": QUANTITIES,
    "inputEPCList": EPCS,
    "inputQuantityList": QUANTITIES,
    "outputEPCList": EPCS,
    "outputQuantityList": QUANTITIES,
    "transformationID": check_uri,
    "ilmd": ILMD,
}
_MANDATORY: Final = ("type", "eventTime", "eventTimeZoneOffset")


def check_event(checker: Checker, event: Any, path: str = "") -> None:
    """Check one event; violations go to `checker`, with paths below `path`."""
    if not checker.mapping(path, event):
        return
    type_ = event.get("type")
    if isinstance(type_, str) and type_ in _CHECK_BY_TYPE:
        _CHECK_BY_TYPE[type_](checker, path, event)
        return
    # A user-defined event type (EPCIS 2.0, 7.4.1.3) must have the fields that all events share. A field with the name
    # of a standard field must have its form.
    checker.required_fields(path, event, _MANDATORY)
    for name, check in _ALL_FIELDS.items():
        if name in event:
            check(checker, f"{path}.{name}" if path else name, event[name])
    if isinstance(type_, str):
        type_path = f"{path}.type" if path else "type"
        if not checker.uri(type_path, type_):
            checker.add_violation(
                type_path, "event-type", f"must be one of {', '.join(EVENT_TYPES)}, or the URI of a user-defined type"
            )
