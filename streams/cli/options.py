"""What every command shares: the options that name the cluster, and how an error ends a command.

Exit codes: 0 success; 1 the command worked and found differences; 2 wrong usage or set-up; 3 Kafka cannot be reached,
or a program here gave up on it; 70 the watchdog ended a hung worker; 130 interrupted at the keyboard.
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
        help="Kafka brokers to connect to, separated by commas; default 127.0.0.1:9092.",
        show_default=False,
    ),
]
Prefix = Annotated[
    str | None,
    typer.Option(
        "--prefix",
        metavar="TEXT",
        envvar="PARCELS_PREFIX",
        help="Prefix of every topic, group and transactional id, to share a cluster; default none.",
        show_default=False,
    ),
]
PromisesOption = Annotated[
    Path | None,
    typer.Option("--promises", metavar="FILE", help="File of promises (YAML); default: the promises of the package."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


def load_settings(bootstrap: str | None, prefix: str | None) -> "KafkaSettings":
    """The settings of the environment, overridden by the command line.

    Raises:
        Misconfigured: a value is not valid; the message names it and the reason.
    """
    from pydantic import ValidationError

    from streams.kafka.settings import KafkaSettings

    overrides = {"bootstrap": bootstrap, "prefix": prefix}
    try:
        return KafkaSettings(**{name: value for name, value in overrides.items() if value is not None})
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(str(part) for part in problem['loc'])} {problem['input']!r}: {problem['msg']}"
            for problem in error.errors()
        )
        raise Misconfigured(problems) from error


@contextmanager
def exit_on_errors() -> Iterator[None]:
    """Turn an error that the user can act on into one message on stderr and an exit code.

    Any other error is a defect of this program and keeps its traceback.
    """
    try:
        try:
            yield
        finally:
            # Flush here, where a failure can be reported, and not at the end of the interpreter.
            _flush()
    except Misconfigured as error:
        _end(str(error), EXIT_MISCONFIGURED)
    except StreamsError as error:
        _end(str(error), EXIT_UNREACHABLE)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # The reader of a pipe (head, less) has ended; Python must not report that a second time at exit.
        _drop_output()
        sys.exit(EXIT_OK)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        _drop_output()
        _end(f"{error.filename or 'standard output'} cannot be written: {error.strerror}", EXIT_UNREACHABLE)
    except Exception as error:
        # Compared by module name, so that a command without Kafka does not load the client to compare classes.
        if type(error).__module__.startswith(("confluent_kafka", "cimpl")):
            _end(f"Kafka: {error.args[0].str() if hasattr(error.args[0], 'str') else error}", EXIT_UNREACHABLE)
        raise


def _flush() -> None:
    if sys.stdout is None:  # closed by the parent process
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
