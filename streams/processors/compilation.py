"""Progress of the compilation at the first start: a bar on a terminal, log lines elsewhere.

Numba compiles a function at its first call and caches it on disk (streams/domain/jit.py). All functions of a worker
take one to four minutes, once for each version of the code. Numba announces each compilation as an event. A function
that is loaded from the cache causes no event, so nothing is shown, and nothing is slower, when the cache is complete.

The measure is the number of functions compiled so far. Most functions call others, which are compiled before them.
"""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from numba.core import event
from numba.core.dispatcher import Dispatcher

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

STARTED: Final = "parcels.compilation.started"
COMPILING: Final = "parcels.compilation.running"
FINISHED: Final = "parcels.compilation.finished"
_PACKAGE: Final = "streams."
_LOG_INTERVAL_SECONDS: Final = 5.0


class CompilationBar:
    """The bar on a terminal; it is erased when it is hidden."""

    def __init__(self) -> None:
        self._progress: Progress | None = None
        self._task: TaskID | None = None

    def show(self, compiled: int, functions: int) -> None:
        """Draw the bar: `compiled` of `functions` functions."""
        if self._progress is None or self._task is None:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

            self._progress = Progress(
                TextColumn("first start: compiling, once for this version"),
                BarColumn(bar_width=20),
                MofNCompleteColumn(),
                TextColumn("functions"),
                TimeElapsedColumn(),
                console=Console(stderr=True),
                refresh_per_second=4,
                transient=True,
            )
            self._task = self._progress.add_task("", total=functions)
        self._progress.start()
        self._progress.update(self._task, completed=compiled, total=functions)

    def hide(self) -> None:
        """Erase the bar; `show` draws it again."""
        if self._progress is not None:
            self._progress.stop()


@contextmanager
def show_compilation() -> Iterator[None]:
    """Show the progress of all compilation within, on standard error; nothing where everything is cached."""
    listener = _CompilationListener()
    with event.install_listener("numba:compile", listener):
        try:
            yield
        finally:
            listener.finish()


class _CompilationListener(event.Listener):
    """Numba, which ships no types, calls it within its compiler lock: one thread at a time."""

    def __init__(self) -> None:
        self._bar = CompilationBar() if sys.stderr.isatty() else None
        self._compiled: set[int] = set()
        self._functions = 0
        # Compilations that have begun and not ended: of a function, and of those that it calls.
        self._depth = 0
        self._begin = self._seconds = 0.0
        self._last_log_time = 0.0

    def on_start(self, _: Any) -> None:
        """Numba begins to compile a function."""
        self._depth += 1
        if self._depth > 1:
            return
        self._begin = time.monotonic()
        if not self._functions:
            self._functions = _count_functions()
            self._log(STARTED, reason="first start of this version")
        if self._bar is not None:
            self._bar.show(len(self._compiled), self._functions)

    def on_end(self, ended: Any) -> None:
        """Numba has compiled a function."""
        self._depth -= 1
        dispatcher = ended.data["dispatcher"]
        # Numba compiles functions of its own, and one function may be compiled for several types of arguments.
        if dispatcher.py_func.__module__.startswith(_PACKAGE):
            self._compiled.add(id(dispatcher))
        if self._depth == 0:
            self._seconds += time.monotonic() - self._begin
            # Between two compilations the program may print.
            if self._bar is not None:
                self._bar.hide()
        elif self._bar is not None:
            self._bar.show(len(self._compiled), self._functions)
        if time.monotonic() - self._last_log_time >= _LOG_INTERVAL_SECONDS:
            self._log(COMPILING, compiled=len(self._compiled))

    def finish(self) -> None:
        """Report the end, if anything was compiled."""
        if self._functions:
            self._log(FINISHED, compiled=len(self._compiled), seconds=round(self._seconds, 1))

    def _log(self, name: str, **keys: Any) -> None:
        # In the format of streams/observe/logs.py, which lies above this room; not every command sets it up.
        if self._bar is None:
            self._last_log_time = time.monotonic()
            line = {"timestamp": datetime.now(UTC).isoformat(), "level": "info", "event": name}
            sys.stderr.write(json.dumps({**line, "functions": self._functions, **keys}) + "\n")
            sys.stderr.flush()


def _count_functions() -> int:
    """The functions of this package that are compiled, in the modules that are imported."""
    modules = [module for name, module in list(sys.modules.items()) if name.startswith(_PACKAGE)]
    return len({id(value) for module in modules for value in vars(module).values() if isinstance(value, Dispatcher)})
