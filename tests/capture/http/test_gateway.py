"""The routes of the gateway: what each accepts, answers and stores."""

import asyncio
import errno
import io
import json
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import fastavro
import pytest

from streams.capture.auth.principal import Principal
from streams.capture.epcis.documents import check_document
from streams.capture.http.gateway import RequestLimits
from streams.capture.intake.capture_jobs import CaptureJobs
from streams.capture.intake.dedup_cache import DedupCache, EventCache, newest_entries, restore_caches
from streams.capture.spool.spool import SpoolLimits
from streams.formats.record_decoder import RecordDecoder
from streams.formats.schemas import load_schemas
from streams.telemetry import gateway_events
from tests.capture.epcis import reference_events as events
from tests.capture.epcis.documents import document, query_document
from tests.capture.epcis.test_documents import BAG, SCAN
from tests.capture.http.gateways import RunningGateway, running_gateway, scan
from tests.capture.spool.test_spool import FaultyDisk, HangingDisk
from tests.faults.harness import wait_until

CONTAINER = RecordDecoder("ContainerEvent")
EVENT = {"@context": events.PREFIXES, **SCAN}
ANYBODY = Principal("", lambda _, __: True)
ADVICE = {
    "type": "advice",
    "event_id": "v1",
    "parcel_id": "LP1",
    "event_time": "2026-03-01T04:00:00Z",
    "direction": "IMPORT",
    "service": "STANDARD",
    "origin": "CN",
    "destination": "DE",
}


@pytest.fixture
def gateway(tmp_path: Path):
    with running_gateway(tmp_path) as running:
        yield running


def stored_scans(gateway: RunningGateway) -> list[Any]:
    return [RecordDecoder("Scan")(entry.value) for entry in gateway.spool_entries()]


