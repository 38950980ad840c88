"""`parcels clock`: the clock of the log."""

import os
import socket
from typing import Annotated

import typer

from streams.cli.options import Bootstrap, Prefix, settings


def clock(
    every: Annotated[
        float, typer.Option(metavar="SECONDS", min=0.1, max=60, help="How often to tick; 1 when not given.")
    ] = 1.0,
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Written into each Tick; host and process id when not given.")
    ] = None,
    bootstrap: Bootstrap = None,
    prefix: Prefix = None,
) -> None:
    """Append the time to every partition of hub.scans and hub.containers, until SIGTERM.

    Promises are broken and parcels fall silent when a Tick says that it is late enough; without a clock nothing does.
    Run two, on two machines: the later Tick counts, and one alone is enough.

    Examples:
      parcels clock
      parcels clock --every 0.5 --name hall-east
    """
    import structlog

    from streams.observe.logs import set_up
    from streams.pipeline.clock import Clock
    from streams.pipeline.worker import stop_on_signals

    set_up()
    log = structlog.get_logger()

    def tell(what: str, figures: dict[str, object]) -> None:
        (log.warning if what == "behind" else log.info)(f"parcels.clock.{what}", **figures)

    made = Clock(settings(bootstrap, prefix), name or f"{socket.gethostname()}-{os.getpid()}", every, tell)
    stop_on_signals(made.stop)
    made.run()
