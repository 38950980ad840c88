"""What every command shares: how to name the cluster, and how an error ends a command.

Exit codes: 0 fine; 1 the command looked and found differences; 2 wrong usage or set-up; 3 Kafka not reachable, or a
program here gave up on it; 70 the watchdog ended a hung worker; 130 interrupted at the keyboard.
"""

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streams.errors import Misconfigured, StreamsError

if TYPE_CHECKING:
    from streams.kafka.settings import KafkaSettings

EXIT_OK = 0
EXIT_DIFFERENCES = 1
EXIT_MISCONFIGURED = 2
EXIT_UNREACHABLE = 3

Bootstrap = Annotated[
    str | None,
    typer.Option(
        "--bootstrap",
        metavar="HOST:PORT",
        envvar="KAFKA_BOOTSTRAP_SERVERS",
        help="Kafka brokers, separated by commas; 127.0.0.1:9092 when not given.",
        show_default=False,
    ),
]
Prefix = Annotated[
    str | None,
    typer.Option(
        "--prefix",
        metavar="TEXT",
        envvar="PARCELS_PREFIX",
        help="Put before every topic, group and transactional id; empty when not given.",
        show_default=False,
    ),
]
PromisesOption = Annotated[
    Path | None,
    typer.Option("--promises", metavar="FILE", help="What is promised about parcels; the default is shipped."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


def load_settings(bootstrap: str | None, prefix: str | None) -> "KafkaSettings":
    """The settings of the environment, overridden by what the command line says.

    Raises:
        Misconfigured: a value that cannot be right; says which one and why.
    """
    from pydantic import ValidationError

    from streams.kafka.settings import KafkaSettings

    said = {"bootstrap": bootstrap, "prefix": prefix}
    try:
        return KafkaSettings(**{name: value for name, value in said.items() if value is not None})
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(str(part) for part in problem['loc'])} {problem['input']!r}: {problem['msg']}"
            for problem in error.errors()
        )
        raise Misconfigured(problems) from error


@contextmanager
def exit_on_errors() -> Iterator[None]:
    """Turn the errors that a person can do something about into one message on stderr and an exit code.

    Anything else is a defect of this program and keeps its traceback.
    """
    try:
        try:
            yield
        finally:
            # Here, where what is wrong with it can be said, and not when the interpreter ends.
            _flush()
    except Misconfigured as error:
        _end(str(error), EXIT_MISCONFIGURED)
    except StreamsError as error:
        _end(str(error), EXIT_UNREACHABLE)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # The reader of a pipe (head, less) went away; Python must not complain about it once more at exit.
        _drop_output()
        sys.exit(EXIT_OK)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        _drop_output()
        _end(f"{error.filename or 'what is printed here'} cannot be written: {error.strerror}", EXIT_UNREACHABLE)
    except Exception as error:
        # Named by module, so that a command that never speaks to Kafka does not load its client to compare classes.
        if type(error).__module__.startswith(("confluent_kafka", "cimpl")):
            _end(f"Kafka: {error.args[0].str() if hasattr(error.args[0], 'str') else error}", EXIT_UNREACHABLE)
        raise


def _flush() -> None:
    if sys.stdout is None:  # closed by whoever started this
        return
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _drop_output()


def _drop_output() -> None:
    if sys.stdout is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _end(message: str, code: int) -> None:
    print(f"parcels: {message}", file=sys.stderr)
    sys.exit(code)
