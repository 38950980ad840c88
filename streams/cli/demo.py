"""`parcels demo`: the whole system at work on this machine, in two minutes."""

import json
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from streams.cli.demo_processes import ChildProcess, ProcessSupervisor, print_command
from streams.cli.options import EXIT_DIFFERENCES
from streams.errors import Misconfigured, StreamsError

if TYPE_CHECKING:
    from rich.console import Console

    from streams.cli.board import Board, MilestoneReader
    from streams.kafka.local_broker import LocalBroker
    from streams.kafka.settings import KafkaSettings
    from streams.processors.compilation import CompilationBar

_BROKER_PORT: Final = 9092
_METRICS_PORT: Final = 9464
_GATEWAY_PORT: Final = 8080
_MARKER_FILE: Final = "made-by-parcels-demo"
# The night after the day, in which most of its parcels leave.
_TAIL_HOURS: Final = 12
_SEED: Final = 7
_REDRAW_SECONDS: Final = 0.25
_SUMMARY_LINE_SECONDS: Final = 3.0
# A worker whose code is compiled is ready in about 3 s; this is for slow machines.
_READY_SECONDS: Final = 300.0
# Records that one processor writes for the other arrive within this time.
_QUIET_SECONDS: Final = 2.0


def demo(
    data: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder of the broker and of the log files of the demo.")
    ] = Path(".cache/demo"),
    parcels: Annotated[int, typer.Option(min=1, metavar="N", help="Parcels that arrive on the simulated day.")] = 5_000,
    seconds: Annotated[float, typer.Option(min=1, metavar="SECONDS", help="Duration of the simulated day.")] = 40,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the broker running at the end.")] = False,
) -> None:
    """Run the whole system on this machine for two minutes.

    Start here: it shows what the system does, and needs nothing but Java and "make setup". It starts a Kafka broker of
    its own, a worker, a gateway and a simulated hub, and prints each command that it runs. A board shows one day of the
    hub. At the end it compares every state with the truth of the simulation, and shows the contents of a bag. The exit
    code is that of "parcels verify".

    Nothing runs on afterwards, except the broker with --keep. DIR keeps the data of the broker and the log files; the
    next demo deletes it.

    What to do next; the end of the demo prints these with their arguments:
      look at a parcel         parcels show ID
      watch the metrics        parcels run --metrics-port 9464
      load your own records    parcels load FILE (docs/files.md)
      learn how it works       docs/architecture.md

    Examples:
      parcels demo
      parcels demo --parcels 20000 --seconds 60 --keep
    """
    from streams.cli.board import Board, milestone_reader
    from streams.kafka import topic_admin
    from streams.kafka.local_broker import LocalBroker
    from streams.kafka.settings import KafkaSettings

    with ProcessSupervisor(data) as supervisor:
        _clear(data)
        broker = LocalBroker(data / "broker", _free(_BROKER_PORT))
        print_command(f"parcels broker up --data {_path(broker.folder)} --port {broker.port}")
        settings = KafkaSettings(bootstrap=supervisor.broker_up(broker), prefix="")
        print_command(f"export KAFKA_BOOTSTRAP_SERVERS={settings.bootstrap}")
        print_command("parcels topics apply")
        topic_admin.apply_topics(settings, topic_admin.plan_topics(settings))

        metrics_port = _free(_METRICS_PORT)
        board = Board(f"http://127.0.0.1:{metrics_port}", "Parcel hub")
        worker = supervisor.start(settings, "run", "--metrics-port", str(metrics_port))
        _wait_until_ready(board, worker)

        gateway_port = _free(_GATEWAY_PORT)
        gateway = supervisor.start(
            settings, "gateway", "--insecure-local", "--port", str(gateway_port), "--data", _path(data / "gateway")
        )
        truth = data / "truth.json"
        speed = round((24 + _TAIL_HOURS) * 3600 / seconds)
        hub = supervisor.start(
            settings,
            *("simulate", "--parcels", str(parcels), "--seed", str(_SEED), "--tail-hours", str(_TAIL_HOURS)),
            *("--speed", str(speed), "--truth", _path(truth)),
            *("--via", "http", "--gateway", f"http://127.0.0.1:{gateway_port}"),
        )
        with milestone_reader(settings) as milestones:
            _watch(board, milestones, hub, worker, gateway)
        # Alerts are final only after a tick that follows all inferred records, and those may come after the last tick.
        final_time = datetime.fromtimestamp(json.loads(truth.read_bytes())["final_hub_time"] / 1000, UTC)
        supervisor.start(settings, "clock", "--at", final_time.isoformat()).wait_checked()
        worker.stop()
        # Processes the last records that one processor wrote for the other.
        supervisor.start(settings, "run", "--until-idle", "2").wait_checked()
        print()
        code = supervisor.start(settings, "verify", _path(truth), show_output=True).wait()
        if code not in (0, EXIT_DIFFERENCES):
            raise StreamsError("the states could not be compared with the truth; see above")
        bag = _fullest_bag(settings)
        print()
        supervisor.start(settings, "show", bag, show_output=True).wait()
        if keep:
            supervisor.keep_broker()
        [(parcel, _)] = milestones.counts_by_parcel.most_common(1) or [("", 0)]
        _print_next_steps(broker, parcel, bag, metrics_port, keep=keep)
    raise typer.Exit(code)


