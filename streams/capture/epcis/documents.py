"""EPCIS documents: read within limits, checked, and taken apart into events. Nothing they name is ever fetched."""

import json
import math
import re
from collections import ChainMap, Counter
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any, Final

from streams.capture.epcis.checks import Checker, RuleViolation, format_value, is_uri
from streams.capture.epcis.event_hash import context_namespaces, context_terms, event_hash
from streams.capture.epcis.events import check_context, check_event
from streams.capture.epcis.vocabulary import EVENT_TYPES

MAX_DEPTH: Final = 32
_VERSION: Final = re.compile(r"2(?:\.\d+){0,2}")


@dataclass(frozen=True, slots=True)
class CheckedEvent:
    """One event of a document. `event_id` and `hash` are None where it has problems."""

    index: int
    raw: Any
    problems: tuple[RuleViolation, ...]
    # Its own eventID, or its hash where it has none.
    event_id: str | None
    event_hash: str | None
    prefixes: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class CheckedDocument:
    """A document: its own problems, and its events."""

    problems: tuple[RuleViolation, ...]
    events: tuple[CheckedEvent, ...]

    @property
    def ok(self) -> bool:
        """Is everything right?"""
        return not self.problems and not any(event.problems for event in self.events)


class NestingTooDeepError(ValueError):
    """Brackets nested deeper than any document needs."""


class TooManyEventsError(ValueError):
    """A document with more events than are taken at once."""


def parse_json(text: bytes, depth: int = MAX_DEPTH) -> Any:
    """JSON within limits: UTF-8, no key twice but an eventID, no NaN, nested at most `depth` deep.

    Raises:
        ValueError: what is wrong with it.
    """
    try:
        value = json.loads(text.decode("utf-8-sig"), object_pairs_hook=_distinct, **_NUMBERS)
    except RecursionError:
        raise NestingTooDeepError(f"brackets are nested deeper than {depth}") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"this is not UTF-8: byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"this is not JSON: {error.msg} in line {error.lineno}, column {error.colno}") from None
    _within(value, depth)
    return value


def check_document(document: Any, max_events: int | None = None) -> CheckedDocument:
    """Check an EPCISDocument, an EPCISQueryDocument, or one event that stands alone with its @context.

    Raises:
        TooManyEventsError: it has more than `most`; what is wrong with each of millions would fill the memory.
    """
    checker = Checker()
    if not checker.mapping("", document):
        return CheckedDocument(tuple(checker.problems), ())
    kind = document.get("type")
    if kind == "EPCISDocument":
        listed, where = _document(checker, document)
    elif kind == "EPCISQueryDocument":
        listed, where = _query_document(checker, document)
    elif kind in EVENT_TYPES or (isinstance(kind, str) and is_uri(kind)):
        checker.required("", document, ["@context"])
        return CheckedDocument(
            tuple(checker.problems), (check_document_event(document, context_namespaces(document.get("@context")), 0),)
        )
    else:
        checker.required("", document, ["type"])
        if kind is not None:
            checker.bad(
                "type",
                "document-type",
                f"{format_value(kind)} must be EPCISDocument, EPCISQueryDocument or an event type",
            )
        return CheckedDocument(tuple(checker.problems), ())
    if max_events is not None and len(listed) > max_events:
        raise TooManyEventsError(f"at most {max_events:,} events a document")
    prefixes = context_namespaces(document.get("@context"))
    events = tuple(
        check_document_event(event, prefixes, index, f"{where}[{index}]") for index, event in enumerate(listed)
    )
    return CheckedDocument(tuple(checker.problems), events)


def check_document_event(event: Any, prefixes: MutableMapping[str, str], index: int, path: str = "") -> CheckedEvent:
    """Check one event of a document with these prefixes."""
    checker = Checker()
    check_event(checker, event, path)
    if checker.problems:
        return CheckedEvent(index, event, tuple(checker.problems), None, None, prefixes)
    if "@context" in event:
        # An event of a document may bring prefixes of its own; those of the document are not copied for each.
        prefixes = ChainMap(context_terms(event["@context"]), prefixes)
    content = event_hash(event, prefixes)
    return CheckedEvent(index, event, (), event.get("eventID") or content, content, prefixes)


def _document(checker: Checker, document: Mapping[str, Any]) -> tuple[list[Any], str]:
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
    checker.required("", document, ("@context", "schemaVersion", "creationDate", "epcisBody"))
    checker.keys("", document, known)
    _shared(checker, document)
    for name in ("instanceIdentifier", "sender", "receiver"):
        if name in document:
            checker.text(name, document[name])
    if "epcisHeader" in document:
        _header(checker, document["epcisHeader"])
    body = document.get("epcisBody", {})
    if not checker.mapping("epcisBody", body):
        return [], ""
    if "epcisBody" in document:
        checker.required("epcisBody", body, ["eventList"])
        checker.keys("epcisBody", body, ["eventList"])
    return _listed(checker, "epcisBody.eventList", body), "epcisBody.eventList"