class TestScans:
    def test_each_record_has_its_result_and_accepted_ones_are_on_disk(self, gateway: RunningGateway) -> None:
        answer = gateway.scans(scan("a1", lane="R-DE"), b"{", scan("a2", kind="SORTD"), b"", scan("a3"))
        assert answer.status_code == 200
        content = answer.json()
        assert [each["status"] for each in content["results"]] == ["accepted", "rejected", "rejected", "accepted"]
        assert (content["accepted"], content["duplicates"], content["rejected"]) == (2, 0, 2)
        assert "did you mean SORTED" in content["results"][2]["error"]
        first, second = stored_scans(gateway)
        assert (first["event_id"], first["lane"], first["kind"], second["event_id"]) == ("a1", "R-DE", "SORTED", "a3")
        assert gateway.spool_entries()[0].key == b"RB123456785GB"

    def test_a_repeat_is_a_duplicate_and_is_not_stored_again(self, gateway: RunningGateway) -> None:
        numbered = {key: value for key, value in scan().items() if key != "event_id"}
        numbered |= {"device_id": "S7", "device_seq": 12}
        assert gateway.scans(scan(), numbered, scan()).json()["duplicates"] == 1
        again = gateway.scans(scan(), numbered).json()
        assert [each["status"] for each in again["results"]] == ["duplicate", "duplicate"]
        assert again["results"][1]["event_id"] == "urn:parcels:device:S7:12"
        assert len(gateway.spool_entries()) == 2

    def test_one_event_id_for_two_parcels_is_two_records(self, gateway: RunningGateway) -> None:
        assert gateway.scans(scan(), scan(parcel_id="RB123456785US")).json()["accepted"] == 2

    def test_a_void_may_have_the_id_of_the_voided_record(self, gateway: RunningGateway) -> None:
        void = scan(kind="VOID", voids="a1", event_time="2026-03-01T05:00:00Z")
        later = {**void, "event_time": "2026-03-01T06:00:00Z"}
        content = gateway.scans(scan(), void, void, {**void, "event_time": 1772341200000}, later).json()
        assert [each["status"] for each in content["results"]] == [
            "accepted",
            "accepted",
            "duplicate",
            "duplicate",
            "accepted",
        ]

    def test_advices_are_accepted_and_raw_bytes_are_not(self, gateway: RunningGateway) -> None:
        content = gateway.scans(ADVICE, {"type": "raw", "key": "x", "value_base64": ""}).json()
        assert [each["status"] for each in content["results"]] == ["accepted", "rejected"]

    def test_ticks_are_accepted_where_everybody_is_admitted(self, gateway: RunningGateway) -> None:
        content = gateway.scans({"type": "tick", "hub_time": 1}, {"type": "tick", "hub_time": "noon"}).json()
        assert [each["status"] for each in content["results"]] == ["accepted", "rejected"]
        assert [entry.key for entry in gateway.spool_entries()] == [None]

    def test_the_gateway_sets_the_record_time(self, gateway: RunningGateway) -> None:
        gateway.scans(scan(record_time="1999-01-01T00:00:00Z"))
        assert stored_scans(gateway)[0]["record_time"] > 1_700_000_000_000

    @pytest.mark.parametrize(
        "record",
        [
            [],
            7,
            {},
            {"event_id": "a"},
            scan(event_id=5),
            scan(parcel_id=""),
            scan(parcel_id="a\nb"),
            scan(event_time="2026-03-01"),
            scan(site=None),
            scan(site=["LGG"]),
            scan(weight="5"),
            scan(kind="VOID"),
            {key: value for key, value in scan(device_id="S7").items() if key != "event_id"},
        ],
    )
    def test_wrong_records_are_rejected_with_an_error(self, gateway: RunningGateway, record: Any) -> None:
        content = gateway.scans(record).json()
        assert content["rejected"] == 1 and content["results"][0]["error"] and gateway.spool_entries() == []

    def test_a_line_with_a_repeated_field_is_rejected(self, gateway: RunningGateway) -> None:
        twice = json.dumps(scan("a1")).encode()[:-1] + b', "kind": "LOADED"}'
        content = gateway.scans(twice, scan("a2")).json()
        assert "the key 'kind' stands twice" in content["results"][0]["error"]
        assert [each["status"] for each in content["results"]] == ["rejected", "accepted"]

    def test_a_byte_order_mark_is_ignored(self, gateway: RunningGateway) -> None:
        marked = "\ufeff".encode() + json.dumps(scan("a1")).encode()
        assert gateway.scans(marked, scan("a2")).json()["accepted"] == 2
        # It is ignored at the begin of the body only.
        assert gateway.scans(scan("a3"), marked).json()["rejected"] == 1
        marked = "\ufeff".encode() + json.dumps({**EVENT, "eventID": "urn:x:1"}).encode()
        assert gateway.post("/events", marked).status_code == 201

    def test_a_request_without_records_is_rejected(self, gateway: RunningGateway) -> None:
        answer = gateway.scans(b"\n\n")
        assert answer.status_code == 400 and answer.json()["type"] == "epcisException:ValidationException"

    def test_a_request_with_too_many_records_is_rejected(self, gateway: RunningGateway) -> None:
        answer = gateway.scans(*[b"{}"] * 10_001)
        assert answer.status_code == 413
        assert answer.json()["type"] == "epcisException:CaptureLimitExceededException"

    def test_other_content_under_a_known_id_is_rejected(self, gateway: RunningGateway) -> None:
        assert gateway.scans(scan("a1"), scan("a1", kind="LOADED"), scan("a2")).json()["rejected"] == 1
        content = gateway.scans(
            scan("a1", lane="R-DE"), scan("a2", event_time="2026-03-01T05:00:00+01:00"), scan("a2", record_time=0)
        ).json()
        assert [each["status"] for each in content["results"]] == ["rejected", "rejected", "duplicate"]
        assert "known with other content" in content["results"][0]["error"]
        # Another form of the same time is the same content, except for the UTC offset.
        assert gateway.scans(scan("a2", event_time=1772337600000)).json()["duplicates"] == 1
        assert len(gateway.spool_entries()) == 2
        answered = [each for each in gateway.emitted if isinstance(each, gateway_events.RequestAnswered)]
        assert [(each.conflicts, each.rejected) for each in answered] == [(1, 0), (2, 0), (0, 0)]

    def test_a_device_that_restarts_its_numbers_gets_conflicts(self, gateway: RunningGateway) -> None:
        numbered = {key: value for key, value in scan(device_id="S7", device_seq=1).items() if key != "event_id"}
        assert gateway.scans(numbered).json()["accepted"] == 1
        again = gateway.scans({**numbered, "event_time": "2026-03-02T04:00:00Z"}).json()
        assert again["rejected"] == 1 and "an id stands for one record" in again["results"][0]["error"]
        # The same holds for another parcel, a container and a VOID.
        void = {"kind": "VOID", "voids": "a1", "event_time": "2026-03-02T04:00:00Z"}
        bag = {key: value for key, value in numbered.items() if key != "parcel_id"}
        others = ({**numbered, "parcel_id": "LP2"}, {**bag, "type": "container", "container_id": "B"}, numbered | void)
        assert [each["status"] for each in gateway.scans(*others).json()["results"]] == ["rejected"] * 3
        assert gateway.scans(numbered, {**numbered, "device_id": "S8", "parcel_id": "LP2"}).json()["duplicates"] == 1

    def test_device_numbers_are_known_after_a_restart(self, tmp_path: Path) -> None:
        numbered = {key: value for key, value in scan(device_id="S7", device_seq=1).items() if key != "event_id"}
        with running_gateway(tmp_path) as first:
            first.scans(numbered)
        dedup_cache = DedupCache()
        restore_caches(newest_entries(tmp_path / "spool", 100), dedup_cache, EventCache())
        with running_gateway(tmp_path, dedup_cache=dedup_cache) as second:
            content = second.scans(numbered, {**numbered, "parcel_id": "LP2"}).json()
        assert [each["status"] for each in content["results"]] == ["duplicate", "rejected"]

    def test_records_and_events_are_known_after_a_restart(self, tmp_path: Path) -> None:
        named = {**EVENT, "eventID": "urn:uuid:1"}
        with running_gateway(tmp_path) as first:
            first.scans(scan(), ADVICE)
            assert first.post("/events", named).status_code == 201
        dedup_cache, event_cache = DedupCache(), EventCache()
        restore_caches(newest_entries(tmp_path / "spool", 100), dedup_cache, event_cache)
        entries = {dedup_cache.find(entry.identity) for entry in newest_entries(tmp_path / "spool", 100)}
        assert {found.location for found in entries if found is not None} == {("LGG", "SRT-07"), ("*", "*"), ("-", "-")}
        with running_gateway(tmp_path, dedup_cache=dedup_cache, event_cache=event_cache) as second:
            content = second.scans(scan(), scan(kind="LOADED"), ADVICE, {**ADVICE, "service": "EXPRESS"}).json()
            assert [each["status"] for each in content["results"]] == ["duplicate", "rejected", "duplicate", "rejected"]
            details = [
                second.post("/events", {**named, **more}).json()["detail"] for more in ({}, {"bizStep": "loading"})
            ]
            assert "no errorDeclaration" in details[0] and "other content" in details[1]
            assert second.request("GET", "/events/urn:uuid:1").json()["epcList"] == EVENT["epcList"]

    def test_only_the_newest_records_are_remembered(self, tmp_path: Path) -> None:
        with running_gateway(tmp_path, dedup_cache=DedupCache(3)) as gateway:
            for number in range(8):
                gateway.scans(scan(f"a{number}"))
                assert min(number + 1, 3) <= len(gateway.gateway.intake.dedup_cache) < 6
            content = gateway.scans(*[scan(f"a{number}") for number in (5, 6, 7)], scan("a0", kind="LOADED")).json()
        assert [each["status"] for each in content["results"]] == ["duplicate", "duplicate", "duplicate", "accepted"]

    def test_a_record_waits_while_another_with_its_id_is_being_stored(self, gateway: RunningGateway) -> None:
        dedup_cache = gateway.gateway.intake.dedup_cache
        result = asyncio.run(gateway.gateway.intake.accept_ndjson(json.dumps(scan("a1", lane="X")).encode(), ANYBODY))
        with dedup_cache.reserve(result.dedup_entries):
            answer = gateway.scans(scan("a1"))
            assert answer.status_code == 503 and int(answer.headers["retry-after"]) > 0
            assert gateway.scans(scan("a1", lane="X")).json()["accepted"] == 1
        assert gateway.scans(scan("a1")).json()["rejected"] == 1


