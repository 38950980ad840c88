"""Workers of several stages in one process: one thread each, started and stopped together."""

import threading
from collections.abc import Sequence
from typing import Final

from streams.errors import StreamsError
from streams.telemetry import worker_events as told
from streams.telemetry.worker_events import EventListener, WorkerEvent
from streams.worker.worker import Worker

# What one of them says for all.
_OF_THE_PROCESS: Final = (
    told.WorkerStarted,
    told.WorkerStopped,
    told.BrokerUnavailable,
    told.BrokerRecovered,
    told.TicksStopped,
    told.TicksResumed,
    told.WorkerProgress,
)


def suppress_process_events(listener: EventListener) -> EventListener:
    """A watcher for those workers of a process that are not the first: it is not told the same twice."""

    def watch(happening: WorkerEvent) -> None:
        if not isinstance(happening, _OF_THE_PROCESS):
            listener(happening)

    return watch


def run_workers(workers: Sequence[Worker]) -> None:
    """Run them until one of them stops; then all do.

    Raises:
        StreamsError: what ended the first of them that was not asked to.
    """
    errors: list[Exception] = []

    def run(worker: Worker) -> None:
        try:
            worker.run()
        except Exception as error:  # noqa: BLE001 - it ends the process, from its main thread
            errors.append(error)
        finally:
            for other in workers:
                other.stop("error" if errors else worker.why)

    for worker in workers:
        worker.sibling_workers = [other for other in workers if other is not worker]
    threads = [threading.Thread(target=run, args=(worker,), name=worker.kind.name) for worker in workers[1:]]
    for thread in threads:
        thread.start()
    run(workers[0])
    for thread in threads:
        thread.join()
    for error in errors:
        if isinstance(error, StreamsError):
            raise error
        raise StreamsError(f"a worker broke: {error!r}") from error
