"""Authentication: forged, replayed, revoked, expired, stripped and swapped requests are denied and counted."""

import base64
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from streams.capture.auth import devices
from streams.capture.auth.authentication import Authenticator, DeviceRateLimiter, RateLimitExceededError, parse_networks
from streams.capture.auth.devices import Device, DeviceRegistry
from streams.capture.auth.signatures import (
    AuthenticationError,
    MessageComponents,
    NonceStore,
    check_content_digest,
    content_digest,
    field_value,
    parse_signature_claim,
    sign_request,
    signature_base,
)
from streams.errors import Misconfigured
from streams.telemetry.gateway_events import DENIAL_REASONS, RequestDenied
from tests.capture.epcis.documents import document
from tests.capture.epcis.test_documents import SCAN
from tests.capture.http.gateways import RunningGateway, running_gateway, scan
from tests.conftest import run_cli

KIND = {"content-type": "application/x-ndjson"}


@dataclass
class Enrolled:
    """A gateway with registered devices, and their secrets."""

    gateway: RunningGateway
    registry: DeviceRegistry
    key: Ed25519PrivateKey
    token: str

    def signed(self, body: bytes, name: str = "S7", created: int | None = None, path: str = "/scans") -> dict[str, str]:
        return {**KIND, **sign_request(self.key, name, MessageComponents("POST", path, "", KIND), body, created)}

    def send(self, headers: dict[str, str], body: bytes, path: str = "/scans", **options: Any) -> int:
        return self.gateway.request("POST", path, content=body, headers=headers, **options).status_code


@pytest.fixture
def enrolled(tmp_path: Path):
    registry = DeviceRegistry(tmp_path / "devices.json")
    private, public = devices.generate_key_pair()
    _, other = devices.generate_key_pair()
    token, digest = devices.generate_token()
    registry.add(Device("S7", ("LGG",), ("SRT-07", "SRT-08"), 1000.0, public_key=public))
    registry.add(Device("S8", ("LGG",), ("*",), 1000.0, public_key=other))
    registry.add(Device("partner", ("*",), ("*",), 1000.0, token_sha256=digest))
    with running_gateway(tmp_path, registry) as gateway:
        key = Ed25519PrivateKey.from_private_bytes(base64.b64decode(private))
        yield Enrolled(gateway, registry, key, token)


BODY = json.dumps(scan()).encode()


def test_signed_requests_are_admitted(enrolled: Enrolled) -> None:
    assert enrolled.send(enrolled.signed(BODY), BODY) == 200
    assert len(enrolled.gateway.spool_entries()) == 1 and enrolled.gateway.denial_reasons() == []
    query = sign_request(enrolled.key, "S7", MessageComponents("GET", "/capture", "perPage=5", {}), b"")
    assert enrolled.gateway.request("GET", "/capture?perPage=5", headers=query).status_code == 200


def test_wrongly_signed_requests_are_denied_with_the_reason(enrolled: Enrolled) -> None:
    good = enrolled.signed(BODY)
    stranger = Ed25519PrivateKey.generate()
    forged = {**KIND, **sign_request(stranger, "S7", MessageComponents("POST", "/scans", "", KIND), BODY)}
    unknown = enrolled.signed(BODY, name="S9")
    other = enrolled.signed(BODY, name="S8")
    stripped = {name: value for name, value in good.items() if name != "signature"}
    unsigned = {name: value for name, value in good.items() if not name.startswith("signature")}
    without_digest = {name: value for name, value in good.items() if name != "content-digest"}
    old = enrolled.signed(BODY, created=int(time.time()) - 301)
    early = enrolled.signed(BODY, created=int(time.time()) + 301)
    elsewhere = enrolled.signed(BODY, path="/events")
    shifted = {**good, "signature-input": good["signature-input"].replace("created=", "created=1")}
    swapped = {**enrolled.signed(BODY), "signature": good["signature"]}
    uncovered = {**good, "signature-input": good["signature-input"].replace(' "content-digest"', "")}
    changed = BODY.replace(b"SRT-07", b"SRT-08")
    cases: list[tuple[dict[str, str], bytes, str]] = [
        (forged, BODY, "bad_signature"),
        (unknown, BODY, "unknown_device"),
        (other, BODY, "bad_signature"),
        (stripped, BODY, "bad_signature"),
        (unsigned, BODY, "no_credentials"),
        (without_digest, BODY, "component_not_signed"),
        (old, BODY, "created_out_of_window"),
        (early, BODY, "created_out_of_window"),
        (elsewhere, BODY, "bad_signature"),
        (shifted, BODY, "bad_signature"),
        (swapped, BODY, "bad_signature"),
        (uncovered, BODY, "component_not_signed"),
        (good, changed, "bad_digest"),
        ({**good, "content-digest": content_digest(changed)}, changed, "bad_signature"),
        ({**good, "content-type": "application/ndjson"}, BODY, "bad_signature"),
        ({**KIND, "authorization": "Bearer " + "a" * 43}, BODY, "insecure_transport"),
        ({**KIND, "authorization": "Basic dTpw"}, BODY, "no_credentials"),
    ]
    for headers, body, reason in cases:
        before = len(enrolled.gateway.denial_reasons())
        assert enrolled.send(headers, body) == 401, reason
        assert enrolled.gateway.denial_reasons()[before:] == [reason]
    assert enrolled.gateway.spool_entries() == []
    assert set(enrolled.gateway.denial_reasons()) <= set(DENIAL_REASONS)


