"""The rate of the gateway: records and requests a second with disk syncs, and the upper bounds beside it.

Where `taskset` exists, the gateway runs on one core and the load on the others. Its spool is below .cache/bench, on the
disk of the checkout.
"""

import asyncio
import base64
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from rich.table import Table

from bench.common import REPOSITORY, Cluster, console
from streams.capture.auth import devices
from streams.capture.auth.signatures import MessageComponents, sign_request
from streams.capture.spool.segment_files import SpoolEntry, encode_frame, identity_hash
from streams.capture.spool.spool import Spool
from streams.errors import StreamsError
from streams.kafka import topic_admin

_CONNECTIONS = 64
_BATCH = 100
_DEVICE = "LGG/SRT-07/1"
# Target rates in requests a second, by records a request: 10,000 records/s in batches, 1,000 one by one.
_PROMISED = {_BATCH: 100, 1: 1_000}


@dataclass
class Load:
    """The result of one load run."""

    requests: int
    seconds: float
    # Response times in seconds, sorted.
    answers: list[float]

    def figures(self, records: int) -> dict[str, float]:
        def at(share: float) -> float:
            return round(self.answers[min(int(len(self.answers) * share), len(self.answers) - 1)] * 1000, 2)

        return {
            "requests_per_second": round(self.requests / self.seconds, 1),
            "records_per_second": round(self.requests * records / self.seconds, 1),
            "p50_ms": at(0.5),
            "p99_ms": at(0.99),
        }


class Server:
    """A gateway in its own process; with `signed`, it accepts the requests of one enrolled device only."""

    def __init__(self, given: Cluster, folder: Path, *options: str, signed: bool = False) -> None:
        command = [sys.executable, "-m", "streams.cli", "gateway", "--port", "0", "--data", str(folder), *options]
        self.key: Ed25519PrivateKey | None = None
        if signed:
            private, public = devices.generate_key_pair()
            self.key = Ed25519PrivateKey.from_private_bytes(base64.b64decode(private))
            enrolled = devices.Device(_DEVICE, ("LGG",), ("SRT-07",), 1e9, public_key=public)
            devices.DeviceRegistry(folder / "devices.json").add(enrolled)
        else:
            command.append("--insecure-local")
        if shutil.which("taskset"):
            command = ["taskset", "-c", "0", *command]
        environment = {
            "PYTHONPATH": str(REPOSITORY),
            "KAFKA_BOOTSTRAP_SERVERS": given.settings.bootstrap,
            "PARCELS_PREFIX": given.settings.prefix,
            "PATH": "/usr/bin:/bin",
        }
        self._errors = (folder.parent / "gateway.err").open("wb")
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self._errors, env=environment)
        assert self._process.stdout is not None
        address = self._process.stdout.readline().decode().strip()
        if not address:
            raise StreamsError("the gateway did not start")
        self.port = int(address.rpartition(":")[2])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(30)
        self._errors.close()


def request(number: int, records: int, key: Ed25519PrivateKey | None) -> bytes:
    """A whole request of `records` new scans, signed with `key` if there is one."""
    body = b"\n".join(
        b'{"event_id":"bench-%d-%d","parcel_id":"LP%014d","kind":"SORTED","event_time":%d,"site":"LGG",'
        b'"station":"SRT-07","lane":"R-DE","device_id":"LGG/SRT-07/1","device_seq":%d}'
        % (number, each, number * records + each, 1772337600000 + number, number)
        for each in range(records)
    )
    kind = {"content-type": "application/x-ndjson"}
    headers = kind | (
        sign_request(key, _DEVICE, MessageComponents("POST", "/scans", "", kind), body) if key is not None else {}
    )
    head = ["POST /scans HTTP/1.1", "Host: bench", f"Content-Length: {len(body)}"]
    head += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*head, "", ""]).encode() + body


