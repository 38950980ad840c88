"""Checks the records of a request one by one and turns the accepted ones into entries for the spool.

This module knows neither HTTP nor credentials, only the principal that sends. The same code takes the scans of a
sorter, the Avro file of a partner, and EPCIS documents.
"""

import asyncio
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

from streams.capture.auth.principal import Principal
from streams.capture.epcis.checks import RuleViolation, format_value, parse_epoch_ms
from streams.capture.epcis.contexts import STANDARD_CONTEXT, STANDARD_PREFIXES
from streams.capture.epcis.documents import CheckedEvent
from streams.capture.epcis.event_hash import normalize_time
from streams.capture.epcis.mapping import EventRecords, map_event, named_locations
from streams.capture.intake.dedup_cache import (
    ALL_LOCATIONS,
    CapturedEvent,
    DedupCache,
    DedupEntry,
    DedupEntryReader,
    captured_event_key,
    event_content_hash,
    event_location_or_none,
)
from streams.capture.intake.intake_result import IntakeResult
from streams.capture.intake.record_bodies import (
    DEVICE_EVENT_ID,
    MAX_RECORDS,
    parse_avro,
    parse_lines,
    prepare_record,
)
from streams.capture.intake.time_slicer import TimeSlicer
from streams.capture.spool.segment_files import SpoolEntry, Target, identity_hash
from streams.formats.record_parser import RecordParser

# One EPCIS event may name any number of objects, and each becomes a record with all the event's fields.
MAX_OBJECTS: Final = 50_000
# Limit of the records made from one request, well below the largest frame that the spool reads back.
MAX_OUTPUT_BYTES: Final = 32 << 20
_OBJECT_LISTS: Final = ("epcList", "childEPCs")


class OutOfScopeError(ValueError):
    """The sender is not authorized to send the record."""


class ConflictError(ValueError):
    """The identity is known with other content."""


class TooManyRecordsError(ValueError):
    """The request has more records than one request may have."""