def test_the_same_request_twice_is_a_replay_even_for_another_gateway_of_the_folder(enrolled: Enrolled) -> None:
    headers = enrolled.signed(BODY)
    assert [enrolled.send(headers, BODY) for _ in range(3)] == [200, 401, 401]
    assert enrolled.gateway.denial_reasons() == ["replayed", "replayed"]
    with running_gateway(enrolled.gateway.folder / "..", enrolled.registry) as other:
        other.gateway.authenticator = type(other.gateway.authenticator)(
            enrolled.registry, enrolled.gateway.folder / "nonces"
        )
        answer = other.request("POST", "/scans", content=BODY, headers=headers)
        assert answer.status_code == 401 and other.denial_reasons() == ["replayed"]


def test_revoked_devices_are_denied_at_once(enrolled: Enrolled) -> None:
    assert enrolled.send(enrolled.signed(BODY), BODY) == 200
    DeviceRegistry(enrolled.registry.path).revoke("S7")
    answer = enrolled.gateway.request("POST", "/scans", content=BODY, headers=enrolled.signed(BODY))
    assert answer.status_code == 401
    assert enrolled.gateway.denial_reasons() == ["revoked"]
    assert answer.json()["type"] == "epcisException:SecurityException"


def test_tokens_need_tls(enrolled: Enrolled) -> None:
    headers = {**KIND, "authorization": f"Bearer {enrolled.token}"}
    assert enrolled.send(headers, BODY) == 401
    assert enrolled.send(headers, BODY, scheme="https") == 200
    assert enrolled.send({**KIND, "authorization": "Bearer " + "a" * 43}, BODY, scheme="https") == 401
    assert enrolled.gateway.denial_reasons() == ["insecure_transport", "bad_token"]


@pytest.mark.parametrize(
    ("peer", "forwarded_proto", "is_secure"),
    [
        ("10.0.0.5", "https", True),
        ("::ffff:10.0.0.5", "HTTPS", True),
        ("fd00::17", "https", True),
        ("10.0.0.5", "http", False),
        ("10.0.0.5", "https, http", False),
        ("10.0.0.5", None, False),
        ("10.0.1.5", "https", False),
        ("127.0.0.1", "https", False),
        ("fd01::17", "https", False),
        ("", "https", False),
    ],
)
def test_tokens_are_accepted_from_trusted_proxies_that_report_tls(
    peer: str, forwarded_proto: str | None, *, is_secure: bool
) -> None:
    authenticator = Authenticator(None, trusted_proxies=parse_networks(["10.0.0.0/24", "fd00::/64"]))
    headers = {} if forwarded_proto is None else {"x-forwarded-proto": forwarded_proto}
    assert authenticator.is_secure("http", peer, headers) is is_secure
    assert authenticator.is_secure("https", peer, headers)
    assert not Authenticator(None).is_secure("http", peer, headers)


@pytest.mark.parametrize("text", ["0.0.0.0/0", "::/0", "10.0.0.1/8", "proxy.example", ""])
def test_a_trusted_proxy_needs_an_address(text: str, tmp_path: Path) -> None:
    done = run_cli("gateway", "--trusted-proxy", text, "--data", str(tmp_path))
    assert done.returncode == 2 and "--trusted-proxy" in done.stderr


def test_a_device_sends_for_its_own_stations_only(enrolled: Enrolled) -> None:
    body = b"\n".join(
        json.dumps(each).encode()
        for each in (scan("a1"), scan("a2", station="SRT-09"), scan("a3", site="DUI"), scan("a4", station="SRT-08"))
    )
    answer = enrolled.gateway.request("POST", "/scans", content=body, headers=enrolled.signed(body))
    assert [each["status"] for each in answer.json()["results"]] == ["accepted", "rejected", "rejected", "accepted"]
    assert enrolled.gateway.denial_reasons() == ["out_of_scope", "out_of_scope"]
    place = {**SCAN, "readPoint": {"id": "urn:parcels:place:DUI:DEL-01"}}
    whole = json.dumps(document(place)).encode()
    kind = {"content-type": "application/json"}
    headers = {**kind, **sign_request(enrolled.key, "S7", MessageComponents("POST", "/capture", "", kind), whole)}
    answer = enrolled.gateway.request("POST", "/capture", content=whole, headers=headers)
    job = sign_request(enrolled.key, "S7", MessageComponents("GET", answer.headers["location"], "", {}), b"")
    content = enrolled.gateway.request("GET", answer.headers["location"], headers=job).json()
    assert not content["success"] and content["errors"][0]["type"] == "epcisException:SecurityException"
    assert len(enrolled.gateway.spool_entries()) == 2


