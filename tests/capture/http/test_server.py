"""The gateway as a process: its socket, its TLS, its shutdown."""

import datetime as dt
import http.client
import ipaddress
import json
import os
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from streams.capture.client import CaptureClient, RequestRejectedError
from streams.capture.epcis.contexts import STANDARD_CONTEXT
from streams.capture.spool.spool import read_all_frames
from streams.kafka.local_broker import free_port
from tests.capture.epcis.documents import document
from tests.capture.epcis.test_documents import SCAN
from tests.capture.http.gateways import scan
from tests.conftest import run_cli


@contextmanager
def gateway(data: Path, *options: str) -> Iterator[str]:
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3]), "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"}
    command = [sys.executable, "-m", "streams.cli", "gateway", "--port", "0", "--data", str(data), *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert "Traceback" not in errors


def certificate(folder: Path) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = dt.datetime.now(dt.UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    paths = folder / "cert.pem", folder / "key.pem"
    paths[0].write_bytes(built.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return paths


def enrol(data: Path, name: str, *options: str) -> dict[str, str]:
    done = run_cli("devices", "add", name, *options, "--data", str(data), "--json", check=True)
    secrets: dict[str, str] = json.loads(done.stdout)
    return secrets


def drip(connection: socket.socket, seconds: float) -> bool:
    """Send a byte every 0.2 s; True if the other end closes the connection within this time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            connection.sendall(b"x")
        except (BrokenPipeError, ConnectionResetError):
            return True
        time.sleep(0.2)
    return False


def test_signed_and_token_clients_over_tls(tmp_path: Path) -> None:
    chain, key = certificate(tmp_path)
    data = tmp_path / "gateway"
    private = enrol(data, "S7", "--site", "LGG", "--station", "SRT-07")["private_key"]
    token = enrol(data, "partner", "--site", "*", "--token")["token"]
    context = ssl.create_default_context(cafile=str(chain))
    with gateway(data, "--certificate", str(chain), "--key", str(key)) as address:
        assert address.startswith("https://")
        scanner = CaptureClient(address, "S7", private, ssl_context=context, delivery_timeout_seconds=10)
        assert scanner.send_scans([scan("a1"), scan("a2", station="SRT-09")])["results"][1]["status"] == "rejected"
        partner = CaptureClient(address, token=token, ssl_context=context, delivery_timeout_seconds=10)
        job = partner.send_document(document(SCAN))
        assert job["success"] and job["errors"] == []
        assert partner.send_event({"@context": STANDARD_CONTEXT, **SCAN, "eventID": "urn:x:1"}) == "/events/urn%3Ax%3A1"
        with pytest.raises(RequestRejectedError) as rejected:
            CaptureClient(
                address, "S7", enrol(data, "S8", "--site", "*")["private_key"], ssl_context=context
            ).send_scans([scan("a3")])
        assert rejected.value.status == 401
        run_cli("devices", "revoke", "partner", "--data", str(data), check=True)
        with pytest.raises(RequestRejectedError):
            partner.send_event({"@context": STANDARD_CONTEXT, **SCAN, "eventID": "urn:x:2"})
    assert sum(len(frame.entries) for frame in read_all_frames(data / "spool")) == 1 + 2 + 2


def test_a_client_with_a_slow_or_large_head_is_disconnected(tmp_path: Path) -> None:
    with gateway(tmp_path, "--insecure-local", "--header-timeout", "1") as address:
        port = int(address.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), timeout=30) as large:
            large.sendall(b"GET /healthz HTTP/1.1\r\nX: " + b"x" * 100_000)
            assert large.recv(4096).startswith(b"HTTP/1.1 4")
        with socket.create_connection(("127.0.0.1", port), timeout=30) as slow:
            begun = time.monotonic()
            slow.sendall(b"GET /healthz HTTP/1.1\r\nX: ")
            assert drip(slow, 30) and time.monotonic() - begun >= 1


@pytest.mark.parametrize("connection", ["keep-alive", "close"])
def test_too_large_bodies_are_answered(tmp_path: Path, connection: str) -> None:
    with gateway(tmp_path, "--insecure-local", "--max-body-mib", "1") as address:
        headers = {"content-type": "application/ld+json", "connection": connection}
        for size in ((1 << 20) + 1, 7_000_000):
            asked = http.client.HTTPConnection(address.removeprefix("http://"), timeout=60)
            asked.request("POST", "/capture", b"x" * size, headers)
            assert asked.getresponse().status == 413
            asked.close()
        # The gateway does not read so large a body to its end. It closes the connection while the client still sends.
        with pytest.raises(RequestRejectedError) as rejected:
            CaptureClient(address, delivery_timeout_seconds=5).post(
                "/capture", b"x" * 50_000_000, "application/ld+json"
            )
        assert rejected.value.status == 413


def test_metrics_and_health_have_a_port_of_their_own(tmp_path: Path) -> None:
    port = free_port()
    data = tmp_path / "gateway"
    enrol(data, "S7", "--site", "LGG")
    with gateway(data, "--host", "0.0.0.0", "--metrics-port", str(port)) as address:
        here = address.replace("0.0.0.0", "127.0.0.1")
        assert httpx.get(f"{here}/metrics").status_code == 404
        assert [httpx.get(here + path).text for path in ("/healthz", "/readyz")] == ["ok\n", "ok\n"]
        answers = [httpx.get(f"http://127.0.0.1:{port}{path}") for path in ("/metrics", "/healthz", "/readyz")]
        assert [answer.status_code for answer in answers] == [200, 200, 200]
        assert "parcel_gateway_spool_pending_bytes" in answers[0].text
    with gateway(tmp_path / "other", "--host", "0.0.0.0") as address:
        assert httpx.get(address.replace("0.0.0.0", "127.0.0.1") + "/metrics").status_code == 404
    with gateway(tmp_path / "local", "--insecure-local") as address:
        assert "parcel_gateway_requests_total" in httpx.get(f"{address}/metrics").text


def test_records_accepted_without_kafka_are_in_the_spool(tmp_path: Path) -> None:
    with gateway(tmp_path, "--insecure-local") as address:
        client = CaptureClient(address)
        assert client.send_scans([scan(f"a{number}") for number in range(500)])["accepted"] == 500
    with gateway(tmp_path, "--insecure-local") as address:
        assert CaptureClient(address).send_scans([scan("a499"), scan("b")])["duplicates"] == 1
    done = run_cli("spool", "status", "--data", str(tmp_path), "--json")
    status = json.loads(done.stdout)
    assert done.returncode == 0 and status["records"]["scans"] == status["pending_records"] == 501
    segment = next((tmp_path / "spool").glob("*.spool"))
    content = bytearray(segment.read_bytes())
    content[100] ^= 1
    segment.write_bytes(content + segment.read_bytes())
    assert run_cli("spool", "status", "--data", str(tmp_path)).returncode == 1


def test_the_client_needs_only_cryptography() -> None:
    code = (
        "import sys; before = set(sys.modules); import streams.capture.client;"
        "new = {name.partition('.')[0] for name in set(sys.modules) - before};"
        "print(*(name for name in new if name not in sys.stdlib_module_names))"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    # The last two are native modules of cryptography.
    assert set(done.stdout.split()) <= {"streams", "cryptography", "_cffi_backend", "_openssl"}


def test_the_limit_of_open_files_is_raised_for_all_connections() -> None:
    code = (
        "import resource; from streams.capture.http.server import _allow_connections as allow;"
        "hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1];"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard)); allow(100);"
        "print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert int(done.stdout) == 456
