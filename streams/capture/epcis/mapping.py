"""EPCIS events as scans of parcels and as events of containers (docs/reference/capture.md has the tables).

An event that says nothing of a parcel or a container gives neither: it is kept as it came and that is all.
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

# A business step of CBV -> kind of scan.
_BY_STEP: Final = {
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
# Steps that need their disposition to mean something here.
_BY_STEP_AND_DISPOSITION: Final = {
    ("inspecting", "conformant"): "CUSTOMS_RELEASED",
    ("inspecting", "non_conformant"): "CUSTOMS_REFUSED",
    ("holding", "held_customs"): "CUSTOMS_HELD",
}
_BY_DISPOSITION: Final = {
    "held_customs": "CUSTOMS_HELD",
    "damaged": "DAMAGED",
    "returned": "RETURNED",
    "stolen": "LOST",
    "destroyed": "LOST",
}
# Our own steps are the kinds themselves; two of them are no observation of a parcel.
_OWN_STEPS: Final = {kind.lower(): kind for kind in KINDS if kind not in ("OTHER", "VOID")}
# An SSCC is a parcel, or a logistic unit that holds others, or first the one and then the other: nobody can tell by its
# number, so it is told of both.
_ROLES: Final[Mapping[str, tuple[str, ...]]] = {
    "s10": ("parcel",),
    "sscc": ("parcel", "container"),
    "uld": ("container",),
    "s9": ("container",),
    "grai": ("container",),
    "giai": ("container",),
}
_PARCEL: Final = "urn:parcels:parcel:"
_CONTAINER: Final = "urn:parcels:container:"
_PLACE: Final = "urn:parcels:place:"
_AGGREGATIONS: Final = ("AggregationEvent", "AssociationEvent")
_PACKS: Final = ("PACKED", "UNPACKED")
# Bytes of the children that one record names; it is below 1 MiB with everything else that it says.
_LIST_BYTES: Final = 768 << 10
# Where nothing is said: a scan's place is never empty.
UNKNOWN_LOCATION: Final = "-"


@dataclass(frozen=True, slots=True)
class EventRecords:
    """What one event gives."""

    # As records of type "scan", and of type "container" (docs/files.md).
    scans: tuple[dict[str, Any], ...]
    containers: tuple[dict[str, Any], ...]


def map_event(
    event: Mapping[str, Any], event_id: str, prefixes: Mapping[str, str], record_time: int, device_id: str = ""
) -> EventRecords:
    """Scans and container events of a checked event; `device_id` is who sent it, where the event does not say."""
    # A type of somebody's own says nothing here, and its fields need not have the form of the standard's. What is
    # too long for the log stays in the archive.
    if event["type"] not in words.EVENT_TYPES or len(event_id.encode()) > MAX_EVENT_ID_BYTES:
        return EventRecords((), ())
    return _EventMapper(event, event_id, prefixes, record_time, device_id).mapped()


def classify_epc(uri: str) -> tuple[tuple[str, ...], str]:
    """What an EPC is to the hub, of "parcel" and "container" none, one or both; and its one identifier."""
    if uri.startswith(_PARCEL):
        return ("parcel",), unquote(uri.removeprefix(_PARCEL))
    if uri.startswith(_CONTAINER):
        return ("container",), unquote(uri.removeprefix(_CONTAINER))
    found = identify(uri)
    if not found.valid or found.canonical is None:
        return (), uri
    return _ROLES.get(found.scheme, ()), found.canonical


def named_locations(event: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Every site of ours that an event names, whether or not it gives a scan, each with the station that it is seen at.

    Where goods are is another station than where they were seen; it is no other site.
    """
    named = []
    for name in ("readPoint", "bizLocation"):
        place = event[name].get("id") if isinstance(event.get(name), Mapping) else None
        if isinstance(place, str) and place.startswith(_PLACE):
            named.append(_own_place(place))
    return [(site, named[0][1]) for site, _ in named]


