"""EPCIS events as scans of parcels and as events of containers (docs/reference/capture.md has the tables).

An event that says nothing of a parcel or a container gives neither: it is kept as it came and that is all.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final
from urllib.parse import unquote

from streams.capture import vocabulary as words
from streams.capture.checks import milliseconds, offset_minutes
from streams.domain.identifiers import identify
from streams.domain.kinds import KINDS
from streams.domain.limits import EVENT_ID_BYTES, WORD_BYTES

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
_CONTAINERS: Final = frozenset({"uld", "s9", "grai"})
_PARCELS: Final = frozenset({"s10", "sscc"})
_PARCEL: Final = "urn:parcels:parcel:"
_CONTAINER: Final = "urn:parcels:container:"
_PLACE: Final = "urn:parcels:place:"
# Where nothing is said: a scan's place is never empty.
NOWHERE: Final = "-"


@dataclass(frozen=True, slots=True)
class ContainerEvent:
    """Something happened to a bag, a ULD or another container; for `hub.containers`."""

    event_id: str
    container_id: str
    kind: str
    action: str
    event_time: int
    utc_offset_minutes: int
    record_time: int
    site: str
    station: str
    # What it was put into or taken out of, and what of it is in it, as far as the event says.
    parent_id: str | None
    children: tuple[str, ...]
    lane: str | None
    device_id: str
    voids: str | None

    def encoded(self) -> bytes:
        """As it is kept: JSON with sorted keys."""
        return json.dumps(asdict(self), sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()


@dataclass(frozen=True, slots=True)
class Mapped:
    """What one event gives."""

    # As records of type "scan" (docs/files.md).
    scans: tuple[dict[str, Any], ...]
    containers: tuple[ContainerEvent, ...]


def map_event(
    event: Mapping[str, Any], event_id: str, prefixes: Mapping[str, str], record_time: int, device_id: str = ""
) -> Mapped:
    """Scans and container events of a checked event; `device_id` is who sent it, where the event does not say."""
    # A type of somebody's own says nothing here, and its fields need not have the form of the standard's. What is
    # too long for the log stays in the archive.
    if event["type"] not in words.EVENT_TYPES or len(event_id.encode()) > EVENT_ID_BYTES:
        return Mapped((), ())
    return _Mapper(event, event_id, prefixes, record_time, device_id).mapped()


def object_of(uri: str) -> tuple[str, str]:
    """What an EPC is to the hub: "parcel", "container" or "", and its one identifier."""
    if uri.startswith(_PARCEL):
        return "parcel", unquote(uri.removeprefix(_PARCEL))
    if uri.startswith(_CONTAINER):
        return "container", unquote(uri.removeprefix(_CONTAINER))
    found = identify(uri)
    if not found.valid or found.canonical is None:
        return "", uri
    role = "container" if found.scheme in _CONTAINERS else "parcel" if found.scheme in _PARCELS else ""
    return role, found.canonical


def places_of(event: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Every site of ours that an event names, whether or not it gives a scan, each with the station that it is seen at.

    Where goods are is another station than where they were seen; it is no other site.
    """
    named = []
    for name in ("readPoint", "bizLocation"):
        place = event[name].get("id") if isinstance(event.get(name), Mapping) else None
        if isinstance(place, str) and place.startswith(_PLACE):
            named.append(_own_place(place))
    return [(site, named[0][1]) for site, _ in named]


def place_of(event: Mapping[str, Any]) -> tuple[str, str]:
    """Site and station of what an event gives; `NOWHERE` for what it does not say."""
    point, location = (event.get(name, {}).get("id") for name in ("readPoint", "bizLocation"))
    for place in (point, location):
        if isinstance(place, str) and place.startswith(_PLACE):
            return _own_place(place)
    site = object_of(location)[1] if location else object_of(point)[1] if point else NOWHERE
    return _cut(site), _cut(object_of(point)[1]) if point else NOWHERE


def kind_of(event: Mapping[str, Any]) -> str | None:
    """The kind of scan that a business step and a disposition mean; None for those of no interest here."""
    step, disposition = event.get("bizStep"), event.get("disposition")
    own = _own(step)
    if own is not None:
        return _OWN_STEPS.get(own)
    step_word = words.STEP.word(step) if isinstance(step, str) else None
    disposition_word = None
    if isinstance(disposition, str):
        disposition_word = words.DISPOSITION.word(disposition) or _own(disposition)
    both = _BY_STEP_AND_DISPOSITION.get((step_word or "", disposition_word or ""))
    return both or _BY_DISPOSITION.get(disposition_word or "") or _BY_STEP.get(step_word or "")


def _own(uri: Any) -> str | None:
    return uri.removeprefix(words.OWN) if isinstance(uri, str) and uri.startswith(words.OWN) else None


