"""`parcels demo`: the whole system at work, on this machine, within two minutes."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any, Final, Self

import typer

from streams.cli.options import EXIT_DIFFERENCES
from streams.errors import Misconfigured, StreamsError

if TYPE_CHECKING:
    from rich.console import Console

    from streams.cli.board import Board, MilestoneReader
    from streams.kafka.local_broker import LocalBroker
    from streams.kafka.settings import KafkaSettings

_BROKER_PORT: Final = 9092
_METRICS_PORT: Final = 9464
_GATEWAY_PORT: Final = 8080
_MARK: Final = "made-by-parcels-demo"
# The day, and the night in which most of its parcels leave.
_AFTER_HOURS: Final = 12
_SEED: Final = 7
_REDRAWN_SECONDS: Final = 0.25
_PLAIN_SECONDS: Final = 3.0
# The worker compiles its code when it runs for the first time; `make setup` has done that already.
_READY_SECONDS: Final = 300.0
# A worker whose code is compiled is ready in about 3 s.
_WORTH_A_WORD_SECONDS: Final = 8.0
# What one stage writes for the other is there by then.
_QUIET_SECONDS: Final = 2.0
_STOP_SECONDS: Final = 20.0


def demo(
    data: Annotated[Path, typer.Option(metavar="DIR", help="Where the broker and the logs of the demo live.")] = Path(
        ".cache/demo"
    ),
    parcels: Annotated[int, typer.Option(min=1, metavar="N", help="How many parcels come that day.")] = 5_000,
    seconds: Annotated[float, typer.Option(min=1, metavar="SECONDS", help="How long the day takes.")] = 40,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the broker running at the end.")] = False,
) -> None:
    """Watch a day of a small hub flow through broker, worker and board.

    Starts a Kafka broker of its own, a worker and a simulated hub, shows a board while the day passes, and compares
    every state with the truth at the end; then it shows a bag. The exit code is that of "parcels verify". What an
    earlier demo left in DIR is deleted. Nothing runs on afterwards, but for the broker with --keep; its log stays in
    DIR.

    Examples:
      parcels demo
      parcels demo --parcels 20000 --seconds 60 --keep
    """
    from streams.cli.board import Board, milestone_reader
    from streams.kafka import topic_admin
    from streams.kafka.local_broker import LocalBroker
    from streams.kafka.settings import KafkaSettings

    with _ProcessSupervisor(data) as running:
        _clear(data)
        broker = LocalBroker(data / "broker", _free(_BROKER_PORT))
        _say(f"parcels broker up --data {_path(broker.folder)} --port {broker.port}")
        where = KafkaSettings(bootstrap=running.broker_up(broker), prefix="")
        _say(f"export KAFKA_BOOTSTRAP_SERVERS={where.bootstrap}")
        _say("parcels topics apply")
        topic_admin.apply_topics(where, topic_admin.plan_topics(where))

        metrics_port = _free(_METRICS_PORT)
        board = Board(f"http://127.0.0.1:{metrics_port}", "Parcel hub")
        worker = running.start(where, "run", "--metrics-port", str(metrics_port))
        _wait_until_ready(board, worker)

        gateway_port = _free(_GATEWAY_PORT)
        gateway = running.start(
            where, "gateway", "--insecure-local", "--port", str(gateway_port), "--data", _path(data / "gateway")
        )
        truth = data / "truth.json"
        speed = round((24 + _AFTER_HOURS) * 3600 / seconds)
        hub = running.start(
            where,
            *("simulate", "--parcels", str(parcels), "--seed", str(_SEED), "--after-hours", str(_AFTER_HOURS)),
            *("--speed", str(speed), "--truth", _path(truth)),
            *("--via", "http", "--gateway", f"http://127.0.0.1:{gateway_port}"),
        )
        with milestone_reader(where) as milestones:
            _watch(board, milestones, hub, worker, gateway)
        # The clock of the log ended with the day; where parcels were ahead of their containers it is needed once more.
        settled = datetime.fromtimestamp(json.loads(truth.read_bytes())["settled"] / 1000, UTC)
        running.start(where, "clock", "--at", settled.isoformat()).done()
        worker.stop()
        # What one stage wrote last, and the other has not folded yet.
        running.start(where, "run", "--until-idle", "2").done()
        print()
        code = running.start(where, "verify", _path(truth), shown=True).wait()
        if code not in (0, EXIT_DIFFERENCES):
            raise StreamsError("the states could not be compared with the truth; see above")
        bag = _fullest_bag(where)
        print()
        running.start(where, "show", bag, shown=True).wait()
        if keep:
            running.keep_broker()
        [(most_told, _)] = milestones.counts_by_parcel.most_common(1) or [("", 0)]
        _say_what_next(broker, most_told, bag, metrics_port, keep=keep)
    raise typer.Exit(code)


class _ProcessSupervisor:
    """The processes of the demo: whatever ends it, they end first.

    SIGTERM and Ctrl-C end it with SystemExit where it stands, but not between the start of a process and the note that
    it must be stopped, nor while the processes are being stopped.
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
        """Let the broker run on."""
        self._broker_kept = True

    def start(self, where: "KafkaSettings", *command: str, shown: bool = False) -> "_ChildProcess":
        """Start `parcels COMMAND`, its output on the terminal where it is `shown`, else in a file."""
        _say(shlex.join(["parcels", *command]))
        self._started += 1
        log = None if shown else self._data / f"{self._started}-{command[0]}.log"
        with ExitStack() as files, self._without_interruption():
            stream: IO[bytes] | None = None if log is None else files.enter_context(log.open("wb"))
            process = subprocess.Popen(
                [sys.executable, "-m", "streams.cli", *command],
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                env=_environment(where),
                # A group of its own: Ctrl-C is for this program, which then stops the others in order.
                start_new_session=True,
            )
            child = _ChildProcess(command[0], process, log)
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


