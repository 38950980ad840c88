"""Untrusted bytes: for any input, every parser ends soon, with a result or with its own error.

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
from tests.capture.epcis.test_documents import BAG, SCAN, VALID_EVENTS

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "150"))
fuzz_settings = settings(max_examples=EXAMPLES, deadline=2_000, suppress_health_check=list(HealthCheck))
ENTRY_READER = DedupEntryReader()
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
    files = []
    for codec in ("null", "deflate"):
        stream = io.BytesIO()
        fastavro.writer(stream, load_schemas().current("Scan"), [record] * 3, codec=codec)
        files.append(stream.getvalue())
    return files


CONTAINERS = _containers()
LINES = (
    b'{"event_id":"a","parcel_id":"LP1","kind":"SORTED","event_time":1772337600000,"site":"LGG","station":"S"}\n' * 3
)
DOCUMENTS = [json.dumps({"@context": PREFIXES, **event}).encode() for event in EVENTS]


@st.composite
def damaged(draw: st.DrawFn, good: list[bytes]) -> bytes:
    """Valid content with a few bytes changed, removed, inserted or doubled."""
    content = bytearray(draw(st.sampled_from(good)))
    for _ in range(draw(st.integers(1, 4))):
        offset = draw(st.integers(0, len(content)))
        match draw(st.integers(0, 3)):
            case 0 if offset < len(content):
                content[offset] = draw(st.integers(0, 255))
            case 1:
                del content[offset : offset + draw(st.integers(1, 50))]
            case 2:
                content[offset:offset] = draw(st.binary(max_size=20))
            case _:
                content[offset:offset] = content[offset : offset + draw(st.integers(1, 100))]
    return bytes(content)


@given(damaged(CONTAINERS) | st.binary(max_size=300))
@fuzz_settings
def test_avro_reader(content: bytes) -> None:
    try:
        records = list(untrusted_avro.read_records(content, 1 << 16, 1_000))
    except untrusted_avro.InvalidAvroError:
        return
    assert all(isinstance(each, dict) and each["type"] in ("scan", "advice") for each in records)


@given(damaged(CONTAINERS) | damaged([LINES]) | st.binary(max_size=300))
@fuzz_settings
def test_intake_of_damaged_bodies(content: bytes) -> None:
    for read in (
        lambda intake: intake.accept_ndjson(content, ANYBODY),
        lambda intake: intake.accept_avro(content, ANYBODY, 1 << 16),
    ):
        result = asyncio.run(read(Intake(DedupCache())))
        assert result.accepted + result.duplicates + result.conflicts + result.rejected == len(result.record_results)
        assert {each["status"] for each in result.record_results} <= set(RECORD_RESULTS)
        assert len(result.entries) == result.accepted
        # The dedup entries are the same as after a restart, and they make every repeat a duplicate.
        assert result.dedup_entries == {
            entry.identity: ENTRY_READER.from_spool_entry(entry) for entry in result.entries
        }
        dedup_cache = DedupCache()
        dedup_cache.add(result.dedup_entries)
        repeated = asyncio.run(read(Intake(dedup_cache)))
        assert (repeated.accepted, repeated.duplicates) == (0, result.accepted + result.duplicates)
        assert (repeated.conflicts, repeated.rejected) == (result.conflicts, result.rejected)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=10,
)


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(("event_id", "parcel_id", "kind", "site", "event_time"), JSON)))
@fuzz_settings
def test_intake_of_any_values(record: dict[str, Any]) -> None:
    result = asyncio.run(Intake(DedupCache()).accept_ndjson(json.dumps(record).encode(), ANYBODY))
    assert len(result.record_results) == 1


@given(damaged(DOCUMENTS) | st.binary(max_size=300))
@fuzz_settings
def test_documents_are_parsed_and_mapped(content: bytes) -> None:
    try:
        document = parse_json(content)
    except ValueError:
        return
    checked = check_document(document)
    for event in checked.events:
        if not event.violations:
            assert event.event_id is not None
            map_event(event.raw, event.event_id, event.prefixes, 0)


@given(st.sampled_from(VALID_EVENTS), st.text(max_size=30), JSON)
@fuzz_settings
def test_extensions_may_have_any_value(event: dict[str, Any], name: str, value: Any) -> None:
    extended = {**event, f"urn:parcels:voc:{name}": value, "example:x": value}
    assert event_hash(extended, context_namespaces(PREFIXES)).startswith("ni:///sha-256;")
    mapped = [map_event({**each, **extended}, "urn:x:1", context_namespaces(PREFIXES), 0) for each in (BAG, SCAN)]
    for kept in [record for each in mapped for record in (*each.scans, *each.containers)]:
        assert asyncio.run(Intake(DedupCache()).accept_ndjson(json.dumps(kept).encode(), ANYBODY)).accepted == 1


@given(damaged([encode_frame(1, []) + LINES, b"PSF1" * 20]) | st.binary(max_size=200))
@fuzz_settings
def test_damaged_segments(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    folder = tmp_path_factory.mktemp("spool")
    segment_path(folder, 1).write_bytes(content)
    damage = SegmentDamage()
    frames = list(read_frames(folder, 1, damage=damage))
    assert damage.lost_bytes + damage.torn_bytes <= len(content)
    assert all(frame.end.offset <= len(content) for frame in frames)


def test_the_identity_hash_separates_its_parts() -> None:
    assert (
        len({identity_hash("ab", "c"), identity_hash("a", "bc"), identity_hash("abc"), identity_hash("", "abc")}) == 4
    )


def test_the_record_count_has_a_limit() -> None:
    with pytest.raises(TooManyRecordsError):
        asyncio.run(Intake(DedupCache()).accept_ndjson(b"{}\n" * 10_001, ANYBODY))
