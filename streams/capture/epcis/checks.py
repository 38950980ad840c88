"""Checks of single values, each with the name of the rule that it stands for."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from streams.capture.epcis.vocabulary import Vocabulary
from streams.domain import gs1
from streams.domain.identifiers import identify

# RFC 3986, with its scheme; brackets only around an IP address. Private prefixes (CURIEs) have the same form.
_URI: Final = re.compile(
    r"[A-Za-z][A-Za-z0-9+.-]*:(?://(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~!$&'()*+,;=:@%-]*)(?::\d*)?(?=[/?#]|$))?"
    r"(?:[A-Za-z0-9._~:/?@!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*(?:#(?:[A-Za-z0-9._~:/?@!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*)?"
)
_TIME: Final = re.compile(r"(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d):(\d\d)(?:\.(\d{1,32}))?(?:[Zz]|([+-])(\d\d):(\d\d))")
_OFFSET: Final = re.compile(r"[+-](?:(?:0\d|1[0-3]):[0-5]\d|14:00)")
_UOM: Final = re.compile(r"[A-Z0-9]{2,3}")
_HEX: Final = re.compile(r"[0-9A-Fa-f]+")
# Identifiers with check digits: our own URNs, and links of GS1. In links of others a number may be anything.
_IDENTIFIER: Final = re.compile(r"(?i)urn:parcels:(?:s10|s9|uld|sscc|awb):|https?://id\.gs1\.[a-z]+/")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class RuleViolation:
    """What is wrong: where, by which rule, and what would be right."""

    path: str
    rule: str
    message: str


class Checker:
    """Collects problems; every method checks one value of a document at a path."""

    def __init__(self) -> None:
        self.problems: list[RuleViolation] = []

    def bad(self, path: str, rule: str, message: str) -> None:
        """Note a problem."""
        if len(self.problems) < 100:
            self.problems.append(RuleViolation(path, rule, message))

    def mapping(self, path: str, value: Any) -> bool:
        """Is it an object?"""
        if isinstance(value, Mapping):
            return True
        self.bad(path, "type", f"must be an object, not {_kind(value)}")
        return False

    def text(self, path: str, value: Any) -> bool:
        """Is it a string?"""
        if isinstance(value, str):
            return True
        self.bad(path, "type", f"must be a string, not {_kind(value)}")
        return False

    def uri(self, path: str, value: Any) -> bool:
        """Is it a URI (RFC 3986, with a scheme)?"""
        if not self.text(path, value):
            return False
        if len(value) > gs1.MAX_URI_LENGTH:
            self.bad(path, "uri", f"has {len(value):,} characters; a URI has at most {gs1.MAX_URI_LENGTH:,}")
            return False
        if is_uri(value):
            return True
        self.bad(path, "uri", f"{format_value(value)} is not a URI: it needs a scheme and the characters of RFC 3986")
        return False

    def epc(self, path: str, value: Any) -> bool:
        """Is it a URI, and where it says to be an EPC of GS1 or an identifier of ours, is it one?"""
        if not self.uri(path, value):
            return False
        rule, problem = "epc-urn", gs1.urn_problem(gs1.normalize_urn_prefix(value))
        if problem is None and _IDENTIFIER.match(value) is not None:
            found = identify(value)
            sure = found.scheme != "unknown" or value[:4].lower() == "urn:"
            rule, problem = "identifier", found.why if sure and not found.valid else None
        if problem is not None:
            self.bad(path, rule, f"{format_value(value)}: {problem}")
        return problem is None

    def instance(self, path: str, value: Any, *, batches: bool = False) -> None:
        """Is it a URI that may name one object, or also a lot?"""
        if self.epc(path, value) and (problem := gs1.instance_problem(value, allow_lots=batches)) is not None:
            self.bad(path, "instance-level", f"{format_value(value)}: {problem}")

    def class_epc(self, path: str, value: Any) -> None:
        """Is it a URI that may name a class of objects?"""
        if self.epc(path, value) and (problem := gs1.class_problem(value)) is not None:
            self.bad(path, "class-level", f"{format_value(value)}: {problem}")

    def word(self, path: str, value: Any, vocabulary: Vocabulary) -> None:
        """Is it a word of a closed list, or somebody's URI?"""
        if not self.text(path, value) or value in vocabulary.words:
            return
        if not is_uri(value):
            some = ", ".join(sorted(vocabulary.words)) if len(vocabulary.words) < 15 else "see CBV 2.0"
            self.bad(
                path,
                "closed-word",
                f"{format_value(value)} is no {vocabulary.name} of CBV 2.0 ({some}), and words of others are URIs",
            )
            return
        problem = vocabulary.problem(value)
        if problem is not None:
            self.bad(path, "closed-word", f"{format_value(value)}: {problem}")

    def time(self, path: str, value: Any) -> None:
        """Is it a date-time with an offset (RFC 3339)?"""
        if self.text(path, value) and parse_epoch_ms(value) is None:
            self.bad(
                path,
                "date-time",
                f"{format_value(value)} must be a date-time with its offset, like 2026-03-01T04:00:00+01:00",
            )

    def offset(self, path: str, value: Any) -> None:
        """Is it an offset from UTC, at most 14 hours?"""
        if self.text(path, value) and _OFFSET.fullmatch(value) is None:
            self.bad(path, "time-zone-offset", f"{format_value(value)} must be ±hh:mm, at most 14:00")

    def number(self, path: str, value: Any) -> None:
        """Is it a number?"""
        if isinstance(value, bool) or not isinstance(value, int | float):
            self.bad(path, "type", f"must be a number, not {_kind(value)}")

    def boolean(self, path: str, value: Any) -> None:
        """Is it true or false?"""
        if not isinstance(value, bool):
            self.bad(path, "type", f"must be true or false, not {_kind(value)}")

    def uom(self, path: str, value: Any) -> None:
        """Is it a unit code of UN/ECE recommendation 20?"""
        if self.text(path, value) and _UOM.fullmatch(value) is None:
            self.bad(
                path, "unit", f"{format_value(value)} must be a unit of UN/ECE Rec. 20: two or three of A-Z and 0-9"
            )

    def hexadecimal(self, path: str, value: Any) -> None:
        """Is it hexadecimal?"""
        if self.text(path, value) and _HEX.fullmatch(value) is None:
            self.bad(path, "hex", f"{format_value(value)} must be hexadecimal digits")

    def array(self, path: str, value: Any, check: Callable[[str, Any], Any], *, least: int = 0) -> bool:
        """Is it a list of at least `least`, and each of its values right?"""
        if not isinstance(value, list):
            self.bad(path, "type", f"must be an array, not {_kind(value)}")
            return False
        if len(value) < least:
            self.bad(path, "min-items", f"must have at least {least} item")
        for index, each in enumerate(value):
            check(f"{path}[{index}]", each)
        return True

    def unique(self, path: str, value: Any) -> None:
        """Are the texts of a list distinct?"""
        if isinstance(value, list):
            texts = [each for each in value if isinstance(each, str)]
            if len(set(texts)) < len(texts):
                self.bad(path, "unique-items", "names something twice")

    def keys(self, path: str, value: Mapping[str, Any], known: Iterable[str], *, extensible: bool = True) -> None:
        """Are keys that the standard does not know URIs (extensions), where extensions are allowed at all?"""
        for key in value.keys() - set(known):
            where = f"{path}.{key}" if path else key
            if not extensible:
                self.bad(
                    where, "unknown-field", f"{format_value(key)} is not allowed here; it takes {', '.join(known)}"
                )
            elif not is_uri(key):
                self.bad(
                    where,
                    "extension-key",
                    f"{format_value(key)} is no field of EPCIS here, and an extension is named by a URI",
                )

    def required(self, path: str, value: Mapping[str, Any], names: Iterable[str]) -> None:
        """Are these fields there?"""
        for name in names:
            if name not in value:
                self.bad(f"{path}.{name}" if path else name, "required-field", f"{name} is missing")


