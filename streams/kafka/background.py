"""Work that may block for seconds, beside the loop that must not.

None of these threads keeps the process alive: one may hang in a client library, another fold for half a minute.
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
    """A few threads that stay, and take one job after the other; `ThreadPoolExecutor` waits for its own at exit."""

    def __init__(self, count: int, name: str) -> None:
        """They are started when there is the first job."""
        self._jobs: SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = SimpleQueue()
        self._threads = [threading.Thread(target=self._work, name=f"{name}-{n}", daemon=True) for n in range(count)]
        self._lock = threading.Lock()

    def submit(
        self, function: Callable[Arguments, Result], *args: Arguments.args, **options: Arguments.kwargs
    ) -> "Future[Result]":
        """Run a function when one of the threads is free."""
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
    except BaseException as error:  # noqa: BLE001 - whoever asks the future for its result gets it
        future.set_exception(error)