def event_location(event: Mapping[str, Any]) -> tuple[str, str]:
    """Site and station of what an event gives; `UNKNOWN_LOCATION` for what it does not say."""
    point, location = (event.get(name, {}).get("id") for name in ("readPoint", "bizLocation"))
    for place in (point, location):
        if isinstance(place, str) and place.startswith(_PLACE):
            return _own_place(place)
    site = classify_epc(location)[1] if location else classify_epc(point)[1] if point else UNKNOWN_LOCATION
    return _cut(site), _cut(classify_epc(point)[1]) if point else UNKNOWN_LOCATION


def scan_kind(event: Mapping[str, Any]) -> str | None:
    """The kind of scan that a business step and a disposition mean; None for those of no interest here."""
    step, disposition = event.get("bizStep"), event.get("disposition")
    own = _own(step)
    if own is not None:
        return _OWN_STEPS.get(own)
    step_word = words.BIZ_STEP.word(step) if isinstance(step, str) else None
    disposition_word = None
    if isinstance(disposition, str):
        disposition_word = words.DISPOSITION.word(disposition) or _own(disposition)
    both = _BY_STEP_AND_DISPOSITION.get((step_word or "", disposition_word or ""))
    return both or _BY_DISPOSITION.get(disposition_word or "") or _BY_STEP.get(step_word or "")


def _own(uri: Any) -> str | None:
    return uri.removeprefix(words.PARCELS_VOC) if isinstance(uri, str) and uri.startswith(words.PARCELS_VOC) else None


