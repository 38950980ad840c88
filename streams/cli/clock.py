"""`parcels clock`: the clock of the log."""

import os
import socket
from typing import Annotated

import typer

from streams.cli.options import Bootstrap, Prefix, load_settings
from streams.cli.signals import exit_on_signals, stop_on_signals
from streams.errors import Misconfigured


def clock(
    every: Annotated[
        float, typer.Option(metavar="SECONDS", min=0.1, max=60, help="How often to tick; 1 when not given.")
    ] = 1.0,
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Written into each Tick; host and process id when not given.")
    ] = None,
    at: Annotated[
        str | None, typer.Option(metavar="TIME", help="Append one Tick of this time instead, ISO 8601, and end.")
    ] = None,
    bootstrap: Bootstrap = None,
    prefix: Prefix = None,
) -> None:
    """Append the time to every partition of hub.scans and hub.containers, until SIGTERM.

    Promises are broken and parcels fall silent when a Tick says that it is late enough; without a clock nothing does.
    Run two, on two machines: the later Tick counts, and one alone is enough.

    --at is for a log of simulated or past days: what was due by then is told, and no later time is.

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
    named = name or f"{socket.gethostname()}-{os.getpid()}"
    if at is not None:
        _tick_once(at, named, bootstrap, prefix)
        return
    exit_on_signals()

    def tell(what: str, figures: dict[str, object]) -> None:
        (log.warning if what == "kafka_unavailable" else log.info)(f"parcels.clock.{what}", **figures)

    made = TickProducer(load_settings(bootstrap, prefix), named, every, tell)
    stop_on_signals(made.stop)
    made.run()


def _tick_once(at: str, name: str, bootstrap: str | None, prefix: str | None) -> None:
    from streams.formats.record_parser import RecordParser
    from streams.kafka.bulk_producer import BulkProducer, ProducerBatch

    try:
        tick = RecordParser()({"type": "tick", "hub_time": at, "producer": name})
    except ValueError as error:
        raise Misconfigured(f"--at: {error}") from None
    with BulkProducer(load_settings(bootstrap, prefix)) as feed:
        feed.send(ProducerBatch([None], [tick.value], [0]))