def container(records: list[dict[str, Any]], codec: str = "null", schema: Any = None) -> bytes:
    stream = io.BytesIO()
    fastavro.writer(stream, schema or load_schemas().current("Scan"), records, codec=codec)
    return stream.getvalue()


AVRO = {"content-type": "application/vnd.apache.avro"}
RECORD = {**scan(), "event_time": 1772337600000, "record_time": 0}


class TestAvro:
    @pytest.mark.parametrize("codec", ["null", "deflate"])
    def test_container_files_are_accepted(self, gateway: RunningGateway, codec: str) -> None:
        body = container([RECORD, {**RECORD, "event_id": "a2", "kind": "LOADED"}], codec)
        content = gateway.request("POST", "/scans", content=body, headers=AVRO).json()
        assert (content["accepted"], content["rejected"]) == (2, 0)
        assert [each["kind"] for each in stored_scans(gateway)] == ["SORTED", "LOADED"]
        assert stored_scans(gateway)[0]["event_time"] == 1772337600000

    @pytest.mark.parametrize(
        ("damage", "word"),
        [
            (lambda body: body[:-20], "bytes are left"),
            (lambda body: b"Obj\x02" + body[4:], "not an Avro"),
            (lambda body: body.replace(b'"name": "Scan"', b'"name": "Spam"'), "named"),
            (lambda body: body[:-1] + b"\0", "sync marker"),
        ],
    )
    def test_damaged_files_are_rejected_with_an_error(self, gateway: RunningGateway, damage: Any, word: str) -> None:
        body = damage(container([RECORD]))
        content = gateway.request("POST", "/scans", content=body, headers=AVRO).json()
        assert content["rejected"] == 1 and word in content["results"][-1]["error"]

    def test_an_enum_index_outside_the_schema_is_rejected(self, gateway: RunningGateway) -> None:
        schema = {
            "type": "record",
            "name": "Scan",
            "fields": [{"name": "kind", "type": {"type": "enum", "name": "Kind", "symbols": ["ARRIVED"]}}],
        }
        body = container([{"kind": "ARRIVED"}], schema=schema)
        # The block is: count 1, size 1, enum index 0. The index becomes -1.
        mark = body[-16:]
        broken = body[: -16 - 1] + b"\x01" + mark
        content = gateway.request("POST", "/scans", content=broken, headers=AVRO).json()
        assert "enum index -1" in content["results"][0]["error"]

    def test_zip_bombs_are_not_inflated(self, tmp_path: Path) -> None:
        packer = zlib.compressobj(9, zlib.DEFLATED, -15)
        packed = packer.compress(b"\0" * (50 << 20)) + packer.flush()
        body = container([RECORD], "deflate")
        head, mark = body[: body.rindex(body[-16:], 0, -16) + 16], body[-16:]
        sizes = b"\x02" + _long(len(packed))
        with running_gateway(tmp_path, request_limits=RequestLimits(max_inflated_bytes=1 << 20)) as gateway:
            answer = gateway.request("POST", "/scans", content=head + sizes + packed + mark, headers=AVRO)
        assert "too large when inflated" in answer.json()["results"][0]["error"]

    def test_empty_blocks_are_rejected(self, gateway: RunningGateway) -> None:
        body = container([RECORD])
        answer = gateway.request("POST", "/scans", content=body + (b"\0\0" + body[-16:]) * 400_000, headers=AVRO)
        content = answer.json()
        assert (content["accepted"], content["rejected"]) == (1, 1)
        assert "a block without a record" in content["results"][1]["error"]

    @pytest.mark.parametrize(
        "type_",
        [
            {"type": "array", "items": "null"},
            {"type": "map", "values": "int"},
            {"type": "record", "name": "Scan2", "fields": []},
            {"type": "fixed", "name": "F", "size": 1 << 30},
        ],
    )
    def test_only_flat_records_are_read(self, gateway: RunningGateway, type_: Any) -> None:
        schema = {"type": "record", "name": "Scan", "fields": [{"name": "x", "type": type_}]}
        body = b"Obj\x01\x02\x16avro.schema" + _text(json.dumps(schema)) + b"\0" + b"m" * 16
        answer = gateway.request("POST", "/scans", content=body, headers=AVRO)
        assert "flat" in answer.json()["results"][0]["error"]