class Intake:
    """Turns the bodies of requests into spool entries and results."""

    def __init__(self, dedup_cache: DedupCache) -> None:
        self.dedup_cache = dedup_cache
        self._parse_record = RecordParser()
        self._entry_reader = DedupEntryReader()
        self._large_request_lock = asyncio.Lock()

    async def accept_ndjson(self, body: bytes, principal: Principal) -> IntakeResult:
        """Accept newline-delimited JSON; there is one result for each line that is not blank."""
        return await self._accept_all(parse_lines(body), principal)

    async def accept_avro(self, body: bytes, principal: Principal, max_inflated_bytes: int) -> IntakeResult:
        """Accept an Avro container file. The rest behind an unreadable position is rejected with a single result."""
        return await self._accept_all(parse_avro(body, max_inflated_bytes), principal)

    def time_slicer(self, result: IntakeResult) -> TimeSlicer:
        """A slicer for the processing of one request."""
        return TimeSlicer(result, self.dedup_cache, self._large_request_lock)

    async def _accept_all(self, parsed_records: Iterator[Any], principal: Principal) -> IntakeResult:
        result, now_ms = IntakeResult(), int(time.time() * 1000)
        async with self.time_slicer(result) as time_slicer:
            for index, parsed in enumerate(parsed_records):
                if index >= MAX_RECORDS:
                    raise TooManyRecordsError(
                        f"the request has more than {MAX_RECORDS:,} records: send them in several requests"
                    )
                try:
                    if isinstance(parsed, ValueError):
                        raise parsed
                    record_result = self._accept_record(parsed, principal, now_ms, result)
                except ValueError as error:
                    result.out_of_scope += isinstance(error, OutOfScopeError)
                    result.conflicts += isinstance(error, ConflictError)
                    result.rejected += not isinstance(error, ConflictError)
                    record_result = {"status": "rejected", "error": str(error)}
                result.record_results.append({"index": index, **record_result})
                if time_slicer.is_expired:
                    await time_slicer.yield_to_others()
        return result

    def _accept_record(self, parsed: Any, principal: Principal, now_ms: int, result: IntakeResult) -> dict[str, Any]:
        """Add one record to `result`; return its own result.

        Raises:
            ValueError: the record is rejected.
        """
        if principal.may_send_ticks and isinstance(parsed, dict) and parsed.get("type") == "tick":
            encoded = self._parse_record(parsed)
            assert encoded.value is not None
            # To both logs, because each has its own hub time.
            result.entries += [
                SpoolEntry(target, identity_hash("tick"), None, encoded.value)
                for target in (Target.SCANS, Target.CONTAINERS)
            ]
            result.accepted += 1
            return {"status": "accepted"}
        # 1. Is it valid? 2. May the principal send it? 3. Is it known? In this order, no sender can find out which
        # records others have sent.
        record = prepare_record(parsed, principal, now_ms)
        encoded = self._parse_record(record)
        assert encoded.value is not None
        location = ALL_LOCATIONS if record["type"] == "advice" else (record["site"], record["station"])
        if not principal.is_authorized_for(*location):
            if location is ALL_LOCATIONS:
                raise OutOfScopeError(f"{principal.name} may not send advices: they need a registration for all sites")
            raise OutOfScopeError(f"{principal.name} may not send records of {format_value(' '.join(location))}")
        self._check_names(principal, record["event_id"], record.get("device_id"), record.get("voids"))
        self._check_void(record, principal)
        identity, dedup_entry = _line_identity(record), self._entry_reader.from_value(encoded.value)
        if self._is_known(identity, dedup_entry.content_hash, result, record["event_id"]):
            result.duplicates += 1
            return {"status": "duplicate", "event_id": record["event_id"]}
        result.entries.append(SpoolEntry(_target(record), identity, encoded.key, encoded.value))
        result.dedup_entries[identity] = dedup_entry
        result.accepted += 1
        return {"status": "accepted", "event_id": record["event_id"]}

    def accept_event(self, event: CheckedEvent, principal: Principal, result: IntakeResult) -> bool:
        """Add one valid event to `result`; False if it is a duplicate.

        Raises:
            TooManyRecordsError: the events of the request so far fill more than the spool takes at once.
            OutOfScopeError: the principal is not authorized to send the event.
            ConflictError: the eventID is known with other content.
            ValueError: the log cannot hold the scans of the event: a time before 1900, a control character.
        """
        assert event.event_id is not None
        assert event.event_hash is not None
        result.object_count += sum(
            len(event.raw[name]) for name in _OBJECT_LISTS if isinstance(event.raw.get(name), list)
        )
        if result.object_count > MAX_OBJECTS:
            raise TooManyRecordsError(
                f"the events of the request name more than {MAX_OBJECTS:,} objects: send them in several requests"
            )
        now_ms = int(time.time() * 1000)
        mapped = map_event(event.raw, event.event_id, event.prefixes, now_ms, principal.name)
        self._check_scope(event, mapped, principal)
        identity = event_identity(event.raw, event.event_id)
        content_hash = event_content_hash(event.raw, event.event_hash)
        if self._is_known(identity, content_hash, result, event.event_id):
            result.duplicates += 1
            return False
        if event.raw.get("errorDeclaration") is not None:
            # A declaration must repeat the declared event. With other content it would void records that do not exist.
            self._is_known(
                identity_hash(event.event_id, ""), event_content_hash({}, event.event_hash), result, event.event_id
            )
        entries, dedup_entries = [], dict[bytes, DedupEntry]()
        for record in (*mapped.scans, *mapped.containers):
            encoded = self._parse_record(record)
            assert encoded.value is not None
            own_identity, dedup_entry = record_identity(record), self._entry_reader.from_value(encoded.value)
            # The same record may have come through /scans already. Then that one is kept.
            if not self._is_known(own_identity, dedup_entry.content_hash, result, event.event_id):
                entries.append(SpoolEntry(_target(record), own_identity, encoded.key, encoded.value))
                dedup_entries[own_identity] = dedup_entry
        captured = CapturedEvent(principal.name, _stored_form(event, now_ms))
        key = captured_event_key(principal.name, content_hash)
        entries.append(SpoolEntry(Target.EVENT_ONLY, identity, key, captured.event))
        result.record_bytes += sum(len(entry.value) + len(entry.key or b"") for entry in entries)
        if result.record_bytes > MAX_OUTPUT_BYTES:
            raise TooManyRecordsError(
                f"the events of the request become more than {MAX_OUTPUT_BYTES >> 20} MiB of records: send them in "
                "several requests"
            )
        result.entries += entries
        result.dedup_entries |= dedup_entries
        # The event comes last, so that the cache drops it after its scans.
        result.dedup_entries[identity] = DedupEntry(content_hash, event_location_or_none(event.raw))
        result.captured_events[identity] = captured
        result.accepted += 1
        return True

    def _check_scope(self, event: CheckedEvent, mapped: EventRecords, principal: Principal) -> None:
        locations = {(record["site"], record["station"]) for record in (*mapped.scans, *mapped.containers)}
        # An event without scans is also stored, so the locations that it names are checked.
        locations |= set(named_locations(event.raw))
        for location in sorted(locations):
            if not principal.is_authorized_for(*location):
                raise OutOfScopeError(f"{principal.name} may not send events of {format_value(' '.join(location))}")
        declared_id = event.event_id if event.raw.get("errorDeclaration") is not None else None
        devices = {record["device_id"] for record in (*mapped.scans, *mapped.containers)}
        for device in devices or {""}:
            # A device_id with a colon is the URI of a sensor; names of devices have none.
            self._check_names(principal, str(event.event_id), device if ":" not in device else "", declared_id)
        if declared_id is not None:
            id_is_hash = event.event_id == event.event_hash
            void = {"event_id": declared_id, "parcel_id": "", "voids": declared_id}
            for record in (void, *mapped.scans, *mapped.containers):
                self._check_void(record, principal, id_is_hash=id_is_hash)

    def _check_names(self, principal: Principal, event_id: str, device: str | None, voids: str | None) -> None:
        """Check that the principal uses neither the name of another device nor the event_ids of another device."""
        if device and not principal.may_act_as(device):
            raise OutOfScopeError(f"{principal.name} may not send as device {format_value(device)}")
        # A VOID may have the event_id of the record that it declares wrong. It does not block the id for that record.
        if (
            event_id.startswith(DEVICE_EVENT_ID)
            and event_id != voids
            and not principal.may_act_as(_device_of(event_id))
        ):
            raise OutOfScopeError(
                f"{principal.name} may not use event_id {format_value(event_id)}, which is an id of another device"
            )

    def _check_void(self, record: Mapping[str, Any], principal: Principal, *, id_is_hash: bool = False) -> None:
        """Check that the principal may declare the voided record wrong: only at its own locations.

        The location of a record that is not in the cache is unknown. `id_is_hash`: the id is the content hash of the
        event, which proves the location.
        """
        voids = record.get("voids")
        if not isinstance(voids, str) or principal.is_authorized_for(*ALL_LOCATIONS):
            return
        if voids.startswith(DEVICE_EVENT_ID) and principal.may_act_as(_device_of(voids)):
            return
        # The voided record may have come as a line, with or without a device's number, or as an EPCIS event.
        voided = {**record, "kind": None, "event_id": voids}
        identities = (_line_identity(voided), record_identity(voided), identity_hash(voids, ""))
        known = [entry for entry in map(self.dedup_cache.find, identities) if entry is not None]
        locations = [entry.location for entry in known if entry.location is not None]
        if not all(principal.is_authorized_for(*location) for location in locations):
            raise OutOfScopeError(
                f"{principal.name} may not void {format_value(voids)}, which is a record of another location"
            )
        if not locations and not id_is_hash:
            raise OutOfScopeError(
                f"{principal.name} may not void {format_value(voids)}: this gateway does not remember it, so a "
                "registration for all sites is needed"
            )

    def _is_known(self, identity: bytes, content_hash: bytes, result: IntakeResult, event_id: str) -> bool:
        """Is the record known, with the same content?

        Raises:
            ConflictError: it is known with other content.
            IdentityInFlightError: a record of this identity with other content is being stored.
        """
        known = result.dedup_entries.get(identity) or self.dedup_cache.find(identity)
        if known is None:
            self.dedup_cache.check_unreserved(identity, content_hash)
            return False
        if known.content_hash and content_hash and known.content_hash != content_hash:
            raise ConflictError(
                f"{format_value(event_id)} is known with other content: an id stands for one record, so use a new one"
            )
        return True


