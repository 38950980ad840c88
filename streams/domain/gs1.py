"""GS1 keys: check digits, EPC URNs and GS1 Digital Links, and the canonical form that all URIs of one object share.

Sources: GS1 General Specifications (check digits, application identifiers), EPC Tag Data Standard 1.13 (URNs), GS1
Digital Link URI Syntax 1.2, and rules 17 and 18 of the event hash in CBV 2.0 (the constrained canonical link: domain
id.gs1.org, no query, only the finest level of identification).
"""

import re
from collections.abc import Callable
from typing import Final
from urllib.parse import unquote, urlsplit

DIGITAL_LINK_ROOT: Final = "https://id.gs1.org"
# No URI of a key is longer. Without a bound, the search for a key takes a time that grows with the square of the size.
MAX_URI_LENGTH: Final = 2048

# Characters of a serial in a URN (TDS, table A-1), percent-encoded where a URI needs it.
_SERIAL: Final = (
    r"(?:%2[1256789A-Fa-f]|%3[0-9A-Fa-f]|%4[1-9A-Fa-f]|%5[0-9AaFf]|%6[1-9A-Fa-f]|%7[0-9Aa]|[!')(*+,.0-9:;=A-Za-z_-])"
)
# Characters of a component part identifier.
_PART: Final = r"(?:%2[3dfDF]|%3[0-9]|%4[1-9A-Fa-f]|%5[0-9Aa]|[0-9A-Z-])"
_PREFIX: Final = r"(\d{6,12})"
# RFC 8141: upper and lower case are equivalent here.
_URN_PREFIX: Final = re.compile(r"(?i)urn:epc:[a-z]+:[^:]*(?::|$)")
# Schemes of pure identities that are not keys of GS1; only the scheme is checked.
_OTHER_SCHEMES: Final = frozenset({"usdod", "adi", "bic", "imovn"})

# Short name in older Digital Links -> application identifier (AI).
_SHORT_NAMES: Final = {
    "sscc": "00",
    "gtin": "01",
    "gdti": "253",
    "gcn": "255",
    "ginc": "401",
    "gsin": "402",
    "gln": "414",
    "party": "417",
    "grai": "8003",
    "giai": "8004",
    "itip": "8006",
    "cpid": "8010",
    "gsrnp": "8017",
    "gsrn": "8018",
    "cpv": "22",
    "lot": "10",
    "ser": "21",
}
# Characters of a serial in a link. Some resolvers percent-encode characters that need not be (`_PLAIN`).
_LINK_TEXT: Final = r"(?:[\"!'()*+,\-./0-9:;<=>?A-Z_a-z]|%[0-9A-Fa-f]{2})"
# Encoded characters that the path of a URI may hold unencoded, as the published hashes do. A link may have either form;
# it names the same object.
_PLAIN: Final = re.compile("%(?:2[189ABCabc]|3[Aa])")
# Key AI -> the form of its value in a canonical link.
_KEYS: Final = {
    "00": r"\d{18}",
    "01": r"\d{14}|\d{13}|\d{12}|\d{8}",
    "253": rf"\d{{13}}{_LINK_TEXT}{{0,17}}",
    "255": r"\d{13}\d{0,12}",
    "401": rf"{_LINK_TEXT}{{1,30}}",
    "402": r"\d{17}",
    "414": r"\d{13}",
    "417": r"\d{13}",
    "8003": rf"\d{{14}}{_LINK_TEXT}{{0,16}}",
    "8004": rf"{_LINK_TEXT}{{1,30}}",
    "8006": r"\d{18}",
    "8010": r"(?:[\-0-9A-Z]|%2[3DFdf]){1,30}",
    "8017": r"\d{18}",
    "8018": r"\d{18}",
}
# Key AI -> qualifiers that a canonical link may keep, the finest first; it keeps only one.
_QUALIFIERS: Final = {"01": ("21", "235", "10"), "8006": ("21", "10"), "414": ("254",), "8010": ("8011",)}
# Qualifiers that are read and dropped: the consumer product variant distinguishes variants of a GTIN, not objects.
_DROPPED_QUALIFIERS: Final = {"01": ("22",), "8006": ("22",)}
_QUALIFIER_TEXT: Final = {"235": rf"{_LINK_TEXT}{{1,28}}", "8011": r"\d{1,12}"}
_SCHEMES_BY_KEY: Final = {
    "00": "sscc",
    "01": "gtin",
    "253": "gdti",
    "255": "gcn",
    "401": "ginc",
    "402": "gsin",
    "414": "gln",
    "417": "pgln",
    "8003": "grai",
    "8004": "giai",
    "8006": "itip",
    "8010": "cpi",
    "8017": "gsrnp",
    "8018": "gsrn",
}


