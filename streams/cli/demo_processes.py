"""The child processes of `parcels demo`: how they are started, stopped and interrupted."""

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, Self

from streams.errors import StreamsError

if TYPE_CHECKING:
    from streams.kafka.local_broker import LocalBroker
    from streams.kafka.settings import KafkaSettings

_STOP_SECONDS: Final = 20.0


class ProcessSupervisor:
    """The child processes of the demo; they are stopped before the demo ends, for any reason.

    SIGTERM and Ctrl-C raise SystemExit at the current statement. They do not interrupt the start of a process before it
    is registered to be stopped, nor the stopping of the processes.
    """

    def __init__(self, data: Path) -> None:
        self._data = data
        self._stack = ExitStack()
        self._started = 0
        self._broker_kept = False
        self._uninterrupted = False
        self._signalled: int | None = None
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> Self:
        self._handlers = {number: signal.signal(number, self._on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *_: object) -> None:
        self._uninterrupted = True
        self._stack.close()
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def broker_up(self, broker: "LocalBroker") -> str:
        """Start the broker and return its address."""
        with self._without_interruption():
            self._stack.callback(lambda: self._broker_kept or broker.stop())
            return broker.start()

    def keep_broker(self) -> None:
        """Leave the broker running at the end."""
        self._broker_kept = True

    def start(self, settings: "KafkaSettings", *command: str, show_output: bool = False) -> "ChildProcess":
        """Start `parcels COMMAND`, with its output on the terminal if `show_output`, else in a log file."""
        print_command(shlex.join(["parcels", *command]))
        self._started += 1
        log = None if show_output else self._data / f"{self._started}-{command[0]}.log"
        with ExitStack() as files, self._without_interruption():
            stream: IO[bytes] | None = None if log is None else files.enter_context(log.open("wb"))
            process = subprocess.Popen(
                [sys.executable, "-m", "streams.cli", *command],
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                env=_environment(settings),
                # A session of its own: Ctrl-C reaches only this program, which then stops the others in order.
                start_new_session=True,
            )
            child = ChildProcess(command[0], process, log)
            self._stack.callback(child.stop)
        return child

    def _on_signal(self, number: int, _: object) -> None:
        if self._signalled is None:
            self._signalled = number
            print("\nstopping", file=sys.stderr)
            if not self._uninterrupted:
                sys.exit(128 + number)

    @contextmanager
    def _without_interruption(self) -> Iterator[None]:
        self._uninterrupted = True
        try:
            yield
        finally:
            self._uninterrupted = False
        if self._signalled is not None:
            sys.exit(128 + self._signalled)


class ChildProcess:
    """A `parcels` command that runs as a process of its own."""

    def __init__(self, name: str, process: "subprocess.Popen[bytes]", log: Path | None) -> None:
        self.name = name
        self._process = process
        self._log = log

    @property
    def exit_code(self) -> int | None:
        """Exit code; None while it runs."""
        return self._process.poll()

    def wait(self) -> int:
        """Wait until it ends, and return its exit code."""
        return self._process.wait()

    def wait_checked(self) -> None:
        """Wait until it ends.

        Raises:
            StreamsError: its exit code is not 0.
        """
        if self.wait():
            raise self.failure()

    def stop(self) -> None:
        """Send SIGTERM, and SIGKILL if it does not end in time."""
        if self._process.poll() is not None:
            return
        self._process.terminate()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def compilation_progress(self) -> tuple[int, int] | None:
        """How many functions it has compiled, and of how many, by its log; None unless it is compiling."""
        lines = self._log.read_text(errors="replace").splitlines() if self._log else []
        events = [line for line in lines if '"parcels.compilation.' in line and line.endswith("}")]
        last: dict[str, Any] = json.loads(events[-1]) if events else {}
        if not last or last["event"] == "parcels.compilation.finished":
            return None
        return last.get("compiled", 0), last["functions"]

    def failure(self) -> StreamsError:
        """The error for an unexpected end, with the last lines of its log."""
        last = self._log.read_text(errors="replace").splitlines()[-8:] if self._log else []
        return StreamsError("\n  ".join([f'"parcels {self.name}" ended with exit code {self.exit_code}:', *last]))


def _environment(settings: "KafkaSettings") -> dict[str, str]:
    # The demo uses its own broker and topics, not those that the environment names.
    environment = {name: value for name, value in os.environ.items() if name != "PARCELS_PREFIX"}
    return environment | {"KAFKA_BOOTSTRAP_SERVERS": settings.bootstrap}


def print_command(command: str) -> None:
    """Print a command as one would type it in a shell."""
    print(f"$ {command}", flush=True)