def test_registered_devices_may_not_send_ticks(enrolled: Enrolled) -> None:
    body = b'{"type": "tick", "hub_time": 1772337600000}'
    answer = enrolled.gateway.request("POST", "/scans", content=body, headers=enrolled.signed(body))
    assert answer.json()["rejected"] == 1 and enrolled.gateway.spool_entries() == []


def test_a_job_is_shown_to_its_owner_only(enrolled: Enrolled) -> None:
    whole = json.dumps(document({**SCAN, "readPoint": {"id": "urn:parcels:place:LGG:SRT-07"}})).encode()
    kind = {"content-type": "application/json"}
    headers = {**kind, **sign_request(enrolled.key, "S7", MessageComponents("POST", "/capture", "", kind), whole)}
    location = enrolled.gateway.request("POST", "/capture", content=whole, headers=headers).headers["location"]
    partner = {"authorization": f"Bearer {enrolled.token}"}
    assert enrolled.gateway.request("GET", location, "https", headers=partner).status_code == 404
    assert enrolled.gateway.request("GET", "/capture", "https", headers=partner).json() == []


def test_a_device_that_exceeds_its_rate_is_told_when_to_retry(tmp_path: Path) -> None:
    registry = DeviceRegistry(tmp_path / "devices.json")
    token, digest = devices.generate_token()
    registry.add(Device("slow", ("*",), ("*",), 2.0, token_sha256=digest))
    with running_gateway(tmp_path, registry, trusted_proxies=("127.0.0.1",)) as gateway:
        headers = {**KIND, "authorization": f"Bearer {token}", "x-forwarded-proto": "https"}
        answers = [
            gateway.request("POST", "/scans", content=json.dumps(scan(f"a{number}")).encode(), headers=headers)
            for number in range(8)
        ]
    assert answers[0].status_code == 200 and answers[-1].status_code == 429
    assert int(answers[-1].headers["retry-after"]) >= 1
    assert RequestDenied("rate_limited", "slow") in gateway.emitted


def test_a_bucket_fills_with_time() -> None:
    limiter = DeviceRateLimiter()
    limiter.acquire("a", 10, 25, now=0)
    with pytest.raises(RateLimitExceededError):
        limiter.acquire("a", 10, 1, now=0.1)
    limiter.acquire("a", 10, 1, now=1.0)
    limiter.acquire("b", 10, 1, now=0.1)


def test_nonces_expire_even_if_the_clock_was_set_back(tmp_path: Path) -> None:
    now, day = 1_800_000_000, 86_400
    used = NonceStore(tmp_path / "nonces", 300)
    assert used.use("S7", "before", now + day, now + day)
    for second in range(now, now + 1_200):
        assert used.use("S7", f"nonce-{second}", second, second)
    assert len((tmp_path / "nonces").read_text().splitlines()) < 400


def test_nonces_survive_a_restart_until_their_window_ends(tmp_path: Path) -> None:
    now = time.time()
    first = NonceStore(tmp_path / "nonces", 300)
    assert first.use("S7", "nonce-one", int(now), now) and not first.use("S7", "nonce-one", int(now), now)
    assert first.use("S8", "nonce-one", int(now), now)
    second = NonceStore(tmp_path / "nonces", 300)
    assert not second.use("S7", "nonce-one", int(now), now)
    assert second.use("S7", "nonce-one", int(now), now + 302)


@given(
    st.text(max_size=80),
    st.text(max_size=80),
    st.dictionaries(st.sampled_from(["content-digest", "host", "date"]), st.text(max_size=30)),
)
def test_no_header_breaks_the_parser(signature_input: str, signature: str, more: dict[str, str]) -> None:
    headers = {**more, "signature-input": signature_input, "signature": signature}
    with pytest.raises(AuthenticationError):
        parse_signature_claim(MessageComponents("POST", "/scans", "", headers), has_body=True)
    with pytest.raises(AuthenticationError):
        check_content_digest(signature_input, b"body")


