"""A day of the hub through the gateway, and sent again from its spool: the states are those of the truth."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from streams.kafka.settings import KafkaSettings
from tests.capture.epcis.documents import document
from tests.conftest import Cli


@contextmanager
def gateway(settings: KafkaSettings, data: Path) -> Iterator[str]:
    environment = os.environ | {
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "KAFKA_BOOTSTRAP_SERVERS": settings.bootstrap,
        "PARCELS_PREFIX": settings.prefix,
    }
    command = [sys.executable, "-m", "streams.cli", "gateway", "--insecure-local", "--port", "0", "--data", str(data)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors


def test_a_day_through_the_gateway_and_once_more_from_its_spool(
    settings: KafkaSettings, parcels: Cli, tmp_path: Path
) -> None:
    parcels("topics", "apply", "--partitions", "2", check=True)
    truth, data = str(tmp_path / "truth.json"), tmp_path / "gateway"
    with gateway(settings, data) as address:
        assert address.startswith("http://127.0.0.1:")
        parcels(
            "simulate",
            "--parcels",
            "400",
            "--truth",
            truth,
            "--via",
            "http",
            "--gateway",
            address,
            check=True,
        )
    parcels("run", "--until-idle", "2", check=True)
    verified = parcels("verify", truth)
    assert verified.returncode == 0, verified.stdout
    status = json.loads(parcels("spool", "status", "--data", str(data), "--json", check=True).stdout)
    assert status["ok"] and status["pending_records"] == 0 and status["records"]["scans"] > 2_000
    ticks = 4_320
    assert status["records"]["containers"] > 1_000 + ticks
    again = json.loads(parcels("spool", "resend", "--since", "1h", "--data", str(data), "--json", check=True).stdout)
    assert again["sent"] == status["records"]["scans"] + status["records"]["containers"] - ticks
    parcels("run", "--until-idle", "2", check=True)
    verified = parcels("verify", truth)
    assert verified.returncode == 0, verified.stdout


def test_a_scan_of_a_pallet_or_a_truck_moves_its_content(settings: KafkaSettings, parcels: Cli, tmp_path: Path) -> None:
    """A logistic unit is a parcel and holds some; it is scanned by its own number, or the ULD around it is."""
    place = {"eventTimeZoneOffset": "+00:00", "readPoint": {"id": "urn:parcels:place:LGG:S1"}}
    pallet, truck, uld = (
        "urn:epc:id:sscc:0614141.1234567890",
        "urn:epc:id:giai:4000001.T1",
        "urn:parcels:uld:AKE12345XX",
    )

    def packed(hour: int, parent: str, *children: str) -> dict[str, object]:
        time = f"2026-03-01T{hour:02}:00:00Z"
        event = {"type": "AggregationEvent", "action": "ADD", "bizStep": "packing", "parentID": parent}
        return {**event, **place, "eventTime": time, "childEPCs": list(children)}

    def seen(hour: int, epc: str, step: str) -> dict[str, object]:
        time = f"2026-03-01T{hour:02}:00:00Z"
        event = {"type": "ObjectEvent", "action": "OBSERVE", "bizStep": step, "epcList": [epc]}
        return {**event, **place, "eventTime": time}

    def kinds(parcel: str) -> list[str]:
        shown = json.loads(parcels("show", parcel, "--json", check=True).stdout)
        return [each["kind"] for each in shown["timeline"]]

    parcels("topics", "apply", "--partitions", "2", check=True)
    first = [
        packed(1, pallet, "urn:parcels:parcel:LP1"),
        packed(2, uld, "https://id.gs1.org/00/106141412345678908"),
        seen(3, uld, "arriving"),
        packed(1, truck, "urn:parcels:parcel:LP2"),
        seen(2, truck, "departing"),
    ]
    then = [seen(4, pallet, "unloading"), seen(5, "https://id.gs1.org/00/106141412345678908", "loading")]
    for events, stages in ((first, 1), (then, 2)):
        with gateway(settings, tmp_path / f"gateway{stages}") as address:
            answer = httpx.post(f"{address}/capture", json=document(*events))
            assert answer.status_code == 202
            job = httpx.get(address + answer.headers["location"]).json()
            assert (job["success"], job["errors"]) == (True, []), job
        # The second worker restores everything from the topics.
        parcels("run", "--until-idle", "2", check=True)
    assert kinds("LP1") == ["PACKED", "ARRIVED", "UNLOADED", "LOADED"]
    assert kinds("LP2") == ["PACKED", "DISPATCHED"]
    assert kinds("https://id.gs1.org/00/106141412345678908") == ["PACKED", "ARRIVED", "UNLOADED", "LOADED"]