def check_digit(digits: str) -> str:
    """The check digit that follows `digits`: weights 3 and 1 alternate, with 3 at the right end.

    >>> check_digit("10614141234567890")
    '8'
    """
    total = sum(int(digit) * (3 if index % 2 == 0 else 1) for index, digit in enumerate(reversed(digits)))
    return str(-total % 10)


def with_check_digit(digits: str) -> str:
    """`digits`, followed by their check digit."""
    return digits + check_digit(digits)


def scheme_of_link(link: str) -> str:
    """The scheme of a canonical link: sscc, gtin, sgtin (with a serial), gln and so on."""
    parts = link.removeprefix(DIGITAL_LINK_ROOT + "/").split("/")
    scheme = _SCHEMES_BY_KEY[parts[0]]
    return {("gtin", "21"): "sgtin", ("gtin", "10"): "lgtin", ("gtin", "235"): "upui", ("gln", "254"): "sgln"}.get(
        (scheme, parts[2] if len(parts) > 2 else ""), scheme
    )


def canonical_link(uri: str) -> str | None:
    """The constrained canonical Digital Link of an EPC URN or of any Digital Link; None for other URIs.

    >>> canonical_link("urn:epc:id:sscc:0614141.1234567890")
    'https://id.gs1.org/00/106141412345678908'
    >>> canonical_link("https://example.com/x/sscc/106141412345678908?linkType=all")
    'https://id.gs1.org/00/106141412345678908'
    """
    if len(uri) > MAX_URI_LENGTH:
        return None
    if uri.startswith("urn:epc:"):
        return _from_urn(uri)
    return _from_link(uri) if uri.startswith(("https://", "http://")) else None


def urn_problem(uri: str) -> str | None:
    """Why an EPC URN of a GS1 key is malformed; None if it is well-formed or of another scheme."""
    if not uri.startswith(("urn:epc:id:", "urn:epc:class:", "urn:epc:idpat:")):
        return None
    kind, scheme = uri.split(":")[2:4]
    pattern = _URNS.get((kind, scheme))
    if pattern is None or _from_urn(uri) is not None:
        return None
    return f"it is no EPC URN of scheme {scheme} (EPC Tag Data Standard): {pattern.format_hint}"


def normalize_urn_prefix(uri: str) -> str:
    """An EPC URN with its prefix in lower case, which is equivalent (RFC 8141); other URIs unchanged."""
    prefix = _URN_PREFIX.match(uri)
    return uri if prefix is None else prefix[0].lower() + uri[prefix.end() :]


def instance_problem(uri: str, *, allow_lots: bool = False) -> str | None:
    """Why a URI cannot name a single object; None if it can, or if that cannot be known.

    An EPC URN that names an object is a pure identity (EPCIS 2.0, 7.3.3.1); `allow_lots`: a lot is accepted as well.
    """
    prefix = _URN_PREFIX.match(uri)
    if prefix is None:
        return None
    kind, scheme = normalize_urn_prefix(uri).split(":")[2:4]
    if allow_lots and (kind, scheme) == ("class", "lgtin"):
        return None
    if kind != "id":
        return f"urn:epc:{kind} does not name a single object; use urn:epc:id, a Digital Link or a URI of your own"
    if scheme == "gid":
        is_valid = re.fullmatch(r"\d{1,9}\.\d{1,8}\.\d{1,11}", uri[prefix.end() :]) is not None
        return (
            None
            if is_valid
            else "it is no EPC URN of scheme gid (EPC Tag Data Standard): MANAGER.CLASS.SERIAL, numbers"
        )
    if (kind, scheme) in _URNS or scheme in _OTHER_SCHEMES:
        return None
    return f"the EPC Tag Data Standard has no scheme {scheme}"


def class_problem(uri: str) -> str | None:
    """Why a URI cannot name a class of objects; None if it can, or if that cannot be known."""
    prefix = _URN_PREFIX.match(uri)
    kind = "" if prefix is None else normalize_urn_prefix(uri).split(":")[2]
    link = canonical_link(uri) if prefix is None else None
    if kind in ("id", "tag", "raw") or (link is not None and scheme_of_link(link) in ("sgtin", "sscc")):
        return "it names one object, not a class; use urn:epc:class, urn:epc:idpat, a Digital Link or a URI of your own"
    if kind in ("class", "idpat") and (kind, scheme := normalize_urn_prefix(uri).split(":")[3]) not in _URNS:
        return f"the EPC Tag Data Standard has no scheme {scheme} of urn:epc:{kind}"
    return None


