"""The content hash of an EPCIS event, as CBV 2.0 (8.9) and its reference project define it.

The hash is the SHA-256 of a canonical text of the event, the pre-hash. It does not depend on the order of keys and
lists, nor on the form of times, numbers, vocabulary words and GS1 keys. In version 2.0 of the algorithm, user
extensions of standard fields stand behind all standard fields, and the word sensorElementList is left out. eventID,
recordTime, errorDeclaration and certificationInfo are not hashed.
"""

import hashlib
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from streams.capture.epcis import vocabulary as words
from streams.capture.epcis.contexts import context_terms
from streams.capture.epcis.vocabulary import Vocabulary
from streams.domain import gs1

_QUANTITY_FIELDS: Final = ("epcClass", "quantity", "uom")
_METADATA_FIELDS: Final = (
    "time",
    "startTime",
    "endTime",
    "deviceID",
    "deviceMetadata",
    "rawData",
    "dataProcessingMethod",
    "bizRules",
)
_REPORT_FIELDS: Final = (
    "type",
    "exception",
    "deviceID",
    "deviceMetadata",
    "rawData",
    "dataProcessingMethod",
    "time",
    "microorganism",
    "chemicalSubstance",
    "value",
    "component",
    "stringValue",
    "booleanValue",
    "hexBinaryValue",
    "uriValue",
    "minValue",
    "maxValue",
    "meanValue",
    "sDev",
    "percRank",
    "percValue",
    "uom",
    "coordinateReferenceSystem",
)
# The canonical order of fields. Each has the name of the method of _PreHashWriter that writes it.
_FIELD_ORDER: Final = (
    ("eventTime", "value"),
    ("eventTimeZoneOffset", "value"),
    ("epcList", "epcs"),
    ("parentID", "value"),
    ("inputEPCList", "epcs"),
    ("childEPCs", "epcs"),
    ("quantityList", "quantities"),
    ("childQuantityList", "quantities"),
    ("inputQuantityList", "quantities"),
    ("outputEPCList", "epcs"),
    ("outputQuantityList", "quantities"),
    ("action", "value"),
    ("transformationID", "value"),
    ("bizStep", "value"),
    ("disposition", "value"),
    ("persistentDisposition", "dispositions"),
    ("readPoint", "location"),
    ("bizLocation", "location"),
    ("bizTransactionList", "typed"),
    ("sourceList", "typed"),
    ("destinationList", "typed"),
    ("sensorElementList", "sensors"),
)
# Fields of a sensor report that are no extensions.
_UNHASHED_REPORT_FIELDS: Final = frozenset({*_REPORT_FIELDS, "bizRules"})
_SENSOR_FIELDS: Final = frozenset({*_METADATA_FIELDS, *_REPORT_FIELDS})
_STANDARD_FIELDS: Final = frozenset(name for name, _ in _FIELD_ORDER)
# Fields that are not hashed at any level, and fields of an event that are not hashed as extensions.
_COMMENT_FIELDS: Final = frozenset({"@context", "rdfs:comment", "comment", "#text"})
_UNHASHED_EVENT_FIELDS: Final = frozenset(
    {"type", "eventID", "recordTime", "errorDeclaration", "certificationInfo", "ilmd"}
)
_VOCABULARIES: Final[Mapping[str, Vocabulary]] = {
    "bizStep": words.BIZ_STEP,
    "disposition": words.DISPOSITION,
    "set": words.DISPOSITION,
    "unset": words.DISPOSITION,
    "component": words.COMPONENT,
    "exception": words.SENSOR_ALERT_TYPE,
}
_DEPRECATED_ROOTS: Final = {
    f"urn:epcglobal:cbv:{part}:": words.CBV + name
    for part, name in (("bizstep", "BizStep-"), ("disp", "Disp-"), ("btt", "BTT-"), ("sdt", "SDT-"), ("er", "ER-"))
}
# A number with a larger exponent would become a text of any length.
_MAX_EXPONENT: Final = 400

Namespaces = Mapping[str, str]


def event_hash(event: Mapping[str, Any], prefixes: Namespaces) -> str:
    """The hash of a valid event of a document with these prefixes, as `ni:///sha-256;…?ver=CBV2.0`."""
    digest = hashlib.sha256(pre_hash(event, prefixes).encode("utf-8", "surrogatepass")).hexdigest()
    return f"ni:///sha-256;{digest}?ver=CBV2.0"