def _long(value: int) -> bytes:
    value, encoded = value << 1, b""
    while value >= 0x80:
        encoded += bytes([value & 0x7F | 0x80])
        value >>= 7
    return encoded + bytes([value])


def _text(text: str) -> bytes:
    return _long(len(text)) + text.encode()


class TestCapture:
    def test_a_document_becomes_scans_container_events_and_stored_events(self, gateway: RunningGateway) -> None:
        answer = gateway.post("/capture", document(SCAN, BAG, events.TRANSFORMED))
        assert answer.status_code == 202
        job = gateway.request("GET", answer.headers["location"]).json()
        assert (job["running"], job["success"], job["errors"]) == (False, True, [])
        assert job["captureErrorBehaviour"] == "rollback" and job["captureID"] in answer.headers["location"]
        (arrived,) = stored_scans(gateway)
        assert (arrived["kind"], arrived["parcel_id"]) == ("ARRIVED", "RB123456785GB")
        (packed,) = (CONTAINER(entry.value) for entry in gateway.spool_entries(1))
        assert (packed["kind"], packed["container_id"]) == ("PACKED", "https://id.gs1.org/00/106141412345678908")
        assert (packed["parcels"], packed["containers"]) == (["RB123456785GB"], [])
        assert gateway.spool_entries(1)[0].key == packed["container_id"].encode() and len(gateway.spool_entries(2)) == 3
        archived = json.loads(gateway.spool_entries(2)[2].value)
        assert archived["eventID"].startswith("ni:///sha-256;") and archived["recordTime"]
        assert archived["ilmd"] == events.TRANSFORMED["ilmd"]

    def test_query_documents_are_accepted(self, gateway: RunningGateway) -> None:
        answer = gateway.post("/capture", query_document(SCAN))
        assert gateway.request("GET", answer.headers["location"]).json()["success"]

    def test_rollback_stores_all_or_nothing_and_proceed_the_valid_events(self, gateway: RunningGateway) -> None:
        broken = document(SCAN, {**SCAN, "bizStep": "sorting"})
        job = gateway.request("GET", gateway.post("/capture", broken).headers["location"]).json()
        assert (job["running"], job["success"]) == (False, False)
        assert job["errors"][0]["type"] == "epcisException:ValidationException"
        assert job["errors"][0]["errors"][0]["rule"] == "enum"
        assert gateway.spool_entries() == []
        answer = gateway.post("/capture", broken, gs1_capture_error_behaviour="proceed")
        job = gateway.request("GET", answer.headers["location"]).json()
        assert not job["success"] and job["captureErrorBehaviour"] == "proceed" and len(gateway.spool_entries()) == 1
        wrong = gateway.post("/capture", broken, gs1_capture_error_behaviour="ignore")
        assert wrong.status_code == 400

    def test_a_document_sent_again_changes_nothing(self, gateway: RunningGateway) -> None:
        for _ in range(2):
            answer = gateway.post("/capture", document(SCAN, BAG))
            assert gateway.request("GET", answer.headers["location"]).json()["success"]
        assert len(gateway.spool_entries(2)) == 2

    @pytest.mark.parametrize(
        "body",
        [b"", b"{", b"[]", b'{"type": "EPCISDocument"}', json.dumps(EVENT).encode(), b"\xff\xfe", b"[" * 5000],
    )
    def test_other_bodies_than_documents_are_rejected_at_once(self, gateway: RunningGateway, body: bytes) -> None:
        answer = gateway.post("/capture", body)
        assert answer.status_code == 400 and answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["type"] == "epcisException:ValidationException"

    def test_jobs_are_listed_in_pages(self, gateway: RunningGateway) -> None:
        locations = [gateway.post("/capture", document(SCAN)).headers["location"] for _ in range(3)]
        first = gateway.request("GET", "/capture?perPage=2")
        assert [f"/capture/{each['captureID']}" for each in first.json()] == locations[:0:-1]
        following = first.headers["link"].partition("<")[2].partition(">")[0]
        second = gateway.request("GET", following)
        assert [f"/capture/{each['captureID']}" for each in second.json()] == locations[
            :1
        ] and "link" not in second.headers
        assert gateway.request("GET", "/capture?perPage=0").status_code == 400
        assert gateway.request("GET", "/capture?nextPageToken=x").status_code == 400
        missing = gateway.request("GET", "/capture/unknown")
        assert missing.status_code == 404 and missing.json()["type"] == "epcisException:NoSuchResourceException"

    def test_jobs_are_known_after_a_restart(self, tmp_path: Path) -> None:
        with running_gateway(tmp_path) as first:
            location = first.post("/capture", document(SCAN)).headers["location"]
        with running_gateway(tmp_path) as second:
            assert second.request("GET", location).json()["success"]

    def test_options_returns_limits_and_versions(self, gateway: RunningGateway) -> None:
        answer = gateway.request("OPTIONS", "/capture")
        assert answer.status_code == 204 and answer.headers["allow"] == "GET, POST, OPTIONS"
        assert answer.headers["gs1-epcis-version"].startswith("2.0")
        assert answer.headers["gs1-epcis-capture-limit"] == "10000"
        assert int(answer.headers["gs1-epcis-capture-file-size-limit"]) == gateway.gateway.request_limits.max_body_bytes

    def test_a_document_with_too_many_events_is_rejected(self, tmp_path: Path) -> None:
        with running_gateway(tmp_path, request_limits=RequestLimits(max_events=2)) as gateway:
            answer = gateway.post("/capture", document(SCAN, SCAN, SCAN))
        assert answer.status_code == 413


