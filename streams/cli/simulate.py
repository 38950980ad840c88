"""`parcels simulate`: generate the days of a hub, into Kafka or a file, and the truth about them."""

import json as jsonlib
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from streams.cli.options import Bootstrap, Json, Prefix, load_settings
from streams.errors import Misconfigured

if TYPE_CHECKING:
    from streams.domain.record_columns import RecordColumns
    from streams.simulate.day import Scenario, Simulation

_START = "2026-03-01T00:00Z"


def simulate(
    parcels: Annotated[int, typer.Option(metavar="N", help="Number of parcels.")] = 20_000,
    seed: Annotated[
        int, typer.Option(metavar="N", help="Seed of the random numbers; the same seed gives the same records.")
    ] = 1,
    days: Annotated[int, typer.Option(metavar="N", help="Number of days over which the parcels arrive.")] = 1,
    start: Annotated[str, typer.Option(metavar="TIME", help="Begin of the first day (ISO 8601).")] = _START,
    tail_hours: Annotated[
        float, typer.Option(metavar="HOURS", help="Simulated hours for which the log continues after the last day.")
    ] = 48,
    tick_seconds: Annotated[float, typer.Option(metavar="SECONDS", help="Simulated seconds between two ticks.")] = 60,
    hub: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Description of the hub (YAML); default: that of the package.")
    ] = None,
    promises: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Promises (YAML) for the truth; default: the promises of the package."),
    ] = None,
    truth: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help='Write the expected states and alerts to FILE, for "parcels verify".'),
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Write the records to FILE (NDJSON) and not to Kafka; - is stdout."),
    ] = None,
    rate: Annotated[
        float | None, typer.Option(metavar="N", min=0.001, help="Records a second; default: as fast as possible.")
    ] = None,
    speed: Annotated[
        float | None,
        typer.Option(metavar="X", min=0.001, help="Simulated seconds that pass in one second; instead of --rate."),
    ] = None,
    fault: Annotated[
        list[str] | None,
        typer.Option("--fault", metavar="NAME=SHARE", help="Set the share of one data fault (see above). Repeatable."),
    ] = None,
    no_faults: Annotated[
        bool, typer.Option("--no-faults", help="Make no data faults, except those of --fault.")
    ] = False,
    scans_only: Annotated[
        bool,
        typer.Option(
            "--scans-only",
            help="Write the scans of parcels that container events imply, and not the container events themselves.",
        ),
    ] = False,
    via: Annotated[
        Literal["kafka", "http"],
        typer.Option(help="http: send the records through a gateway, as scanners do."),
    ] = "kafka",
    gateway: Annotated[
        str, typer.Option(metavar="URL", envvar="PARCELS_GATEWAY_URL", help="Address of the gateway, for --via http.")
    ] = "http://127.0.0.1:8080",
    bootstrap: Bootstrap = None,
    prefix: Prefix = None,
    json: Json = False,
) -> None:
    """Generate the records of a hub, and the result to expect.

    Use it to try out the system, to test it under load, or to prove with "parcels verify" that it is right. Aircraft
    and trucks arrive in two waves a day. Their parcels are unloaded, unpacked, sorted, cleared by customs, packed,
    loaded and dispatched, and some have a scan of their delivery. All times are simulated. Events of bags, ULDs and
    trucks go to hub.containers; scans of single parcels, advices and ticks go to hub.scans.

    Data faults, as shares of the scans where no other unit is given (--fault duplicates=0.05):
      duplicates=0.01         sent again within a minute, with the same bytes
      bursts=0.0002           read 3 to 30 more times by a portal
      late=0.04               1 minute to 4 hours late
      very_late=0.01          1 to 48 hours late
      missed=0.01             never made
      voids=0.003             declared wrong by a VOID, which comes before or after the scan
      wrong_time_zone=0.001   wrong by an hour
      clock_skew_seconds=120  seconds: the largest error of the clock of a handheld
      malformed=0.0005        cannot be read or used, so they become dead letters
      no_reads=0.02           of the parcels: not read by the sorter
      recirculated=0.03       of the parcels: once more around the sorter
      missorted=0.001         of the parcels: into a wrong chute first
      held=0.02               of the parcels that pass customs: held
      unexplained=0.15        of the holds: without a reason
      refused=0.3             of the holds: customs refuse the parcel
      damaged=0.0005          of the parcels
      lost=0.0002             of the parcels
      unadvised=0.015         of the parcels: without an advice
      extra=0.001             of the parcels: in a bag and not on its manifest
      absent=0.001            of the parcels: on the manifest of a bag and not in it
      moved=0.01              of the bags that arrive: moved to another ULD before departure

    Examples:
      parcels simulate --parcels 20000 --seed 7 --truth truth.json
      parcels simulate --parcels 5000 --speed 1440
      parcels simulate --parcels 5000 --via http --gateway http://127.0.0.1:8080
      parcels simulate --parcels 100 --out day.ndjson --no-faults
    """
    from streams.config import load_hub, load_promises
    from streams.domain.hub import Hub
    from streams.simulate.day import Scenario, Simulation
    from streams.simulate.truth import TruthFile

    if rate is not None and speed is not None:
        raise Misconfigured("--rate and --speed cannot be combined: give one of them")
    hub_description = Hub.default() if hub is None else load_hub(hub)
    scenario = Scenario(
        parcels,
        seed,
        days,
        _parse_start(start),
        tail_hours,
        tick_seconds,
        _data_faults(fault or [], no_faults),
        hub_description,
        scans_only,
    )
    kept_promises = load_promises(promises)
    with ExitStack() as stack:
        truth_file = None if truth is None else stack.enter_context(TruthFile(truth, scenario, kept_promises))
        simulation = Simulation(scenario, truth_file)
        progress = stack.enter_context(_progress(scenario))
        if out is None:
            url = gateway if via == "http" else None
            result = _to_kafka(simulation, progress, bootstrap, prefix, rate, speed, url)
        else:
            if rate is not None or speed is not None:
                raise Misconfigured("--rate and --speed are not for --out: a file is written as fast as possible")
            result = _to_file(simulation, progress, out)
        if truth_file is not None:
            truth_file.complete(simulation.counts)
    counts = simulation.counts
    result |= {
        "parcels": parcels,
        "seed": seed,
        "records": counts.records,
        "advices": counts.advices,
        "container_events": counts.containers,
        "duplicates": counts.duplicates,
        "ticks": counts.ticks,
        "dead_letters": dict(counts.dead_letters),
        "container_dead_letters": dict(counts.container_dead_letters),
        "truth": None if truth is None else str(truth),
    }
    _report(result, json, sys.stderr if out == "-" else sys.stdout)


