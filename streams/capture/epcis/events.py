"""The five event types of EPCIS 2.0, checked as the standard defines them (its chapter 7 and its JSON schema).

Where the two differ the stricter one is taken, except that extensions are allowed wherever the standard has an
extension point, and that what the standard's own examples do is allowed.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from streams.capture.epcis import vocabulary as words
from streams.capture.epcis.checks import Checker, format_value
from streams.capture.epcis.mapping import classify_epc
from streams.capture.epcis.vocabulary import ACTIONS, EVENT_TYPES

ValueCheck = Callable[[Checker, str, Any], None]


def _uri(checker: Checker, path: str, value: Any) -> None:
    checker.uri(path, value)


def _epc(checker: Checker, path: str, value: Any) -> None:
    checker.epc(path, value)


def _instance(checker: Checker, path: str, value: Any) -> None:
    checker.instance(path, value)


def _seen(checker: Checker, path: str, value: Any) -> None:
    # The project that CBV 2.0 has its hash from sees the lot of a class in its example of all keys.
    checker.instance(path, value, batches=True)


def _of(vocabulary: words.Vocabulary) -> ValueCheck:
    return lambda checker, path, value: checker.word(path, value, vocabulary)


def _list_of(check: ValueCheck, *, least: int = 0, distinct: bool = False) -> ValueCheck:
    def checked(checker: Checker, path: str, value: Any) -> None:
        checker.array(path, value, lambda where, each: check(checker, where, each), least=least)
        if distinct:
            checker.unique(path, value)

    return checked


def _record(
    fields: Mapping[str, ValueCheck], required: tuple[str, ...], *, extensible: bool, rule: ValueCheck | None = None
) -> ValueCheck:
    def checked(checker: Checker, path: str, value: Any) -> None:
        if not checker.mapping(path, value):
            return
        checker.required(path, value, required)
        checker.keys(path, value, fields, extensible=extensible)
        for name, check in fields.items():
            if name in value:
                check(checker, f"{path}.{name}" if path else name, value[name])
        if rule is not None:
            rule(checker, path, value)

    return checked


def _action(checker: Checker, path: str, value: Any) -> None:
    if checker.text(path, value) and value not in ACTIONS:
        checker.bad(path, "closed-word", f"{format_value(value)} must be ADD, OBSERVE or DELETE")


def _type(checker: Checker, path: str, value: Any) -> None:
    checker.text(path, value)


def _certification(checker: Checker, path: str, value: Any) -> None:
    if isinstance(value, list):
        checker.array(path, value, checker.uri)
    else:
        checker.uri(path, value)


def _some_disposition(checker: Checker, path: str, value: Mapping[str, Any]) -> None:
    if not value.keys() & {"set", "unset"}:
        checker.bad(path, "one-of", "must set or unset a disposition")
    listed = [value[name] if isinstance(value.get(name), list) else [] for name in ("set", "unset")]
    one, other = ({words.DISPOSITION.full(each) for each in some if isinstance(each, str)} for some in listed)
    if one & other:
        both = ", ".join(sorted(map(format_value, one & other)))
        checker.bad(path, "set-and-unset", f"{both} cannot be set and unset by one event")


def _counted_well(checker: Checker, path: str, value: Mapping[str, Any]) -> None:
    """EPCIS 2.0, 7.3.3.3: a positive amount of a unit, or a positive number of pieces, or nothing is said."""
    if "quantity" not in value:
        if "uom" in value:
            checker.bad(f"{path}.uom", "quantity", "a unit stands with a quantity only: give both, or leave uom out")
        return
    quantity = value["quantity"]
    if isinstance(quantity, bool) or not isinstance(quantity, int | float):
        return
    if quantity <= 0:
        checker.bad(f"{path}.quantity", "quantity", f"{format_value(quantity)} must be more than 0")
    elif "uom" not in value and quantity != int(quantity):
        checker.bad(
            f"{path}.quantity", "quantity", f"{format_value(quantity)} pieces: a quantity without uom is a whole number"
        )


def _declared_well(checker: Checker, path: str, value: Mapping[str, Any]) -> None:
    reason = value.get("reason")
    if (
        isinstance(reason, str)
        and words.ERROR_REASON.word(reason) == "did_not_occur"
        and value.get("correctiveEventIDs")
    ):
        checker.bad(
            f"{path}.correctiveEventIDs",
            "did-not-occur",
            "an event that did not occur has no corrective events (CBV 2.0): leave them out, or say incorrect_data",
        )


def _context(checker: Checker, path: str, value: Any) -> None:
    check_context(checker, path, value)


_DISPOSITIONS: Final = _list_of(_of(words.DISPOSITION), least=1, distinct=True)
_PERSISTENT: Final = _record(
    {"set": _DISPOSITIONS, "unset": _DISPOSITIONS}, (), extensible=False, rule=_some_disposition
)
_QUANTITIES: Final = _list_of(
    _record(
        {"epcClass": Checker.class_epc, "quantity": Checker.number, "uom": Checker.uom},
        ("epcClass",),
        extensible=False,
        rule=_counted_well,
    )
)
_PLACE: Final = _record({"id": _epc}, ("id",), extensible=True)
_DECLARATION: Final = _record(
    {
        "declarationTime": Checker.time,
        "reason": _of(words.ERROR_REASON),
        "correctiveEventIDs": _list_of(_uri),
    },
    ("declarationTime",),
    extensible=True,
    rule=_declared_well,
)
_METADATA: Final = _record(
    {
        "time": Checker.time,
        "deviceID": _epc,
        "deviceMetadata": _uri,
        "rawData": _uri,
        "startTime": Checker.time,
        "endTime": Checker.time,
        "dataProcessingMethod": _uri,
        "bizRules": _uri,
    },
    (),
    extensible=True,
)
_REPORT: Final = _record(
    {
        "type": _of(words.MEASUREMENT_TYPE),
        "exception": _of(words.SENSOR_ALERT_TYPE),
        "deviceID": _epc,
        "deviceMetadata": _uri,
        "rawData": _uri,
        "dataProcessingMethod": _uri,
        # Of the report itself as in an example of the standard (8); the schema knows it of the metadata only.
        "bizRules": _uri,
        "time": Checker.time,
        "microorganism": _uri,
        "chemicalSubstance": _uri,
        "coordinateReferenceSystem": _uri,
        "value": Checker.number,
        "component": _of(words.COMPONENT),
        "stringValue": _type,
        "booleanValue": Checker.boolean,
        "hexBinaryValue": Checker.hexadecimal,
        "uriValue": _uri,
        "minValue": Checker.number,
        "maxValue": Checker.number,
        "meanValue": Checker.number,
        "sDev": Checker.number,
        "percRank": Checker.number,
        "percValue": Checker.number,
        "uom": _type,
    },
    ("type",),
    extensible=True,
)
_SENSOR: Final = _record(
    {"sensorMetadata": _METADATA, "sensorReport": _list_of(_REPORT, least=1)}, ("sensorReport",), extensible=True
)


def _typed(key: str, vocabulary: words.Vocabulary, *, needs_type: bool) -> ValueCheck:
    required = ("type", key) if needs_type else (key,)
    return _record({"type": _of(vocabulary), key: _epc}, required, extensible=False)


_COMMON: Final[Mapping[str, ValueCheck]] = {
    "@context": _context,
    "type": _type,
    "eventTime": Checker.time,
    "recordTime": Checker.time,
    "eventTimeZoneOffset": Checker.offset,
    "eventID": _uri,
    "certificationInfo": _certification,
    "errorDeclaration": _DECLARATION,
}
_OBSERVED: Final[Mapping[str, ValueCheck]] = {
    **_COMMON,
    "bizStep": _of(words.BIZ_STEP),
    "disposition": _of(words.DISPOSITION),
    "readPoint": _PLACE,
    "bizLocation": _PLACE,
    "bizTransactionList": _list_of(_typed("bizTransaction", words.BIZ_TRANSACTION_TYPE, needs_type=False)),
    "sourceList": _list_of(_typed("source", words.SOURCE_DEST_TYPE, needs_type=True)),
    "destinationList": _list_of(_typed("destination", words.SOURCE_DEST_TYPE, needs_type=True)),
    "sensorElementList": _list_of(_SENSOR),
}
# Whose disposition lasts is clear only where all objects of the event are alike (EPCIS 2.0, 7.3.6.2.2).
_LASTING: Final[Mapping[str, ValueCheck]] = {**_OBSERVED, "persistentDisposition": _PERSISTENT}
_EPCS: Final = _list_of(_instance, distinct=True)
_SEEN: Final = _list_of(_seen, distinct=True)
_CHILDREN: Final[Mapping[str, ValueCheck]] = {
    **_OBSERVED,
    "action": _action,
    "parentID": _instance,
    "childEPCs": _list_of(_instance),
    "childQuantityList": _QUANTITIES,
}
_ILMD: Final = _record({}, (), extensible=True)


def _object_rule(checker: Checker, path: str, event: Mapping[str, Any]) -> None:
    sensed = event.get("sensorElementList") and "readPoint" in event
    if "epcList" not in event and not event.get("quantityList") and not sensed:
        checker.bad(
            path or "epcList",
            "what-is-observed",
            "an ObjectEvent has an epcList, a quantityList that is not empty, or a readPoint and sensorElementList",
        )
    if "ilmd" in event and event.get("action") != "ADD":
        checker.bad(f"{path}.ilmd" if path else "ilmd", "ilmd-only-with-add", "ilmd stands only with action ADD")


def _children_rule(checker: Checker, path: str, event: Mapping[str, Any]) -> None:
    parent, children = event.get("parentID"), event.get("childEPCs")
    if isinstance(parent, str) and isinstance(children, list):
        own = classify_epc(parent)[1]
        for index, child in enumerate(children):
            roles, same = classify_epc(child) if isinstance(child, str) else ((), None)
            if child == parent or (same == own and roles != ("parcel",)):
                where = f"{path}.childEPCs[{index}]" if path else f"childEPCs[{index}]"
                checker.bad(
                    where, "parent-among-children", f"{format_value(child)} is the parent: nothing is inside itself"
                )
    if event.get("action") in ("ADD", "DELETE") and "parentID" not in event:
        where = f"{path}.parentID" if path else "parentID"
        checker.bad(where, "parent", "the parent may be left out with action OBSERVE only")
    if event.get("action") == "DELETE":
        return
    if not event.get("childEPCs") and not event.get("childQuantityList"):
        checker.bad(
            path or "childEPCs",
            "children",
            f"an {event.get('type')} has childEPCs or a childQuantityList, not empty, unless its action is DELETE",
        )


def _transaction_rule(checker: Checker, path: str, event: Mapping[str, Any]) -> None:
    if event.get("action") != "DELETE" and "epcList" not in event and not event.get("quantityList"):
        checker.bad(
            path or "epcList",
            "what-is-observed",
            "a TransactionEvent has an epcList or a quantityList that is not empty, unless its action is DELETE",
        )


def _transformation_rule(checker: Checker, path: str, event: Mapping[str, Any]) -> None:
    inputs = event.get("inputEPCList") or event.get("inputQuantityList")
    outputs = event.get("outputEPCList") or event.get("outputQuantityList")
    if "transformationID" in event:
        if not inputs and not outputs:
            checker.bad(path or "inputEPCList", "transformation", "a TransformationEvent has inputs or outputs")
    elif not inputs or not outputs:
        checker.bad(
            path or "transformationID",
            "transformation",
            "a TransformationEvent without a transformationID has both inputs and outputs",
        )


_CHECKS: Final[Mapping[str, ValueCheck]] = {
    "ObjectEvent": _record(
        {**_LASTING, "action": _action, "epcList": _SEEN, "quantityList": _QUANTITIES, "ilmd": _ILMD},
        ("type", "eventTime", "eventTimeZoneOffset", "action"),
        extensible=True,
        rule=_object_rule,
    ),
    "AggregationEvent": _record(
        _CHILDREN, ("type", "eventTime", "eventTimeZoneOffset", "action"), extensible=True, rule=_children_rule
    ),
    "AssociationEvent": _record(
        _CHILDREN,
        ("type", "eventTime", "eventTimeZoneOffset", "action", "parentID"),
        extensible=True,
        rule=_children_rule,
    ),
    "TransactionEvent": _record(
        {
            **_OBSERVED,
            "action": _action,
            "parentID": _instance,
            "epcList": _list_of(_seen),
            "quantityList": _QUANTITIES,
            "bizTransactionList": _list_of(
                _typed("bizTransaction", words.BIZ_TRANSACTION_TYPE, needs_type=False), least=1
            ),
        },
        ("type", "eventTime", "eventTimeZoneOffset", "action", "bizTransactionList"),
        extensible=True,
        rule=_transaction_rule,
    ),
    "TransformationEvent": _record(
        {
            **_LASTING,
            "inputEPCList": _EPCS,
            "inputQuantityList": _QUANTITIES,
            "outputEPCList": _EPCS,
            "outputQuantityList": _QUANTITIES,
            "transformationID": _uri,
            "ilmd": _ILMD,
        },
        ("type", "eventTime", "eventTimeZoneOffset"),
        extensible=True,
        rule=_transformation_rule,
    ),
}
_ANY_FIELD: Final[Mapping[str, ValueCheck]] = {
    **_LASTING,
    **_CHILDREN,
    "epcList": _SEEN,
    "quantityList": _QUANTITIES,
    "inputEPCList": _EPCS,
    "inputQuantityList": _QUANTITIES,
    "outputEPCList": _EPCS,
    "outputQuantityList": _QUANTITIES,
    "transformationID": _uri,
    "ilmd": _ILMD,
}
_MANDATORY: Final = ("type", "eventTime", "eventTimeZoneOffset")


def check_event(checker: Checker, event: Any, path: str = "") -> None:
    """Check one event; problems go to `checker`, with paths below `path`."""
    if not checker.mapping(path, event):
        return
    kind = event.get("type")
    if isinstance(kind, str) and kind in _CHECKS:
        _CHECKS[kind](checker, path, event)
        return
    # An event type of somebody's own (EPCIS 2.0, 7.4.1.3): what all events share is there, and a field that has the
    # name of a standard one has its form.
    checker.required(path, event, _MANDATORY)
    for name, check in _ANY_FIELD.items():
        if name in event:
            check(checker, f"{path}.{name}" if path else name, event[name])
    if isinstance(kind, str):
        where = f"{path}.type" if path else "type"
        if not checker.uri(where, kind):
            checker.bad(
                where, "event-type", f"must be one of {', '.join(EVENT_TYPES)}, or the URI of a type of your own"
            )


def check_context(checker: Checker, path: str, value: Any) -> None:
    """Check a JSON-LD context: known documents by name, and mappings of prefixes. Nothing is ever fetched."""
    parts = value if isinstance(value, list) else [value]
    # An event of a document may bring nothing of its own.
    if path == "@context" and not any(part or not isinstance(part, Mapping | str) for part in parts):
        checker.bad(
            path,
            "context",
            f"it is empty, so that no word of the document means anything: use {words.STANDARD_CONTEXT}",
        )
        return
    if any(part in parts[:index] for index, part in enumerate(parts[: words.MAX_CONTEXTS])):
        checker.bad(path, "unique-items", "names a context twice")
    if len(parts) > words.MAX_CONTEXTS:
        checker.bad(path, "context", f"has {len(parts):,} contexts; at most {words.MAX_CONTEXTS} are taken")
    defined = sum(len(part) for part in parts if isinstance(part, Mapping))
    if defined > words.MAX_TERMS:
        checker.bad(path, "context", f"defines {defined:,} terms; at most {words.MAX_TERMS} are taken")
    for index, part in enumerate(parts):
        where = f"{path}[{index}]" if isinstance(value, list) else path
        if isinstance(part, Mapping):
            for key, value_of in part.items():
                if key in ("@import", "@base"):
                    checker.bad(f"{where}.{key}", "context", f"{key} would change what other words mean; leave it out")
                elif not key.startswith("@") and not isinstance(value_of, Mapping | str | None):
                    checker.bad(f"{where}.{key}", "context", "stands for a URI, or for an object of JSON-LD")
        elif checker.text(where, part) and part not in words.KNOWN_CONTEXTS:
            checker.bad(
                where,
                "context",
                f"{format_value(part)} is not a context known here, and contexts are never fetched: name prefixes in an "
                f"object, and use {words.STANDARD_CONTEXT}",
            )
