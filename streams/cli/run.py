"""`parcels run`: a worker."""

import os
from pathlib import Path
from typing import Annotated, Literal

import typer

from streams.cli.options import OK, Bootstrap, Json, Prefix, settings


def run(
    until_idle: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", help="Exit when nothing arrived for so long. Without it, run until SIGTERM."),
    ] = None,
    instance: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Name of this worker, the same after a restart; by default this host and the first free slot on it.",
        ),
    ] = None,
    protocol: Annotated[
        Literal["classic", "consumer"],
        typer.Option(help="Protocol of the group; consumer is that of KIP-848."),
    ] = "classic",
    metrics_port: Annotated[
        int | None, typer.Option(metavar="N", help="Serve /metrics, /healthz and /readyz on this port.")
    ] = None,
    metrics_host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Where to serve them; 0.0.0.0 in a container.")
    ] = "127.0.0.1",
    dry: Annotated[
        bool, typer.Option("--dry", help="Fold the log from its beginning and write nothing: for measurements.")
    ] = False,
    promises: Annotated[
        Path | None, typer.Option(metavar="FILE", help="What is promised about parcels; the default is shipped.")
    ] = None,
    json: Json = False,
    bootstrap: Bootstrap = None,
    prefix: Prefix = None,
) -> None:
    """Run a worker: scans in, the state of every parcel out, exactly once.

    Start as many as there are partitions; each takes its share, and takes over when another one dies.
    SIGTERM finishes the transactions on their way and leaves the group.

    Examples:
      parcels run
      parcels run --until-idle 5
      parcels run --metrics-port 9464
      parcels run --promises promises.yaml
    """
    import json as json_module
    import time

    from streams.config import load_hub, load_promises
    from streams.observe.logs import set_up
    from streams.observe.metrics import WorkerMetrics
    from streams.observe.serve import serve
    from streams.pipeline.instance import Instance
    from streams.pipeline.tuning import tune
    from streams.pipeline.warm import warm
    from streams.pipeline.worker import GROUP, Options, Worker, stop_on_signals

    where = settings(bootstrap, prefix)
    set_up()
    watched = load_promises(promises)
    metrics = WorkerMetrics(
        sites=[site.code for site in load_hub().sites], promises=[promise.name for promise in watched.promises]
    )
    # KIP-848 refuses a restarted static member until its session ends, so there members are dynamic.
    held = Instance(where.prefix + GROUP) if instance is None and protocol == "classic" and not dry else None
    name = held.name if held is not None else instance
    warm()
    tune()
    worker = Worker(where, Options(name, protocol, until_idle, dry, watched), metrics)
    stop_on_signals(worker.stop)
    server = serve(metrics, metrics_port, host=metrics_host) if metrics_port is not None else None
    try:
        worker.run()
    finally:
        if server is not None:
            server.close()
    if json:
        tally = worker.tally
        seconds = tally.last - tally.first if tally.first is not None else 0.0
        print(
            json_module.dumps(
                {
                    "records": tally.records,
                    "seconds": round(seconds, 3),
                    "cpu_seconds": round(time.process_time(), 3),
                    "phases": {phase: round(spent, 3) for phase, spent in sorted(tally.seconds.items())},
                }
            ),
            flush=True,
        )
    # Threads of abandoned clients may still hang in librdkafka: leave without waiting for them.
    os._exit(OK)