def _query_document(checker: Checker, document: Mapping[str, Any]) -> tuple[list[Any], str]:
    where = "epcisBody.queryResults.resultsBody"
    checker.required("", document, ("@context", "epcisBody"))
    checker.keys("", document, ("@context", "id", "type", "schemaVersion", "creationDate", "epcisBody"))
    _shared(checker, document)
    body = document.get("epcisBody", {})
    if not checker.mapping("epcisBody", body) or "epcisBody" not in document:
        return [], ""
    checker.required("epcisBody", body, ["queryResults"])
    checker.keys("epcisBody", body, ["queryResults"])
    results = body.get("queryResults", {})
    if not checker.mapping("epcisBody.queryResults", results) or "queryResults" not in body:
        return [], ""
    checker.required("epcisBody.queryResults", results, ["queryName", "resultsBody"])
    checker.keys("epcisBody.queryResults", results, ("queryName", "subscriptionID", "resultsBody"))
    for name in ("queryName", "subscriptionID"):
        if name in results:
            checker.text(f"epcisBody.queryResults.{name}", results[name])
    inner = results.get("resultsBody", {})
    if not checker.mapping(where, inner) or "resultsBody" not in results:
        return [], ""
    checker.required(where, inner, ["eventList"])
    checker.keys(where, inner, ("eventList", "vocabularyList"))
    if "vocabularyList" in inner:
        checker.array(
            f"{where}.vocabularyList", inner["vocabularyList"], lambda at, each: _vocabulary(checker, at, each)
        )
    return _listed(checker, f"{where}.eventList", inner), f"{where}.eventList"


def _shared(checker: Checker, document: Mapping[str, Any]) -> None:
    if "@context" in document:
        check_context(checker, "@context", document["@context"])
    if "id" in document and checker.text("id", document["id"]) and not document["id"].startswith("_:"):
        checker.uri("id", document["id"])
    version = document.get("schemaVersion", "2.0")
    if checker.text("schemaVersion", version) and _VERSION.fullmatch(version) is None:
        checker.bad("schemaVersion", "version", f"{format_value(version)} is not a version of EPCIS 2, like 2.0")
    if "creationDate" in document:
        checker.time("creationDate", document["creationDate"])


def _listed(checker: Checker, path: str, holder: Mapping[str, Any]) -> list[Any]:
    listed = holder.get("eventList", [])
    return listed if checker.array(path, listed, lambda *_: None) else []


def _header(checker: Checker, header: Any) -> None:
    if not checker.mapping("epcisHeader", header):
        return
    checker.keys("epcisHeader", header, ["epcisMasterData"])
    data = header.get("epcisMasterData", {})
    if checker.mapping("epcisHeader.epcisMasterData", data) and "vocabularyList" in data:
        checker.array(
            "epcisHeader.epcisMasterData.vocabularyList",
            data["vocabularyList"],
            lambda at, each: _vocabulary(checker, at, each),
        )


def _vocabulary(checker: Checker, path: str, vocabulary: Any) -> None:
    if not checker.mapping(path, vocabulary):
        return
    checker.required(path, vocabulary, ["type"])
    if "type" in vocabulary:
        checker.uri(f"{path}.type", vocabulary["type"])
    elements = vocabulary.get("vocabularyElementList", [])
    checker.array(f"{path}.vocabularyElementList", elements, lambda at, each: _element(checker, at, each))


def _element(checker: Checker, path: str, element: Any) -> None:
    if not checker.mapping(path, element):
        return
    checker.required(path, element, ["id"])
    if "id" in element:
        checker.uri(f"{path}.id", element["id"])
    if "children" in element:
        checker.array(f"{path}.children", element["children"], checker.uri)
    if "attributes" in element:
        checker.array(f"{path}.attributes", element["attributes"], lambda at, each: _attribute(checker, at, each))


def _attribute(checker: Checker, path: str, attribute: Any) -> None:
    if checker.mapping(path, attribute):
        checker.required(path, attribute, ["id"])
        if "id" in attribute:
            checker.uri(f"{path}.id", attribute["id"])


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        # Counted in one pass: a stranger's 100,000 keys must not be compared with each other.
        counted = Counter(name for name, _ in pairs)
        # An example of the standard (AssociationEvent h) names its event twice. The last name counts, as it does for
        # every reader in use, and alone is kept.
        counted.pop("eventID", None)
        twice, times = counted.most_common(1)[0] if counted else ("", 1)
        if times == 1:
            return found
        raise ValueError(
            f"the key {format_value(twice)} stands twice in one object: readers would differ about its value"
        )
    return found


def _within(value: Any, depth: int) -> None:
    """Refuse what is nested too deep, and halves of surrogate pairs, which are no characters."""
    level = [value]
    for _ in range(depth):
        below: list[Any] = []
        for each in level:
            if isinstance(each, dict):
                for key, inner in each.items():
                    _characters(key)
                    below.append(inner)
            elif isinstance(each, list):
                below += each
            elif isinstance(each, str):
                _characters(each)
        if not below:
            return
        level = below
    raise NestingTooDeepError(f"brackets are nested deeper than {depth}")


def _characters(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{format_value(text)} holds half of a surrogate pair, which is no character") from None


def _no_number(word: str) -> Any:
    raise ValueError(f"{word} is no number of JSON")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        # It could not be written down again: the archive would hold what is no JSON.
        raise ValueError(f"{format_value(text)} is larger than any number that is kept here")
    return number


_NUMBERS: Final[Mapping[str, Any]] = {"parse_constant": _no_number, "parse_float": _finite}
