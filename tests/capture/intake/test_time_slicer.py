"""A large request is processed in time slices, and other requests are answered between them."""

import asyncio
import json
from pathlib import Path

import pytest

from streams.capture.auth.principal import Principal
from streams.capture.intake.dedup_cache import DedupCache, IdentityInFlightError
from streams.capture.intake.intake import Intake
from streams.capture.intake.record_bodies import MAX_RECORDS
from streams.capture.intake.time_slicer import TimeSlicer
from tests.capture.epcis.documents import document
from tests.capture.epcis.test_documents import SCAN
from tests.capture.http.gateways import running_gateway, scan

ANYBODY = Principal("", lambda _, __: True)


def lines(first: int, end: int, **changes: str) -> bytes:
    return b"\n".join(json.dumps(scan(f"a{number}", **changes)).encode() for number in range(first, end))


@pytest.fixture
def by_tens(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slice is ten records, whatever their time."""
    monkeypatch.setattr(TimeSlicer, "is_expired", property(lambda self: len(self._result.entries) % 10 == 0))


def test_the_event_loop_runs_while_ten_thousand_records_are_processed() -> None:
    async def run() -> int:
        turns, task = 0, asyncio.create_task(Intake(DedupCache()).accept_ndjson(lines(0, MAX_RECORDS), ANYBODY))
        while not task.done():
            await asyncio.sleep(0)
            turns += 1
        assert task.result().accepted == MAX_RECORDS
        return turns

    # A slice takes 4 ms. Without slices there would be two turns.
    assert asyncio.run(run()) >= 10


@pytest.mark.usefixtures("by_tens")
class TestSlices:
    def test_a_small_request_overtakes_large_ones_and_large_ones_run_one_after_the_other(self) -> None:
        async def run() -> list[str]:
            intake, ended = Intake(DedupCache()), list[str]()

            async def send(name: str, first: int, end: int) -> None:
                assert (await intake.accept_ndjson(lines(first, end), ANYBODY)).accepted == end - first
                ended.append(name)

            async with asyncio.TaskGroup() as group:
                for large in range(2):
                    group.create_task(send(f"large {large}", large * 1_000, large * 1_000 + 501))
                await asyncio.sleep(0)
                group.create_task(send("small", 9_000, 9_009))
            return ended

        assert asyncio.run(run()) == ["small", "large 0", "large 1"]

    def test_processed_records_stay_reserved_until_the_request_is_done(self) -> None:
        async def run() -> None:
            intake = Intake(DedupCache())
            task = asyncio.create_task(intake.accept_ndjson(lines(0, 501), ANYBODY))
            await asyncio.sleep(0)
            with pytest.raises(IdentityInFlightError):
                await intake.accept_ndjson(lines(0, 1, lane="X"), ANYBODY)
            # Records that it has not processed yet are not reserved.
            assert (await intake.accept_ndjson(lines(500, 501, lane="X"), ANYBODY)).accepted == 1
            assert (await intake.accept_ndjson(lines(0, 1), ANYBODY)).accepted == 1
            result = await task
            assert (await intake.accept_ndjson(lines(1, 2, lane="X"), ANYBODY)).accepted == 1
            assert result.accepted == 501

        asyncio.run(run())

    def test_records_stored_by_another_request_meanwhile_are_known(self) -> None:
        async def run() -> None:
            dedup_cache = DedupCache()
            intake = Intake(dedup_cache)
            task = asyncio.create_task(intake.accept_ndjson(lines(0, 501), ANYBODY))
            await asyncio.sleep(0)
            dedup_cache.add(
                (await intake.accept_ndjson(lines(499, 500) + b"\n" + lines(500, 501, lane="X"), ANYBODY)).dedup_entries
            )
            result = await task
            assert (result.accepted, result.duplicates, result.conflicts) == (499, 1, 1)

        asyncio.run(run())

    def test_documents_are_processed_in_slices_as_well(self, tmp_path: Path) -> None:
        whole = document(*({**SCAN, "eventID": f"urn:x:{number}"} for number in range(60)))
        with running_gateway(tmp_path) as gateway:
            assert gateway.post("/capture", whole).status_code == 202
            assert len(gateway.spool_entries()) == 60
