"""`parcels show`: the timeline of one parcel, or of one container."""

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streams.cli.options import EXIT_DIFFERENCES, Bootstrap, Json, Prefix, load_settings
from streams.cli.show_container import chain_lines, container_json, container_lines
from streams.cli.time_formats import format_time, parse_time
from streams.errors import Misconfigured

if TYPE_CHECKING:
    from streams.audit.event_lookup import SourceEvent
    from streams.kafka.settings import KafkaSettings

# Of a table in a pipe or a file, where nobody knows the width of the screen.
_WIDTH = 180


def show(
    thing: Annotated[str, typer.Argument(metavar="ID", help="A parcel_id or a container_id.")],
    bootstrap: Bootstrap = None,
    prefix: Prefix = None,
    events: Annotated[
        bool,
        typer.Option(
            "--events",
            help="Also the event behind each record: its event_id, its place in hub.scans, who sent it; and every "
            "alert with its evidence. Reads a partition of hub.scans. Of a container: the event_id of each event.",
        ),
    ] = False,
    at: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help="Of a container only: who was inside then (2026-03-01T04:00Z, or 2h for 2 h ago)."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show where a parcel is, or who is in a container, and everything known of it in the order in which it happened.

    A record has the time of the clock where it happened, all other times are UTC. Exits 1 when nothing is known of
    it. A parcel is shown with the containers that it travelled in, a container with what is inside, by the records
    of each child, and what it is inside itself; what is both, as a pallet with an SSCC may be, as a parcel with
    what is inside ("as_container" with --json). States, milestones and alerts name their evidence by 16 bytes, the
    identity of a record; --events says which event each of them is. An identifier may be written in any way that
    `parcels id` understands.

    Examples:
      parcels show LP00000042
      parcels show LP00000042 --events
      parcels show BAG0042 --at 2026-03-01T04:00Z
      parcels show LP00000042 --json
    """
    from streams.kafka import topic_admin

    chosen = load_settings(bootstrap, prefix)
    when = None if at is None else parse_time(at, "--at")
    partitions = topic_admin.check_topics(chosen)
    for name in _ways_to_write(thing):
        state = _state_of(chosen, name, partitions)
        # Reads all states: of a parcel only where somebody asks what was inside, or its own events say it.
        unless_empty = state is not None and when is None
        container = _container_of(chosen, name, partitions, when, unless_empty, events=events)
        if state is not None or container is not None:
            break
    else:
        print(f"parcels: nothing is known of a parcel or a container {thing}", file=sys.stderr)
        raise typer.Exit(EXIT_DIFFERENCES)
    said, lines = container or (None, [])
    if state is None:
        print(json.dumps(said, indent=2, ensure_ascii=False) if as_json else "\n".join(lines))
        return
    if when is not None and container is None:
        raise Misconfigured(
            f"--at says who was in a container; {name} is a parcel: see the times of what it went through"
        )
    _show_parcel(chosen, name, state, said, lines, partitions, events=events, as_json=as_json)


def _ways_to_write(thing: str) -> list[str]:
    from streams.domain.identifiers import identify

    canonical = identify(thing).canonical
    return [thing] if canonical in (None, thing) else [thing, canonical]


def _state_of(chosen: "KafkaSettings", name: str, partitions: int) -> Mapping[str, Any] | None:
    from streams.formats import topics
    from streams.formats.record_decoder import RecordDecoder
    from streams.kafka.reader import read_newest_of_key

    key = name.encode(errors="surrogateescape")
    record = read_newest_of_key(
        chosen, chosen.prefix + topics.PARCEL_STATE_TOPIC, key, topics.partition_of(key, partitions)
    )
    value = None if record is None else record.value()
    return None if value is None else RecordDecoder("ParcelState")(value)


def _container_of(
    chosen: "KafkaSettings", name: str, partitions: int, at: int | None, unless_empty: bool, *, events: bool
) -> tuple[dict[str, Any], list[str]] | None:
    """A container for JSON and for people; None where nothing is known of it, or `unless_empty` nothing was inside."""
    from streams.audit.container_lookup import load_container, load_contents, stays_of_container, with_outer_stays
    from streams.domain.containers import Container

    container = load_container(chosen, name, partitions)
    if unless_empty and (
        container is None or not any(event.names_children or event.is_emptying for event in container.events)
    ):
        return None
    contents = load_contents(chosen, name, at)
    if container is None:
        if not contents.containers and not contents.parcels:
            return None
        # Only its children have told of it.
        container = Container(name)
    stays = with_outer_stays(chosen, stays_of_container(container), partitions, (name,))
    said = container_json(container, stays, contents, at)
    return said, list(container_lines(said, stays, events=events))


def _show_parcel(
    chosen: "KafkaSettings",
    name: str,
    state: Mapping[str, Any],
    container: dict[str, Any] | None,
    lines: list[str],
    partitions: int,
    *,
    events: bool,
    as_json: bool,
) -> None:
    from streams.audit.container_lookup import stays_of_parcel, with_outer_stays
    from streams.audit.event_lookup import read_parcel_alerts, read_parcel_events
    from streams.formats.topics import partition_of

    stays = with_outer_stays(chosen, stays_of_parcel(state), partitions)
    found: dict[bytes, SourceEvent] = {}
    told: list[Mapping[str, Any]] = []
    if events:
        key = name.encode(errors="surrogateescape")
        partition = partition_of(key, partitions)
        found, told = read_parcel_events(chosen, key, partition), read_parcel_alerts(chosen, key, partition)
    if as_json:
        more: dict[str, Any] = {"travelled_in": [asdict(stay) for stay in stays]}
        if container is not None:
            more["as_container"] = container
        if events:
            more |= {"events": [asdict(event) for event in found.values()], "told": told}
        print(json.dumps({**state, **more}, indent=2, default=_hex, ensure_ascii=False))
        return
    _print(state, list(chain_lines(stays)))
    if events:
        for line in _traced(state, found, told):
            print(line)
    for line in lines:
        print(line)


def _print(state: Mapping[str, Any], chain: list[str]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Column, Table

    console = Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else _WIDTH)
    # Printed by Python: Rich makes exit code 1 of a reader that went away.
    with console.capture() as captured:
        console.print(state["parcel_id"], style="bold", end="  ", soft_wrap=True)
        console.print(", ".join(_summary(state)), soft_wrap=True)
        for label, text in _facts(state):
            console.print(f"{label:>10}  {text}", soft_wrap=True)
        for line in chain:
            console.print(line, soft_wrap=True)
        # Folded, for half an identifier says nothing.
        names = ("when, there", "what", "where", "lane", "container", "more")
        table = Table(*(Column(name, overflow="fold") for name in names), box=box.SIMPLE_HEAD)
        for entry in state["timeline"]:
            at = entry["details"] or {}
            table.add_row(
                format_time(entry["event_time"], entry["utc_offset_minutes"]),
                entry["kind"],
                " ".join(filter(None, (at.get("site"), at.get("station")))),
                at.get("lane") or "",
                entry["container_id"] or "",
                ", ".join(_more(entry, state["timeline"])),
                style="dim strike" if entry["voided"] else None,
            )
        console.print(table)
    print(captured.get(), end="")


def _traced(
    state: Mapping[str, Any], found: Mapping[bytes, "SourceEvent"], told: list[Mapping[str, Any]]
) -> Iterator[str]:
    yield "events, by the identity under which states, milestones and alerts know them:"
    for entry in state["timeline"]:
        yield f"  {entry['record_hash'].hex()}  {entry['kind']}  {_event(entry['record_hash'], found)}"
    if told:
        yield "alerts, as they were told:"
    for alert in told:
        words = f"{alert['type']} {alert['condition']}  (alert {alert['alert_id'].hex()})"
        yield f"  {format_time(alert['hub_time'])}  {words}"
        for proof in alert["evidence"]:
            yield f"    because of {_event(proof, found)}"


def _event(identity: bytes, found: Mapping[bytes, "SourceEvent"]) -> str:
    event = found.get(identity)
    if event is None:
        return f"{identity.hex()}, which hub.scans does not hold any more"
    device = event.said.get("device_id")
    by = f", sent by {device}" if device else ""
    taken = format_time(event.append_time)
    return f"event_id {event.said['event_id']!r} at {event.partition}:{event.offset}, taken {taken}{by}"


def _summary(state: Mapping[str, Any]) -> list[str]:
    words = [state["stage"] or "no stage yet"]
    if state["held"]:
        words.append(f"held by customs ({state['hold_reason'] or 'no reason given'})")
    elif state["customs"]:
        words.append(state["customs"])
    if state["damaged"]:
        words.append("damaged")
    return [*words, f"version {state['version']}"]


def _facts(state: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What is known of the parcel now, label and text; nothing for what is not known."""
    plan = state["plan"]
    facts = [
        ("since", format_time(state["stage_time"], _offset_of_stage(state))),
        ("place", " ".join(filter(None, (state["site"], state["station"])))),
        ("container", state["container_id"]),
        ("lane", state["lane"]),
        ("promised", format_time(state["promised_at"])),
    ]
    if plan:
        lane = f", planned lane {plan['planned_lane']}" if plan["planned_lane"] else ""
        way = f"{plan['direction']} {plan['service']}, {plan['origin']} to {plan['destination']}{lane}"
        facts.append(("plan", way))
    for label, count in (("no-reads", state["no_reads"]), ("recirc.", state["recirculations"])):
        facts.append((label, str(count) if count else ""))
    return [(label, text) for label, text in facts if text]


def _offset_of_stage(state: Mapping[str, Any]) -> int:
    offsets = [
        entry["utc_offset_minutes"]
        for entry in state["timeline"]
        if not entry["voided"] and (entry["kind"], entry["event_time"]) == (state["stage"], state["stage_time"])
    ]
    return offsets[-1] if offsets else 0


def _more(entry: Mapping[str, Any], entries: list[Mapping[str, Any]]) -> list[str]:
    words = []
    if entry["voided"]:
        wrong = any(each["voids"] == entry["record_hash"] for each in entries)
        words.append("voided" if wrong else "it was not in there")
    if entry["inferred"]:
        words.append("inferred from its container")
    if entry["details"] and entry["details"]["reason"]:
        words.append(entry["details"]["reason"])
    if entry["voids"]:
        target = next((each for each in entries if each["record_hash"] == entry["voids"]), None)
        when = format_time(target["event_time"], target["utc_offset_minutes"]) if target else ""
        words.append(f"voids {target['kind']} of {when}" if target else "voids a scan that is not known")
    if entry["plan"]:
        words.append(f"{entry['plan']['direction']} {entry['plan']['service']}")
    if entry["promised_at"] is not None:
        words.append(f"promised {format_time(entry['promised_at'])}")
    return words


def _hex(value: Any) -> str:
    assert isinstance(value, bytes)
    return value.hex()