def is_uri(text: str) -> bool:
    """A URI with a scheme, as RFC 3986 writes it, of a length that one has."""
    return len(text) <= gs1.MAX_URI_LENGTH and _URI.fullmatch(text) is not None


def parse_epoch_ms(text: str) -> int | None:
    """Ms since 1970 of a date-time with its offset, rounded half up; None where it is none."""
    found = _TIME.fullmatch(text)
    if found is None:
        return None
    year, month, day, hour, minute, second, fraction, sign, hours, minutes = found.groups()
    try:
        # RFC 3339 knows leap seconds; they count as the second after.
        moment = datetime(int(year), int(month), int(day), int(hour), int(minute), min(int(second), 59), tzinfo=UTC)
    except ValueError:
        return None
    if int(second) > 60 or (int(second) == 60 and minute != "59") or int(hours or 0) > 23 or int(minutes or 0) > 59:
        return None
    away = timedelta(hours=int(hours or 0), minutes=int(minutes or 0)) * (-1 if sign == "-" else 1)
    whole = (moment - _EPOCH - away) // timedelta(milliseconds=1) + (1000 if second == "60" else 0)
    padded = ((fraction or "") + "0000")[:4]
    return whole + int(padded[:3]) + (padded[3] >= "5")


def parse_offset_minutes(text: str) -> int:
    """Minutes of an eventTimeZoneOffset."""
    minutes = int(text[1:3]) * 60 + int(text[4:6])
    return -minutes if text[0] == "-" else minutes


def format_value(value: Any) -> str:
    """A value as it may stand in a message: short, without control characters."""
    text = repr(value) if isinstance(value, str) else ascii(value)
    return text if len(text) <= 80 else f"{text[:76]}…{text[-1]}"


def _kind(value: Any) -> str:
    kinds = {type(None): "null", bool: "true or false", str: "a string", list: "an array", dict: "an object"}
    return kinds.get(type(value), "a number")
