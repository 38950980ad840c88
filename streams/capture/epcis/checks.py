"""Checks of single values in EPCIS documents. A violation names its rule."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from streams.capture.epcis.vocabulary import Vocabulary
from streams.domain import gs1
from streams.domain.identifiers import identify

# A URI of RFC 3986 with a scheme; brackets only around an IP address. Words with a prefix (CURIEs) also match.
_URI: Final = re.compile(
    r"[A-Za-z][A-Za-z0-9+.-]*:(?://(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~!$&'()*+,;=:@%-]*)(?::\d*)?(?=[/?#]|$))?"
    r"(?:[A-Za-z0-9._~:/?@!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*(?:#(?:[A-Za-z0-9._~:/?@!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*)?"
)
_DATE_TIME: Final = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d):(\d\d)(?:\.(\d{1,32}))?(?:[Zz]|([+-])(\d\d):(\d\d))"
)
_ZONE_OFFSET: Final = re.compile(r"[+-](?:(?:0\d|1[0-3]):[0-5]\d|14:00)")
_UNIT_CODE: Final = re.compile(r"[A-Z0-9]{2,3}")
_HEX: Final = re.compile(r"[0-9A-Fa-f]+")
# Identifiers with check digits: our own URNs, and GS1 Digital Links at GS1. Links at other hosts are not checked.
_IDENTIFIER: Final = re.compile(r"(?i)urn:parcels:(?:s10|s9|uld|sscc|awb):|https?://id\.gs1\.[a-z]+/")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class RuleViolation:
    """A broken rule: the path of the value, the rule, and a message that says what would be right."""

    path: str
    rule: str
    message: str


class Checker:
    """Collects violations. Each method checks one value at a path of the document."""

    def __init__(self) -> None:
        self.violations: list[RuleViolation] = []

    def add_violation(self, path: str, rule: str, message: str) -> None:
        """Add a violation; beyond 100 they are dropped."""
        if len(self.violations) < 100:
            self.violations.append(RuleViolation(path, rule, message))

    def mapping(self, path: str, value: Any) -> bool:
        """Is it an object?"""
        if isinstance(value, Mapping):
            return True
        self.add_violation(path, "type", f"must be an object, not {_json_type(value)}")
        return False

    def text(self, path: str, value: Any) -> bool:
        """Is it a string?"""
        if isinstance(value, str):
            return True
        self.add_violation(path, "type", f"must be a string, not {_json_type(value)}")
        return False

    def uri(self, path: str, value: Any) -> bool:
        """Is it a URI (RFC 3986, with a scheme)?"""
        if not self.text(path, value):
            return False
        if len(value) > gs1.MAX_URI_LENGTH:
            self.add_violation(path, "uri", f"has {len(value):,} characters; a URI has at most {gs1.MAX_URI_LENGTH:,}")
            return False
        if is_uri(value):
            return True
        self.add_violation(
            path, "uri", f"{format_value(value)} is not a URI: it needs a scheme, and characters of RFC 3986 only"
        )
        return False

    def epc(self, path: str, value: Any) -> bool:
        """Is it a URI, and valid if it has the form of a GS1 EPC or of an identifier of ours?"""
        if not self.uri(path, value):
            return False
        rule, problem = "epc-urn", gs1.urn_problem(gs1.normalize_urn_prefix(value))
        if problem is None and _IDENTIFIER.match(value) is not None:
            identifier = identify(value)
            is_checkable = identifier.scheme != "unknown" or value[:4].lower() == "urn:"
            rule, problem = "identifier", identifier.why if is_checkable and not identifier.valid else None
        if problem is not None:
            self.add_violation(path, rule, f"{format_value(value)}: {problem}")
        return problem is None

    def instance_epc(self, path: str, value: Any, *, allow_lots: bool = False) -> None:
        """Is it a URI that can name a single object, or with `allow_lots` also a lot?"""
        if self.epc(path, value) and (problem := gs1.instance_problem(value, allow_lots=allow_lots)) is not None:
            self.add_violation(path, "instance-level", f"{format_value(value)}: {problem}")

    def class_epc(self, path: str, value: Any) -> None:
        """Is it a URI that can name a class of objects?"""
        if self.epc(path, value) and (problem := gs1.class_problem(value)) is not None:
            self.add_violation(path, "class-level", f"{format_value(value)}: {problem}")

    def vocabulary_word(self, path: str, value: Any, vocabulary: Vocabulary) -> None:
        """Is it a word of the vocabulary, or a user-defined URI?"""
        if not self.text(path, value) or value in vocabulary.words:
            return
        if not is_uri(value):
            words = ", ".join(sorted(vocabulary.words)) if len(vocabulary.words) < 15 else "see CBV 2.0"
            self.add_violation(
                path,
                "enum",
                f"{format_value(value)} is not a {vocabulary.name} of CBV 2.0 ({words}); "
                "user-defined words must be URIs",
            )
            return
        problem = vocabulary.problem(value)
        if problem is not None:
            self.add_violation(path, "enum", f"{format_value(value)}: {problem}")

    def date_time(self, path: str, value: Any) -> None:
        """Is it a date-time with a UTC offset (RFC 3339)?"""
        if self.text(path, value) and parse_epoch_ms(value) is None:
            self.add_violation(
                path,
                "date-time",
                f"{format_value(value)} is not a date-time with a UTC offset: write it like 2026-03-01T04:00:00+01:00",
            )

    def time_zone_offset(self, path: str, value: Any) -> None:
        """Is it a UTC offset of at most 14 hours?"""
        if self.text(path, value) and _ZONE_OFFSET.fullmatch(value) is None:
            self.add_violation(
                path,
                "time-zone-offset",
                f"{format_value(value)} is not a UTC offset: write it like +01:00, at most ±14:00",
            )

    def number(self, path: str, value: Any) -> None:
        """Is it a number?"""
        if isinstance(value, bool) or not isinstance(value, int | float):
            self.add_violation(path, "type", f"must be a number, not {_json_type(value)}")

    def boolean(self, path: str, value: Any) -> None:
        """Is it true or false?"""
        if not isinstance(value, bool):
            self.add_violation(path, "type", f"must be true or false, not {_json_type(value)}")

    def uom(self, path: str, value: Any) -> None:
        """Has it the form of a unit code of UN/ECE recommendation 20?"""
        if self.text(path, value) and _UNIT_CODE.fullmatch(value) is None:
            self.add_violation(
                path, "unit", f"{format_value(value)} is not a unit code of UN/ECE Rec. 20: two or three of A-Z and 0-9"
            )

    def hexadecimal(self, path: str, value: Any) -> None:
        """Does it consist of hexadecimal digits?"""
        if self.text(path, value) and _HEX.fullmatch(value) is None:
            self.add_violation(path, "hex", f"{format_value(value)} must consist of hexadecimal digits")

    def array(self, path: str, value: Any, check: Callable[[str, Any], Any], *, min_items: int = 0) -> bool:
        """Is it a list of at least `min_items` values? Each value is checked by `check`."""
        if not isinstance(value, list):
            self.add_violation(path, "type", f"must be an array, not {_json_type(value)}")
            return False
        if len(value) < min_items:
            self.add_violation(path, "min-items", f"must have at least {min_items} item")
        for index, item in enumerate(value):
            check(f"{path}[{index}]", item)
        return True

    def unique_items(self, path: str, value: Any) -> None:
        """Are the strings of a list distinct?"""
        if isinstance(value, list):
            texts = [item for item in value if isinstance(item, str)]
            if len(set(texts)) < len(texts):
                self.add_violation(path, "unique-items", "has the same value twice")

    def known_fields(
        self, path: str, value: Mapping[str, Any], known: Iterable[str], *, allow_extensions: bool = True
    ) -> None:
        """Is every field one of `known`, or an extension (its key is a URI) where extensions are allowed?"""
        for key in value.keys() - set(known):
            key_path = f"{path}.{key}" if path else key
            if not allow_extensions:
                self.add_violation(
                    key_path,
                    "unknown-field",
                    f"{format_value(key)} is not allowed here; the allowed fields are {', '.join(known)}",
                )
            elif not is_uri(key):
                self.add_violation(
                    key_path,
                    "extension-key",
                    f"{format_value(key)} is not a field of EPCIS 2.0 here; the key of an extension must be a URI",
                )

    def required_fields(self, path: str, value: Mapping[str, Any], names: Iterable[str]) -> None:
        """Are all of these fields present?"""
        for name in names:
            if name not in value:
                self.add_violation(f"{path}.{name}" if path else name, "required-field", f"{name} is missing")


def is_uri(text: str) -> bool:
    """Is it a URI of RFC 3986 with a scheme, within the limit of length?"""
    return len(text) <= gs1.MAX_URI_LENGTH and _URI.fullmatch(text) is not None


def parse_epoch_ms(text: str) -> int | None:
    """Ms since 1970 of a date-time with a UTC offset, rounded half up; None if the text is not one."""
    match = _DATE_TIME.fullmatch(text)
    if match is None:
        return None
    year, month, day, hour, minute, second, fraction, sign, hours, minutes = match.groups()
    try:
        # A leap second (RFC 3339) counts as the second after it.
        local_time = datetime(int(year), int(month), int(day), int(hour), int(minute), min(int(second), 59), tzinfo=UTC)
    except ValueError:
        return None
    if int(second) > 60 or (int(second) == 60 and minute != "59") or int(hours or 0) > 23 or int(minutes or 0) > 59:
        return None
    utc_offset = timedelta(hours=int(hours or 0), minutes=int(minutes or 0)) * (-1 if sign == "-" else 1)
    whole_ms = (local_time - _EPOCH - utc_offset) // timedelta(milliseconds=1) + (1000 if second == "60" else 0)
    decimals = ((fraction or "") + "0000")[:4]
    return whole_ms + int(decimals[:3]) + (decimals[3] >= "5")


def parse_offset_minutes(text: str) -> int:
    """The minutes of an eventTimeZoneOffset."""
    minutes = int(text[1:3]) * 60 + int(text[4:6])
    return -minutes if text[0] == "-" else minutes


def format_value(value: Any) -> str:
    """A value for a message: shortened, and without control characters."""
    text = repr(value) if isinstance(value, str) else ascii(value)
    return text if len(text) <= 80 else f"{text[:76]}…{text[-1]}"


def _json_type(value: Any) -> str:
    names = {type(None): "null", bool: "true or false", str: "a string", list: "an array", dict: "an object"}
    return names.get(type(value), "a number")
