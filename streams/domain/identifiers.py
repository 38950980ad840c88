"""Identifiers of parcels, receptacles and containers: their scheme, their validity and their canonical form.

Postal items (UPU S10), receptacles (UPU S9), air waybills and unit load devices (IATA), and the keys of GS1 as digits,
EPC URNs or Digital Links. No library that we use knows the postal and air identifiers; the libraries for GS1 keys
need a table of company prefixes for what takes 40 lines here (docs/decisions/capture.md).
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final
from urllib.parse import unquote

from streams.domain import gs1

# ISO 3166-1 alpha-2, the officially assigned codes.
_CODES: Final = (
    "AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS BT BV BW BY "
    "BZ CA CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH ER ES ET FI FJ FK "
    "FM FO FR GA GB GD GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM HN HR HT HU ID IE IL IM IN IO IQ IR "
    "IS IT JE JM JO JP KE KG KH KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK "
    "ML MM MN MO MP MQ MR MS MT MU MV MW MX MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM "
    "PN PR PS PT PW PY QA RE RO RS RU RW SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF "
    "TG TH TJ TK TL TM TN TO TR TT TV TW TZ UA UG UM US UY UZ VA VC VE VG VI VN VU WF WS YE YT ZA ZM ZW"
)
COUNTRIES: Final = frozenset(_CODES.split())

# Prefix of private URIs, for identifiers without a URI of GS1 (docs/reference/capture.md); the identifier follows.
PRIVATE_URN_PREFIX: Final = "urn:parcels:"
_MAX_LENGTH: Final = 1024


@dataclass(frozen=True, slots=True)
class Identifier:
    """The result of `identify`. `canonical` is None unless `valid`; `why` gives the mistake, or the parts."""

    value: str
    scheme: str
    valid: bool
    canonical: str | None
    why: str


@lru_cache(maxsize=1 << 14)
def identify(value: str) -> Identifier:
    """Identify `value`; spaces, hyphens and lower case, as people write them, are accepted.

    >>> identify("RB 123 456 785 GB").canonical
    'RB123456785GB'
    >>> identify("urn:epc:id:sscc:0614141.1234567890").canonical
    'https://id.gs1.org/00/106141412345678908'
    """
    if len(value) > _MAX_LENGTH:
        return _unknown(value, f"it is longer than {_MAX_LENGTH} characters")
    text = value.strip()
    private = re.fullmatch(r"urn:parcels:(s10|s9|awb|uld|sscc):([!-~]+)", text, re.IGNORECASE)
    if private is not None:
        inner = _plain(value, unquote(private[2]))
        return inner if inner.scheme == private[1].lower() else _unknown(value, f"it is no {private[1].lower()}")
    # RFC 8141 and RFC 3986: the prefix of a URN, and the scheme and host of a link, do not depend on case.
    if (urn := re.match(r"(?i)urn:epc:[a-z]{2,5}:[a-z]{2,8}:|urn:epc:", text)) is not None:
        return _urn(value, urn[0].lower() + text[urn.end() :])
    if (link := re.match(r"(?i)https?://[^/?#]*", text)) is not None:
        return _link(value, link[0].lower() + text[link.end() :])
    return _plain(value, text)


def _plain(value: str, text: str) -> Identifier:
    compact = re.sub(r"[\s\-./]", "", text).upper() if text.isascii() else ""
    for pattern, read in _SCHEMES:
        found = pattern.fullmatch(compact)
        if found is not None:
            return read(value, compact)
    return _unknown(value, "its form is that of no identifier known here")


def _s10(value: str, text: str) -> Identifier:
    digits, check, country = text[2:10], text[10], text[11:]
    remainder = (
        11 - sum(int(digit) * weight for digit, weight in zip(digits, (8, 6, 4, 2, 3, 5, 9, 7), strict=True)) % 11
    )
    expected = {10: "0", 11: "5"}.get(remainder, str(remainder))
    if check != expected:
        return _invalid(value, "s10", f"its check digit is {check} and must be {expected} (UPU S10)")
    if country not in COUNTRIES:
        return _invalid(value, "s10", f"{country} is not a country of ISO 3166-1 (UPU S10)")
    return _valid(value, "s10", text, f"UPU S10: service {text[:2]}, serial {digits}, origin {country}")


def _s9(value: str, text: str) -> Identifier:
    for name, office in (("origin", text[:6]), ("destination", text[6:12])):
        if office[:2] not in COUNTRIES:
            return _invalid(value, "s9", f"its {name} {office} begins with no country of ISO 3166-1 (UPU S9)")
    if text[12] not in "ABCD":
        return _invalid(value, "s9", f"its mail category is {text[12]} and must be A, B, C or D (UPU S9)")
    if text[23] not in "01" or text[24] not in "01":
        return _invalid(value, "s9", "its flags of the last receptacle and of registered items must be 0 or 1 (UPU S9)")
    weight = int(text[25:]) / 10
    why = f"UPU S9: {text[:6]} to {text[6:12]}, despatch {text[16:20]}, receptacle {text[20:23]}, {weight:g} kg"
    return _valid(value, "s9", text, why)


def _awb(value: str, text: str) -> Identifier:
    prefix, serial, check = text[:3], text[3:10], text[10]
    expected = str(int(serial) % 7)
    if check != expected:
        return _invalid(value, "awb", f"its check digit is {check} and must be {expected}: the serial modulo 7 (IATA)")
    return _valid(value, "awb", f"{prefix}-{serial}{check}", f"air waybill of airline {prefix}")


# First letter of a unit load device's type (IATA ULD regulations).
_ULD_TYPES: Final = frozenset("ABDFGHJKLMNPQRSUVWXYZ")


def _uld(value: str, text: str) -> Identifier:
    found = re.fullmatch(r"([A-Z]{3})(\d{4,5})([A-Z0-9]{2,3})", text)
    # A two-character airline code holds a letter; the serial takes as many digits as it can.
    if found is None or not re.search("[A-Z]", found[3]) or (len(found[3]) == 3 and not found[3].isalpha()):
        return _invalid(value, "uld", "its owner must be an airline code of two characters or three letters (IATA)")
    if text[0] not in _ULD_TYPES:
        return _invalid(value, "uld", f"no type of unit load device begins with {text[0]} (IATA)")
    return _valid(value, "uld", text, f"unit load device: type {found[1]}, serial {found[2]}, owner {found[3]}")


def _sscc(value: str, text: str) -> Identifier:
    digits = text[-18:]
    expected = gs1.check_digit(digits[:-1])
    if digits[-1] != expected:
        return _invalid(value, "sscc", f"its check digit is {digits[-1]} and must be {expected} (GS1)")
    return _valid(value, "sscc", f"{gs1.DIGITAL_LINK_ROOT}/00/{digits}", "GS1 serial shipping container code")


_SCHEMES: Final[tuple[tuple[re.Pattern[str], Callable[[str, str], Identifier]], ...]] = (
    (re.compile(r"[A-Z]{2}\d{9}[A-Z]{2}"), _s10),
    (re.compile(r"[A-Z]{6}[A-Z]{6}[A-Z][A-Z]{2}\d\d{4}\d{3}\d\d\d{4}"), _s9),
    (re.compile(r"[A-Z]{3}\d{4,5}[A-Z0-9]{2,3}"), _uld),
    (re.compile(r"\d{18}|00\d{18}|\(00\)\d{18}"), _sscc),
    (re.compile(r"\d{11}"), _awb),
)


def _urn(value: str, text: str) -> Identifier:
    parts = text.split(":")
    scheme = parts[3].lower() if len(parts) > 3 and re.fullmatch("[A-Za-z]{2,8}", parts[3]) else "unknown"
    problem = gs1.urn_problem(text)
    if problem is not None:
        return _invalid(value, scheme, problem)
    link = gs1.canonical_link(text)
    if link is None:
        return _unknown(value, "it is an EPC URN, of a scheme that is no key of GS1")
    return _valid(value, scheme, link, "EPC URN of a GS1 key")


def _link(value: str, text: str) -> Identifier:
    link = gs1.canonical_link(text)
    if link is None:
        return _unknown(value, "it is a link, but not a GS1 Digital Link")
    scheme = gs1.scheme_of_link(link)
    digits = link.removeprefix(gs1.DIGITAL_LINK_ROOT + "/").split("/")[1]
    checked = {"00": 18, "01": 14, "253": 13, "255": 13, "402": 17, "414": 13, "417": 13, "8003": 14, "8017": 18}
    size = (checked | {"8018": 18, "8006": 14}).get(link.removeprefix(gs1.DIGITAL_LINK_ROOT + "/").split("/")[0])
    if size is not None and gs1.check_digit(digits[: size - 1]) != digits[size - 1]:
        expected = gs1.check_digit(digits[: size - 1])
        return _invalid(value, scheme, f"its check digit is {digits[size - 1]} and must be {expected} (GS1)")
    return _valid(value, scheme, link, "GS1 Digital Link")


def _valid(value: str, scheme: str, canonical: str, why: str) -> Identifier:
    return Identifier(value, scheme, True, canonical, why)


def _invalid(value: str, scheme: str, why: str) -> Identifier:
    return Identifier(value, scheme, False, None, why)


def _unknown(value: str, why: str) -> Identifier:
    return Identifier(value, "unknown", False, None, why)