def _wait_until_ready(board: "Board", worker: ChildProcess) -> None:
    from streams.cli.board import is_ready

    progress: tuple[int, int] | None = None
    with _compilation_display() as show:
        deadline = time.monotonic() + _READY_SECONDS
        while not is_ready(board.url):
            if worker.exit_code is not None:
                raise worker.failure()
            if (found := worker.compilation_progress()) != progress:
                # The first start takes as long as it compiles; only a worker without progress is given up.
                progress, deadline = found, time.monotonic() + _READY_SECONDS
                show(progress)
            if time.monotonic() > deadline:
                raise StreamsError(f"the worker is not ready after {_READY_SECONDS:g} s")
            time.sleep(0.1)


@contextmanager
def _compilation_display() -> "Iterator[Callable[[tuple[int, int] | None], None]]":
    """A function that shows the progress of a worker that compiles, and hides it when that is None."""
    if not sys.stderr.isatty():
        yield _print_compilation
        return
    with ExitStack() as stack:
        bars: list[CompilationBar] = []

        def show(progress: tuple[int, int] | None) -> None:
            if progress is None:
                stack.close()
                return
            if not bars:
                # Imported here, because it loads the compiler.
                from streams.processors.compilation import CompilationBar

                bars.append(CompilationBar())
                stack.callback(bars[0].hide)
            bars[0].show(*progress)

        yield show


def _print_compilation(progress: tuple[int, int] | None) -> None:
    if progress is not None:
        compiled, functions = progress
        print(f"first start: compiling, once for this version: {compiled} of {functions} functions", flush=True)


def _watch(
    board: "Board", milestones: "MilestoneReader", hub: ChildProcess, worker: ChildProcess, gateway: ChildProcess
) -> None:
    """Show the board until the day is over and the worker has processed all records."""
    from rich.console import Console

    console = Console()
    with _live(board, milestones, console) as show:
        last_change, processed = time.monotonic(), -1.0
        over = False
        while not over or time.monotonic() - last_change < _QUIET_SECONDS:
            if worker.exit_code is not None:
                raise worker.failure()
            if hub.exit_code not in (None, 0):
                raise hub.failure()
            if hub.exit_code is None and gateway.exit_code is not None:
                raise gateway.failure()
            if hub.exit_code == 0 and not over:
                # When the gateway has ended, all its records are in Kafka.
                gateway.stop()
                over = True
            records = board.refresh().records
            if records != processed or not over:
                last_change, processed = time.monotonic(), records
            milestones.poll()
            show(False)
            time.sleep(_REDRAW_SECONDS)
        show(True)