class TestEvents:
    def test_one_event_is_stored_once(self, gateway: RunningGateway) -> None:
        answer = gateway.post("/events", EVENT)
        assert answer.status_code == 201 and answer.headers["location"].startswith("/events/ni%3A%2F%2F%2Fsha-256")
        again = gateway.post("/events", EVENT)
        assert again.status_code == 409
        assert again.json()["type"] == "epcisException:ResourceAlreadyExistsException"
        assert len(gateway.spool_entries()) == 1

    def test_another_event_with_a_known_id_is_rejected(self, gateway: RunningGateway) -> None:
        named = {**EVENT, "eventID": "urn:uuid:1"}
        assert gateway.post("/events", named).status_code == 201
        conflict = gateway.post("/events", {**named, "bizStep": "loading"})
        assert conflict.status_code == 409 and "other content" in conflict.json()["detail"]
        declared = {**named, "errorDeclaration": {"declarationTime": "2026-03-02T00:00:00Z"}}
        # With another epcList, some scans of the event would not be voided.
        assert gateway.post("/events", {**declared, "epcList": ["urn:parcels:parcel:P9"]}).status_code == 409
        reason = {"declarationTime": "2026-03-02T00:00:00Z", "reason": "did_not_occur"}
        statuses = [gateway.post("/events", each).status_code for each in (declared, declared)]
        assert statuses == [201, 201]
        assert gateway.post("/events", {**declared, "errorDeclaration": reason}).status_code == 409
        body = document(*[{**SCAN, "eventID": "urn:uuid:1", "bizStep": step} for step in ("arriving", "loading")])
        answer = gateway.post("/capture", body, gs1_capture_error_behaviour="proceed")
        job = gateway.request("GET", answer.headers["location"]).json()
        assert [(each["event"], each["status"]) for each in job["errors"]] == [(1, 409)] and not job["success"]
        assert job["errors"][0]["type"] == "epcisException:ResourceAlreadyExistsException"
        assert len(gateway.spool_entries(2)) == 2

    def test_a_scan_and_an_event_with_the_same_id_must_have_the_same_content(self, gateway: RunningGateway) -> None:
        assert gateway.scans(scan("urn:uuid:1")).json()["accepted"] == 1
        assert gateway.post("/events", {**EVENT, "eventID": "urn:uuid:1"}).status_code == 409
        assert gateway.post("/events", {**EVENT, "eventID": "urn:uuid:2"}).status_code == 201
        assert gateway.scans(scan("urn:uuid:2")).json()["rejected"] == 1

    def test_an_event_is_returned_with_its_prefixes(self, gateway: RunningGateway) -> None:
        whole = document({**SCAN, "example:note": "x", "eventID": "https://id.example/1?a=b"})
        whole["@context"] = [*whole["@context"], {"example": "https://ns.example/"}]
        assert gateway.post("/capture", whole).status_code == 202
        event = gateway.request("GET", "/events/https%3A%2F%2Fid.example%2F1%3Fa%3Db")
        assert event.status_code == 200 and event.headers["content-type"] == "application/ld+json"
        assert event.json()["example:note"] == "x" and event.json()["@context"][1]["example"] == "https://ns.example/"
        assert check_document(event.json()).is_valid
        assert gateway.request("GET", "/events/urn:x:unknown").status_code == 404
        assert gateway.request("GET", gateway.post("/events", EVENT).headers["location"]).status_code == 200

    def test_a_declaration_has_the_id_of_the_declared_event_and_voids_its_scans(self, gateway: RunningGateway) -> None:
        named = {**EVENT, "eventID": "urn:uuid:1"}
        declared = {**named, "errorDeclaration": {"declarationTime": "2026-03-02T00:00:00Z", "reason": "did_not_occur"}}
        later = {**named, "errorDeclaration": {"declarationTime": "2026-03-03T00:00:00+00:00"}}
        statuses = [gateway.post("/events", each).status_code for each in (named, named, declared, declared, later)]
        assert statuses == [201, 409, 201, 201, 201]
        scans = stored_scans(gateway)
        assert [(each["kind"], each["voids"]) for each in scans] == [
            ("ARRIVED", None),
            ("VOID", "urn:uuid:1"),
            ("VOID", "urn:uuid:1"),
        ]
        assert {each["event_id"] for each in scans} == {"urn:uuid:1"}
        assert [each["event_time"] for each in scans[1:]] == [1772409600000, 1772496000000]

    @pytest.mark.parametrize(
        "event",
        [
            SCAN,
            {**EVENT, "bizStep": "sorting"},
            {**EVENT, "type": "EPCISDocument"},
            {"@context": []},
            [],
            {**EVENT, "@context": "https://evil.example/context.jsonld"},
        ],
    )
    def test_wrong_events_are_rejected(self, gateway: RunningGateway, event: Any) -> None:
        answer = gateway.post("/events", event)
        assert answer.status_code == 400 and answer.json()["type"] == "epcisException:ValidationException"
        assert gateway.spool_entries(2) == []


