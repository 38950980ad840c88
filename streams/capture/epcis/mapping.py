"""Maps EPCIS events to scans and container events (the tables are in docs/reference/capture.md).

An event that concerns neither a parcel nor a container gives no record. It is kept in the spool only.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote

from streams.capture.epcis import vocabulary as words
from streams.capture.epcis.checks import parse_epoch_ms, parse_offset_minutes
from streams.domain.identifiers import identify
from streams.domain.kinds import KINDS
from streams.domain.limits import MAX_CONTAINER_ID_BYTES, MAX_EVENT_ID_BYTES, MAX_PARCEL_ID_BYTES, MAX_TEXT_BYTES

# Business step of CBV -> kind of scan.
_KIND_BY_STEP: Final = {
    "arriving": "ARRIVED",
    "accepting": "ARRIVED",
    "receiving": "ARRIVED",
    "unloading": "UNLOADED",
    "unpacking": "UNPACKED",
    "packing": "PACKED",
    "loading": "LOADED",
    "departing": "DISPATCHED",
    "shipping": "DISPATCHED",
}
# (business step, disposition) -> kind, for steps whose kind depends on the disposition.
_KIND_BY_STEP_AND_DISPOSITION: Final = {
    ("inspecting", "conformant"): "CUSTOMS_RELEASED",
    ("inspecting", "non_conformant"): "CUSTOMS_REFUSED",
    ("holding", "held_customs"): "CUSTOMS_HELD",
}
_KIND_BY_DISPOSITION: Final = {
    "held_customs": "CUSTOMS_HELD",
    "damaged": "DAMAGED",
    "returned": "RETURNED",
    "stolen": "LOST",
    "destroyed": "LOST",
}
# Our own steps have the names of the kinds. OTHER and VOID are not observations of a parcel.
_KIND_BY_OWN_STEP: Final = {kind.lower(): kind for kind in KINDS if kind not in ("OTHER", "VOID")}
# An SSCC may be a parcel, a logistic unit that holds others, or first one and then the other. Its number does not show
# which, so it has both roles.
_ROLES_BY_SCHEME: Final[Mapping[str, tuple[str, ...]]] = {
    "s10": ("parcel",),
    "sscc": ("parcel", "container"),
    "uld": ("container",),
    "s9": ("container",),
    "grai": ("container",),
    "giai": ("container",),
}
_PARCEL_URN: Final = "urn:parcels:parcel:"
_CONTAINER_URN: Final = "urn:parcels:container:"
_LOCATION_URN: Final = "urn:parcels:place:"
_AGGREGATION_TYPES: Final = ("AggregationEvent", "AssociationEvent")
_PACKING_KINDS: Final = ("PACKED", "UNPACKED")
# Limit of the child list of one record. With all other fields the record stays below 1 MiB.
_MAX_CHILD_LIST_BYTES: Final = 768 << 10
# Site or station of an event that names none, because these fields of a scan are never empty.
UNKNOWN_LOCATION: Final = "-"


@dataclass(frozen=True, slots=True)
class EventRecords:
    """The records of one event."""

    # Records of type "scan" and of type "container", as in docs/files.md.
    scans: tuple[dict[str, Any], ...]
    containers: tuple[dict[str, Any], ...]


def map_event(
    event: Mapping[str, Any], event_id: str, prefixes: Mapping[str, str], record_time: int, device_id: str = ""
) -> EventRecords:
    """The records of a valid event. `device_id` is the sender; it is used if the event names no device."""
    # A user-defined type has no meaning here, and its fields may have any form. An event whose id is too long for the
    # log stays in the spool.
    if event["type"] not in words.EVENT_TYPES or len(event_id.encode()) > MAX_EVENT_ID_BYTES:
        return EventRecords((), ())
    return _EventMapper(event, event_id, prefixes, record_time, device_id).records()


def classify_epc(uri: str) -> tuple[tuple[str, ...], str]:
    """The roles of an EPC in the hub (any of "parcel" and "container"), and its canonical identifier."""
    if uri.startswith(_PARCEL_URN):
        return ("parcel",), unquote(uri.removeprefix(_PARCEL_URN))
    if uri.startswith(_CONTAINER_URN):
        return ("container",), unquote(uri.removeprefix(_CONTAINER_URN))
    identifier = identify(uri)
    if not identifier.valid or identifier.canonical is None:
        return (), uri
    return _ROLES_BY_SCHEME.get(identifier.scheme, ()), identifier.canonical


def named_locations(event: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The sites of ours that an event names, even if it gives no scan, each with the station of the first one.

    The station of bizLocation may differ from the station of readPoint, where the goods were observed. Only its site
    counts.
    """
    locations = []
    for name in ("readPoint", "bizLocation"):
        uri = event[name].get("id") if isinstance(event.get(name), Mapping) else None
        if isinstance(uri, str) and uri.startswith(_LOCATION_URN):
            locations.append(_parse_location(uri))
    return [(site, locations[0][1]) for site, _ in locations]