def _report(result: dict[str, Any], json: bool, stream: Any) -> None:
    if json:
        print(jsonlib.dumps(result), file=stream)
        return
    malformed = sum(result["dead_letters"].values()) + sum(result["container_dead_letters"].values())
    print(
        f"{result['records']:,} records of {result['parcels']:,} parcels, {result['container_events']:,} container "
        f"events, {result['duplicates']:,} duplicates, "
        f"{malformed:,} malformed records and {result['ticks']:,} ticks into {result['to']} "
        f"in {result['seconds']:.1f} s ({result['per_second']:,.0f} a second)",
        file=stream,
    )


def _to_kafka(
    simulation: "Simulation",
    progress: Any,
    bootstrap: str | None,
    prefix: str | None,
    rate: float | None,
    speed: float | None,
    gateway: str | None,
) -> dict[str, Any]:
    from streams.kafka.bulk_producer import BulkProducer, RecordColumnsEncoder

    begin = simulation.scenario.start_ms
    encoder = RecordColumnsEncoder()
    if gateway is not None:
        from streams.capture.client import CaptureClient
        from streams.cli.http_producer import HttpProducer

        with BulkProducer(load_settings(bootstrap, prefix)) as kafka_producer:
            http_producer = HttpProducer(CaptureClient(gateway), kafka_producer, encoder, rate)
            for columns in simulation.batches():
                due_times = None if speed is None else (columns.append_times - begin) / (1_000 * speed)
                http_producer.send(columns, due_times)
                progress(columns)
            http_producer.flush()
        sent, seconds = http_producer.records_sent, kafka_producer.elapsed_seconds
        return {"to": gateway, "sent": sent, "seconds": seconds, "per_second": sent / seconds}
    with BulkProducer(load_settings(bootstrap, prefix), rate) as producer:
        for columns in simulation.batches():
            due_times = None if speed is None else (columns.append_times - begin) / (1_000 * speed)
            producer.send(encoder.encode(columns), due_times)
            progress(columns)
    sent, seconds = producer.records_sent, producer.elapsed_seconds
    return {"to": "Kafka", "sent": sent, "seconds": seconds, "per_second": sent / seconds}


def _to_file(simulation: "Simulation", progress: Any, out: str) -> dict[str, Any]:
    import time

    from streams.simulate.ndjson import ndjson_lines

    start_time, written = time.monotonic(), 0
    with ExitStack() as stack:
        try:
            stream = sys.stdout if out == "-" else stack.enter_context(Path(out).open("w", encoding="utf-8"))
        except OSError as error:
            raise Misconfigured(f"--out: {error}") from error
        for columns in simulation.batches():
            stream.writelines(line + "\n" for line in ndjson_lines(columns))
            written += columns.rows
            progress(columns)
        stream.flush()
    seconds = time.monotonic() - start_time
    return {"to": "stdout" if out == "-" else out, "sent": written, "seconds": seconds, "per_second": written / seconds}


def _parse_start(text: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise Misconfigured(f"--start {text!r} is not a time; write it like {_START}") from None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()) * 1_000


def _data_faults(settings: list[str], no_faults: bool) -> Any:
    from dataclasses import replace

    from streams.simulate.data_faults import DataFaults

    known = [field.name for field in fields(DataFaults)]
    shares: dict[str, float] = {}
    for setting in settings:
        name, _, share = setting.partition("=")
        if name not in known:
            raise Misconfigured(f"--fault {setting}: there is no such data fault; there are {', '.join(known)}")
        try:
            shares[name] = float(share)
        except ValueError:
            raise Misconfigured(f"--fault {setting}: write a number after the =, for example {name}=0.02") from None
    return replace(DataFaults.none() if no_faults else DataFaults(), **shares)


@contextmanager
def _progress(scenario: "Scenario") -> Iterator[Any]:
    """A progress bar on a terminal, nothing elsewhere."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[records]:,} records"),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    with bar:
        task = bar.add_task("", total=scenario.end_ms - scenario.start_ms, records=0)
        sent = 0

        def show(columns: "RecordColumns") -> None:
            nonlocal sent
            sent += columns.rows
            now = int(columns.append_times[-1])
            clock = datetime.fromtimestamp(now / 1000, UTC)
            bar.update(task, completed=now - scenario.start_ms, records=sent, description=f"{clock:%a %H:%M}")

        yield show