@given(st.integers(0, 400), st.integers(1, 127))
def test_one_changed_character_anywhere_is_noticed(position: int, shift: int) -> None:
    key = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
    public = base64.b64encode(key.public_key().public_bytes_raw()).decode()
    device = Device("S7", ("*",), ("*",), 1.0, public_key=public)
    request = MessageComponents("POST", "/scans", "", {"content-type": "a/b"})
    headers = {"content-type": "a/b", **sign_request(key, "S7", request, b"body", 1_700_000_000)}
    name = ("signature-input", "signature", "content-digest")[position % 3]
    value = headers[name]
    index = position % len(value)
    headers[name] = value[:index] + chr((ord(value[index]) + shift) % 128) + value[index + 1 :]
    try:
        claim = parse_signature_claim(MessageComponents("POST", "/scans", "", headers), has_body=True)
        check_content_digest(headers["content-digest"], b"body")
    except AuthenticationError:
        return
    good = device.verify_signature(claim.signature, claim.signature_base) and claim.key_id == "S7"
    # The label of the signature is not signed (RFC 9421, 2.5), and both headers must have the same one.
    assert not good or headers[name] == value


# The key test-key-ed25519 of RFC 9421, B.1.4; Ed25519 gives the same signature whenever it signs the same bytes.
RFC_KEY = Ed25519PrivateKey.from_private_bytes(base64.b64decode("n4Ni+HpISpVObnQMW0wOhCKROaIKqKtW/2ZYb2p9KcU="))
RFC_PUBLIC = "JrQLj5P/89iXES9+vFgrIy29clF9CC/oPPsw3c5D0bs="


class TestSignatureBaseOfTheRfc:
    def test_its_example_with_ed25519(self) -> None:
        """RFC 9421, B.2.6."""
        headers = {
            "host": "example.com",
            "date": "Tue, 20 Apr 2021 02:07:55 GMT",
            "content-type": "application/json",
            "content-length": "18",
        }
        covered = ["date", "@method", "@path", "@authority", "content-type", "content-length"]
        listed = " ".join(f'"{name}"' for name in covered)
        params = f'({listed});created=1618884473;keyid="test-key-ed25519"'
        base = signature_base(MessageComponents("POST", "/foo", "param=Value&Pet=dog", headers), covered, params)
        assert base.decode().splitlines() == [
            '"date": Tue, 20 Apr 2021 02:07:55 GMT',
            '"@method": POST',
            '"@path": /foo',
            '"@authority": example.com',
            '"content-type": application/json',
            '"content-length": 18',
            f'"@signature-params": {params}',
        ]
        signature = "wqcAqbmYJ2ji2glfAMaRy4gruYYnx2nEFN2HN6jrnDnQCK1u02Gb04v9EDgwUPiu4A0w6vuQv5lIp5WPpBKRCw=="
        assert base64.b64encode(RFC_KEY.public_key().public_bytes_raw()).decode() == RFC_PUBLIC
        assert base64.b64encode(RFC_KEY.sign(base)).decode() == signature
        device = Device("test-key-ed25519", ("*",), ("*",), 1.0, public_key=RFC_PUBLIC)
        assert device.verify_signature(base64.b64decode(signature), base)
        assert not device.verify_signature(base64.b64decode(signature), base + b" ")

    def test_its_query_and_an_empty_path(self) -> None:
        """RFC 9421, 2.2.6 and 2.2.7: an empty path is a slash, an empty query is a question mark."""
        assert signature_base(MessageComponents("GET", "", "", {}), ["@path", "@query"], "()") == (
            b'"@path": /\n"@query": ?\n"@signature-params": ()'
        )
        query = signature_base(MessageComponents("GET", "/", "param=value&foo=bar&baz=bat%2Dman", {}), ["@query"], "()")
        assert query.splitlines()[0] == b'"@query": ?param=value&foo=bar&baz=bat%2Dman'

    @pytest.mark.parametrize(
        ("values", "value"),
        [
            (["Leading and trailing whitespace.   "], "Leading and trailing whitespace."),
            (["Obsolete\r\n    line folding."], "Obsolete line folding."),
            (["max-age=60", "    must-revalidate"], "max-age=60, must-revalidate"),
            (["  a=1,    b=2;x=1;y=2,   c=(a   b   c)"], "a=1,    b=2;x=1;y=2,   c=(a   b   c)"),
            ([""], ""),
            (["a\tb  c"], "a\tb  c"),
            (["\xa0a\x85"], "\xa0a\x85"),
        ],
    )
    def test_its_examples_of_headers(self, values: list[str], value: str) -> None:
        """RFC 9421, 2.1."""
        assert field_value(values) == value
        base = signature_base(MessageComponents("GET", "/", "", {"x": field_value(values)}), ["x"], "()")
        assert base.decode().split("\n")[0] == f'"x": {value}'

    def test_spaces_within_a_header_are_signed(self, enrolled: Enrolled) -> None:
        kind = {"content-type": "application/x-ndjson;  charset=utf-8"}
        headers = {**kind, **sign_request(enrolled.key, "S7", MessageComponents("POST", "/scans", "", kind), BODY)}
        assert enrolled.send({**headers, "content-type": "application/x-ndjson; charset=utf-8"}, BODY) == 401
        assert enrolled.send(headers, BODY) == 200


