"""`parcels simulate`: a hub's days, into Kafka or a file, and the truth about them."""

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
    parcels: Annotated[int, typer.Option(metavar="N", help="How many parcels come.")] = 20_000,
    seed: Annotated[int, typer.Option(metavar="N", help="The same seed gives the same records.")] = 1,
    days: Annotated[int, typer.Option(metavar="N", help="Over how many days they come.")] = 1,
    start: Annotated[str, typer.Option(metavar="TIME", help="When the first day begins, ISO 8601.")] = _START,
    after_hours: Annotated[
        float, typer.Option(metavar="HOURS", help="How long the log goes on after the last day.")
    ] = 48,
    tick_seconds: Annotated[float, typer.Option(metavar="SECONDS", help="Simulated time between ticks.")] = 60,
    hub: Annotated[Path | None, typer.Option(metavar="FILE", help="Another hub (YAML) instead of the default.")] = None,
    promises: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Promises (YAML) for the truth, instead of the default.")
    ] = None,
    truth: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write what the state and the alerts of every parcel must be.")
    ] = None,
    out: Annotated[
        str | None, typer.Option(metavar="FILE", help="Write newline-delimited JSON instead; - is stdout.")
    ] = None,
    rate: Annotated[
        float | None, typer.Option(metavar="N", min=0.001, help="Records a second; as fast as it can when not given.")
    ] = None,
    speed: Annotated[
        float | None, typer.Option(metavar="X", min=0.001, help="Instead of --rate: simulated seconds a second.")
    ] = None,
    dirt: Annotated[
        list[str] | None,
        typer.Option("--dirt", metavar="WHAT=SHARE", help="Set one share of what goes wrong (below); repeatable."),
    ] = None,
    clean: Annotated[bool, typer.Option("--clean", help="Nothing goes wrong, but for what --dirt says.")] = False,
    expanded: Annotated[
        bool,
        typer.Option(
            "--expanded",
            help="Instead of events of containers, the scans that follow from them: hub.scans alone holds the days.",
        ),
    ] = False,
    via: Annotated[
        Literal["kafka", "http"],
        typer.Option(help="http: through a gateway, as scanners send their scans."),
    ] = "kafka",
    gateway: Annotated[
        str, typer.Option(metavar="URL", envvar="PARCELS_GATEWAY", help="The gateway of --via http.")
    ] = "http://127.0.0.1:8080",
    bootstrap: Bootstrap = None,
    prefix: Prefix = None,
    json: Json = False,
) -> None:
    """Play the days of a hub: scans, container events, advices and ticks, in the order of their arrival.

    Aircraft and trucks arrive in two waves a day; their parcels are unloaded, unpacked, sorted, cleared by customs,
    packed, loaded and dispatched, and some are seen to be delivered. All times are simulated. What happens to bags,
    ULDs and trucks goes to hub.containers, and only what is scanned of the parcels themselves to hub.scans.

    What goes wrong, as shares of the scans if nothing else is said (--dirt duplicates=0.05):
      duplicates=0.01      sent again within a minute, to the byte
      bursts=0.0002        read 3 to 30 times more by a portal
      late=0.04            1 minute to 4 hours late
      very_late=0.01       1 to 48 hours late
      missed=0.01          not made at all
      voids=0.003          declared wrong by a VOID, which comes before or after them
      wrong_clock=0.001    wrong by an hour
      clock_seconds=120    the clocks of handhelds are wrong by up to so many seconds
      broken=0.0005        values that nobody can read or use: dead letters
      no_reads=0.02        of the parcels: not read by the sorter
      recirculated=0.03    of the parcels: once more around the sorter
      mis_sorted=0.001     of the parcels: into a wrong chute first
      held=0.02            of the parcels that pass customs
      unexplained=0.15     of the holds: without a reason
      refused=0.3          of the holds
      damaged=0.0005       of the parcels
      lost=0.0002          of the parcels
      unadvised=0.015      of the parcels: no advice
      extra=0.001          of the parcels: in a bag and not on its manifest
      absent=0.001         of the parcels: on the manifest of a bag and not in it
      moved=0.01           of the bags that come: moved to another ULD before it left

    Examples:
      parcels simulate --parcels 20000 --seed 7 --truth truth.json
      parcels simulate --parcels 5000 --speed 1440
      parcels simulate --parcels 5000 --via http --gateway http://127.0.0.1:8080
      parcels simulate --parcels 100 --out day.ndjson --clean
    """
    from streams.config import load_hub, load_promises
    from streams.domain.hub import Hub
    from streams.simulate.day import Scenario, Simulation
    from streams.simulate.truth import TruthFile

    if rate is not None and speed is not None:
        raise Misconfigured("--rate and --speed contradict each other: give one of them")
    described = Hub.default() if hub is None else load_hub(hub)
    scenario = Scenario(
        parcels, seed, days, _instant(start), after_hours, tick_seconds, _dirt(dirt or [], clean), described, expanded
    )
    watched = load_promises(promises)
    with ExitStack() as stack:
        file = None if truth is None else stack.enter_context(TruthFile(truth, scenario, watched))
        simulation = Simulation(scenario, file)
        progress = stack.enter_context(_progress(scenario))
        if out is None:
            through = gateway if via == "http" else None
            result = _to_kafka(simulation, progress, bootstrap, prefix, rate, speed, through)
        else:
            if rate is not None or speed is not None:
                raise Misconfigured("a file is written as fast as it can: --rate and --speed are for Kafka")
            result = _to_file(simulation, progress, out)
        if file is not None:
            file.complete(simulation.counts)
    counts = simulation.counts
    result |= {
        "parcels": parcels,
        "seed": seed,
        "records": counts.records,
        "advices": counts.advices,
        "containers": counts.containers,
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
    broken = sum(result["dead_letters"].values()) + sum(result["container_dead_letters"].values())
    print(
        f"{result['records']:,} records of {result['parcels']:,} parcels, {result['containers']:,} events of "
        f"containers, {result['duplicates']:,} duplicates, "
        f"{broken:,} that nobody can use and {result['ticks']:,} ticks into {result['to']} "
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

        with BulkProducer(load_settings(bootstrap, prefix)) as direct:
            through = HttpProducer(CaptureClient(gateway), direct, encoder, rate)
            for columns in simulation.batches():
                through.send(columns, None if speed is None else (columns.append_times - begin) / (1_000 * speed))
                progress(columns)
            through.flush()
        seconds = direct.elapsed_seconds
        return {"to": gateway, "sent": through.sent, "seconds": seconds, "per_second": through.sent / seconds}
    with BulkProducer(load_settings(bootstrap, prefix), rate) as feed:
        for columns in simulation.batches():
            due = None if speed is None else (columns.append_times - begin) / (1_000 * speed)
            feed.send(encoder.encode(columns), due)
            progress(columns)
    return {
        "to": "Kafka",
        "sent": feed.records_sent,
        "seconds": feed.elapsed_seconds,
        "per_second": feed.records_sent / feed.elapsed_seconds,
    }


def _to_file(simulation: "Simulation", progress: Any, out: str) -> dict[str, Any]:
    import time

    from streams.simulate.ndjson import ndjson_lines

    begun, written = time.monotonic(), 0
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
    seconds = time.monotonic() - begun
    return {"to": "stdout" if out == "-" else out, "sent": written, "seconds": seconds, "per_second": written / seconds}


def _instant(text: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise Misconfigured(f"--start {text!r} is no time; write it like {_START}") from None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()) * 1_000


def _dirt(said: list[str], clean: bool) -> Any:
    from dataclasses import replace

    from streams.simulate.data_faults import DataFaults

    known = [field.name for field in fields(DataFaults)]
    wanted: dict[str, float] = {}
    for each in said:
        name, _, share = each.partition("=")
        if name not in known:
            raise Misconfigured(f"--dirt {each}: knows {', '.join(known)}")
        try:
            wanted[name] = float(share)
        except ValueError:
            raise Misconfigured(f"--dirt {each}: write a number after the =, for example {name}=0.02") from None
    return replace(DataFaults.none() if clean else DataFaults(), **wanted)


@contextmanager
def _progress(scenario: "Scenario") -> Iterator[Any]:
    """A bar on a terminal, nothing elsewhere."""
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
