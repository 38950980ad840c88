"""`parcels follow`: print milestones as they are written."""

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Annotated, Any

import typer

from streams.cli.options import Bootstrap, Json, Prefix, load_settings
from streams.cli.time_formats import format_time, parse_time

_COLOURS = {"REACHED": "green", "CORRECTED": "yellow", "RETRACTED": "red"}


def follow(
    parcel_ids: Annotated[
        list[str] | None, typer.Argument(metavar="[ID]...", help="Parcels to follow; default: all.")
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            "--since",
            metavar="TIME",
            help="Begin at this time (ISO 8601), or this long ago (10m, 2h, 3d); default: now.",
        ),
    ] = None,
    bootstrap: Bootstrap = None,
    prefix: Prefix = None,
    as_json: Json = False,
) -> None:
    """Print milestones as parcels reach them, until Ctrl-C.

    Use it to watch a running system, or one parcel. A milestone is written when a parcel reaches a stage, or when that
    is corrected. Each takes one line, with --json one object. --since is compared with the time at which the milestone
    was written to Kafka, which is later than the scan.

    Examples:
      parcels follow
      parcels follow LP00000042 LP00000043 --since 2h
      parcels follow --json --since 2026-03-01T04:00Z
    """
    from streams.formats import topics
    from streams.formats.record_decoder import RecordDecoder
    from streams.kafka import reader, topic_admin

    settings = load_settings(bootstrap, prefix)
    start = None if since is None else parse_time(since)
    count = topic_admin.check_topics(settings)
    keys = {parcel_id.encode(errors="surrogateescape") for parcel_id in parcel_ids or ()}
    partitions: Iterable[int] = {topics.partition_of(key, count) for key in keys} or range(count)
    decode = RecordDecoder("Milestone")
    with suppress(KeyboardInterrupt):
        for record in reader.follow_topic(
            settings, settings.prefix + topics.MILESTONES_TOPIC, list(partitions), since_ms=start
        ):
            value = record.value()
            if value is not None and (not keys or record.key() in keys):
                _print(decode(value), as_json)


def _print(milestone: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(milestone, default=lambda value: value.hex(), ensure_ascii=False), flush=True)
        return
    stage, event_time = milestone["stage"], format_time(milestone["event_time"])
    change = {
        "REACHED": f"reached {stage}",
        "CORRECTED": f"reached {stage}, corrected from {format_time(milestone['previous_time'])}",
        "RETRACTED": f"did not reach {stage} after all",
    }.get(milestone["type"], f"{milestone['type']} {stage}")
    location = " ".join(filter(None, (milestone["site"], milestone["station"])))
    line = f"{event_time}  {milestone['parcel_id']}  {change}" + (f"  at {location}" if location else "")
    typer.secho(line, fg=_COLOURS.get(milestone["type"]))
