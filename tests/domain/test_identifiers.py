"""Identifiers: vectors of the standards and of other libraries, and properties of all identifiers."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.domain import gs1
from streams.domain.identifiers import identify
from tests.conftest import run_cli

SSCC = "https://id.gs1.org/00/106141412345678908"


@pytest.mark.parametrize(
    ("value", "scheme", "canonical"),
    [
        ("RB123456785GB", "s10", "RB123456785GB"),
        ("rb 123 456 785 us", "s10", "RB123456785US"),
        ("RB123456785CV", "s10", "RB123456785CV"),
        ("RB123456785CF", "s10", "RB123456785CF"),
        ("AA000000155GB", "s10", "AA000000155GB"),  # remainder 0: the check digit is 5
        ("AA000000080GB", "s10", "AA000000080GB"),  # remainder 1: it is 0
        ("urn:parcels:s10:RB123456785GB", "s10", "RB123456785GB"),
        ("106141412345678908", "sscc", SSCC),
        ("00106141412345678908", "sscc", SSCC),
        ("(00) 106141412345678908", "sscc", SSCC),
        ("urn:epc:id:sscc:0614141.1234567890", "sscc", SSCC),
        (SSCC, "sscc", SSCC),
        ("https://tracking.example.com/a/b/sscc/106141412345678908?linkType=all", "sscc", SSCC),
        ("020-12345675", "awb", "020-12345675"),
        ("02012345675", "awb", "020-12345675"),
        ("AKE12345XX", "uld", "AKE12345XX"),
        ("PMC1234 5X", "uld", "PMC12345X"),
        ("USJFKABEBRUAAUN60001001110055", "s9", "USJFKABEBRUAAUN60001001110055"),
        ("urn:epc:id:sgtin:0614141.107346.2017", "sgtin", "https://id.gs1.org/01/10614141073464/21/2017"),
        ("https://example.org/01/0614141073464/10/L1/21/2017", "sgtin", None),
        ("urn:epc:id:sgln:4012345.00011.987", "sgln", "https://id.gs1.org/414/4012345000115/254/987"),
        ("urn:epc:id:sgln:4012345.00225.0", "sgln", "https://id.gs1.org/414/4012345002256"),
        ("urn:epc:id:grai:4012345.66666.87", "grai", "https://id.gs1.org/8003/0401234566666387"),
    ],
)
def test_a_valid_identifier_has_a_scheme_and_a_canonical_form(value: str, scheme: str, canonical: str | None) -> None:
    found = identify(value)
    if canonical is None:  # a GTIN-13 in a link: padded, and its own check digit is wrong
        assert (found.scheme, found.valid) == (scheme, False)
        return
    assert (found.scheme, found.valid, found.canonical) == (scheme, True, canonical)


@pytest.mark.parametrize(
    ("value", "scheme", "word"),
    [
        ("RB123456786US", "s10", "must be 5"),
        ("RB123456785XX", "s10", "XX"),
        ("106141412345678907", "sscc", "must be 8"),
        ("https://id.gs1.org/00/106141412345678907", "sscc", "must be 8"),
        ("020-12345676", "awb", "must be 5"),
        ("CKE12345XX", "uld", "begins with C"),
        ("AKE1234599", "uld", "owner"),
        ("XXJFKABEBRUAAUN60001001110055", "s9", "origin"),
        ("USJFKABEBRUAEUN60001001110055", "s9", "category"),
        ("USJFKABEBRUAAUN60001001710055", "s9", "flags"),
        ("urn:epc:id:sgtin:0614141.107346", "sgtin", "PREFIX.ITEM.SERIAL"),
        ("urn:epc:id:sscc:0614141.123456789", "sscc", "17 digits"),
        ("urn:parcels:s10:AKE12345XX", "unknown", "no s10"),
        ("urn:epc:id:gid:95100000.12345.400", "unknown", "no key of GS1"),
        ("https://example.com/parcels/1", "unknown", "Digital Link"),
        ("hello", "unknown", "no identifier"),
        ("", "unknown", "no identifier"),
        ("9" * 5000, "unknown", "longer"),
    ],
)
def test_an_invalid_identifier_has_a_reason(value: str, scheme: str, word: str) -> None:
    found = identify(value)
    assert (found.scheme, found.valid, found.canonical) == (scheme, False, None)
    assert word in found.why


def s10(serial: int) -> str:
    digits = f"{serial:08}"
    for check in "0123456789":
        if identify(f"CX{digits}{check}BE").valid:
            return f"CX{digits}{check}BE"
    raise AssertionError(digits)


@given(st.integers(0, 99_999_999), st.integers(0, 8), st.integers(1, 9))
def test_every_s10_has_one_check_digit_and_most_wrong_digits_are_noticed(serial: int, index: int, by: int) -> None:
    valid = s10(serial)
    assert sum(identify(f"{valid[:10]}{check}BE").valid for check in "0123456789") == 1
    wrong = list(valid)
    wrong[2 + index] = str((int(wrong[2 + index]) + by) % 10)
    # The remainders 10 and 11 share their digits with others, so one wrong digit in eleven remains unnoticed.
    if identify("".join(wrong)).valid:
        assert valid[10] in "05"


@given(st.integers(6, 12), st.integers(0, 10**17 - 1))
def test_urn_and_link_of_an_sscc_have_one_canonical_form(prefix: int, number: int) -> None:
    digits = f"{number:017}"
    urn = f"urn:epc:id:sscc:{digits[1 : 1 + prefix]}.{digits[0]}{digits[1 + prefix :]}"
    link = f"https://id.gs1.org/00/{gs1.with_check_digit(digits)}"
    assert gs1.canonical_link(urn) == gs1.canonical_link(link) == link
    assert identify(urn).canonical == identify(link).canonical == identify(gs1.with_check_digit(digits)).canonical


@given(st.text(max_size=60) | st.from_regex(r"(urn:epc:[a-z]{2,5}:[a-z]{3,5}:|https?://)[\x20-\x7e]{0,40}"))
def test_any_text_gets_an_answer_and_a_canonical_form_is_its_own_canonical_form(value: str) -> None:
    found = identify(value)
    assert found.valid == (found.canonical is not None)
    if found.canonical is not None:
        again = identify(found.canonical)
        assert (again.valid, again.canonical) == (True, found.canonical)


def test_the_command_prints_a_line_for_each() -> None:
    done = run_cli("id", "RB123456785GB", "nonsense", "--json")
    first, second = map(json.loads, done.stdout.splitlines())
    assert first["canonical"] == "RB123456785GB" and first["valid"] and first["scheme"] == "s10" and first["why"]
    assert second["value"] == "nonsense" and not second["valid"] and second["canonical"] is None
    assert done.returncode == 1
    assert run_cli("id", "RB123456785GB").returncode == 0


@pytest.mark.parametrize("value", ["URN:EPC:ID:SSCC:0614141.1234567890", "HTTPS://ID.GS1.ORG/00/106141412345678908"])
def test_urns_and_links_may_have_capitals_where_case_has_no_meaning(value: str) -> None:
    assert (identify(value).scheme, identify(value).canonical) == ("sscc", SSCC)


@pytest.mark.parametrize(
    ("link", "canonical"),
    [
        ("https://id.gs1.org/01/09506000134352/10/00/21/A", "https://id.gs1.org/01/09506000134352/21/A"),
        ("https://id.gs1.org/01/09506000134352/10/00", "https://id.gs1.org/01/09506000134352/10/00"),
        ("https://id.gs1.org/01/09506000134352/21/01", "https://id.gs1.org/01/09506000134352/21/01"),
        ("https://id.gs1.org/01/09506000134352/10/414/21/00", "https://id.gs1.org/01/09506000134352/21/00"),
        ("https://id.gs1.org/01/09506000134352/21/lot", "https://id.gs1.org/01/09506000134352/21/lot"),
        ("https://id.gs1.org/gtin/9506000134352/lot/ser/ser/gtin", "https://id.gs1.org/01/09506000134352/21/gtin"),
        ("https://example.com/00/x/01/09506000134352", "https://id.gs1.org/01/09506000134352"),
        ("https://id.gs1.org/01/09506000134352/10/A/10/B", None),
        ("https://id.gs1.org/01/09506000134352/10", None),
        ("https://id.gs1.org/00/10614141234567890", None),
    ],
)
def test_the_value_of_a_qualifier_may_look_like_a_key(link: str, canonical: str | None) -> None:
    assert gs1.canonical_link(link) == canonical


@pytest.mark.parametrize("serial", ["ab(c", "a!b", "1*2", "x+y,z:", "A%2FB", "A%2Fb(1)"])
def test_urn_and_link_of_a_serial_have_one_canonical_form_in_every_encoding(serial: str) -> None:
    canonical = f"https://id.gs1.org/01/10614141073464/21/{serial}"
    coded = "".join(f"%{ord(each):02X}" if each in "!()*+,:" else each for each in serial)
    links = [f"https://example.com/a/01/10614141073464/21/{each}?x=1" for each in (serial, coded, coded.lower())]
    for uri in (f"urn:epc:id:sgtin:0614141.107346.{serial}", *links[:2]):
        assert gs1.canonical_link(uri) == canonical
    if serial.islower():
        assert gs1.canonical_link(links[2]) == canonical