class TestAllRoutes:
    def test_content_types_and_encodings(self, gateway: RunningGateway) -> None:
        for path in ("/scans", "/capture", "/events"):
            assert gateway.request("POST", path, content=b"{}", headers={"content-type": "text/xml"}).status_code == 415
            assert gateway.request("POST", path, content=b"{}").status_code == 415
        assert gateway.scans(scan(), headers={"content-encoding": "gzip"}).status_code == 415

    def test_bodies_beyond_the_limit(self, tmp_path: Path) -> None:
        with running_gateway(tmp_path, request_limits=RequestLimits(max_body_bytes=1_000)) as gateway:
            answer = gateway.scans(b"x" * 1_001)
            assert answer.status_code == 413 and gateway.spool_entries() == []

    @pytest.mark.parametrize(
        ("parts", "stalls", "status", "ends"),
        [(5, False, 413, False), (20, False, 413, True), (2, True, 413, True), (1, True, 408, True)],
    )
    def test_rejected_bodies_are_read_to_their_end_within_limits(
        self, tmp_path: Path, parts: int, stalls: bool, status: int, ends: bool
    ) -> None:
        sent = []

        async def content() -> AsyncIterator[bytes]:
            for _ in range(parts):
                sent.append(1_000)
                yield b"x" * 1_000
            if stalls:
                await asyncio.sleep(30)

        with running_gateway(
            tmp_path, request_limits=RequestLimits(max_body_bytes=1_000, body_timeout_seconds=0.2)
        ) as gateway:
            headers = {"content-type": "application/x-ndjson"}
            answer = gateway.request("POST", "/scans", content=content(), headers=headers)
            assert (answer.status_code, answer.headers.get("connection") == "close") == (status, ends)
            assert gateway.gateway.buffered_bytes == 0 and len(sent) <= 12

    def test_other_methods_and_paths(self, gateway: RunningGateway) -> None:
        for path in ("/scans", "/events", "/capture"):
            answer = gateway.request("DELETE", path)
            assert answer.status_code == 405 and "POST" in answer.headers["allow"]
        assert gateway.request("GET", "/nothing").status_code == 404
        assert gateway.request("POST", "/healthz").status_code == 405

    def test_health_and_readiness(self, gateway: RunningGateway) -> None:
        assert gateway.request("GET", "/healthz").status_code == 200
        assert gateway.request("GET", "/readyz").status_code == 200

    def test_a_failing_disk_is_never_answered_with_success(self, tmp_path: Path) -> None:
        disk = FaultyDisk()
        with running_gateway(tmp_path, disk=disk) as gateway:
            assert gateway.scans(scan("a1")).status_code == 200
            disk.write_errors = [errno.ENOSPC]
            for attempt in (
                lambda: gateway.scans(scan("a2")),
                lambda: gateway.post("/events", EVENT),
                lambda: gateway.post("/capture", document(SCAN)),
            ):
                disk.write_errors = [errno.ENOSPC]
                answer = attempt()
                assert answer.status_code == 503 and int(answer.headers["retry-after"]) > 0
            assert gateway.request("GET", "/readyz").status_code == 503
            disk.sync_errors = 1
            assert gateway.scans(scan("a3")).status_code == 503
            # A repeat of a request that failed is not a duplicate.
            assert gateway.scans(scan("a2"), scan("a3")).json()["accepted"] == 2
            assert gateway.post("/events", EVENT).status_code == 201
            assert gateway.request("GET", "/readyz").status_code == 200

    def test_a_hanging_disk_is_reported_and_requests_do_not_pile_up(self, tmp_path: Path) -> None:
        disk = HangingDisk()
        spool_limits, request_limits = SpoolLimits(stall_timeout_seconds=0.2), RequestLimits(spool_timeout_seconds=0.4)
        with running_gateway(tmp_path, disk=disk, spool_limits=spool_limits, request_limits=request_limits) as gateway:
            disk.answers.clear()
            try:
                assert gateway.scans(scan("a1")).status_code == 503
                assert gateway.request("GET", "/readyz").status_code == 503
                for _ in range(3):
                    assert gateway.scans(scan("a2")).status_code == 503
            finally:
                disk.answers.set()
            wait_until(lambda: gateway.request("GET", "/readyz").status_code == 200, "the gateway does not recover")
            assert gateway.scans(scan("a2")).json()["accepted"] == 1
            assert len(gateway.spool_entries()) == 2

    def test_a_full_spool_accepts_nothing(self, tmp_path: Path) -> None:
        with running_gateway(tmp_path, spool_limits=SpoolLimits(max_waiting_bytes=500)) as gateway:
            statuses = [gateway.scans(scan(f"a{number}")).status_code for number in range(8)]
            assert statuses[0] == 200 and statuses[-1] == 503
            gateway.gateway.spool.mark_sent(gateway.gateway.spool.durable_position)
            assert gateway.scans(scan("b")).status_code == 200