@contextmanager
def _live(board: "Board", milestones: "MilestoneReader", console: "Console") -> "Iterator[Callable[[bool], None]]":
    """A function that shows the board again: in place on a terminal, else a line every few seconds and at the end."""
    from rich.live import Live

    if not console.is_terminal:
        last_time = 0.0

        def print_line(last: bool) -> None:
            nonlocal last_time
            begun = board.snapshots[-1].records > 0
            if last or (begun and time.monotonic() - last_time >= _SUMMARY_LINE_SECONDS):
                last_time = time.monotonic()
                print(board.summary_line(), flush=True)

        yield print_line
        return
    with Live(console=console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False) as live:
        yield lambda _: live.update(board.render(milestones.latest), refresh=True)


def _fullest_bag(settings: "KafkaSettings") -> str:
    """The container that holds the most parcels."""
    from collections import Counter

    from streams.formats.record_decoder import RecordDecoder
    from streams.formats.topics import PARCEL_STATE_TOPIC
    from streams.kafka.reader import read_to_end

    newest = {record.key(): record.value() for record in read_to_end(settings, settings.prefix + PARCEL_STATE_TOPIC)}
    decode = RecordDecoder("ParcelState")
    states = [decode(value) for key, value in newest.items() if value and not (key or b"").startswith(b"\0")]
    parcel_counts = Counter(str(state["container_id"]) for state in states if state["container_id"] is not None)
    [(fullest, _)] = parcel_counts.most_common(1) or [("", 0)]
    return fullest


def _print_next_steps(broker: "LocalBroker", parcel: str, bag: str, metrics_port: int, *, keep: bool) -> None:
    parcels, folder = _parcels(), _path(broker.folder)
    start_again = (f"{parcels} broker up --data {folder} --port {broker.port}", "start the broker, with this day in it")
    lines = [
        *([] if keep else [start_again]),
        (f"export KAFKA_BOOTSTRAP_SERVERS=127.0.0.1:{broker.port}", ""),
        (f"{parcels} show {shlex.quote(parcel)}", "look at a parcel: its history"),
        (f"{parcels} show {shlex.quote(bag)}", "look at a bag: its contents, and where it was"),
        (f"{parcels} dlq list", "the records that were rejected, by reason"),
        (
            f"{parcels} run --metrics-port {metrics_port} &",
            f"a worker; metrics: http://127.0.0.1:{metrics_port}/metrics",
        ),
        (f"{parcels} follow &", "milestones as they are reached"),
        (f"{parcels} simulate --parcels 500 --seed 8 --rate 300", "more parcels"),
        (f"{parcels} load FILE", "your own records; docs/files.md describes the file"),
        ("kill %1 %2", "stop the worker and the follower"),
        (f"{parcels} broker down --data {folder}", "stop the broker; its data stays"),
    ]
    width = max(len(line) for line, _ in lines)
    print(f"\nTry next{', while the broker is still running' if keep else ''}:\n")
    for line, meaning in lines:
        print(f"  {line:{width}}  # {meaning}" if meaning else f"  {line}")
    print("\nHow it works: docs/architecture.md")


def _clear(data: Path) -> None:
    """Stop the broker of an earlier demo and delete its folder.

    Raises:
        Misconfigured: the folder holds files that are not of a demo.
    """
    from streams.kafka.local_broker import LocalBroker

    marker = data / _MARKER_FILE
    try:
        if data.exists() and not marker.is_file() and (not data.is_dir() or any(data.iterdir())):
            raise Misconfigured(f"{data} holds files that are not of a demo: choose another folder with --data")
        if marker.is_file():
            LocalBroker(data / "broker").stop()
            shutil.rmtree(data)
        data.mkdir(parents=True, exist_ok=True)
        marker.touch()
    except OSError as error:
        raise Misconfigured(f"--data {data}: {error.strerror}") from error


def _free(preferred: int) -> int:
    from streams.kafka.local_broker import free_port, is_port_free

    return preferred if is_port_free(preferred) else free_port()


def _path(path: Path) -> str:
    """The path as one would write it in this shell."""
    absolute = path.absolute()
    return shlex.quote(str(absolute.relative_to(Path.cwd()) if absolute.is_relative_to(Path.cwd()) else absolute))


def _parcels() -> str:
    """The command that starts this program in this shell."""
    if shutil.which("parcels"):
        return "parcels"
    called = Path(sys.argv[0])
    return _path(called) if called.name == "parcels" else f"{_path(Path(sys.executable))} -m streams.cli"
