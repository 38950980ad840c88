"""Work that may block for seconds, beside the loop that must not."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import ParamSpec, TypeVar

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def in_background(
    function: Callable[Arguments, Result], *args: Arguments.args, **options: Arguments.kwargs
) -> "Future[Result]":
    """Run a function in a thread of its own; one that hangs in a client library does not keep the process alive."""
    future: Future[Result] = Future()

    def run() -> None:
        try:
            future.set_result(function(*args, **options))
        except BaseException as error:  # noqa: BLE001 - whoever asks the future for its result gets it
            future.set_exception(error)

    threading.Thread(target=run, name=getattr(function, "__name__", "closing"), daemon=True).start()
    return future