@pytest.mark.parametrize("address", ["/events", "/capture"])
def test_events_that_become_too_many_bytes_are_rejected(gateway: RunningGateway, address: str) -> None:
    parcels = [f"urn:parcels:parcel:{number}" for number in range(40_000)]
    event = {**EVENT, "epcList": parcels, "eventID": "urn:x:" + "a" * 1000}
    answer = gateway.post(address, event if address == "/events" else document(event))
    assert answer.status_code == 413
    assert answer.json()["type"] == "epcisException:CaptureLimitExceededException"
    assert gateway.spool_entries() == [] and gateway.request("GET", "/capture").json() == []


UNFIT = [
    {"eventTime": "1800-01-01T00:00:00Z"},
    {"eventTime": "9999-12-31T23:59:59Z"},
    {"epcList": ["urn:parcels:parcel:"]},
    {"epcList": ["urn:parcels:parcel:a%0Ab"]},
    {"readPoint": {"id": "urn:parcels:place:" + "L" * 300 + ":S"}},
]


@pytest.mark.parametrize("changes", UNFIT)
def test_events_that_the_log_cannot_hold_are_rejected_with_a_reason(
    gateway: RunningGateway, changes: dict[str, Any]
) -> None:
    answer = gateway.post("/events", {**EVENT, **changes})
    assert (answer.status_code, answer.json()["type"]) == (400, "epcisException:ValidationException")
    result = gateway.post("/capture", document(SCAN, {**SCAN, **changes}), gs1_capture_error_behaviour="proceed")
    job = gateway.request("GET", result.headers["location"]).json()
    assert not job["running"] and not job["success"] and [each["event"] for each in job["errors"]] == [1]
    assert len(gateway.spool_entries()) == 1