class _ChildProcess:
    """Another command of this program."""

    def __init__(self, name: str, process: "subprocess.Popen[bytes]", log: Path | None) -> None:
        self.name = name
        self._process = process
        self._log = log

    @property
    def code(self) -> int | None:
        """Exit code; None while it runs."""
        return self._process.poll()

    def wait(self) -> int:
        """Wait for its end."""
        return self._process.wait()

    def done(self) -> None:
        """Wait for its end.

        Raises:
            StreamsError: it failed.
        """
        if self.wait():
            raise self.failure()

    def stop(self) -> None:
        """Ask it to end, and insist."""
        if self._process.poll() is not None:
            return
        self._process.terminate()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def failure(self) -> StreamsError:
        """The error to raise when it ended and should not have."""
        last = self._log.read_text(errors="replace").splitlines()[-8:] if self._log else []
        return StreamsError("\n  ".join([f'"parcels {self.name}" ended with exit code {self.code}:', *last]))


def _wait_until_ready(board: "Board", worker: _ChildProcess) -> None:
    from streams.cli.board import is_ready

    begun = time.monotonic()
    deadline, told = begun + _READY_SECONDS, False
    while not is_ready(board.url):
        if worker.code is not None:
            raise worker.failure()
        if not told and time.monotonic() > begun + _WORTH_A_WORD_SECONDS:
            print("the worker compiles its code, which it does once; this can take a minute", flush=True)
            told = True
        if time.monotonic() > deadline:
            raise StreamsError(f"the worker is not ready after {_READY_SECONDS:g} s")
        time.sleep(0.1)


def _watch(
    board: "Board", milestones: "MilestoneReader", hub: _ChildProcess, worker: _ChildProcess, gateway: _ChildProcess
) -> None:
    """Show the board until the day is over and nothing more is folded."""
    from rich.console import Console

    console = Console()
    with _live(board, milestones, console) as show:
        moved, folded = time.monotonic(), -1.0
        over = False
        while not over or time.monotonic() - moved < _QUIET_SECONDS:
            if worker.code is not None:
                raise worker.failure()
            if hub.code not in (None, 0):
                raise hub.failure()
            if hub.code is None and gateway.code is not None:
                raise gateway.failure()
            if hub.code == 0 and not over:
                # What it has taken is in Kafka when it has ended.
                gateway.stop()
                over = True
            now = board.look().records
            if now != folded or not over:
                moved, folded = time.monotonic(), now
            milestones.read()
            show(False)
            time.sleep(_REDRAWN_SECONDS)
        show(True)