class _UrnScheme:
    """One URN scheme: its grammar, and the equivalent link."""

    def __init__(self, grammar: str, total: int | None, link: Callable[..., str], format_hint: str) -> None:
        """total: digits of company prefix and reference together; None if the reference is not a number."""
        self._grammar, self._total, self._link = re.compile(grammar), total, link
        self.format_hint = format_hint

    def link(self, rest: str) -> str | None:
        found = self._grammar.fullmatch(rest)
        if found is None or (self._total is not None and len(found[1]) + len(found[2]) != self._total):
            return None
        return f"{DIGITAL_LINK_ROOT}/{_plain(self._link(*found.groups()))}"


def _plain(text: str) -> str:
    return _PLAIN.sub(lambda found: unquote(found[0]), text)


def _gtin(prefix: str, item: str) -> str:
    return with_check_digit(item[0] + prefix + item[1:])


def _sgln(prefix: str, location: str, extension: str) -> str:
    link = f"414/{with_check_digit(prefix + location)}"
    return link if extension == "0" else f"{link}/254/{extension}"


_ITEM: Final = rf"{_PREFIX}\.(\d{{1,7}})"
_REFERENCE: Final = rf"{_PREFIX}\.(\d{{0,6}})"
_NUMBER: Final = rf"{_PREFIX}\.(\d{{4,11}})"

_URNS: Final[dict[tuple[str, str], _UrnScheme]] = {
    ("id", "sgtin"): _UrnScheme(
        rf"{_ITEM}\.({_SERIAL}{{1,20}})",
        13,
        lambda prefix, item, serial: f"01/{_gtin(prefix, item)}/21/{serial}",
        "PREFIX.ITEM.SERIAL, 13 digits before the serial",
    ),
    ("id", "sscc"): _UrnScheme(
        _NUMBER,
        17,
        lambda prefix, serial: f"00/{with_check_digit(serial[0] + prefix + serial[1:])}",
        "PREFIX.SERIAL, 17 digits",
    ),
    ("id", "sgln"): _UrnScheme(
        rf"{_REFERENCE}\.({_SERIAL}{{1,20}})", 12, _sgln, "PREFIX.LOCATION.EXTENSION, 12 digits before the extension"
    ),
    ("id", "grai"): _UrnScheme(
        rf"{_REFERENCE}\.({_SERIAL}{{1,16}})",
        12,
        lambda prefix, kind, serial: f"8003/0{with_check_digit(prefix + kind)}{serial}",
        "PREFIX.TYPE.SERIAL, 12 digits before the serial",
    ),
    ("id", "giai"): _UrnScheme(
        rf"{_PREFIX}\.({_SERIAL}{{1,24}})",
        None,
        lambda prefix, asset: f"8004/{prefix}{asset}",
        "PREFIX.ASSET, at most 30 characters",
    ),
    ("id", "gsrn"): _UrnScheme(
        _NUMBER, 17, lambda prefix, service: f"8018/{with_check_digit(prefix + service)}", "PREFIX.SERVICE, 17 digits"
    ),
    ("id", "gsrnp"): _UrnScheme(
        _NUMBER, 17, lambda prefix, service: f"8017/{with_check_digit(prefix + service)}", "PREFIX.SERVICE, 17 digits"
    ),
    ("id", "gdti"): _UrnScheme(
        rf"{_REFERENCE}\.({_SERIAL}{{1,20}})",
        12,
        lambda prefix, kind, serial: f"253/{with_check_digit(prefix + kind)}{serial}",
        "PREFIX.TYPE.SERIAL, 12 digits before the serial",
    ),
    ("id", "cpi"): _UrnScheme(
        rf"{_PREFIX}\.({_PART}{{1,24}})\.(\d{{1,12}})",
        None,
        lambda prefix, part, serial: f"8010/{prefix}{part}/8011/{serial}",
        "PREFIX.PART.SERIAL",
    ),
    ("id", "sgcn"): _UrnScheme(
        rf"{_REFERENCE}\.(\d{{1,12}})",
        12,
        lambda prefix, coupon, serial: f"255/{with_check_digit(prefix + coupon)}{serial}",
        "PREFIX.COUPON.SERIAL, 12 digits before the serial",
    ),
    ("id", "ginc"): _UrnScheme(
        rf"{_PREFIX}\.({_SERIAL}{{1,24}})",
        None,
        lambda prefix, consignment: f"401/{prefix}{consignment}",
        "PREFIX.CONSIGNMENT, at most 30 characters",
    ),
    ("id", "gsin"): _UrnScheme(
        _NUMBER, 16, lambda prefix, shipment: f"402/{with_check_digit(prefix + shipment)}", "PREFIX.SHIPMENT, 16 digits"
    ),
    ("id", "itip"): _UrnScheme(
        rf"{_ITEM}\.(\d{{2}})\.(\d{{2}})\.({_SERIAL}{{1,20}})",
        13,
        lambda prefix, item, piece, total, serial: f"8006/{_gtin(prefix, item)}{piece}{total}/21/{serial}",
        "PREFIX.ITEM.PIECE.TOTAL.SERIAL",
    ),
    ("id", "upui"): _UrnScheme(
        rf"{_ITEM}\.({_SERIAL}{{1,28}})",
        13,
        lambda prefix, item, serial: f"01/{_gtin(prefix, item)}/235/{serial}",
        "PREFIX.ITEM.SERIAL, 13 digits before the serial",
    ),
    ("id", "pgln"): _UrnScheme(
        _REFERENCE, 12, lambda prefix, party: f"417/{with_check_digit(prefix + party)}", "PREFIX.PARTY, 12 digits"
    ),
    ("class", "lgtin"): _UrnScheme(
        rf"{_ITEM}\.({_SERIAL}{{1,20}})",
        13,
        lambda prefix, item, lot: f"01/{_gtin(prefix, item)}/10/{lot}",
        "PREFIX.ITEM.LOT, 13 digits before the lot",
    ),
    ("idpat", "sgtin"): _UrnScheme(
        rf"{_ITEM}\.\*", 13, lambda prefix, item: f"01/{_gtin(prefix, item)}", "PREFIX.ITEM.*, 13 digits"
    ),
    ("idpat", "upui"): _UrnScheme(
        rf"{_ITEM}\.\*", 13, lambda prefix, item: f"01/{_gtin(prefix, item)}", "PREFIX.ITEM.*, 13 digits"
    ),
    ("idpat", "grai"): _UrnScheme(
        rf"{_REFERENCE}\.\*",
        12,
        lambda prefix, kind: f"8003/0{with_check_digit(prefix + kind)}",
        "PREFIX.TYPE.*, 12 digits",
    ),
    ("idpat", "gdti"): _UrnScheme(
        rf"{_REFERENCE}\.\*",
        12,
        lambda prefix, kind: f"253/{with_check_digit(prefix + kind)}",
        "PREFIX.TYPE.*, 12 digits",
    ),
    ("idpat", "sgcn"): _UrnScheme(
        rf"{_REFERENCE}\.\*",
        12,
        lambda prefix, coupon: f"255/{with_check_digit(prefix + coupon)}",
        "PREFIX.COUPON.*, 12 digits",
    ),
    ("idpat", "cpi"): _UrnScheme(
        rf"{_PREFIX}\.({_PART}{{1,24}})\.\*",
        None,
        lambda prefix, part: f"8010/{prefix}{part}",
        "PREFIX.PART.*",
    ),
    ("idpat", "itip"): _UrnScheme(
        rf"{_ITEM}\.(\d{{2}})\.(\d{{2}})\.\*",
        13,
        lambda prefix, item, piece, total: f"8006/{_gtin(prefix, item)}{piece}{total}",
        "PREFIX.ITEM.PIECE.TOTAL.*",
    ),
}