def pre_hash(event: Mapping[str, Any], prefixes: Namespaces) -> str:
    """The canonical text that is hashed."""
    context = event.get("@context")
    writer = _PreHashWriter({**prefixes, **context_terms(context)} if context is not None else prefixes)
    return writer.event(event)


class _PreHashWriter:
    """Writes the pre-hash of one event."""

    def __init__(self, prefixes: Namespaces) -> None:
        self._prefixes = prefixes

    def event(self, event: Mapping[str, Any]) -> str:
        parts = ["eventType=" + str(event["type"])]
        parts += [getattr(self, "_" + form)(name, event[name]) for name, form in _FIELD_ORDER if name in event]
        if event.get("ilmd"):
            parts.append("ilmd" + self._extensions(event["ilmd"]))
        for name in ("readPoint", "bizLocation"):
            extensions = (
                self._extensions(event[name], known={"id", "type"}) if isinstance(event.get(name), Mapping) else ""
            )
            parts.append(name + extensions if extensions else "")
        parts.append(self._sensor_extensions(event.get("sensorElementList", [])))
        parts.append(self._extensions(event, known=_STANDARD_FIELDS | _UNHASHED_EVENT_FIELDS))
        return "".join(parts)

    # One method for each form of a standard field. Each returns "" for an empty value.

    def _value(self, name: str, value: Any) -> str:
        text = _text(value)
        if "time" in name.lower() and "offset" not in name.lower():
            text = normalize_time(text)
        elif name in _VOCABULARIES:
            text = self._canonical(_VOCABULARIES[name].to_uri(text))
        else:
            text = self._canonical(text)
        return f"{name}={text}" if text else ""

    def _epcs(self, name: str, values: list[Any]) -> str:
        written = "".join(sorted(self._value("epc", value) for value in values))
        return name + written if written else ""

    def _quantities(self, name: str, elements: list[Any]) -> str:
        written = sorted(
            "quantityElement" + "".join(self._value(key, element[key]) for key in _QUANTITY_FIELDS if key in element)
            for element in elements
        )
        return name + "".join(written) if written else ""

    def _dispositions(self, name: str, value: Mapping[str, Any]) -> str:
        written = "".join(
            "".join(sorted(self._value(key, disposition) for disposition in value[key]))
            for key in ("set", "unset")
            if key in value
        )
        return name + written if written else ""

    def _location(self, name: str, location: Mapping[str, Any]) -> str:
        return name + self._value("id", location["id"])

    def _typed(self, name: str, elements: list[Any]) -> str:
        vocabulary = words.BIZ_TRANSACTION_TYPE if name == "bizTransactionList" else words.SOURCE_DEST_TYPE
        key = name.removesuffix("List")
        written = sorted(
            (f"type={self._canonical(vocabulary.to_uri(element['type']))}" if "type" in element else "")
            + self._value(key, element[key])
            for element in elements
        )
        return name + "".join(written) if written else ""

    def _sensors(self, _: str, elements: list[Any]) -> str:
        return "".join(sorted("sensorElement" + self._sensor(element) for element in elements))

    def _sensor(self, element: Mapping[str, Any]) -> str:
        metadata = element.get("sensorMetadata", {})
        written_metadata = "".join(self._value(key, metadata[key]) for key in _METADATA_FIELDS if key in metadata)
        reports = sorted(
            "".join(self._report_value(key, report[key]) for key in _REPORT_FIELDS if key in report)
            for report in element.get("sensorReport", [])
        )
        written_reports = "".join("sensorReport" + report for report in reports if report)
        return ("sensorMetadata" + written_metadata if written_metadata else "") + written_reports

    def _report_value(self, key: str, value: Any) -> str:
        if key == "type":
            return f"type={self._canonical(words.MEASUREMENT_TYPE.to_uri(_text(value)))}"
        return self._value(key, value)

    # User extensions.

    def _sensor_extensions(self, elements: list[Any]) -> str:
        written = []
        for element in sorted(elements, key=self._sort_key):
            metadata = self._extensions(element.get("sensorMetadata", {}), known=frozenset(_METADATA_FIELDS))
            inner = "sensorMetadata" + metadata if metadata else ""
            for report in sorted(element.get("sensorReport", []), key=self._sort_key):
                extensions = self._extensions(report, known=_UNHASHED_REPORT_FIELDS)
                inner += "sensorReport" + extensions if extensions else ""
            inner += self._extensions(element, known={"sensorMetadata", "sensorReport"})
            written.append("sensorElement" + inner if inner else "")
        return "".join(written)

    def _sort_key(self, part: Mapping[str, Any]) -> str:
        # The order of siblings with extensions must not depend on the order in the document, nor on the form of words,
        # times and numbers.
        return "".join(
            sorted(
                text
                for key, value in part.items()
                if key not in _COMMENT_FIELDS
                for text in self._sort_parts(key, value)
            )
        )

    def _sort_parts(self, key: str, value: Any) -> list[str]:
        if key in ("sensorMetadata", "sensorReport"):
            return [key + self._sort_key(part) for part in (value if isinstance(value, list) else [value])]
        if key in _SENSOR_FIELDS:
            return [self._report_value(key, value)]
        return self._extension_parts(self._key(key), value)

    def _extensions(self, mapping: Mapping[str, Any], known: frozenset[str] | set[str] = frozenset()) -> str:
        """The fields of `mapping` that are not known, with their values, sorted."""
        return "".join(
            sorted(
                part
                for key, value in mapping.items()
                if key not in known and key not in _COMMENT_FIELDS
                for part in self._extension_parts(self._key(key), value)
            )
        )

    def _extension_parts(self, key: str, value: Any) -> list[str]:
        if isinstance(value, list):
            return [part for item in value for part in self._extension_parts(key, item)]
        if isinstance(value, Mapping):
            text = self._canonical(_text(value["#text"])) if "#text" in value else ""
            return [key + (f"={text}" if text else "") + self._extensions(value)]
        text = self._canonical(_text(value))
        return [f"{key}={text}" if text else key]

    def _key(self, key: str) -> str:
        prefix, colon, local = key.partition(":")
        if colon and prefix in self._prefixes:
            return f"{{{self._prefixes[prefix]}}}{local}"
        if colon and local.startswith("//"):
            # The key is a full URI. Its namespace ends with the last separator.
            end = max(key.rfind("/"), key.rfind("#")) + 1
            return f"{{{key[:end]}}}{key[end:]}"
        return key

    def _canonical(self, text: str) -> str:
        prefix, colon, local = text.partition(":")
        # In values, only prefixes of GS1 are expanded. User-defined prefixes stay, as they do in XML.
        root = self._prefixes.get(prefix, "") if colon else ""
        if root.startswith(("https://ref.gs1.org", "https://gs1.org")):
            text = root + local
        for old, new in _DEPRECATED_ROOTS.items():
            text = text.replace(old, new)
        text = _number(text)
        return gs1.canonical_link(text) or text