class TestRegistry:
    def test_secrets_are_not_in_the_file(self, tmp_path: Path) -> None:
        done = run_cli("devices", "add", "S7", "--site", "LGG", "--data", str(tmp_path), "--json")
        secrets = json.loads(done.stdout)
        text = (tmp_path / "devices.json").read_text()
        assert secrets["private_key"] not in text and secrets["public_key"] in text
        token = json.loads(
            run_cli("devices", "add", "p", "--site", "*", "--token", "--data", str(tmp_path), "--json").stdout
        )["token"]
        assert token not in (tmp_path / "devices.json").read_text()
        assert (tmp_path / "devices.json").stat().st_mode & 0o077 == 0
        assert DeviceRegistry(tmp_path / "devices.json").find_by_token(token).name == "p"  # type: ignore[union-attr]

    def test_names_are_unique_and_revoked_ones_stay(self, tmp_path: Path) -> None:
        data = ("--data", str(tmp_path))
        assert run_cli("devices", "add", "S7", "--site", "LGG", *data).returncode == 0
        assert run_cli("devices", "add", "S7", "--site", "LGG", *data).returncode == 2
        assert run_cli("devices", "add", "a b", "--site", "LGG", *data).returncode == 2
        assert run_cli("devices", "revoke", "S7", *data).returncode == 0
        assert run_cli("devices", "revoke", "S8", *data).returncode == 2
        (row,) = [json.loads(line) for line in run_cli("devices", "list", *data, "--json").stdout.splitlines()]
        assert (row["name"], row["credential"]) == ("S7", "revoked")

    def test_a_file_that_is_not_a_registry_is_rejected(self, tmp_path: Path) -> None:
        (tmp_path / "devices.json").write_text('{"devices": {"a": {}}}')
        with pytest.raises(Misconfigured, match="not a registry"):
            DeviceRegistry(tmp_path / "devices.json")

    def test_open_gateways_listen_on_loopback_only(self, tmp_path: Path) -> None:
        done = run_cli("gateway", "--insecure-local", "--host", "0.0.0.0", "--data", str(tmp_path))
        assert done.returncode == 2 and "127.0.0.1" in done.stderr


def test_a_full_disk_for_nonces_is_answered_with_503(enrolled: Enrolled) -> None:
    assert enrolled.send(enrolled.signed(BODY), BODY) == 200
    nonces = enrolled.gateway.gateway.authenticator._nonces
    assert nonces is not None
    stream = nonces._stream
    with Path("/dev/full").open("wb", buffering=0) as full:
        nonces._stream = full
        answer = enrolled.gateway.request("POST", "/scans", content=BODY, headers=enrolled.signed(BODY))
        assert answer.status_code == 503 and int(answer.headers["retry-after"]) > 0
    nonces._stream = stream
    assert enrolled.send(enrolled.signed(BODY), BODY) == 200


def test_parallel_requests_are_all_counted() -> None:
    limiter = DeviceRateLimiter()
    for _ in range(3):
        limiter.acquire("S7", 10.0, 0, now=0.0)
    for _ in range(3):
        limiter.charge("S7", 10.0, 100, now=0.0)
    with pytest.raises(RateLimitExceededError):
        limiter.acquire("S7", 10.0, 0, now=27.0)
    limiter.acquire("S7", 10.0, 0, now=29.0)


def test_a_scanner_cannot_send_for_another_location_in_any_way(enrolled: Enrolled) -> None:
    def send(*records: dict[str, Any]) -> dict[str, Any]:
        body = b"\n".join(json.dumps(record).encode() for record in records)
        answer = enrolled.gateway.request("POST", "/scans", content=body, headers=enrolled.signed(body))
        return answer.json()

    def event(**changes: Any) -> int:
        whole = json.dumps({"@context": document()["@context"], **SCAN, **changes}).encode()
        kind = {"content-type": "application/ld+json"}
        headers = {**kind, **sign_request(enrolled.key, "S7", MessageComponents("POST", "/events", "", kind), whole)}
        return enrolled.send(headers, whole, "/events")

    partner = {**KIND, "authorization": f"Bearer {enrolled.token}"}
    others = [scan("other", parcel_id="P", station="DOCK-1"), scan("mine", parcel_id="P", station="SRT-07")]
    advice = {"type": "advice", "event_id": "ad", "parcel_id": "P", "event_time": 1_772_337_600_000}
    advice |= {"direction": "IMPORT", "service": "X", "origin": "CN", "destination": "DE"}
    body = b"\n".join(json.dumps(each).encode() for each in (*others, advice))
    assert enrolled.gateway.request("POST", "/scans", "https", content=body, headers=partner).json()["accepted"] == 3
    # A record of its own location.
    assert send(scan("mine2", parcel_id="P"))["accepted"] == 1
    # It may not send advices, nor VOIDs of records of other locations; it may send a VOID of its own location.
    assert send({**advice, "event_id": "ad2"})["rejected"] == 1
    assert send(scan("v1", parcel_id="P", kind="VOID", voids="other"))["rejected"] == 1
    assert send(scan("v2", parcel_id="P", kind="VOID", voids="ad"))["rejected"] == 1
    assert send(scan("v3", parcel_id="P", kind="VOID", voids="mine"))["accepted"] == 1
    here, there = {"id": "urn:parcels:place:LGG:SRT-07"}, {"id": "urn:parcels:place:BRU:X"}
    assert event(readPoint=here, bizLocation={"id": "urn:parcels:place:LGG"}) == 201
    assert event(readPoint=here, bizLocation=there) == 403
    assert event(readPoint=there, bizStep="other") == 403
    declared = {"declarationTime": "2026-03-01T06:00:00Z"}
    epcs = ["urn:parcels:parcel:P"]
    assert event(readPoint=here, epcList=epcs, eventID="urn:x:new") == 201
    assert event(readPoint=here, epcList=epcs, eventID="urn:x:new", errorDeclaration=declared) == 201


