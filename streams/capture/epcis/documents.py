"""EPCIS documents: parsed within limits, checked, and split into events. Nothing that they refer to is ever fetched."""

import json
import math
import re
from collections import ChainMap, Counter
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any, Final

from streams.capture.epcis.checks import Checker, RuleViolation, format_value, is_uri
from streams.capture.epcis.contexts import check_context, context_namespaces, context_terms
from streams.capture.epcis.event_hash import event_hash
from streams.capture.epcis.events import check_event
from streams.capture.epcis.vocabulary import EVENT_TYPES

MAX_DEPTH: Final = 32
_VERSION: Final = re.compile(r"2(?:\.\d+){0,2}")


@dataclass(frozen=True, slots=True)
class CheckedEvent:
    """One checked event of a document. `event_id` and `event_hash` are None if it has violations."""

    index: int
    raw: Any
    violations: tuple[RuleViolation, ...]
    # The eventID, or the event hash if the event has none.
    event_id: str | None
    event_hash: str | None
    prefixes: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class CheckedDocument:
    """A checked document: the violations outside its events, and its events."""

    violations: tuple[RuleViolation, ...]
    events: tuple[CheckedEvent, ...]

    @property
    def is_valid(self) -> bool:
        """Is there no violation in the document and its events?"""
        return not self.violations and not any(event.violations for event in self.events)


class NestingTooDeepError(ValueError):
    """Brackets are nested deeper than any valid document needs."""


class TooManyEventsError(ValueError):
    """The document has more events than the limit."""


def parse_json(content: bytes, max_depth: int = MAX_DEPTH) -> Any:
    """Parse JSON within limits: UTF-8, no key twice but eventID, no NaN, nested at most `max_depth` deep.

    Raises:
        ValueError: the content breaks a rule; the message names it.
    """
    try:
        value = json.loads(content.decode("utf-8-sig"), object_pairs_hook=_unique_keys, **_NUMBER_HOOKS)
    except RecursionError:
        raise NestingTooDeepError(f"brackets are nested deeper than {max_depth} levels") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"the content is not UTF-8 at byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"the content is not JSON: {error.msg} in line {error.lineno}, column {error.colno}") from None
    _check_nesting(value, max_depth)
    return value


def check_document(document: Any, max_events: int | None = None) -> CheckedDocument:
    """Check an EPCISDocument, an EPCISQueryDocument, or a single event with its @context.

    Raises:
        TooManyEventsError: it has more than `max_events`. The violations of millions of events would fill the memory.
    """
    checker = Checker()
    if not checker.mapping("", document):
        return CheckedDocument(tuple(checker.violations), ())
    type_ = document.get("type")
    if type_ == "EPCISDocument":
        events, list_path = _check_capture_document(checker, document)
    elif type_ == "EPCISQueryDocument":
        events, list_path = _check_query_document(checker, document)
    elif type_ in EVENT_TYPES or (isinstance(type_, str) and is_uri(type_)):
        checker.required_fields("", document, ["@context"])
        event = check_document_event(document, context_namespaces(document.get("@context")), 0)
        return CheckedDocument(tuple(checker.violations), (event,))
    else:
        checker.required_fields("", document, ["type"])
        if type_ is not None:
            checker.add_violation(
                "type",
                "document-type",
                f"{format_value(type_)} is not EPCISDocument, EPCISQueryDocument or an event type",
            )
        return CheckedDocument(tuple(checker.violations), ())
    if max_events is not None and len(events) > max_events:
        raise TooManyEventsError(
            f"the document has {len(events):,} events; at most {max_events:,} are accepted: "
            "send them in several documents"
        )
    prefixes = context_namespaces(document.get("@context"))
    checked = (
        check_document_event(event, prefixes, index, f"{list_path}[{index}]") for index, event in enumerate(events)
    )
    return CheckedDocument(tuple(checker.violations), tuple(checked))


