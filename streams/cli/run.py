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
    from streams.processors.registry import PROCESSOR_NAMES, processor_spec
    from streams.processors.warm_up import warm_up
    from streams.worker.run_workers import run_workers, suppress_process_events
    from streams.worker.static_member_id import StaticMemberId
    from streams.worker.tuning import tune_process
    from streams.worker.worker import Worker, WorkerOptions

    where = load_settings(bootstrap, prefix)
    configure_logging()
    watched = load_promises(promises)
    metrics = WorkerMetrics(
        sites=[site.code for site in load_hub().sites], promises=[promise.name for promise in watched.promises]
    )
    warm_up()
    tune_process()
    workers: list[Worker] = []
    held: list[StaticMemberId] = []
    for name in (stage,) if stage else PROCESSOR_NAMES:
        # KIP-848 refuses a restarted static member until its session ends, so there members are dynamic.
        if instance is None and protocol == "classic" and not dry:
            held.append(StaticMemberId(where.prefix + processor_spec(name, watched).group))
        options = WorkerOptions(held[-1].name if held else instance, protocol, until_idle, dry, watched)
        workers.append(Worker(where, options, suppress_process_events(metrics) if workers else metrics, name))
    # All follow the first one.
    stop_on_signals(workers[0].stop)
    server = start_status_server(metrics, metrics_port, host=metrics_host) if metrics_port is not None else None
    try:
        run_workers(workers)
    finally:
        if server is not None:
            server.close()
    if json:
        figures = {str(worker.kind.name): _figures(worker.tally) for worker in workers}
        # Those of parcels where both are run.
        first = figures.pop("parcels", {})
        print(json_module.dumps({**first, "cpu_seconds": round(time.process_time(), 3), **figures}), flush=True)
    # Threads of abandoned clients may still hang in librdkafka: leave without waiting for them.
    os._exit(EXIT_OK)


def _figures(tally: "ProcessingTotals") -> dict[str, Any]:
    seconds = tally.last - tally.first if tally.first is not None else 0.0
    return {
        "records": tally.records,
        "seconds": round(seconds, 3),
        "phases": {phase: round(spent, 3) for phase, spent in sorted(tally.seconds.items())},
    }