def _device_of(event_id: str) -> str:
    return event_id.removeprefix(DEVICE_EVENT_ID).rpartition(":")[0]


def _stored_form(event: CheckedEvent, now_ms: int) -> bytes:
    """An event in its stored form: complete by itself, with the prefixes of its document."""
    own_prefixes = {name: root for name, root in event.prefixes.items() if STANDARD_PREFIXES.get(name) != root}
    context: list[Any] = [STANDARD_CONTEXT, *([own_prefixes] if own_prefixes else [])]
    stored = {**event.raw, "@context": context, "eventID": event.event_id, "recordTime": _format_time(now_ms)}
    return json.dumps(stored, ensure_ascii=False, separators=(",", ":")).encode()


def event_identity(event: Mapping[str, Any], event_id: str) -> bytes:
    """The identity of an event. An event and its error declaration share an eventID (gs1/EPCIS issue 48)."""
    declaration = event.get("errorDeclaration")
    return identity_hash(event_id, normalize_time(str(declaration["declarationTime"])) if declaration else "")


def record_identity(record: Mapping[str, Any]) -> bytes:
    """The identity of a scan, an advice or a container event, that identifies a repeat. Workers use the same rule.

    A VOID may have the event_id of the record that it declares wrong. Its identity includes the declaration time.
    """
    declared = ""
    if record.get("kind") == "VOID":
        event_time = record.get("event_time")
        declared = str(parse_epoch_ms(event_time) if isinstance(event_time, str) else event_time)
    if record.get("type") == "container":
        return identity_hash("container", record["event_id"], record["container_id"], declared)
    return identity_hash(record["event_id"], record["parcel_id"], declared)


def _line_identity(record: Mapping[str, Any]) -> bytes:
    """As `record_identity`, but an event_id made from a device's number stands for one record of any parcel.

    So a device that restarts its numbers gets a conflict, and not only where it sees the same parcel.
    """
    event_id = record["event_id"]
    if not event_id.startswith(DEVICE_EVENT_ID):
        return record_identity(record)
    voids_itself = record.get("kind") == "VOID" and event_id == record.get("voids")
    return identity_hash("number", event_id) if not voids_itself else record_identity(record)


def _target(record: Mapping[str, Any]) -> Target:
    return Target.CONTAINERS if record["type"] == "container" else Target.SCANS


def violations_as_json(violations: Sequence[RuleViolation]) -> list[dict[str, str]]:
    """Violations in the form of an answer."""
    return [asdict(violation) for violation in violations]


def _format_time(epoch_ms: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.", time.gmtime(epoch_ms // 1000)) + f"{epoch_ms % 1000:03}Z"