def _from_urn(uri: str) -> str | None:
    parts = uri.split(":", 4)
    if len(parts) < 5:
        return None
    urn = _URNS.get((parts[2], parts[3]))
    return None if urn is None else urn.link(parts[4])


def _from_link(uri: str) -> str | None:
    try:
        split = urlsplit(uri)
    except ValueError:
        return None
    if split.fragment or not split.netloc:
        return None
    segments = _plain(split.path).split("/")[1:]
    # The first key that has a value of its form, followed by its own qualifiers only. The segments before it belong to
    # the resolver, and the value of a qualifier may look like a key.
    for index in range(len(segments) - 1):
        key = _SHORT_NAMES.get(segments[index], segments[index])
        if key in _KEYS and re.fullmatch(_KEYS[key], segments[index + 1]) is not None:
            link = _constrained(key, segments[index + 1], segments[index + 2 :])
            if link is not None:
                return link
    return None


def _constrained(key: str, value: str, rest: list[str]) -> str | None:
    if len(rest) % 2:
        return None
    pairs = {_SHORT_NAMES.get(name, name): value for name, value in zip(rest[::2], rest[1::2], strict=True)}
    if 2 * len(pairs) < len(rest):
        return None
    kept = _QUALIFIERS.get(key, ())
    if not pairs.keys() <= {*kept, *_DROPPED_QUALIFIERS.get(key, ())}:
        return None
    link = f"{DIGITAL_LINK_ROOT}/{key}/{value.zfill(14) if key == '01' else value}"
    for qualifier in kept:
        if qualifier in pairs:
            text = _QUALIFIER_TEXT.get(qualifier, rf"{_LINK_TEXT}{{1,20}}")
            return f"{link}/{qualifier}/{pairs[qualifier]}" if re.fullmatch(text, pairs[qualifier]) else None
    return link
