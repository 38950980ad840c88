"""A large request is taken in slices, and others are answered between them."""

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
from tests.capture.http.gateways import running, scan

ANYBODY = Principal("", lambda _, __: True)


def lines(first: int, end: int, **changes: str) -> bytes:
    return b"\n".join(json.dumps(scan(f"a{number}", **changes)).encode() for number in range(first, end))


@pytest.fixture
def by_tens(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slice is ten records, however long they take."""
    monkeypatch.setattr(TimeSlicer, "is_expired", property(lambda self: len(self._taken.entries) % 10 == 0))


def test_while_ten_thousand_records_are_taken_the_loop_gets_turn_after_turn() -> None:
    async def take() -> int:
        turns, taking = 0, asyncio.create_task(Intake(DedupCache()).accept_ndjson(lines(0, MAX_RECORDS), ANYBODY))
        while not taking.done():
            await asyncio.sleep(0)
            turns += 1
        assert taking.result().accepted == MAX_RECORDS
        return turns

    # Of 4 ms each; in one go it would be two.
    assert asyncio.run(take()) >= 10


@pytest.mark.usefixtures("by_tens")
class TestSlices:
    def test_a_small_request_is_taken_while_large_ones_are_and_those_one_after_the_other(self) -> None:
        async def take() -> list[str]:
            intake, ended = Intake(DedupCache()), list[str]()

            async def one(name: str, first: int, end: int) -> None:
                assert (await intake.accept_ndjson(lines(first, end), ANYBODY)).accepted == end - first
                ended.append(name)

            async with asyncio.TaskGroup() as group:
                for large in range(2):
                    group.create_task(one(f"large {large}", large * 1_000, large * 1_000 + 501))
                await asyncio.sleep(0)
                group.create_task(one("small", 9_000, 9_009))
            return ended

        assert asyncio.run(take()) == ["small", "large 0", "large 1"]

    def test_what_is_taken_already_is_nobody_elses_until_the_request_is_done(self) -> None:
        async def take() -> None:
            intake = Intake(DedupCache())
            taking = asyncio.create_task(intake.accept_ndjson(lines(0, 501), ANYBODY))
            await asyncio.sleep(0)
            with pytest.raises(IdentityInFlightError):
                await intake.accept_ndjson(lines(0, 1, lane="X"), ANYBODY)
            # What it has not come to is not.
            assert (await intake.accept_ndjson(lines(500, 501, lane="X"), ANYBODY)).accepted == 1
            assert (await intake.accept_ndjson(lines(0, 1), ANYBODY)).accepted == 1
            taken = await taking
            assert (await intake.accept_ndjson(lines(1, 2, lane="X"), ANYBODY)).accepted == 1
            assert taken.accepted == 501

        asyncio.run(take())

    def test_what_another_request_stored_meanwhile_counts(self) -> None:
        async def take() -> None:
            known = DedupCache()
            intake = Intake(known)
            taking = asyncio.create_task(intake.accept_ndjson(lines(0, 501), ANYBODY))
            await asyncio.sleep(0)
            known.add(
                (await intake.accept_ndjson(lines(499, 500) + b"\n" + lines(500, 501, lane="X"), ANYBODY)).dedup_entries
            )
            taken = await taking
            assert (taken.accepted, taken.duplicates, taken.conflicts) == (499, 1, 1)

        asyncio.run(take())

    def test_events_of_a_document_are_taken_so_too(self, tmp_path: Path) -> None:
        whole = document(*({**SCAN, "eventID": f"urn:x:{number}"} for number in range(60)))
        with running(tmp_path) as gateway:
            assert gateway.post("/capture", whole).status_code == 202
            assert len(gateway.kept()) == 60
