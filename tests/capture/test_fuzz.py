"""Bytes of strangers: whatever comes, every parser ends with an answer or with its own error, and soon.

`make fuzz` runs this with many more examples.
"""

import asyncio
import io
import json
import os
from typing import Any

import fastavro
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streams.capture.auth.principal import Principal
from streams.capture.epcis.contexts import context_namespaces
from streams.capture.epcis.documents import check_document, parse_json
from streams.capture.epcis.event_hash import event_hash
from streams.capture.epcis.mapping import map_event
from streams.capture.intake import untrusted_avro
from streams.capture.intake.dedup_cache import DedupCache, DedupEntryReader
from streams.capture.intake.intake import Intake, TooManyRecordsError
from streams.capture.spool.segment_files import SegmentDamage, encode_frame, identity_hash, read_frames, segment_path
from streams.formats.schemas import load_schemas
from streams.telemetry.gateway_events import RECORD_RESULTS
from tests.capture.epcis.reference_events import EVENTS, PREFIXES
from tests.capture.epcis.test_documents import BAG, GOOD, SCAN

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "150"))
hard = settings(max_examples=EXAMPLES, deadline=2_000, suppress_health_check=list(HealthCheck))
CONTENTS = DedupEntryReader()
ANYBODY = Principal("", lambda _, __: True)


def _containers() -> list[bytes]:
    record = {
        "event_id": "a",
        "parcel_id": "LP1",
        "kind": "SORTED",
        "event_time": 1772337600000,
        "record_time": 0,
        "site": "LGG",
        "station": "SRT-07",
        "lane": "R-DE",
    }
    found = []
    for codec in ("null", "deflate"):
        stream = io.BytesIO()
        fastavro.writer(stream, load_schemas().current("Scan"), [record] * 3, codec=codec)
        found.append(stream.getvalue())
    return found


CONTAINERS = _containers()
LINES = (
    b'{"event_id":"a","parcel_id":"LP1","kind":"SORTED","event_time":1772337600000,"site":"LGG","station":"S"}\n' * 3
)
DOCUMENTS = [json.dumps({"@context": PREFIXES, **event}).encode() for event in EVENTS]


@st.composite
def spoilt(draw: st.DrawFn, good: list[bytes]) -> bytes:
    """Something good with a few bytes changed, cut out, put in or doubled."""
    content = bytearray(draw(st.sampled_from(good)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(content)))
        match draw(st.integers(0, 3)):
            case 0 if at < len(content):
                content[at] = draw(st.integers(0, 255))
            case 1:
                del content[at : at + draw(st.integers(1, 50))]
            case 2:
                content[at:at] = draw(st.binary(max_size=20))
            case _:
                content[at:at] = content[at : at + draw(st.integers(1, 100))]
    return bytes(content)


@given(spoilt(CONTAINERS) | st.binary(max_size=300))
@hard
def test_avro(content: bytes) -> None:
    try:
        found = list(untrusted_avro.read_records(content, 1 << 16, 1_000))
    except untrusted_avro.InvalidAvroError:
        return
    assert all(isinstance(each, dict) and each["type"] in ("scan", "advice") for each in found)


@given(spoilt(CONTAINERS) | spoilt([LINES]) | st.binary(max_size=300))
@hard
def test_records(content: bytes) -> None:
    for read in (
        lambda intake: intake.accept_ndjson(content, ANYBODY),
        lambda intake: intake.accept_avro(content, ANYBODY, 1 << 16),
    ):
        taken = asyncio.run(read(Intake(DedupCache())))
        assert taken.accepted + taken.duplicates + taken.conflicts + taken.rejected == len(taken.record_results)
        assert {each["status"] for each in taken.record_results} <= set(RECORD_RESULTS)
        assert len(taken.entries) == taken.accepted
        # What is remembered now is what is read back after a restart, and what a repeat brings again.
        assert taken.dedup_entries == {entry.identity: CONTENTS.from_spool_entry(entry) for entry in taken.entries}
        known = DedupCache()
        known.add(taken.dedup_entries)
        again = asyncio.run(read(Intake(known)))
        assert (again.accepted, again.duplicates) == (0, taken.accepted + taken.duplicates)
        assert (again.conflicts, again.rejected) == (taken.conflicts, taken.rejected)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=10,
)


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(("event_id", "parcel_id", "kind", "site", "event_time"), JSON)))
@hard
def test_records_of_anything(said: dict[str, Any]) -> None:
    taken = asyncio.run(Intake(DedupCache()).accept_ndjson(json.dumps(said).encode(), ANYBODY))
    assert len(taken.record_results) == 1


@given(spoilt(DOCUMENTS) | st.binary(max_size=300))
@hard
def test_documents(content: bytes) -> None:
    try:
        document = parse_json(content)
    except ValueError:
        return
    checked = check_document(document)
    for event in checked.events:
        if not event.violations:
            assert event.event_id is not None
            map_event(event.raw, event.event_id, event.prefixes, 0)


@given(st.sampled_from(GOOD), st.text(max_size=30), JSON)
@hard
def test_extensions_of_anything(event: dict[str, Any], name: str, value: Any) -> None:
    extended = {**event, f"urn:parcels:voc:{name}": value, "example:x": value}
    assert event_hash(extended, context_namespaces(PREFIXES)).startswith("ni:///sha-256;")
    mapped = [map_event({**each, **extended}, "urn:x:1", context_namespaces(PREFIXES), 0) for each in (BAG, SCAN)]
    for kept in [record for each in mapped for record in (*each.scans, *each.containers)]:
        assert asyncio.run(Intake(DedupCache()).accept_ndjson(json.dumps(kept).encode(), ANYBODY)).accepted == 1


@given(spoilt([encode_frame(1, []) + LINES, b"PSF1" * 20]) | st.binary(max_size=200))
@hard
def test_segments(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    folder = tmp_path_factory.mktemp("spool")
    segment_path(folder, 1).write_bytes(content)
    damage = SegmentDamage()
    frames = list(read_frames(folder, 1, damage=damage))
    assert damage.lost_bytes + damage.torn_bytes <= len(content)
    assert all(frame.end.offset <= len(content) for frame in frames)


def test_identities_tell_parts_apart() -> None:
    assert (
        len({identity_hash("ab", "c"), identity_hash("a", "bc"), identity_hash("abc"), identity_hash("", "abc")}) == 4
    )


def test_the_record_count_has_a_limit() -> None:
    with pytest.raises(TooManyRecordsError):
        asyncio.run(Intake(DedupCache()).accept_ndjson(b"{}\n" * 10_001, ANYBODY))