def check_document_event(event: Any, prefixes: MutableMapping[str, str], index: int, path: str = "") -> CheckedEvent:
    """Check one event of a document whose context defines these prefixes."""
    checker = Checker()
    check_event(checker, event, path)
    if checker.violations:
        return CheckedEvent(index, event, tuple(checker.violations), None, None, prefixes)
    if "@context" in event:
        # An event may define prefixes of its own. Chaining avoids a copy of the document's prefixes for each event.
        prefixes = ChainMap(context_terms(event["@context"]), prefixes)
    own_hash = event_hash(event, prefixes)
    return CheckedEvent(index, event, (), event.get("eventID") or own_hash, own_hash, prefixes)


def _check_capture_document(checker: Checker, document: Mapping[str, Any]) -> tuple[list[Any], str]:
    known = (
        "@context",
        "id",
        "type",
        "schemaVersion",
        "creationDate",
        "instanceIdentifier",
        "sender",
        "receiver",
        "epcisHeader",
        "epcisBody",
    )
    checker.required_fields("", document, ("@context", "schemaVersion", "creationDate", "epcisBody"))
    checker.known_fields("", document, known)
    _check_common_fields(checker, document)
    for name in ("instanceIdentifier", "sender", "receiver"):
        if name in document:
            checker.text(name, document[name])
    if "epcisHeader" in document:
        _check_header(checker, document["epcisHeader"])
    body = document.get("epcisBody", {})
    if not checker.mapping("epcisBody", body):
        return [], ""
    if "epcisBody" in document:
        checker.required_fields("epcisBody", body, ["eventList"])
        checker.known_fields("epcisBody", body, ["eventList"])
    return _event_list(checker, "epcisBody.eventList", body), "epcisBody.eventList"


def _check_query_document(checker: Checker, document: Mapping[str, Any]) -> tuple[list[Any], str]:
    results_path = "epcisBody.queryResults.resultsBody"
    checker.required_fields("", document, ("@context", "epcisBody"))
    checker.known_fields("", document, ("@context", "id", "type", "schemaVersion", "creationDate", "epcisBody"))
    _check_common_fields(checker, document)
    body = document.get("epcisBody", {})
    if not checker.mapping("epcisBody", body) or "epcisBody" not in document:
        return [], ""
    checker.required_fields("epcisBody", body, ["queryResults"])
    checker.known_fields("epcisBody", body, ["queryResults"])
    results = body.get("queryResults", {})
    if not checker.mapping("epcisBody.queryResults", results) or "queryResults" not in body:
        return [], ""
    checker.required_fields("epcisBody.queryResults", results, ["queryName", "resultsBody"])
    checker.known_fields("epcisBody.queryResults", results, ("queryName", "subscriptionID", "resultsBody"))
    for name in ("queryName", "subscriptionID"):
        if name in results:
            checker.text(f"epcisBody.queryResults.{name}", results[name])
    inner = results.get("resultsBody", {})
    if not checker.mapping(results_path, inner) or "resultsBody" not in results:
        return [], ""
    checker.required_fields(results_path, inner, ["eventList"])
    checker.known_fields(results_path, inner, ("eventList", "vocabularyList"))
    if "vocabularyList" in inner:
        checker.array(
            f"{results_path}.vocabularyList",
            inner["vocabularyList"],
            lambda path, value: _check_vocabulary(checker, path, value),
        )
    return _event_list(checker, f"{results_path}.eventList", inner), f"{results_path}.eventList"


def _check_common_fields(checker: Checker, document: Mapping[str, Any]) -> None:
    if "@context" in document:
        check_context(checker, "@context", document["@context"])
    if "id" in document and checker.text("id", document["id"]) and not document["id"].startswith("_:"):
        checker.uri("id", document["id"])
    version = document.get("schemaVersion", "2.0")
    if checker.text("schemaVersion", version) and _VERSION.fullmatch(version) is None:
        checker.add_violation(
            "schemaVersion", "version", f"{format_value(version)} is not a version of EPCIS 2: write it like 2.0"
        )
    if "creationDate" in document:
        checker.date_time("creationDate", document["creationDate"])


