"""`parcels clock`: append ticks, the clock of the log."""

import os
import socket
from typing import Annotated

import typer

from streams.cli.options import Bootstrap, Prefix, load_settings
from streams.cli.signals import exit_on_signals, stop_on_signals
from streams.errors import Misconfigured


def clock(
    every: Annotated[float, typer.Option(metavar="SECONDS", min=0.1, max=60, help="Seconds between two ticks.")] = 1.0,
    name: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Name of this clock, written into each tick; default: host and process id."),
    ] = None,
    at: Annotated[
        str | None, typer.Option(metavar="TIME", help="Append one tick of this time (ISO 8601) and exit.")
    ] = None,
    bootstrap: Bootstrap = None,
    prefix: Prefix = None,
) -> None:
    """Append the time to the log, so that deadlines can pass.

    A tick is a record with the time, in every partition of hub.scans and hub.containers. A worker finds a broken
    promise or a missing parcel only when a tick shows that the deadline has passed, so a live system needs this clock.
    Run two of them, on two machines: the latest tick counts, and one clock is enough. SIGTERM ends it.

    Use --at for simulated or past days: workers then evaluate all deadlines up to that time, and no later ones.

    Examples:
      parcels clock
      parcels clock --every 0.5 --name hall-east
      parcels clock --at 2026-03-04T00:00Z
    """
    import structlog

    from streams.kafka.tick_producer import TickProducer
    from streams.observe.logs import configure_logging

    configure_logging()
    log = structlog.get_logger()
    clock_name = name or f"{socket.gethostname()}-{os.getpid()}"
    if at is not None:
        _tick_once(at, clock_name, bootstrap, prefix)
        return
    exit_on_signals()

    def log_event(event: str, figures: dict[str, object]) -> None:
        (log.warning if event == "kafka_unavailable" else log.info)(f"parcels.clock.{event}", **figures)

    producer = TickProducer(load_settings(bootstrap, prefix), clock_name, every, log_event)
    stop_on_signals(producer.stop)
    producer.run()


def _tick_once(at: str, name: str, bootstrap: str | None, prefix: str | None) -> None:
    from streams.formats.record_parser import RecordParser
    from streams.kafka.bulk_producer import BulkProducer, ProducerBatch

    try:
        tick = RecordParser()({"type": "tick", "hub_time": at, "producer": name})
    except ValueError as error:
        raise Misconfigured(f"--at: {error}") from None
    with BulkProducer(load_settings(bootstrap, prefix)) as producer:
        producer.send(ProducerBatch([None], [tick.value], [0]))
