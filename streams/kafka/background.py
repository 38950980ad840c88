"""Threads for calls that may block for seconds, so that the loop of the worker does not block.

They are daemon threads and do not keep the process alive: a call may hang in a client library, or fold for half a
minute.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, ParamSpec, TypeVar

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def run_in_background(
    function: Callable[Arguments, Result], *args: Arguments.args, **options: Arguments.kwargs
) -> "Future[Result]":
    """Run a function in a thread of its own."""
    future: Future[Result] = Future()
    name = getattr(function, "__name__", "closing")
    threading.Thread(target=_settle, args=(future, lambda: function(*args, **options)), name=name, daemon=True).start()
    return future


class DaemonThreadPool:
    """Daemon threads that run jobs; a `ThreadPoolExecutor` would wait for its threads at exit."""

    def __init__(self, count: int, name: str) -> None:
        """The threads are started with the first job."""
        self._jobs: SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = SimpleQueue()
        self._threads = [threading.Thread(target=self._work, name=f"{name}-{n}", daemon=True) for n in range(count)]
        self._lock = threading.Lock()

    def submit(
        self, function: Callable[Arguments, Result], *args: Arguments.args, **options: Arguments.kwargs
    ) -> "Future[Result]":
        """Run a function as soon as one of the threads is free."""
        future: Future[Result] = Future()
        self._jobs.put((future, lambda: function(*args, **options)))
        with self._lock:
            for thread in self._threads:
                if thread.ident is None:
                    thread.start()
        return future

    def _work(self) -> None:
        while True:
            _settle(*self._jobs.get())


def _settle(future: "Future[Result]", job: Callable[[], Result]) -> None:
    try:
        future.set_result(job())
    except BaseException as error:  # noqa: BLE001 - raised where the future is asked for its result
        future.set_exception(error)
