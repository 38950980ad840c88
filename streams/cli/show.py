"""`parcels show`: the history of one parcel, or of one container."""

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

# Columns of a table that is written to a pipe or a file.
_WIDTH = 180


def show(
    identifier: Annotated[str, typer.Argument(metavar="ID", help="A parcel_id or a container_id.")],
    bootstrap: Bootstrap = None,
    prefix: Prefix = None,
    events: Annotated[
        bool,
        typer.Option(
            "--events",
            help="Also show the source event of each record (event_id, offset in hub.scans, sender), and all alerts "
            "with their evidence; reads a whole partition of hub.scans. Of a container: the event_id of each event.",
        ),
    ] = False,
    at: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Of a container: show its contents as of this time (ISO 8601), or this long ago (10m, 2h, 3d).",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show the history of a parcel, or the contents of a container.

    Use it to find out where something is, and how it got there. A parcel is shown with its records in the order in
    which they happened, and with the containers that it travelled in. A container is shown with its contents, by the
    records of each child, and with the containers around it. Something that is both (a pallet with an SSCC) is shown as
    a parcel with contents, which are "as_container" with --json.

    Records have local time, with its offset from UTC; all other times are UTC. States, milestones and alerts name their
    evidence by the 16-byte hash of a record, and --events shows the event of each hash. ID may be written in any form
    that "parcels id" knows.

    Exit code 1: nothing is known of ID.

    Examples:
      parcels show LP00000042
      parcels show LP00000042 --events
      parcels show BAG0042 --at 2026-03-01T04:00Z
      parcels show LP00000042 --json
    """
    from streams.kafka import topic_admin

    settings = load_settings(bootstrap, prefix)
    as_of = None if at is None else parse_time(at, "--at")
    partitions = topic_admin.check_topics(settings)
    for name in _spellings(identifier):
        state = _read_state(settings, name, partitions)
        # This reads all states, so for a parcel only if --at asks for its contents or its own events name children.
        unless_empty = state is not None and as_of is None
        container = _read_container(settings, name, partitions, as_of, unless_empty, events=events)
        if state is not None or container is not None:
            break
    else:
        print(f"parcels: no parcel and no container {identifier} is known", file=sys.stderr)
        raise typer.Exit(EXIT_DIFFERENCES)
    container_fields, lines = container or (None, [])
    if state is None:
        print(json.dumps(container_fields, indent=2, ensure_ascii=False) if as_json else "\n".join(lines))
        return
    if as_of is not None and container is None:
        raise Misconfigured(f"--at is for containers; {name} is a parcel: leave out --at to see its whole history")
    _show_parcel(settings, name, state, container_fields, lines, partitions, events=events, as_json=as_json)


def _spellings(identifier: str) -> list[str]:
    from streams.domain.identifiers import identify

    canonical = identify(identifier).canonical
    return [identifier] if canonical in (None, identifier) else [identifier, canonical]


def _read_state(settings: "KafkaSettings", name: str, partitions: int) -> Mapping[str, Any] | None:
    from streams.formats import topics
    from streams.formats.record_decoder import RecordDecoder
    from streams.kafka.reader import read_newest_of_key

    key = name.encode(errors="surrogateescape")
    record = read_newest_of_key(
        settings, settings.prefix + topics.PARCEL_STATE_TOPIC, key, topics.partition_of(key, partitions)
    )
    value = None if record is None else record.value()
    return None if value is None else RecordDecoder("ParcelState")(value)


def _read_container(
    settings: "KafkaSettings", name: str, partitions: int, as_of: int | None, unless_empty: bool, *, events: bool
) -> tuple[dict[str, Any], list[str]] | None:
    """A container as JSON fields and as lines of text.

    None if nothing is known of it, or if `unless_empty` is set and its events name no children.
    """
    from streams.audit.container_lookup import load_container, load_contents, stays_of_container, with_outer_stays
    from streams.domain.containers import Container

    container = load_container(settings, name, partitions)
    if unless_empty and (
        container is None or not any(event.names_children or event.is_emptying for event in container.events)
    ):
        return None
    contents = load_contents(settings, name, as_of)
    if container is None:
        if not contents.containers and not contents.parcels:
            return None
        # It has no events of its own; only the records of its children name it.
        container = Container(name)
    stays = with_outer_stays(settings, stays_of_container(container), partitions, (name,))
    fields = container_json(container, stays, contents, as_of)
    return fields, list(container_lines(fields, stays, events=events))


def _show_parcel(
    settings: "KafkaSettings",
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

    stays = with_outer_stays(settings, stays_of_parcel(state), partitions)
    source_events: dict[bytes, SourceEvent] = {}
    alert_history: list[Mapping[str, Any]] = []
    if events:
        key = name.encode(errors="surrogateescape")
        partition = partition_of(key, partitions)
        source_events = read_parcel_events(settings, key, partition)
        alert_history = read_parcel_alerts(settings, key, partition)
    if as_json:
        extra: dict[str, Any] = {"travelled_in": [asdict(stay) for stay in stays]}
        if container is not None:
            extra["as_container"] = container
        if events:
            extra["events"] = [asdict(event) for event in source_events.values()]
            extra["alert_history"] = alert_history
        print(json.dumps({**state, **extra}, indent=2, default=_hex, ensure_ascii=False))
        return
    _print(state, list(chain_lines(stays)))
    if events:
        for line in _source_lines(state, source_events, alert_history):
            print(line)
    for line in lines:
        print(line)


def _print(state: Mapping[str, Any], chain: list[str]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Column, Table

    console = Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else _WIDTH)
    # Captured, and printed by Python: Rich itself exits with code 1 when the reader of a pipe has ended.
    with console.capture() as captured:
        console.print(state["parcel_id"], style="bold", end="  ", soft_wrap=True)
        console.print(", ".join(_summary(state)), soft_wrap=True)
        for label, text in _facts(state):
            console.print(f"{label:>10}  {text}", soft_wrap=True)
        for line in chain:
            console.print(line, soft_wrap=True)
        # Long values are wrapped and not cut, because a part of an identifier is useless.
        names = ("local time", "kind", "site, station", "lane", "container", "details")
        table = Table(*(Column(name, overflow="fold") for name in names), box=box.SIMPLE_HEAD)
        for entry in state["timeline"]:
            details = entry["details"] or {}
            table.add_row(
                format_time(entry["event_time"], entry["utc_offset_minutes"]),
                entry["kind"],
                " ".join(filter(None, (details.get("site"), details.get("station")))),
                details.get("lane") or "",
                entry["container_id"] or "",
                ", ".join(_details(entry, state["timeline"])),
                style="dim strike" if entry["voided"] else None,
            )
        console.print(table)
    print(captured.get(), end="")


def _source_lines(
    state: Mapping[str, Any], source_events: Mapping[bytes, "SourceEvent"], alert_history: list[Mapping[str, Any]]
) -> Iterator[str]:
    yield "source events, by the hash that states, milestones and alerts name:"
    for entry in state["timeline"]:
        yield f"  {entry['record_hash'].hex()}  {entry['kind']}  {_source_event(entry['record_hash'], source_events)}"
    if alert_history:
        yield "alerts, in the order in which they were written:"
    for alert in alert_history:
        alert_id = alert["alert_id"].hex()
        yield f"  {format_time(alert['hub_time'])}  {alert['type']} {alert['condition']}  (alert {alert_id})"
        for evidence in alert["evidence"]:
            yield f"    because of {_source_event(evidence, source_events)}"


def _source_event(record_hash: bytes, source_events: Mapping[bytes, "SourceEvent"]) -> str:
    event = source_events.get(record_hash)
    if event is None:
        return f"{record_hash.hex()}, which hub.scans does not hold any more"
    device = event.fields.get("device_id")
    sender = f", sent by {device}" if device else ""
    appended = format_time(event.append_time)
    return f"event_id {event.fields['event_id']!r} at {event.partition}:{event.offset}, appended {appended}{sender}"


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
    """Label and text of each known fact of the parcel."""
    plan = state["plan"]
    facts = [
        ("since", format_time(state["stage_time"], _offset_of_stage(state))),
        ("location", " ".join(filter(None, (state["site"], state["station"])))),
        ("container", state["container_id"]),
        ("lane", state["lane"]),
        ("promised", format_time(state["promised_at"])),
    ]
    if plan:
        lane = f", planned lane {plan['planned_lane']}" if plan["planned_lane"] else ""
        route = f"{plan['direction']} {plan['service']}, {plan['origin']} to {plan['destination']}{lane}"
        facts.append(("plan", route))
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


def _details(entry: Mapping[str, Any], entries: list[Mapping[str, Any]]) -> list[str]:
    words = []
    if entry["voided"]:
        declared_wrong = any(other["voids"] == entry["record_hash"] for other in entries)
        words.append("voided" if declared_wrong else "the parcel was not in the container")
    if entry["inferred"]:
        words.append("inferred from its container")
    if entry["details"] and entry["details"]["reason"]:
        words.append(entry["details"]["reason"])
    if entry["voids"]:
        target = next((other for other in entries if other["record_hash"] == entry["voids"]), None)
        time = format_time(target["event_time"], target["utc_offset_minutes"]) if target else ""
        words.append(f"voids {target['kind']} of {time}" if target else "voids an unknown scan")
    if entry["plan"]:
        words.append(f"{entry['plan']['direction']} {entry['plan']['service']}")
    if entry["promised_at"] is not None:
        words.append(f"promised {format_time(entry['promised_at'])}")
    return words


def _hex(value: Any) -> str:
    assert isinstance(value, bytes)
    return value.hex()