def normalize_time(text: str) -> str:
    """A time in UTC with exactly three decimals of a second, rounded half up; other texts unchanged."""
    match = re.fullmatch(r"(\d{4}-\d\d-\d\d)[Tt](\d\d:\d\d:\d\d)(\.\d+)?([Zz]|[+-]\d\d:\d\d)", text)
    if match is None:
        return text
    date, clock, fraction, offset = match.groups()
    try:
        moment = datetime.fromisoformat(f"{date}T{clock}{'+00:00' if offset in 'Zz' else offset}").astimezone(UTC)
        millis = int(Decimal(fraction or 0) * 1000 + Decimal("0.5"))
        moment += timedelta(milliseconds=millis)
    except (ValueError, OverflowError):
        return text
    return moment.strftime("%Y-%m-%dT%H:%M:%S.").rjust(20, "0") + f"{moment.microsecond // 1000:03}Z"


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value).strip()


def _number(text: str) -> str:
    """The shortest form of a number: 25.0 becomes 25, +3 becomes 3. Other texts unchanged."""
    if not text or text[0] not in "+-.0123456789":
        return text
    try:
        number = Decimal(text)
    except InvalidOperation:
        return text
    if not number.is_finite() or abs(number.adjusted()) > _MAX_EXPONENT:
        return text
    if number == number.to_integral_value():
        return str(number.to_integral_value())
    return format(number.normalize(), "f")