def test_bodies_of_unknown_senders_are_not_read(enrolled: Enrolled, monkeypatch: pytest.MonkeyPatch) -> None:
    from streams.capture.http.request_context import RequestContext

    async def read(*_: Any) -> bytes:
        raise AssertionError("the content was read")

    monkeypatch.setattr(RequestContext, "_read", read)
    stranger = Ed25519PrivateKey.generate()
    forged = {**KIND, **sign_request(stranger, "S7", MessageComponents("POST", "/scans", "", KIND), BODY)}
    late = enrolled.signed(BODY, created=int(time.time()) - 400)
    for headers in (forged, late, enrolled.signed(BODY, name="S9")):
        assert enrolled.send(headers, BODY) == 401
    assert enrolled.send({**KIND, "authorization": "Bearer " + "x" * 43}, BODY, scheme="https") == 401


def test_the_header_of_the_error_behaviour_must_be_signed(enrolled: Enrolled) -> None:
    kind = {"content-type": "application/ld+json"}
    whole = json.dumps(document(SCAN)).encode()
    headers = {**kind, **sign_request(enrolled.key, "S7", MessageComponents("POST", "/capture", "", kind), whole)}
    assert enrolled.send({**headers, "gs1-capture-error-behaviour": "proceed"}, whole, "/capture") == 401
    assert enrolled.gateway.denial_reasons() == ["component_not_signed"]


def test_parallel_changes_of_the_registry_are_all_kept(tmp_path: Path) -> None:
    import threading

    path = tmp_path / "devices.json"
    names = [f"S{number}" for number in range(12)]
    adding = [
        threading.Thread(target=DeviceRegistry(path).add, args=(Device(name, ("LGG",), ("*",), 1.0),)) for name in names
    ]
    for each in adding:
        each.start()
    for each in adding:
        each.join()
    assert {each.name for each in DeviceRegistry(path).all_devices()} == set(names)


def test_only_the_canonical_base64_of_a_signature_is_accepted() -> None:
    key = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
    headers = sign_request(key, "S7", MessageComponents("POST", "/scans", "", {}), b"body", 1_700_000_000)
    written = headers["signature"]
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    other = letters[letters.index(written[-4]) ^ 1]
    headers["signature"] = written[:-4] + other + written[-3:]
    with pytest.raises(AuthenticationError):
        parse_signature_claim(MessageComponents("POST", "/scans", "", headers), has_body=True)


