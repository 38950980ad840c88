"""A container, as `parcels show` shows it; and the chain of containers that something travelled in."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from streams.cli.time_formats import format_time

if TYPE_CHECKING:
    from streams.audit.container_lookup import ContainerContents, Stay
    from streams.domain.containers import Container

# Children that are listed one by one; --json has all.
_LISTED = 20


def container_json(
    container: "Container", stays: list["Stay"], contents: "ContainerContents", at: int | None
) -> dict[str, Any]:
    """What is known of a container as of a time, for JSON."""
    from streams.audit.container_lookup import events_as_of, order_as_of
    from streams.domain.double_containment import find_double_containments

    before = {second.record_hash: first.parent_id for first, second in find_double_containments(container)}
    declared = {
        name: [child.decode() for child in container.contents_before(order_as_of(at), containers=which)]
        for name, which in (("containers", True), ("parcels", False))
    }
    return {
        "container_id": container.container_id,
        "at": at,
        "inside": asdict(contents),
        "declared": declared,
        "travelled_in": [asdict(stay) for stay in stays if at is None or stay.since <= at],
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
                "in_two_with": before.get(event.record_hash),
            }
            for event in events_as_of(container, at)
        ],
    }


def container_lines(said: dict[str, Any], stays: list["Stay"], *, events: bool) -> Iterator[str]:
    """The same for people, line by line; with `events` each event is told with its event_id."""
    inside = said["inside"]
    when = f" at {format_time(said['at'])}" if said["at"] is not None else ""
    counts = ", ".join(f"{len(inside[name]):,} {name}" for name in ("containers", "parcels"))
    yield f"{said['container_id']}  {counts} inside{when}"
    yield from chain_lines([stay for stay in stays if said["at"] is None or stay.since <= said["at"]])
    for name in ("containers", "parcels"):
        yield from _listed(f"{name} inside", inside[name])
        gone = sorted(set(said["declared"][name]) - set(inside[name]))
        yield from _listed(f"{name} declared to be inside that are not, by their own records", gone)
    yield "  events:" if said["events"] else "  events: none"
    for event in said["events"]:
        words = [*_event(event, said["events"]), *(_ids(event) if events else ())]
        yield f"    {_when(event)}  {', '.join(words)}"


def _listed(what: str, names: list[str]) -> Iterator[str]:
    if names:
        more = f" and {len(names) - _LISTED:,} more" if len(names) > _LISTED else ""
        yield f"  {what}: {', '.join(names[:_LISTED])}{more}"


def chain_lines(stays: list["Stay"], indent: int = 2) -> Iterator[str]:
    """What something travelled in, the containers around that further to the right."""
    for stay in stays:
        until = "now" if stay.until is None else format_time(stay.until)
        yield f"{' ' * indent}in {stay.container_id} from {format_time(stay.since)} to {until}"
        yield from chain_lines(stay.outer_stays, indent + 2)


def _when(event: dict[str, Any]) -> str:
    return format_time(event["event_time"], event["utc_offset_minutes"])


def _event(event: dict[str, Any], events: list[dict[str, Any]]) -> list[str]:
    words = [event["kind"], f"at {event['site']} {event['station']}"]
    if event["children"]:
        words.append(f"{event['children']:,} children")
    elif event["kind"] == "UNPACKED" and event["parent_id"] is None:
        words.append("emptied")
    if event["parent_id"]:
        words.append(f"{'through' if event['inferred_from'] else 'of'} {event['parent_id']}")
    if event["in_two_with"]:
        words.append(f"while it was in {event['in_two_with']}")
    if event["reason"]:
        words.append(event["reason"])
    if event["voids"]:
        words.append(_voids(event["voids"], events))
    if event["voided"]:
        words.append("voided")
    elif event["inferred_from"] and event["kind"] not in ("PACKED", "UNPACKED", "VOID") and not event["propagated"]:
        words.append("set aside")
    return words


def _voids(event_id: str, events: list[dict[str, Any]]) -> str:
    # An error declaration of EPCIS has the id of what it declares wrong.
    named = [each for each in events if each["event_id"] == event_id and each["voids"] != event_id]
    target = next((each for each in named if each["kind"] != "VOID"), None)
    if target is not None:
        return f"voids {target['kind']} of {_when(target)}"
    return "voids a VOID, which changes nothing" if named else "voids an event that is not known"


def _ids(event: dict[str, Any]) -> Iterator[str]:
    yield f"event_id {event['event_id']!r}"
    if event["inferred_from"]:
        yield f"follows from {event['inferred_from']!r}"
