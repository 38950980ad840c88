"""What SIGTERM and SIGINT do to a program that runs until one of them comes."""

import os
import signal
from collections.abc import Callable

from streams.cli.options import EXIT_OK

_BOTH = (signal.SIGTERM, signal.SIGINT)


def exit_on_signals() -> None:
    """End at once, with exit code 0: while a program starts there is nothing to finish."""
    for number in _BOTH:
        signal.signal(number, lambda *_: os._exit(EXIT_OK))


def stop_on_signals(stop: Callable[[], None]) -> None:
    """Call `stop`, from now on."""
    for number in _BOTH:
        signal.signal(number, lambda *_: stop())
