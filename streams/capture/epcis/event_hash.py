"""The content hash of an EPCIS event, as CBV 2.0 (8.9) and its reference project define it.

A canonical text of the event, the pre-hash, is hashed with SHA-256. Two documents with the same event have the same
hash, whatever the order of keys and lists, the form of times, numbers, vocabulary words and GS1 keys. In version 2.0
of the algorithm, user extensions of standard fields stand behind all standard fields, and the word sensorElementList
is left out; eventID, recordTime, errorDeclaration and certificationInfo do not count.
"""

import hashlib
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from streams.capture.epcis import vocabulary as words
from streams.capture.epcis.vocabulary import Vocabulary
from streams.domain import gs1

_QUANTITY: Final = ("epcClass", "quantity", "uom")
_METADATA: Final = (
    "time",
    "startTime",
    "endTime",
    "deviceID",
    "deviceMetadata",
    "rawData",
    "dataProcessingMethod",
    "bizRules",
)
_REPORT: Final = (
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
# The canonical order of properties: name -> how its value is written.
_ORDER: Final = (
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
    ("readPoint", "place"),
    ("bizLocation", "place"),
    ("bizTransactionList", "typed"),
    ("sourceList", "typed"),
    ("destinationList", "typed"),
    ("sensorElementList", "sensors"),
)
# What a report may say and its hash leaves out.
_UNHASHED_OF_REPORTS: Final = frozenset({*_REPORT, "bizRules"})
_OF_SENSORS: Final = frozenset({*_METADATA, *_REPORT})
_STANDARD: Final = frozenset(name for name, _ in _ORDER)
# Not hashed at any level, and not hashed in an event.
_COMMENTS: Final = frozenset({"@context", "rdfs:comment", "comment", "#text"})
_UNHASHED: Final = frozenset({"type", "eventID", "recordTime", "errorDeclaration", "certificationInfo", "ilmd"})
_VOCABULARIES: Final[Mapping[str, Vocabulary]] = {
    "bizStep": words.BIZ_STEP,
    "disposition": words.DISPOSITION,
    "set": words.DISPOSITION,
    "unset": words.DISPOSITION,
    "component": words.COMPONENT,
    "exception": words.SENSOR_ALERT_TYPE,
}
_OLD_WORDS: Final = {
    f"urn:epcglobal:cbv:{part}:": words.CBV + name
    for part, name in (("bizstep", "BizStep-"), ("disp", "Disp-"), ("btt", "BTT-"), ("sdt", "SDT-"), ("er", "ER-"))
}
# Beyond this, a number written with an exponent would become a text of any length.
_LARGEST_EXPONENT: Final = 400

Namespaces = Mapping[str, str]


def context_namespaces(*contexts: Any) -> dict[str, str]:
    """Prefix -> namespace of JSON-LD contexts (a text, a mapping, or a list of these), the standard's own included."""
    return words.STANDARD_PREFIXES | context_terms(*contexts)


def context_terms(*contexts: Any) -> dict[str, str]:
    """Prefix -> namespace of these contexts alone, of at most as many as a right one has."""
    found: dict[str, str] = {}
    for context in contexts:
        for part in context if isinstance(context, list) else [context]:
            if isinstance(part, Mapping) and len(found) + len(part) <= words.MAX_TERMS:
                found.update({key: value for key, value in part.items() if isinstance(value, str)})
    return found


def event_hash(event: Mapping[str, Any], prefixes: Namespaces) -> str:
    """`ni:///sha-256;…?ver=CBV2.0` of a valid event of a document with these prefixes."""
    digest = hashlib.sha256(pre_hash(event, prefixes).encode("utf-8", "surrogatepass")).hexdigest()
    return f"ni:///sha-256;{digest}?ver=CBV2.0"


def pre_hash(event: Mapping[str, Any], prefixes: Namespaces) -> str:
    """The canonical text that is hashed."""
    own = event.get("@context")
    writer = _PreHashWriter({**prefixes, **context_terms(own)} if own is not None else prefixes)
    return writer.event(event)


class _PreHashWriter:
    """Writes the parts of one event."""

    def __init__(self, prefixes: Namespaces) -> None:
        self._prefixes = prefixes

    def event(self, event: Mapping[str, Any]) -> str:
        parts = ["eventType=" + str(event["type"])]
        parts += [getattr(self, "_" + form)(name, event[name]) for name, form in _ORDER if name in event]
        if event.get("ilmd"):
            parts.append("ilmd" + self._user(event["ilmd"]))
        for name in ("readPoint", "bizLocation"):
            extensions = self._user(event[name], known={"id", "type"}) if isinstance(event.get(name), Mapping) else ""
            parts.append(name + extensions if extensions else "")
        parts.append(self._sensor_extensions(event.get("sensorElementList", [])))
        parts.append(self._user(event, known=_STANDARD | _UNHASHED))
        return "".join(parts)

    # The forms of standard fields. Each gives "" where there is nothing to say.

    def _value(self, name: str, value: Any) -> str:
        text = _text(value)
        if "time" in name.lower() and "offset" not in name.lower():
            text = normalize_time(text)
        elif name in _VOCABULARIES:
            text = self._canonical(_VOCABULARIES[name].full(text))
        else:
            text = self._canonical(text)
        return f"{name}={text}" if text else ""

    def _epcs(self, name: str, values: list[Any]) -> str:
        listed = "".join(sorted(self._value("epc", value) for value in values))
        return name + listed if listed else ""

    def _quantities(self, name: str, elements: list[Any]) -> str:
        written = sorted(
            "quantityElement" + "".join(self._value(key, element[key]) for key in _QUANTITY if key in element)
            for element in elements
        )
        return name + "".join(written) if written else ""

    def _dispositions(self, name: str, value: Mapping[str, Any]) -> str:
        written = "".join(
            "".join(sorted(self._value(key, each) for each in value[key])) for key in ("set", "unset") if key in value
        )
        return name + written if written else ""

    def _place(self, name: str, place: Mapping[str, Any]) -> str:
        return name + self._value("id", place["id"])

    def _typed(self, name: str, elements: list[Any]) -> str:
        vocabulary = words.BIZ_TRANSACTION_TYPE if name == "bizTransactionList" else words.SOURCE_DEST_TYPE
        key = name.removesuffix("List")
        written = sorted(
            (f"type={self._canonical(vocabulary.full(element['type']))}" if "type" in element else "")
            + self._value(key, element[key])
            for element in elements
        )
        return name + "".join(written) if written else ""

    def _sensors(self, _: str, elements: list[Any]) -> str:
        return "".join(sorted("sensorElement" + self._sensor(element) for element in elements))

    def _sensor(self, element: Mapping[str, Any]) -> str:
        metadata = element.get("sensorMetadata", {})
        first = "".join(self._value(key, metadata[key]) for key in _METADATA if key in metadata)
        reports = sorted(
            "".join(self._report_value(key, report[key]) for key in _REPORT if key in report)
            for report in element.get("sensorReport", [])
        )
        return ("sensorMetadata" + first if first else "") + "".join("sensorReport" + each for each in reports if each)

    def _report_value(self, key: str, value: Any) -> str:
        if key == "type":
            return f"type={self._canonical(words.MEASUREMENT_TYPE.full(_text(value)))}"
        return self._value(key, value)

    # User extensions.

    def _sensor_extensions(self, elements: list[Any]) -> str:
        written = []
        for element in sorted(elements, key=self._order):
            metadata = self._user(element.get("sensorMetadata", {}), known=frozenset(_METADATA))
            inner = "sensorMetadata" + metadata if metadata else ""
            for report in sorted(element.get("sensorReport", []), key=self._order):
                said = self._user(report, known=_UNHASHED_OF_REPORTS)
                inner += "sensorReport" + said if said else ""
            inner += self._user(element, known={"sensorMetadata", "sensorReport"})
            written.append("sensorElement" + inner if inner else "")
        return "".join(written)

    def _order(self, part: Mapping[str, Any]) -> str:
        # Siblings with extensions stand in an order that depends neither on the document's nor on how it writes words,
        # times and numbers.
        return "".join(
            sorted(text for key, value in part.items() if key not in _COMMENTS for text in self._ordered(key, value))
        )

    def _ordered(self, key: str, value: Any) -> list[str]:
        if key in ("sensorMetadata", "sensorReport"):
            return [key + self._order(each) for each in (value if isinstance(value, list) else [value])]
        if key in _OF_SENSORS:
            return [self._report_value(key, value)]
        return self._extension(self._key(key), value)

    def _user(self, mapping: Mapping[str, Any], known: frozenset[str] | set[str] = frozenset()) -> str:
        """The keys of `mapping` that are not known, with what they hold, sorted."""
        return "".join(
            sorted(
                part
                for key, value in mapping.items()
                if key not in known and key not in _COMMENTS
                for part in self._extension(self._key(key), value)
            )
        )

    def _extension(self, key: str, value: Any) -> list[str]:
        if isinstance(value, list):
            return [part for each in value for part in self._extension(key, each)]
        if isinstance(value, Mapping):
            text = self._canonical(_text(value["#text"])) if "#text" in value else ""
            return [key + (f"={text}" if text else "") + self._user(value)]
        text = self._canonical(_text(value))
        return [f"{key}={text}" if text else key]

    def _key(self, key: str) -> str:
        prefix, colon, local = key.partition(":")
        if colon and prefix in self._prefixes:
            return f"{{{self._prefixes[prefix]}}}{local}"
        if colon and local.startswith("//"):
            # The same key, written out: its namespace ends with the last separator.
            end = max(key.rfind("/"), key.rfind("#")) + 1
            return f"{{{key[:end]}}}{key[end:]}"
        return key

    def _canonical(self, text: str) -> str:
        prefix, colon, local = text.partition(":")
        # Of values, only words of GS1 are expanded; a user's own prefix stays, as it does in XML.
        root = self._prefixes.get(prefix, "") if colon else ""
        if root.startswith(("https://ref.gs1.org", "https://gs1.org")):
            text = root + local
        for old, new in _OLD_WORDS.items():
            text = text.replace(old, new)
        text = _number(text)
        return gs1.canonical_link(text) or text


def normalize_time(text: str) -> str:
    """A time in UTC with exactly three digits of a second, rounded half up; what is no time stays as it is."""
    found = re.fullmatch(r"(\d{4}-\d\d-\d\d)[Tt](\d\d:\d\d:\d\d)(\.\d+)?([Zz]|[+-]\d\d:\d\d)", text)
    if found is None:
        return text
    day, clock, fraction, offset = found.groups()
    try:
        moment = datetime.fromisoformat(f"{day}T{clock}{'+00:00' if offset in 'Zz' else offset}").astimezone(UTC)
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
    """Numbers without what does not count: 25.0 is 25, +3 is 3. Other texts stay as they are."""
    if not text or text[0] not in "+-.0123456789":
        return text
    try:
        number = Decimal(text)
    except InvalidOperation:
        return text
    if not number.is_finite() or abs(number.adjusted()) > _LARGEST_EXPONENT:
        return text
    if number == number.to_integral_value():
        return str(number.to_integral_value())
    return format(number.normalize(), "f")
