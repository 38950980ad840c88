"""`parcels spool`: inspect the spool of a gateway, and send records from it again."""

import json
from pathlib import Path
from typing import Annotated

import typer

from streams.cli.gateway import GatewayFolder
from streams.cli.options import EXIT_DIFFERENCES, Bootstrap, Json, Prefix, load_settings
from streams.cli.time_formats import format_time, parse_time
from streams.errors import Misconfigured

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="""Inspect what a gateway has on disk, and send it again.

    The spool holds every record that the gateway has accepted, for some days. The gateway may run meanwhile.
    """,
)


@app.command()
def status(data: GatewayFolder = Path("gateway"), as_json: Json = False) -> None:
    """Check the whole spool, and show what it holds.

    Bytes after the last complete frame of a segment come from a write that a power cut interrupted. No client was told
    that this write succeeded, so such bytes are no damage.

    Exit code 1: a part of the spool is damaged.

    Examples:
      parcels spool status
      parcels spool status --data /var/lib/parcels/gateway --json
    """
    from streams.capture.spool.forward_checkpoint import load_forward_checkpoint
    from streams.capture.spool.segment_files import SegmentDamage, Target, list_segments, read_frames, segment_path

    folder = _folder(data)
    checkpoint, damage = load_forward_checkpoint(folder), SegmentDamage()
    records = dict.fromkeys(("scans", "containers", "archive"), 0)
    waiting = frames = size = 0
    oldest = newest = None
    numbers = list_segments(folder)
    for number in numbers:
        size += segment_path(folder, number).stat().st_size
        for frame in read_frames(folder, number, damage=damage):
            frames += 1
            oldest, newest = oldest or frame.accepted_ms, frame.accepted_ms
            for entry in frame.entries:
                records[Target(entry.target).name.lower()] += 1
                waiting += entry.target != Target.EVENT_ONLY and not checkpoint.is_sent(entry.target, frame.end)
    found = {
        "segments": len(numbers),
        "bytes": size,
        "requests": frames,
        "records": records,
        "pending_records": waiting,
        "oldest": format_time(oldest) or None,
        "newest": format_time(newest) or None,
        "torn_bytes": damage.torn_bytes,
        "lost_bytes": damage.lost_bytes,
        "ok": damage.lost_bytes == 0,
    }
    if as_json:
        print(json.dumps(found))
    else:
        print(f"{frames:,} requests in {len(numbers)} segments, {size:,} bytes; {found['oldest']} to {found['newest']}")
        print(
            f"{records['scans']:,} scans and {records['containers']:,} container events, {waiting:,} of them not yet "
            f"confirmed by Kafka; {records['archive']:,} EPCIS events"
        )
        if damage.torn_bytes:
            print(f"{damage.torn_bytes:,} bytes of interrupted writes, which no client was told of")
        if damage.lost_bytes:
            print(f"DAMAGED: {damage.lost_bytes:,} bytes between valid frames cannot be read")
    if damage.lost_bytes:
        raise typer.Exit(EXIT_DIFFERENCES)


@app.command()
def resend(
    since: Annotated[
        str,
        typer.Option(
            metavar="TIME", help="Send what was accepted since this time (ISO 8601), or this long ago (10m, 2h, 3d)."
        ),
    ],
    data: GatewayFolder = Path("gateway"),
    bootstrap: Bootstrap = None,
    prefix: Prefix = None,
    as_json: Json = False,
) -> None:
    """Send the records accepted since a time to Kafka again.

    Use it after the brokers have lost records. A record that is still in Kafka becomes a duplicate, which changes
    nothing.

    Examples:
      parcels spool resend --since 2h
      parcels spool resend --since 2026-03-01T04:00Z --data /var/lib/parcels/gateway
    """
    from streams.capture.spool.segment_files import SpoolEntry, Target
    from streams.capture.spool.spool import read_all_frames
    from streams.kafka.bulk_producer import BulkProducer, ProducerBatch

    folder, begin = _folder(data), parse_time(since)
    sent = 0
    with BulkProducer(load_settings(bootstrap, prefix)) as producer:
        for frame in read_all_frames(folder):
            if frame.accepted_ms < begin:
                continue
            # The spool holds a tick once for each log, and `send` writes it to both: keep one of the two.
            kept: list[SpoolEntry] = [
                entry
                for entry in frame.entries
                if entry.target == Target.SCANS or (entry.target == Target.CONTAINERS and entry.key is not None)
            ]
            ticks = [index for index, entry in enumerate(kept) if entry.key is None]
            containers = [index for index, entry in enumerate(kept) if entry.target == Target.CONTAINERS]
            producer.send(
                ProducerBatch([entry.key for entry in kept], [entry.value for entry in kept], ticks, containers)
            )
            sent += len(kept)
    if as_json:
        print(json.dumps({"sent": sent, "since": format_time(begin)}))
    else:
        print(f"{sent:,} records accepted since {format_time(begin)} were sent again")


def _folder(data: Path) -> Path:
    from streams.capture.http.server import SPOOL_FOLDER

    folder = data / SPOOL_FOLDER
    if not folder.is_dir():
        raise Misconfigured(f"there is no spool at {folder}: name the folder of the gateway with --data")
    return folder
