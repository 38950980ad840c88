"""`parcels run`: a worker."""

import os
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from streams.cli.options import EXIT_OK, Bootstrap, Json, Prefix, PromisesOption, load_settings
from streams.cli.signals import exit_on_signals, stop_on_signals

if TYPE_CHECKING:
    from streams.worker.partition_task import ProcessingTotals


def run(
    stage: Annotated[
        Literal["parcels", "containers"] | None,
        typer.Argument(help="Which stage to run; both when it is not said."),
    ] = None,
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
    promises: PromisesOption = None,
    json: Json = False,
    bootstrap: Bootstrap = None,
    prefix: Prefix = None,
) -> None:
    """Run a worker: scans in, the state of every parcel out, exactly once.

    What happens to a container goes on to the parcels inside: that is the stage "containers", the rest is "parcels".

    Start as many as there are partitions; each takes its share, and takes over when another one dies.
    SIGTERM finishes the transactions on their way and leaves the group.

    Examples:
      parcels run
      parcels run --until-idle 5
      parcels run containers
      parcels run --metrics-port 9464
      parcels run --promises promises.yaml
    """
    exit_on_signals()
    import json as json_module
    import time

    from streams.config import load_hub, load_promises
    from streams.observe.logs import configure_logging
    from streams.observe.status_server import start_status_server
    from streams.observe.worker_metrics import WorkerMetrics
    from streams.processors.registry import processor_names, processor_spec
    from streams.processors.warm_up import warm_up
    from streams.worker.tuning import tune_process
    from streams.worker.worker import WorkerOptions
    from streams.worker.worker_process import WorkerProcess

    where = load_settings(bootstrap, prefix)
    configure_logging()
    watched = load_promises(promises)
    metrics = WorkerMetrics(
        sites=[site.code for site in load_hub().sites], promises=[promise.name for promise in watched.promises]
    )
    warm_up()
    tune_process()
    options = WorkerOptions(instance, protocol, until_idle, dry)
    specs = [processor_spec(name, watched) for name in ((stage,) if stage else processor_names())]
    process = WorkerProcess(where, options, metrics, specs)
    stop_on_signals(process.stop)
    server = start_status_server(metrics, metrics_port, host=metrics_host) if metrics_port is not None else None
    try:
        process.run()
    finally:
        if server is not None:
            server.close()
    if json:
        figures = {name: _figures(totals) for name, totals in process.totals.items()}
        # Those of parcels where both are run.
        first = figures.pop("parcels", {})
        print(json_module.dumps({**first, "cpu_seconds": round(time.process_time(), 3), **figures}), flush=True)
    # Threads of abandoned clients may still hang in librdkafka: leave without waiting for them.
    os._exit(EXIT_OK)


def _figures(tally: "ProcessingTotals") -> dict[str, Any]:
    seconds = tally.last_commit_at - tally.first_batch_at if tally.first_batch_at is not None else 0.0
    return {
        "records": tally.records,
        "seconds": round(seconds, 3),
        "phases": {phase: round(spent, 3) for phase, spent in sorted(tally.phase_seconds.items())},
    }