class TestAnIdStandsForOneRecord:
    """A device can neither probe for the records of others, nor use their ids, nor send under their names."""

    def send(self, enrolled: Enrolled, *records: dict[str, Any], partner: bool = False) -> list[str]:
        body = b"\n".join(json.dumps(each).encode() for each in records)
        headers = {**KIND, "authorization": f"Bearer {enrolled.token}"} if partner else enrolled.signed(body)
        answer = enrolled.gateway.request("POST", "/scans", "https", content=body, headers=headers)
        return [each.get("error") or each["status"] for each in answer.json()["results"]]

    def test_an_unauthorized_sender_does_not_learn_that_a_record_is_known(self, enrolled: Enrolled) -> None:
        there = scan("a9", station="DOCK-1")
        assert self.send(enrolled, there, partner=True) == ["accepted"]
        for guess in (there, {**there, "kind": "LOADED"}):
            assert self.send(enrolled, guess) == ["S7 may not send records of 'LGG DOCK-1'"]

    def test_an_unauthorized_sender_does_not_use_up_an_id(self, enrolled: Enrolled) -> None:
        body = json.dumps(scan("urn:parcels:device:S8:1")).encode()
        answer = enrolled.gateway.request("POST", "/scans", content=body, headers=enrolled.signed(body))
        assert "an id of another device" in answer.json()["results"][0]["error"]
        assert self.send(enrolled, scan("urn:parcels:device:S8:1", device_id="S8"), partner=True) == ["accepted"]

    def test_a_device_sends_under_its_own_name_and_names_below_it(self, enrolled: Enrolled) -> None:
        numbered = {key: value for key, value in scan().items() if key != "event_id"} | {"device_seq": 1}
        results = self.send(
            enrolled,
            numbered,
            {**numbered, "device_id": "S7/reader-2"},
            {**numbered, "device_id": "S8"},
            {**numbered, "device_id": "S77"},
            scan("b1", device_id="S8"),
            scan("urn:parcels:device:S7:9"),
            scan("urn:parcels:device:S7/x:9"),
            scan("urn:parcels:device:"),
        )
        assert [each for each in results if each == "accepted"] == ["accepted"] * 4
        assert results[2:5] == [f"S7 may not send as device '{name}'" for name in ("S8", "S77", "S8")]
        assert "an id of another device" in results[7]
        assert enrolled.gateway.denial_reasons() == ["out_of_scope"] * 4
        # A device registered for all sites may send for all devices.
        assert self.send(enrolled, {**numbered, "device_id": "S8"}, partner=True) == ["accepted"]

    def test_a_device_may_void_the_record_of_another_device_at_its_own_location(self, enrolled: Enrolled) -> None:
        other = "urn:parcels:device:S8:1"
        assert self.send(enrolled, scan(other, device_id="S8"), partner=True) == ["accepted"]
        void = scan(other, kind="VOID", voids=other, event_time="2026-03-01T06:00:00Z")
        assert self.send(enrolled, void) == ["accepted"]
        # The VOID has the same id, and does not block the record that it declares wrong.
        assert self.send(enrolled, scan(other, device_id="S8"), partner=True) == ["duplicate"]

    def test_epcis_events_may_not_use_other_names_either(self, enrolled: Enrolled) -> None:
        def event(**changes: Any) -> int:
            place = {"id": "urn:parcels:place:LGG:SRT-07"}
            whole = {"@context": [*document()["@context"], {"own": "urn:parcels:voc:"}], **SCAN, "readPoint": place}
            content = json.dumps(whole | changes).encode()
            kind = {"content-type": "application/ld+json"}
            headers = {
                **kind,
                **sign_request(enrolled.key, "S7", MessageComponents("POST", "/events", "", kind), content),
            }
            return enrolled.send(headers, content, "/events")

        assert event(**{"own:device_id": "S8"}) == 403
        assert event(eventID="urn:parcels:device:S8:5") == 403
        assert event(**{"own:device_id": "S7/a"}) == 201
        assert event(eventID="urn:parcels:device:S7:5") == 201
        sensed = [{"sensorMetadata": {"deviceID": "urn:epc:id:giai:4000001.111"}, "sensorReport": [{"type": "Mass"}]}]
        assert event(sensorElementList=sensed) == 201

    def test_only_a_device_for_all_sites_may_void_an_unknown_record(self, enrolled: Enrolled) -> None:
        void = {"kind": "VOID", "event_time": "2026-03-01T06:00:00Z"}
        forgotten, own = scan("v1", voids="forgotten", **void), scan("v2", voids="urn:parcels:device:S7:77", **void)
        rejected, accepted = self.send(enrolled, forgotten, own)
        assert "this gateway does not remember it" in rejected and accepted == "accepted"
        assert self.send(enrolled, forgotten, partner=True) == ["accepted"]

    def test_an_unknown_event_with_its_hash_as_id_may_be_voided_at_its_location(self, enrolled: Enrolled) -> None:
        place = {"id": "urn:parcels:place:LGG:SRT-07"}
        declared = {"declarationTime": "2026-03-01T06:00:00Z"}
        whole = {"@context": document()["@context"], **SCAN, "readPoint": place, "errorDeclaration": declared}
        for event_id, status in ((None, 201), ("urn:x:forgotten", 403)):
            content = json.dumps(whole | ({"eventID": event_id} if event_id else {})).encode()
            kind = {"content-type": "application/ld+json"}
            headers = {
                **kind,
                **sign_request(enrolled.key, "S7", MessageComponents("POST", "/events", "", kind), content),
            }
            assert enrolled.send(headers, content, "/events") == status


def test_an_event_is_shown_to_its_sender_only(enrolled: Enrolled) -> None:
    place = {"id": "urn:parcels:place:LGG:SRT-07"}
    whole = json.dumps({"@context": document()["@context"], **SCAN, "readPoint": place}).encode()
    kind = {"content-type": "application/ld+json"}
    headers = {**kind, **sign_request(enrolled.key, "S7", MessageComponents("POST", "/events", "", kind), whole)}
    location = enrolled.gateway.request("POST", "/events", content=whole, headers=headers).headers["location"]
    signed = sign_request(enrolled.key, "S7", MessageComponents("GET", location, "", {}), b"")
    assert enrolled.gateway.request("GET", location, headers=signed).json()["readPoint"] == place
    partner = {"authorization": f"Bearer {enrolled.token}"}
    assert enrolled.gateway.request("GET", location, "https", headers=partner).status_code == 404
    assert enrolled.gateway.request("GET", location).status_code == 401