def event_location(event: Mapping[str, Any]) -> tuple[str, str]:
    """Site and station of the records of an event; `UNKNOWN_LOCATION` for one that the event does not name."""
    read_point, biz_location = (event.get(name, {}).get("id") for name in ("readPoint", "bizLocation"))
    for uri in (read_point, biz_location):
        if isinstance(uri, str) and uri.startswith(_LOCATION_URN):
            return _parse_location(uri)
    site_uri = biz_location or read_point
    site = classify_epc(site_uri)[1] if site_uri else UNKNOWN_LOCATION
    return _truncated(site), _truncated(classify_epc(read_point)[1]) if read_point else UNKNOWN_LOCATION


def scan_kind(event: Mapping[str, Any]) -> str | None:
    """The kind of scan for a business step and a disposition; None if they have no meaning in the hub."""
    step, disposition = event.get("bizStep"), event.get("disposition")
    own_step = _own_word(step)
    if own_step is not None:
        return _KIND_BY_OWN_STEP.get(own_step)
    step_word = words.BIZ_STEP.bare_word(step) if isinstance(step, str) else None
    disposition_word = None
    if isinstance(disposition, str):
        disposition_word = words.DISPOSITION.bare_word(disposition) or _own_word(disposition)
    kind = _KIND_BY_STEP_AND_DISPOSITION.get((step_word or "", disposition_word or ""))
    return kind or _KIND_BY_DISPOSITION.get(disposition_word or "") or _KIND_BY_STEP.get(step_word or "")


def _own_word(uri: Any) -> str | None:
    return uri.removeprefix(words.PARCELS_VOC) if isinstance(uri, str) and uri.startswith(words.PARCELS_VOC) else None