@contextmanager
def _live(board: "Board", milestones: "MilestoneReader", console: "Console") -> "Iterator[Callable[[bool], None]]":
    """What shows the board once more: drawn in place on a terminal, else a line every few seconds and at the end."""
    from rich.live import Live

    if not console.is_terminal:
        shown = 0.0

        def print_line(last: bool) -> None:
            nonlocal shown
            begun = board.snapshots[-1].records > 0
            if last or (begun and time.monotonic() - shown >= _PLAIN_SECONDS):
                shown = time.monotonic()
                print(board.line(), flush=True)

        yield print_line
        return
    with Live(console=console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False) as live:
        yield lambda _: live.update(board.draw(milestones.last), refresh=True)


def _fullest_bag(where: "KafkaSettings") -> str:
    """The container that most parcels are in."""
    from collections import Counter

    from streams.formats.record_decoder import RecordDecoder
    from streams.formats.topics import PARCEL_STATE_TOPIC
    from streams.kafka.reader import read_to_end

    newest = {record.key(): record.value() for record in read_to_end(where, where.prefix + PARCEL_STATE_TOPIC)}
    decode = RecordDecoder("ParcelState")
    states = [decode(value) for key, value in newest.items() if value and not (key or b"").startswith(b"\0")]
    inside = Counter(str(state["container_id"]) for state in states if state["container_id"] is not None)
    [(fullest, _)] = inside.most_common(1) or [("", 0)]
    return fullest


def _say_what_next(broker: "LocalBroker", parcel: str, bag: str, metrics_port: int, *, keep: bool) -> None:
    parcels, folder = _parcels(), _path(broker.folder)
    again = (f"{parcels} broker up --data {folder} --port {broker.port}", "the same broker, with this day in it")
    lines = [
        *([] if keep else [again]),
        (f"export KAFKA_BOOTSTRAP_SERVERS=127.0.0.1:{broker.port}", ""),
        (f"{parcels} show {shlex.quote(parcel)}", "the timeline of the parcel that had most to tell"),
        (f"{parcels} show {shlex.quote(bag)}", "what is in a bag, and where it was"),
        (f"{parcels} dlq list", "what nobody could read"),
        (f"{parcels} run --metrics-port {metrics_port} &", f"a worker; http://127.0.0.1:{metrics_port}/metrics"),
        (f"{parcels} follow &", "milestones as they happen"),
        (f"{parcels} simulate --parcels 500 --seed 8 --rate 300", "more parcels come"),
        ("kill %1 %2", "the worker and the follower"),
        (f"{parcels} broker down --data {folder}", "the broker; its log stays"),
    ]
    width = max(len(line) for line, _ in lines)
    print(f"\nTry next{', the broker is still running' if keep else ''}:\n")
    for line, meaning in lines:
        print(f"  {line:{width}}  # {meaning}" if meaning else f"  {line}")


def _clear(data: Path) -> None:
    """Stop and delete what an earlier demo left, and nothing else.

    Raises:
        Misconfigured: the folder holds something that no demo made.
    """
    from streams.kafka.local_broker import LocalBroker

    mark = data / _MARK
    try:
        if data.exists() and not mark.is_file() and (not data.is_dir() or any(data.iterdir())):
            raise Misconfigured(f"{data} holds something that is not of a demo: choose another folder with --data")
        if mark.is_file():
            LocalBroker(data / "broker").stop()
            shutil.rmtree(data)
        data.mkdir(parents=True, exist_ok=True)
        mark.touch()
    except OSError as error:
        raise Misconfigured(f"--data {data}: {error.strerror}") from error


def _free(preferred: int) -> int:
    from streams.kafka.local_broker import free_port, is_port_free

    return preferred if is_port_free(preferred) else free_port()


def _environment(where: "KafkaSettings") -> dict[str, str]:
    # The demo's own broker and topics, whatever the environment says of others.
    environment = {name: value for name, value in os.environ.items() if name != "PARCELS_PREFIX"}
    return environment | {"KAFKA_BOOTSTRAP_SERVERS": where.bootstrap}


def _path(path: Path) -> str:
    """As a person would write it here."""
    absolute = path.absolute()
    return shlex.quote(str(absolute.relative_to(Path.cwd()) if absolute.is_relative_to(Path.cwd()) else absolute))


def _parcels() -> str:
    """How to call this program from this shell."""
    if shutil.which("parcels"):
        return "parcels"
    called = Path(sys.argv[0])
    return _path(called) if called.name == "parcels" else f"{_path(Path(sys.executable))} -m streams.cli"


def _say(command: str) -> None:
    print(f"$ {command}", flush=True)
