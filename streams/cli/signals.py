"""Handling of SIGTERM and SIGINT in programs that run until they receive one of them."""

import os
import signal
from collections.abc import Callable

from streams.cli.options import EXIT_OK

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def exit_on_signals() -> None:
    """Exit at once with code 0: a program that is still starting has nothing to finish."""
    for number in _SIGNALS:
        signal.signal(number, lambda *_: os._exit(EXIT_OK))


def stop_on_signals(stop: Callable[[], None]) -> None:
    """Call `stop` on either signal, from now on."""
    for number in _SIGNALS:
        signal.signal(number, lambda *_: stop())