@pytest.mark.parametrize("size", ["\u00b2", "\u0663", "9" * 5000])
def test_a_page_size_that_is_not_a_number_is_rejected(gateway: RunningGateway, size: str) -> None:
    assert gateway.request("GET", "/capture", params={"perPage": size}).status_code == 400


def test_a_job_with_many_errors_has_a_bounded_size(gateway: RunningGateway) -> None:
    wrong = {**SCAN, "epcList": ["no uri " + "x" * 60] * 100}
    result = gateway.post("/capture", document(*[wrong] * 100))
    job = gateway.request("GET", result.headers["location"])
    assert len(job.json()["errors"]) == 100 and len(job.content) < 200_000


def test_the_file_of_jobs_has_a_bounded_size(tmp_path: Path) -> None:
    jobs = CaptureJobs(tmp_path / "captures.jsonl")
    for _ in range(20_000):
        job = jobs.start("S7", "rollback")
        job.finish([])
        jobs.save(job)
    lines = (tmp_path / "captures.jsonl").read_text().splitlines()
    assert len(lines) <= 8_000
    assert CaptureJobs(tmp_path / "captures.jsonl").find(job.capture_id, "S7") is not None


def test_all_buffered_bodies_together_have_a_limit(tmp_path: Path) -> None:
    with running_gateway(tmp_path, request_limits=RequestLimits(max_buffered_bytes=1_000)) as gateway:
        many = [scan(f"a{number}") for number in range(20)]
        answer = gateway.scans(*many)
        assert answer.status_code == 503 and answer.headers["retry-after"] == "1"
        assert gateway.spool_entries() == [] and gateway.gateway.buffered_bytes == 0
        # The bytes of other requests count while they are buffered.
        gateway.gateway.buffered_bytes = 900
        assert gateway.scans(scan("b1")).status_code == 503
        gateway.gateway.buffered_bytes = 0
        assert gateway.scans(scan("b1")).status_code == 200
        assert gateway.scans(b"[" * 500).json()["rejected"] == 1
        assert gateway.gateway.buffered_bytes == 0
