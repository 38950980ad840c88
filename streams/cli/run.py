"""`parcels run`: a worker."""

import os
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from streams.cli.options import EXIT_OK, Bootstrap, Json, Prefix, PromisesOption, load_settings
from streams.cli.signals import exit_on_signals, stop_on_signals

if TYPE_CHECKING:
    from streams.worker.partition_task import ProcessingTotals


def run(
    processor: Annotated[
        Literal["parcels", "containers"] | None,
        typer.Argument(help="The processor to run; default: both."),
    ] = None,
    until_idle: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS", help="Exit when no record has arrived for this time; default: run until SIGTERM."
        ),
    ] = None,
    group_instance_id: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Kafka's group.instance.id: a name of this worker that stays the same when it restarts; default: the "
            "host name and the first free slot on this host.",
        ),
    ] = None,
    group_protocol: Annotated[
        Literal["classic", "consumer"],
        typer.Option(help="Kafka's group.protocol; consumer is the protocol of KIP-848."),
    ] = "classic",
    metrics_port: Annotated[
        int | None, typer.Option(metavar="N", help="Serve /metrics, /healthz and /readyz on this port; default: not.")
    ] = None,
    metrics_host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Address of the metrics port; 0.0.0.0 in a container.")
    ] = "127.0.0.1",
    no_output: Annotated[
        bool,
        typer.Option("--no-output", help="Read the log from its beginning and write nothing to Kafka: for benchmarks."),
    ] = False,
    promises: PromisesOption = None,
    json: Json = False,
    bootstrap: Bootstrap = None,
    prefix: Prefix = None,
) -> None:
    """Run a worker: it turns scans into parcel states, exactly once.

    The processor "parcels" reads hub.scans and writes the states, milestones and alerts of parcels. The processor
    "containers" reads hub.containers and passes the events of each container on to the parcels inside.

    Start as many workers as you like, up to the number of partitions. They share the partitions, and take over those
    of a worker that dies. SIGTERM commits the open transactions and leaves the group. The first start of a version
    compiles the code of the worker, which takes minutes and is reported.

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
    from streams.formats.schemas import load_schemas
    from streams.observe.logs import configure_logging
    from streams.observe.status_server import start_status_server
    from streams.observe.worker_metrics import WorkerMetrics
    from streams.processors.compilation import show_compilation
    from streams.processors.registry import processor_names, processor_spec
    from streams.processors.warm_up import warm_up
    from streams.worker.tuning import tune_process
    from streams.worker.worker import WorkerOptions
    from streams.worker.worker_process import WorkerProcess

    settings = load_settings(bootstrap, prefix)
    configure_logging()
    kept_promises = load_promises(promises)
    metrics = WorkerMetrics(
        sites=[site.code for site in load_hub().sites], promises=[promise.name for promise in kept_promises.promises]
    )
    # A wrong set-up is refused before anything is compiled.
    load_schemas()
    with show_compilation():
        warm_up()
    tune_process()
    options = WorkerOptions(group_instance_id, group_protocol, until_idle, no_output)
    specs = [processor_spec(name, kept_promises) for name in ((processor,) if processor else processor_names())]
    process = WorkerProcess(settings, options, metrics, specs)
    stop_on_signals(process.stop)
    server = start_status_server(metrics, metrics_port, host=metrics_host) if metrics_port is not None else None
    try:
        process.run()
    finally:
        if server is not None:
            server.close()
    if json:
        figures = {name: _figures(totals) for name, totals in process.totals.items()}
        # The figures of the parcel processor are at the top level, those of the others under their names.
        first = figures.pop("parcels", {})
        print(json_module.dumps({**first, "cpu_seconds": round(time.process_time(), 3), **figures}), flush=True)
    # Threads of abandoned clients may still hang in librdkafka: exit without waiting for them.
    os._exit(EXIT_OK)


def _figures(tally: "ProcessingTotals") -> dict[str, Any]:
    seconds = tally.last_commit_at - tally.first_batch_at if tally.first_batch_at is not None else 0.0
    return {
        "records": tally.records,
        "seconds": round(seconds, 3),
        "phases": {phase: round(spent, 3) for phase, spent in sorted(tally.phase_seconds.items())},
    }