class _EventMapper:
    """Makes the records of one event."""

    def __init__(
        self, event: Mapping[str, Any], event_id: str, prefixes: Mapping[str, str], record_time: int, device_id: str
    ) -> None:
        self._event, self._prefixes, self._record_time = event, prefixes, record_time
        self._id = event_id
        self._extensions = dict(self._own_extensions())
        self._device = self._text_extension("device_id") or self._sensor_device() or device_id
        self._site, self._station = event_location(event)

    def records(self) -> EventRecords:
        event = self._event
        if event["type"] in _AGGREGATION_TYPES:
            return EventRecords((), tuple(self._aggregation_events()))
        kind = scan_kind(event)
        if kind is None or event["type"] == "TransformationEvent":
            return EventRecords((), ())
        parent = event.get("parentID")
        container = classify_epc(parent)[1] if isinstance(parent, str) else self._text_extension("container_id")
        scans: list[dict[str, Any]] = []
        containers: list[dict[str, Any]] = []
        for roles, identifier in map(classify_epc, event.get("epcList", [])):
            if "parcel" in roles and _fits(identifier, MAX_PARCEL_ID_BYTES):
                scans.append(self._scan(identifier, kind, container))
            if "container" in roles:
                containers += self._container_scan(identifier, kind, container)
        return EventRecords(tuple(scans), tuple(containers))

    def _aggregation_events(self) -> Iterator[dict[str, Any]]:
        """The container events of an aggregation: of the parent, and of the containers among its children.

        The parcels among the children get no scans here. The container processor infers them from the parent's events.
        """
        event, kind = self._event, scan_kind(self._event)
        parent, action = event.get("parentID"), event["action"]
        if not isinstance(parent, str):
            return
        container = classify_epc(parent)[1]
        aggregation = {"ADD": "PACKED", "DELETE": "UNPACKED"}.get(action) or (kind if kind in _PACKING_KINDS else None)
        classified = [classify_epc(uri) for uri in event.get("childEPCs", [])]
        if aggregation is None:
            # A scan of the container. The scans of its contents are inferred.
            yield from self._container_scan(container, kind, None) if kind is not None else ()
            return
        children = [
            (role, child_id)
            for roles, child_id in classified
            for role in roles
            if _fits(child_id, MAX_PARCEL_ID_BYTES if role == "parcel" else MAX_CONTAINER_ID_BYTES)
        ]
        if action == "DELETE" and not classified and not event.get("childQuantityList"):
            yield from self._container_event(container, "UNPACKED", self._id)
        for number, chunk in enumerate(_child_chunks(children), start=1):
            # A list that is too long for one record continues in the next.
            event_id = self._id if number == 1 else f"{self._id}#{number}"
            parcels = [child_id for role, child_id in chunk if role == "parcel"]
            containers = [child_id for role, child_id in chunk if role == "container"]
            yield from self._container_event(container, aggregation, event_id, parcels=parcels, containers=containers)
        if kind is not None and kind not in _PACKING_KINDS:
            # The step means another kind, loading for example. The containers among the children get a scan of it.
            for child_id in [child_id for role, child_id in children if role == "container"]:
                yield from self._container_scan(child_id, kind, None)

    def _container_scan(self, container_id: str, kind: str, parent: str | None) -> Iterator[dict[str, Any]]:
        """The event of a container that was observed, or was itself packed into a parent or unpacked from it."""
        if kind == "ADVISED" or (kind in _PACKING_KINDS and not parent):
            return
        fields = {"parent_id": parent} if kind in _PACKING_KINDS else {}
        yield from self._container_event(container_id, kind, self._id, **fields)

    def _container_event(self, container_id: str, kind: str, event_id: str, **fields: Any) -> Iterator[dict[str, Any]]:
        if not _fits(container_id, MAX_CONTAINER_ID_BYTES) or not _fits(event_id, MAX_EVENT_ID_BYTES):
            return
        record = self._common_fields(event_id, kind) | {"type": "container", "container_id": container_id}
        # A VOID needs no fields but the id.
        if self._declaration_time() is None:
            record |= {name: value for name, value in fields.items() if value}
        yield record

    def _scan(self, parcel_id: str, kind: str, container: str | None) -> dict[str, Any]:
        scan = self._common_fields(self._id, kind) | {"type": "scan", "parcel_id": parcel_id}
        if container:
            scan["container_id"] = _truncated(container)
        weight = self._extensions.get("weight_g")
        if isinstance(weight, int) and not isinstance(weight, bool) and 0 <= weight < 1 << 31:
            scan["weight_g"] = weight
        return scan

    def _common_fields(self, event_id: str, kind: str) -> dict[str, Any]:
        """The fields that scans and container events share."""
        record: dict[str, Any] = {
            "event_id": event_id,
            "kind": kind,
            "event_time": parse_epoch_ms(self._event["eventTime"]),
            "utc_offset_minutes": parse_offset_minutes(self._event["eventTimeZoneOffset"]),
            "record_time": self._record_time,
            "site": self._site,
            "station": self._station,
            "device_id": self._device,
        }
        record |= {name: text for name in ("lane", "reason") if (text := self._text_extension(name))}
        sequence = self._extensions.get("device_seq")
        if isinstance(sequence, int) and not isinstance(sequence, bool) and 0 <= sequence < 1 << 63:
            record["device_seq"] = sequence
        declaration_time = self._declaration_time()
        if declaration_time is not None:
            # The standard gives a declaration the eventID of the declared event, and a time of its own.
            record |= {"kind": "VOID", "voids": event_id, "event_time": declaration_time}
        return record

    def _declaration_time(self) -> int | None:
        """The time at which the event was declared wrong, ms since 1970; None without a declaration."""
        declaration = self._event.get("errorDeclaration")
        if declaration is None:
            return None
        return parse_epoch_ms(str(declaration["declarationTime"])) or 0

    def _own_extensions(self) -> Iterator[tuple[str, Any]]:
        for key, value in self._event.items():
            prefix, colon, local = key.partition(":")
            uri = self._prefixes[prefix] + local if colon and prefix in self._prefixes else key
            if uri.startswith(words.PARCELS_VOC):
                yield uri.removeprefix(words.PARCELS_VOC), value

    def _text_extension(self, name: str) -> str | None:
        value = self._extensions.get(name)
        return _truncated(value) if isinstance(value, str) and value else None

    def _sensor_device(self) -> str | None:
        for element in self._event.get("sensorElementList", []):
            device = element.get("sensorMetadata", {}).get("deviceID")
            if isinstance(device, str):
                return _truncated(device)
        return None


def _child_chunks(children: list[tuple[str, str]]) -> Iterator[list[tuple[str, str]]]:
    """The children in order, in chunks that fit into one record."""
    chunk: list[tuple[str, str]] = []
    size = 0
    for role, child_id in children:
        size += len(child_id.encode()) + 2
        if size > _MAX_CHILD_LIST_BYTES and chunk:
            yield chunk
            chunk, size = [], len(child_id.encode()) + 2
        chunk.append((role, child_id))
    if chunk:
        yield chunk


def _fits(identifier: str, limit: int) -> bool:
    return len(identifier.encode()) <= limit


def _parse_location(uri: str) -> tuple[str, str]:
    site, _, station = uri.removeprefix(_LOCATION_URN).partition(":")
    return unquote(site) or UNKNOWN_LOCATION, unquote(station) or UNKNOWN_LOCATION


def _truncated(text: str) -> str:
    """The text, cut to the byte limit of a text field in the log."""
    encoded = text.encode("utf-8", "replace")
    return text if len(encoded) <= MAX_TEXT_BYTES else encoded[:MAX_TEXT_BYTES].decode("utf-8", "ignore")
