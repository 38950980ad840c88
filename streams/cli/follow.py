"""`parcels follow`: milestones as they happen."""

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
        list[str] | None, typer.Argument(metavar="[ID]...", help="Only these parcels; all when not given.")
    ] = None,
    from_when: Annotated[
        str | None,
        typer.Option("--since", metavar="WHEN", help="Begin that long ago (10m, 2h, 3d) or then (ISO 8601), not now."),
    ] = None,
    bootstrap: Bootstrap = None,
    prefix: Prefix = None,
    as_json: Json = False,
) -> None:
    """Watch parcels reach their stages, until Ctrl-C.

    One line a milestone; with --json one object a line. --since goes by when the milestone was written.

    Examples:
      parcels follow
      parcels follow LP00000042 LP00000043 --since 2h
      parcels follow --json --since 2026-03-01T04:00Z
    """
    from streams.formats import topics
    from streams.formats.record_decoder import RecordDecoder
    from streams.kafka import reader, topic_admin

    chosen = load_settings(bootstrap, prefix)
    start = None if from_when is None else parse_time(from_when)
    count = topic_admin.check_topics(chosen)
    keys = {parcel_id.encode(errors="surrogateescape") for parcel_id in parcel_ids or ()}
    partitions: Iterable[int] = {topics.partition_of(key, count) for key in keys} or range(count)
    decode = RecordDecoder("Milestone")
    with suppress(KeyboardInterrupt):
        for record in reader.follow_topic(
            chosen, chosen.prefix + topics.MILESTONES_TOPIC, list(partitions), since_ms=start
        ):
            value = record.value()
            if value is not None and (not keys or record.key() in keys):
                _print(decode(value), as_json)


def _print(milestone: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(milestone, default=lambda value: value.hex(), ensure_ascii=False), flush=True)
        return
    stage, event_time = milestone["stage"], format_time(milestone["event_time"])
    what = {
        "REACHED": f"reached {stage}",
        "CORRECTED": f"reached {stage}, corrected from {format_time(milestone['previous_time'])}",
        "RETRACTED": f"did not reach {stage} after all",
    }.get(milestone["type"], f"{milestone['type']} {stage}")
    place = " ".join(filter(None, (milestone["site"], milestone["station"])))
    line = f"{event_time}  {milestone['parcel_id']}  {what}" + (f"  at {place}" if place else "")
    typer.secho(line, fg=_COLOURS.get(milestone["type"]))
