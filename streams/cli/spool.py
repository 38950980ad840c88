"""`parcels spool`: what a gateway has on disk."""

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
    help="Look at the spool of a gateway, and send from it again; the gateway may run meanwhile.",
)


@app.command()
def status(data: GatewayFolder = Path("gateway"), as_json: Json = False) -> None:
    """Read all of the spool, check it, and say what it holds. Exit code 1 when some of it is damaged.

    Bytes behind the last whole frame of a segment are what a power cut leaves of a write that nobody was told of;
    they are no damage.

    Examples:
      parcels spool status
      parcels spool status --data /var/lib/parcels/gateway --json
    """
    from streams.capture.spool.forward_checkpoint import load_forward_checkpoint
    from streams.capture.spool.segment_files import SegmentDamage, Target, list_segments, read_frames, segment_path

    folder = _folder(data)
    progress, damage = load_forward_checkpoint(folder), SegmentDamage()
    records = dict.fromkeys(("scans", "containers", "event_only"), 0)
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
                waiting += entry.target != Target.EVENT_ONLY and not progress.is_sent(entry.target, frame.end)
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
            f"{records['scans']:,} scans and {records['containers']:,} container events, {waiting:,} of them not known "
            f"to be in Kafka; {records['event_only']:,} EPCIS events"
        )
        if damage.torn_bytes:
            print(f"{damage.torn_bytes:,} bytes of unfinished writes, which nobody was told of")
        if damage.lost_bytes:
            print(f"DAMAGED: {damage.lost_bytes:,} bytes between good frames cannot be read")
    if damage.lost_bytes:
        raise typer.Exit(EXIT_DIFFERENCES)


@app.command()
def resend(
    since_: Annotated[
        str, typer.Option("--since", metavar="T", help="2h, 3d, or 2026-03-01T04:00Z: what was accepted from then on.")
    ],
    data: GatewayFolder = Path("gateway"),
    bootstrap: Bootstrap = None,
    prefix: Prefix = None,
    as_json: Json = False,
) -> None:
    """Send what was accepted since then to Kafka again: after the brokers lost something.

    What is there already becomes a duplicate, which changes nothing.

    Examples:
      parcels spool resend --since 2h
      parcels spool resend --since 2026-03-01T04:00Z --data /var/lib/parcels/gateway
    """
    from streams.capture.spool.segment_files import SpoolEntry, Target
    from streams.capture.spool.spool import read_all_frames
    from streams.kafka.bulk_producer import BulkProducer, ProducerBatch

    folder, begin = _folder(data), parse_time(since_)
    sent = 0
    with BulkProducer(load_settings(bootstrap, prefix)) as feed:
        for frame in read_all_frames(folder):
            if frame.accepted_ms < begin:
                continue
            # A tick is there for each log, and goes to both.
            kept: list[SpoolEntry] = [
                entry
                for entry in frame.entries
                if entry.target == Target.SCANS or (entry.target == Target.CONTAINERS and entry.key is not None)
            ]
            ticks = [place for place, entry in enumerate(kept) if entry.key is None]
            containers = [place for place, entry in enumerate(kept) if entry.target == Target.CONTAINERS]
            feed.send(ProducerBatch([entry.key for entry in kept], [entry.value for entry in kept], ticks, containers))
            sent += len(kept)
    if as_json:
        print(json.dumps({"sent": sent, "since": format_time(begin)}))
    else:
        print(f"{sent:,} records accepted since {format_time(begin)} were sent again")


def _folder(data: Path) -> Path:
    from streams.capture.http.server import SPOOL_FOLDER

    folder = data / SPOOL_FOLDER
    if not folder.is_dir():
        raise Misconfigured(f"{folder} is not there: name the gateway's folder with --data")
    return folder