def _event_list(checker: Checker, path: str, holder: Mapping[str, Any]) -> list[Any]:
    events = holder.get("eventList", [])
    return events if checker.array(path, events, lambda *_: None) else []


def _check_header(checker: Checker, header: Any) -> None:
    if not checker.mapping("epcisHeader", header):
        return
    checker.known_fields("epcisHeader", header, ["epcisMasterData"])
    data = header.get("epcisMasterData", {})
    if checker.mapping("epcisHeader.epcisMasterData", data) and "vocabularyList" in data:
        checker.array(
            "epcisHeader.epcisMasterData.vocabularyList",
            data["vocabularyList"],
            lambda path, value: _check_vocabulary(checker, path, value),
        )


def _check_vocabulary(checker: Checker, path: str, vocabulary: Any) -> None:
    if not checker.mapping(path, vocabulary):
        return
    checker.required_fields(path, vocabulary, ["type"])
    if "type" in vocabulary:
        checker.uri(f"{path}.type", vocabulary["type"])
    elements = vocabulary.get("vocabularyElementList", [])
    checker.array(f"{path}.vocabularyElementList", elements, lambda path, value: _check_element(checker, path, value))


def _check_element(checker: Checker, path: str, element: Any) -> None:
    if not checker.mapping(path, element):
        return
    checker.required_fields(path, element, ["id"])
    if "id" in element:
        checker.uri(f"{path}.id", element["id"])
    if "children" in element:
        checker.array(f"{path}.children", element["children"], checker.uri)
    if "attributes" in element:
        checker.array(
            f"{path}.attributes", element["attributes"], lambda path, value: _check_attribute(checker, path, value)
        )


def _check_attribute(checker: Checker, path: str, attribute: Any) -> None:
    if checker.mapping(path, attribute):
        checker.required_fields(path, attribute, ["id"])
        if "id" in attribute:
            checker.uri(f"{path}.id", attribute["id"])


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping = dict(pairs)
    if len(mapping) < len(pairs):
        # Counting takes one pass. Comparing the keys with each other would be slow for an object of 100,000 keys.
        counts = Counter(name for name, _ in pairs)
        # An example of the standard (AssociationEvent h) has eventID twice. The last value is kept, as all readers in
        # use do.
        counts.pop("eventID", None)
        repeated, count = counts.most_common(1)[0] if counts else ("", 1)
        if count == 1:
            return mapping
        raise ValueError(
            f"the key {format_value(repeated)} stands twice in one object, so readers could differ about its value: "
            "give it once"
        )
    return mapping


def _check_nesting(value: Any, max_depth: int) -> None:
    """Reject deep nesting, and halves of surrogate pairs, which are not characters."""
    level = [value]
    for _ in range(max_depth):
        next_level: list[Any] = []
        for node in level:
            if isinstance(node, dict):
                for key, inner in node.items():
                    _check_characters(key)
                    next_level.append(inner)
            elif isinstance(node, list):
                next_level += node
            elif isinstance(node, str):
                _check_characters(node)
        if not next_level:
            return
        level = next_level
    raise NestingTooDeepError(f"brackets are nested deeper than {max_depth} levels")


def _check_characters(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{format_value(text)} has half of a surrogate pair, which is not a character") from None


def _reject_number(word: str) -> Any:
    raise ValueError(f"{word} is not a JSON number")


def _parse_float(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        # An infinite number has no JSON form, so the event could not be stored.
        raise ValueError(f"the number {format_value(text)} is too large for a 64-bit float")
    return number


_NUMBER_HOOKS: Final[Mapping[str, Any]] = {"parse_constant": _reject_number, "parse_float": _parse_float}
