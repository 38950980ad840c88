"""The view of a container in `parcels show`, and the chain of containers that something travelled in."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from streams.cli.time_formats import format_time

if TYPE_CHECKING:
    from streams.audit.container_lookup import ContainerContents, Stay
    from streams.domain.containers import Container

# Children that are listed at most; --json lists all.
_MAX_LISTED = 20


def container_json(
    container: "Container", stays: list["Stay"], contents: "ContainerContents", as_of: int | None
) -> dict[str, Any]:
    """The fields of a container for JSON, as of a time in ms since 1970 (None: now)."""
    from streams.audit.container_lookup import events_as_of, order_as_of
    from streams.domain.double_containment import find_double_containments

    double_containments = {second.record_hash: first.parent_id for first, second in find_double_containments(container)}
    declared = {
        name: [child.decode() for child in container.contents_before(order_as_of(as_of), containers=which)]
        for name, which in (("containers", True), ("parcels", False))
    }
    return {
        "container_id": container.container_id,
        "as_of": as_of,
        "contents": asdict(contents),
        "declared_contents": declared,
        "travelled_in": [asdict(stay) for stay in stays if as_of is None or stay.since <= as_of],
        "events": [
            {
                "event_id": event.event_id,
                "kind": event.kind,
                "event_time": event.event_time,
                "utc_offset_minutes": event.utc_offset_minutes,
                "site": event.site,
                "station": event.station,
                "lane": event.lane,
                "reason": event.reason,
                "parent_id": event.parent_id,
                "children": event.child_count,
                "voids": event.voids,
                "inferred_from": event.inferred_from,
                "voided": container.voided_by(event) is not None,
                "propagated": event.propagated,
                "double_containment_with": double_containments.get(event.record_hash),
            }
            for event in events_as_of(container, as_of)
        ],
    }


def container_lines(fields: dict[str, Any], stays: list["Stay"], *, events: bool) -> Iterator[str]:
    """The fields as lines of text; with `events`, each event with its event_id."""
    contents, as_of = fields["contents"], fields["as_of"]
    time = f" at {format_time(as_of)}" if as_of is not None else ""
    counts = ", ".join(f"{len(contents[name]):,} {name}" for name in ("containers", "parcels"))
    yield f"{fields['container_id']}  {counts} inside{time}"
    yield from chain_lines([stay for stay in stays if as_of is None or stay.since <= as_of])
    for name in ("containers", "parcels"):
        yield from _list_lines(f"{name} inside", contents[name])
        absent = sorted(set(fields["declared_contents"][name]) - set(contents[name]))
        yield from _list_lines(f"{name} declared to be inside, but not inside by their own records", absent)
    yield "  events:" if fields["events"] else "  events: none"
    for event in fields["events"]:
        words = [*_event(event, fields["events"]), *(_ids(event) if events else ())]
        yield f"    {_local_time(event)}  {', '.join(words)}"


def _list_lines(label: str, names: list[str]) -> Iterator[str]:
    if names:
        more = f" and {len(names) - _MAX_LISTED:,} more" if len(names) > _MAX_LISTED else ""
        yield f"  {label}: {', '.join(names[:_MAX_LISTED])}{more}"


def chain_lines(stays: list["Stay"], indent: int = 2) -> Iterator[str]:
    """The containers that something travelled in; the containers around them are indented further."""
    for stay in stays:
        until = "now" if stay.until is None else format_time(stay.until)
        yield f"{' ' * indent}in {stay.container_id} from {format_time(stay.since)} to {until}"
        yield from chain_lines(stay.outer_stays, indent + 2)


def _local_time(event: dict[str, Any]) -> str:
    return format_time(event["event_time"], event["utc_offset_minutes"])


def _event(event: dict[str, Any], events: list[dict[str, Any]]) -> list[str]:
    words = [event["kind"], f"at {event['site']} {event['station']}"]
    if event["children"]:
        words.append(f"{event['children']:,} children")
    elif event["kind"] == "UNPACKED" and event["parent_id"] is None:
        words.append("emptied")
    if event["parent_id"]:
        words.append(f"{'through' if event['inferred_from'] else 'of'} {event['parent_id']}")
    if event["double_containment_with"]:
        words.append(f"while it was in {event['double_containment_with']}")
    if event["reason"]:
        words.append(event["reason"])
    if event["voids"]:
        words.append(_voids(event["voids"], events))
    if event["voided"]:
        words.append("voided")
    elif event["inferred_from"] and event["kind"] not in ("PACKED", "UNPACKED", "VOID") and not event["propagated"]:
        words.append("superseded")
    return words


def _voids(event_id: str, events: list[dict[str, Any]]) -> str:
    # An error declaration of EPCIS has the event_id of the event that it declares wrong.
    named = [event for event in events if event["event_id"] == event_id and event["voids"] != event_id]
    target = next((event for event in named if event["kind"] != "VOID"), None)
    if target is not None:
        return f"voids {target['kind']} of {_local_time(target)}"
    return "voids a VOID, which changes nothing" if named else "voids an unknown event"


def _ids(event: dict[str, Any]) -> Iterator[str]:
    yield f"event_id {event['event_id']!r}"
    if event["inferred_from"]:
        yield f"follows from {event['inferred_from']!r}"