class _EventMapper:
    def __init__(
        self, event: Mapping[str, Any], event_id: str, prefixes: Mapping[str, str], record_time: int, device_id: str
    ) -> None:
        self._event, self._prefixes, self._record_time = event, prefixes, record_time
        self._id = event_id
        self._extensions = dict(self._own_fields())
        self._device = self._said("device_id") or self._sensing_device() or device_id
        self._site, self._station = event_location(event)

    def mapped(self) -> EventRecords:
        event = self._event
        if event["type"] in _AGGREGATIONS:
            return EventRecords((), tuple(self._aggregated()))
        kind = scan_kind(event)
        if kind is None or event["type"] == "TransformationEvent":
            return EventRecords((), ())
        parent = event.get("parentID")
        container = classify_epc(parent)[1] if isinstance(parent, str) else self._said("container_id")
        scans: list[dict[str, Any]] = []
        containers: list[dict[str, Any]] = []
        for roles, identifier in map(classify_epc, event.get("epcList", [])):
            if "parcel" in roles and _fits(identifier, MAX_PARCEL_ID_BYTES):
                scans.append(self._scan(identifier, kind, container))
            if "container" in roles:
                containers += self._seen(identifier, kind, container)
        return EventRecords(tuple(scans), tuple(containers))

    def _aggregated(self) -> Iterator[dict[str, Any]]:
        """What an aggregation says of the parent, and of the containers that it puts in or takes out.

        Of the parcels it says nothing to them: what was put in and taken out follows from the parent's events.
        """
        event, kind = self._event, scan_kind(self._event)
        parent, action = event.get("parentID"), event["action"]
        if not isinstance(parent, str):
            return
        container = classify_epc(parent)[1]
        aggregation = {"ADD": "PACKED", "DELETE": "UNPACKED"}.get(action) or (kind if kind in _PACKS else None)
        listed = [classify_epc(each) for each in event.get("childEPCs", [])]
        if aggregation is None:
            # Seen with what is in it: that follows from what was put in.
            yield from self._seen(container, kind, None) if kind is not None else ()
            return
        children = [
            (role, each)
            for roles, each in listed
            for role in roles
            if _fits(each, MAX_PARCEL_ID_BYTES if role == "parcel" else MAX_CONTAINER_ID_BYTES)
        ]
        if action == "DELETE" and not listed and not event.get("childQuantityList"):
            yield from self._event_of(container, "UNPACKED", self._id)
        for number, part in enumerate(_portions(children), start=1):
            # A list that is too long for a record goes on in the next.
            event_id = self._id if number == 1 else f"{self._id}#{number}"
            named = {f"{role}s": [each for its, each in part if its == role] for role in ("parcel", "container")}
            yield from self._event_of(container, aggregation, event_id, **named)
        if kind is not None and kind not in _PACKS:
            # Loaded into it, say: so those were that can be seen to have been, and what they hold with them.
            for each in [each for role, each in children if role == "container"]:
                yield from self._seen(each, kind, None)

    def _seen(self, container_id: str, kind: str, parent: str | None) -> Iterator[dict[str, Any]]:
        """A scan of a container, or that it was itself put into another one or taken out of it."""
        if kind == "ADVISED" or (kind in _PACKS and not parent):
            return
        more = {"parent_id": parent} if kind in _PACKS else {}
        yield from self._event_of(container_id, kind, self._id, **more)

    def _event_of(self, container_id: str, kind: str, event_id: str, **more: Any) -> Iterator[dict[str, Any]]:
        if not _fits(container_id, MAX_CONTAINER_ID_BYTES) or not _fits(event_id, MAX_EVENT_ID_BYTES):
            return
        record = self._common(event_id, kind) | {"type": "container", "container_id": container_id}
        # A declaration that it is wrong needs no more than its id.
        yield record if self._declared() is not None else record | {name: each for name, each in more.items() if each}

    def _scan(self, parcel_id: str, kind: str, container: str | None) -> dict[str, Any]:
        scan = self._common(self._id, kind) | {"type": "scan", "parcel_id": parcel_id}
        if container:
            scan["container_id"] = _cut(container)
        weight = self._extensions.get("weight_g")
        if isinstance(weight, int) and not isinstance(weight, bool) and 0 <= weight < 1 << 31:
            scan["weight_g"] = weight
        return scan

    def _common(self, event_id: str, kind: str) -> dict[str, Any]:
        """What scans and events of containers have in common."""
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
        record |= {name: said for name in ("lane", "reason") if (said := self._said(name))}
        sequence = self._extensions.get("device_seq")
        if isinstance(sequence, int) and not isinstance(sequence, bool) and 0 <= sequence < 1 << 63:
            record["device_seq"] = sequence
        declared = self._declared()
        if declared is not None:
            # The declaration has the eventID of the event, as the standard wants it, and a time of its own.
            record |= {"kind": "VOID", "voids": event_id, "event_time": declared}
        return record

    def _declared(self) -> int | None:
        """When this event was declared wrong; None where it was not."""
        declaration = self._event.get("errorDeclaration")
        if declaration is None:
            return None
        return parse_epoch_ms(str(declaration["declarationTime"])) or 0

    def _own_fields(self) -> Iterator[tuple[str, Any]]:
        for key, value in self._event.items():
            prefix, colon, local = key.partition(":")
            full = self._prefixes[prefix] + local if colon and prefix in self._prefixes else key
            if full.startswith(words.PARCELS_VOC):
                yield full.removeprefix(words.PARCELS_VOC), value

    def _said(self, name: str) -> str | None:
        value = self._extensions.get(name)
        return _cut(value) if isinstance(value, str) and value else None

    def _sensing_device(self) -> str | None:
        for element in self._event.get("sensorElementList", []):
            device = element.get("sensorMetadata", {}).get("deviceID")
            if isinstance(device, str):
                return _cut(device)
        return None


def _portions(children: list[tuple[str, str]]) -> Iterator[list[tuple[str, str]]]:
    """The children in order, as many at a time as a record has room for."""
    part: list[tuple[str, str]] = []
    size = 0
    for role, each in children:
        size += len(each.encode()) + 2
        if size > _LIST_BYTES and part:
            yield part
            part, size = [], len(each.encode()) + 2
        part.append((role, each))
    if part:
        yield part


def _fits(identifier: str, limit: int) -> bool:
    return len(identifier.encode()) <= limit


def _own_place(uri: str) -> tuple[str, str]:
    site, _, station = uri.removeprefix(_PLACE).partition(":")
    return unquote(site) or UNKNOWN_LOCATION, unquote(station) or UNKNOWN_LOCATION


def _cut(text: str) -> str:
    """At most as many bytes as a word of the log may have."""
    encoded = text.encode("utf-8", "replace")
    return text if len(encoded) <= MAX_TEXT_BYTES else encoded[:MAX_TEXT_BYTES].decode("utf-8", "ignore")