async def _connection(port: int, requests: "asyncio.Queue[tuple[float, bytes] | None]", answers: list[float]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while (job := await requests.get()) is not None:
        due, content = job
        writer.write(content)
        head = await reader.readuntil(b"\r\n\r\n")
        if b" 200 " not in head[:16]:
            raise StreamsError(f"the gateway answered {head[:60]!r}")
        size = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        await reader.readexactly(size)
        answers.append(time.perf_counter() - due)
    writer.close()


async def _press(server: Server, records: int, seconds: float, rate: float | None, first: int) -> Load:
    """Send as many requests as the gateway takes (rate None), or `rate` a second, evenly."""
    queue: asyncio.Queue[tuple[float, bytes] | None] = asyncio.Queue(_CONNECTIONS if rate is None else 0)
    answers: list[float] = []
    connections = [asyncio.create_task(_connection(server.port, queue, answers)) for _ in range(_CONNECTIONS)]
    begun, number = time.perf_counter(), 0
    while (now := time.perf_counter()) - begun < seconds:
        if rate is not None:
            due = begun + number / rate
            if due > now:
                await asyncio.sleep(due - now)
            await queue.put((due, request(first + number, records, server.key)))
        else:
            await queue.put((time.perf_counter(), request(first + number, records, server.key)))
        number += 1
    for _ in connections:
        await queue.put(None)
    await asyncio.gather(*connections)
    return Load(len(answers), time.perf_counter() - begun, sorted(answers))


def _both(server: Server, records: int, seconds: float, first: int) -> dict[str, Any]:
    asyncio.run(_press(server, records, 1.0, None, first))
    full = asyncio.run(_press(server, records, seconds, None, first + 10_000_000))
    half = asyncio.run(_press(server, records, seconds, _PROMISED[records] / 2, first + 20_000_000))
    figures = full.figures(records)
    return {**figures, "at_half_of_the_promise": half.figures(records)}


def _spool_alone(folder: Path, seconds: float) -> dict[str, float]:
    spool = Spool(folder)
    entries = [SpoolEntry(0, identity_hash(str(number)), b"LP00000000000017", b"x" * 120) for number in range(_BATCH)]
    frame, done, written = encode_frame(1, entries), [0], 0

    def one(_: Exception | None) -> None:
        done[0] += 1

    begun = time.perf_counter()
    while time.perf_counter() - begun < seconds:
        while written - done[0] > _CONNECTIONS:
            time.sleep(0.0002)
        spool.append(frame, one)
        written += 1
    spool.close()
    passed = time.perf_counter() - begun
    return {
        "records_per_second": round(done[0] * _BATCH / passed, 1),
        "syncs_per_second": round(spool.counters.group_commits / passed, 1),
    }


def measure(given: Cluster, seconds: float) -> dict[str, Any]:
    """Measure all rates of the gateway."""
    topic_admin.apply_topics(given.settings, topic_admin.plan_topics(given.settings))
    result: dict[str, Any] = {}
    folder = Path(tempfile.mkdtemp(dir=given.scratch))
    variants: tuple[tuple[str, tuple[str, ...], bool], ...] = (
        ("gateway", (), False),
        ("signed", (), True),
        ("without_spool", ("--without-spool",), False),
    )
    for name, options, signed in variants:
        for kind, records in (("batches", _BATCH), ("single", 1)):
            with (
                console.status(f"{name}, {records} records a request"),
                Server(given, folder / f"{name}-{kind}", *options, signed=signed) as server,
            ):
                result.setdefault(name, {})[kind] = _both(server, records, seconds, 0)
    with console.status("the spool alone"):
        result["spool_alone"] = _spool_alone(folder / "alone", seconds)
    return result


def show(result: dict[str, Any]) -> None:
    """Print the figures."""
    table = Table(title="The gateway on one core; times at 5,000 records/s in batches, 500/s alone")
    for name in ("", "requests/s", "records/s", "p50 ms", "p99 ms"):
        table.add_column(name, justify="left" if not name else "right")
    titles = {"gateway": "gateway", "signed": "gateway, signed", "without_spool": "the same server, spool off"}
    for name, title in titles.items():
        for kind, records in (("batches", _BATCH), ("single", 1)):
            found = result[name][kind]
            half = found["at_half_of_the_promise"]
            figures = (found["requests_per_second"], found["records_per_second"], half["p50_ms"], half["p99_ms"])
            table.add_row(f"{title}, {records} a request", *(f"{figure:,.1f}" for figure in figures))
    alone = result["spool_alone"]
    table.add_row("the spool alone", f"{alone['syncs_per_second']:,.1f} syncs", f"{alone['records_per_second']:,.1f}")
    console.print(table)