class TestASignatureIsVerifiedOnce:
    """While the body arrives, the signature cannot change, so it is verified once. Everything else is checked again."""

    @pytest.fixture
    def setup(self, tmp_path: Path) -> tuple[Authenticator, DeviceRegistry, Ed25519PrivateKey]:
        registry = DeviceRegistry(tmp_path / "devices.json")
        private, public = devices.generate_key_pair()
        registry.add(Device("S7", ("LGG",), ("*",), 1000.0, public_key=public))
        return Authenticator(registry), registry, Ed25519PrivateKey.from_private_bytes(base64.b64decode(private))

    def test_for_each_request(self, enrolled: Enrolled, monkeypatch: pytest.MonkeyPatch) -> None:
        calls, verify_signature = [], Device.verify_signature
        monkeypatch.setattr(
            Device, "verify_signature", lambda *arguments: calls.append(1) or verify_signature(*arguments)
        )
        assert enrolled.send(enrolled.signed(BODY), BODY) == 200
        assert len(calls) == 1

    @pytest.mark.parametrize(
        "reason", ["revoked", "bad_signature", "created_out_of_window", "bad_digest", "component_not_signed"]
    )
    def test_a_request_may_be_denied_after_its_body_has_arrived(
        self, setup: tuple[Authenticator, DeviceRegistry, Ed25519PrivateKey], reason: str
    ) -> None:
        authenticator, registry, key = setup
        now, body = time.time(), BODY
        request = MessageComponents("POST", "/scans", "", {"content-length": str(len(body)), **KIND})
        headers = sign_request(key, "S7", request, b"" if reason == "component_not_signed" else body, int(now))
        if reason == "component_not_signed":
            # The head announces no body, but there is one.
            request = MessageComponents("POST", "/scans", "", {**KIND, **headers})
        else:
            request = MessageComponents("POST", "/scans", "", {**request.headers, **headers})
        header_auth = authenticator.authenticate_headers(request, secure=False, now=now)
        match reason:
            case "revoked":
                registry.revoke("S7")
            case "bad_signature":
                registry.add(
                    Device("S7", ("LGG",), ("*",), 1000.0, public_key=devices.generate_key_pair()[1]), replace=True
                )
            case "created_out_of_window":
                now += 301
            case "bad_digest":
                body = BODY + b" "
        with pytest.raises(AuthenticationError) as denied:
            authenticator.authenticate_body(header_auth, request, body, secure=False, now=now)
        assert denied.value.reason == reason
        # The denied request did not use up the nonce.
        if reason == "bad_digest":
            assert authenticator.authenticate_body(header_auth, request, BODY, secure=False, now=now) is not None


def test_rejected_requests_count_against_the_rate(tmp_path: Path) -> None:
    registry = DeviceRegistry(tmp_path / "devices.json")
    token, digest = devices.generate_token()
    registry.add(Device("slow", ("*",), ("*",), 2.0, token_sha256=digest))
    kinds = {"/scans": "application/x-ndjson", "/capture": "application/json", "/events": "text/plain"}
    for path, kind in kinds.items():
        with running_gateway(tmp_path / path[1:], registry, trusted_proxies=("127.0.0.1",)) as gateway:
            headers = {"content-type": kind, "authorization": f"Bearer {token}", "x-forwarded-proto": "https"}
            answers = [gateway.request("POST", path, content=b"\n\n", headers=headers).status_code for _ in range(8)]
        assert answers[0] in (400, 415) and answers[-1] == 429, path


def test_a_full_disk_does_not_lose_stored_nonces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time()
    nonces = NonceStore(tmp_path / "nonces", 300)
    assert nonces.use("S7", "nonce-one", int(now), now)
    original_open = Path.open

    class ShortFile:
        """A file on a disk with room for ten bytes."""

        def __init__(self, path: Path, *given: Any, **named: Any) -> None:
            self.stream = original_open(path, *given, **named)

        def write(self, content: bytes) -> int:
            return self.stream.write(content[:10])

        def close(self) -> None:
            self.stream.close()

    def open_short(path: Path, *given: Any, **named: Any) -> ShortFile:
        return ShortFile(path, *given, **named)

    monkeypatch.setattr(Path, "open", open_short)
    with pytest.raises(OSError, match="No space left"):
        nonces.use("S7", "nonce-two", int(now), now + 80)
    monkeypatch.undo()
    assert not NonceStore(tmp_path / "nonces", 300).use("S7", "nonce-one", int(now), now + 90)
    assert nonces.use("S7", "nonce-two", int(now), now + 90)
    assert not NonceStore(tmp_path / "nonces", 300).use("S7", "nonce-two", int(now), now + 90)