class _Mapper:
    def __init__(
        self, event: Mapping[str, Any], event_id: str, prefixes: Mapping[str, str], record_time: int, device_id: str
    ) -> None:
        self._event, self._prefixes, self._record_time = event, prefixes, record_time
        self._id = event_id
        self._extensions = dict(self._own_fields())
        self._device = self._said("device_id") or self._sensing_device() or device_id
        self._site, self._station = place_of(event)

    def mapped(self) -> Mapped:
        event = self._event
        kind = kind_of(event)
        scans: list[dict[str, Any]] = []
        containers: list[ContainerEvent] = []
        if event["type"] == "AggregationEvent":
            # What the aggregation itself says, where the step says nothing.
            kind = kind or {"ADD": "PACKED", "DELETE": "UNPACKED"}.get(event["action"])
        if kind is None or event["type"] == "TransformationEvent":
            return Mapped((), ())
        parent = event.get("parentID")
        container = object_of(parent)[1] if isinstance(parent, str) else self._said("container_id")
        listed = [object_of(each) for name in ("epcList", "childEPCs") for each in event.get(name, [])]
        for role, identifier in listed:
            if role == "parcel" and len(identifier.encode()) <= 128:
                scans.append(self._scan(identifier, kind, container))
            elif role == "container":
                containers.append(self._container(identifier, kind, container, ()))
        if isinstance(parent, str) and event["type"] in ("AggregationEvent", "AssociationEvent"):
            inside = tuple(identifier for _, identifier in listed)
            containers.append(self._container(object_of(parent)[1], kind, None, inside))
        return Mapped(tuple(scans), tuple(containers))

    def _scan(self, parcel_id: str, kind: str, container: str | None) -> dict[str, Any]:
        declared = self._declared()
        scan: dict[str, Any] = {
            "type": "scan",
            "event_id": self._id,
            "parcel_id": parcel_id,
            "kind": kind,
            "event_time": milliseconds(self._event["eventTime"]),
            "utc_offset_minutes": offset_minutes(self._event["eventTimeZoneOffset"]),
            "record_time": self._record_time,
            "site": self._site,
            "station": self._station,
            "device_id": self._device,
        }
        for name, value in (
            ("container_id", container),
            ("lane", self._said("lane")),
            ("reason", self._said("reason")),
        ):
            if value:
                scan[name] = _cut(value)
        weight = self._extensions.get("weight_g")
        if isinstance(weight, int) and not isinstance(weight, bool) and 0 <= weight < 1 << 31:
            scan["weight_g"] = weight
        sequence = self._extensions.get("device_seq")
        if isinstance(sequence, int) and not isinstance(sequence, bool) and 0 <= sequence < 1 << 63:
            scan["device_seq"] = sequence
        if declared is not None:
            # The declaration has the eventID of the event, as the standard wants it, and a time of its own.
            scan |= {"kind": "VOID", "voids": self._id, "event_time": declared}
        return scan

    def _container(self, container_id: str, kind: str, parent: str | None, children: tuple[str, ...]) -> ContainerEvent:
        declared = self._declared()
        time = milliseconds(self._event["eventTime"]) or 0
        return ContainerEvent(
            self._id,
            container_id,
            kind if declared is None else "VOID",
            str(self._event.get("action", "")),
            time if declared is None else declared,
            offset_minutes(self._event["eventTimeZoneOffset"]),
            self._record_time,
            self._site,
            self._station,
            parent,
            children,
            self._said("lane"),
            self._device,
            None if declared is None else self._id,
        )

    def _declared(self) -> int | None:
        """When this event was declared wrong; None where it was not."""
        declaration = self._event.get("errorDeclaration")
        if declaration is None:
            return None
        return milliseconds(str(declaration["declarationTime"])) or 0

    def _own_fields(self) -> Iterator[tuple[str, Any]]:
        for key, value in self._event.items():
            prefix, colon, local = key.partition(":")
            full = self._prefixes[prefix] + local if colon and prefix in self._prefixes else key
            if full.startswith(words.OWN):
                yield full.removeprefix(words.OWN), value

    def _said(self, name: str) -> str | None:
        value = self._extensions.get(name)
        return _cut(value) if isinstance(value, str) and value else None

    def _sensing_device(self) -> str | None:
        for element in self._event.get("sensorElementList", []):
            device = element.get("sensorMetadata", {}).get("deviceID")
            if isinstance(device, str):
                return _cut(device)
        return None


def _own_place(uri: str) -> tuple[str, str]:
    site, _, station = uri.removeprefix(_PLACE).partition(":")
    return unquote(site) or NOWHERE, unquote(station) or NOWHERE


def _cut(text: str) -> str:
    """At most as many bytes as a word of the log may have."""
    encoded = text.encode("utf-8", "replace")
    return text if len(encoded) <= WORD_BYTES else encoded[:WORD_BYTES].decode("utf-8", "ignore")
