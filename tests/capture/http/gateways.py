"""A gateway for tests: the whole application in this process, without a socket and without Kafka."""

import asyncio
import contextlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from streams.capture.auth import devices
from streams.capture.auth.authentication import Authenticator, parse_networks
from streams.capture.http.application import create_application
from streams.capture.http.gateway import Gateway, RequestLimits, deliver_on_loop
from streams.capture.intake.capture_jobs import CaptureJobs
from streams.capture.intake.dedup_cache import DedupCache, EventCache
from streams.capture.intake.intake import Intake
from streams.capture.spool.spool import Spool, SpoolDisk, SpoolLimits, read_all_frames
from streams.telemetry import gateway_events


@dataclass
class RunningGateway:
    """A gateway that answers without a socket. Requests go to its application, in its own event loop."""

    folder: Path
    gateway: Gateway
    loop: asyncio.AbstractEventLoop
    emitted: list[gateway_events.GatewayEvent]

    def request(self, method: str, path: str, scheme: str = "http", **options: Any) -> httpx.Response:
        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(create_application(self.gateway))
            async with httpx.AsyncClient(transport=transport, base_url=f"{scheme}://127.0.0.1:1") as client:
                return await client.request(method, path, **options)

        return asyncio.run_coroutine_threadsafe(ask(), self.loop).result(60)

    def scans(self, *records: Any, **options: Any) -> httpx.Response:
        body = b"\n".join(record if isinstance(record, bytes) else json.dumps(record).encode() for record in records)
        headers = {"content-type": "application/x-ndjson", **options.pop("headers", {})}
        return self.request("POST", "/scans", content=body, headers=headers, **options)

    def post(self, path: str, document: Any, **headers: str) -> httpx.Response:
        content = document if isinstance(document, bytes) else json.dumps(document).encode()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.request("POST", path, content=content, headers={"content-type": "application/ld+json", **named})

    def spool_entries(self, target: int = 0) -> list[Any]:
        """The entries of the spool for a target."""
        return [
            entry
            for frame in read_all_frames(self.folder / "spool")
            for entry in frame.entries
            if entry.target == target
        ]

    def denial_reasons(self) -> list[str]:
        return [event.reason for event in self.emitted if isinstance(event, gateway_events.RequestDenied)]


@contextlib.contextmanager
def running_gateway(
    folder: Path,
    registry: devices.DeviceRegistry | None = None,
    *,
    request_limits: RequestLimits | None = None,
    spool_limits: SpoolLimits | None = None,
    disk: SpoolDisk | None = None,
    dedup_cache: DedupCache | None = None,
    event_cache: EventCache | None = None,
    trusted_proxies: tuple[str, ...] = (),
) -> Iterator[RunningGateway]:
    """A gateway until the block ends. Without a registry it admits everybody."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    spool = Spool(folder / "spool", spool_limits or SpoolLimits(), deliver_on_loop(loop), disk)
    emitted: list[gateway_events.GatewayEvent] = []
    gateway = Gateway(
        spool,
        Intake(DedupCache() if dedup_cache is None else dedup_cache),
        CaptureJobs(folder / "captures.jsonl"),
        Authenticator(registry, folder / "nonces", trusted_proxies=parse_networks(trusted_proxies)),
        emitted.append,
        request_limits or RequestLimits(),
        event_cache=event_cache or EventCache(),
    )
    try:
        yield RunningGateway(folder, gateway, loop, emitted)
    finally:
        spool.close()
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)


def scan(event_id: str = "a1", **changes: Any) -> dict[str, Any]:
    return {
        "event_id": event_id,
        "parcel_id": "RB123456785GB",
        "kind": "SORTED",
        "event_time": "2026-03-01T04:00:00Z",
        "site": "LGG",
        "station": "SRT-07",
        **changes,
    }
