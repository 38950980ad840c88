"""`parcels broker`: a local Kafka node, without Docker."""

import json as jsonlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streams.cli.options import Json
from streams.errors import Misconfigured

if TYPE_CHECKING:
    from streams.kafka.local_broker import LocalBroker

app = typer.Typer(
    no_args_is_help=True,
    help="""Start, stop and look at a local Kafka broker.

    A single node from Maven jars and Java 17 or later, for one's own machine. It keeps everything in one folder;
    its log is broker.log there.

    Examples:
      parcels broker up --data ~/parcels --port 9092
      parcels broker status --data ~/parcels
      parcels broker down --data ~/parcels
    """,
)

BrokerFolder = Annotated[Path, typer.Option("--data", metavar="DIR", help="The broker's folder.")]
ExpectedPort = Annotated[
    int | None,
    typer.Option("--port", min=1, max=65535, help="Where it is expected to answer; refused when it is elsewhere."),
]


@app.command()
def up(
    data: BrokerFolder,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Where it answers, on 127.0.0.1.")] = 9092,
    json: Json = False,
) -> None:
    """Start the broker unless it runs, wait until it answers, and print its address.

    Examples:
      parcels broker up --data ~/parcels
      export KAFKA_BOOTSTRAP_SERVERS=$(parcels broker up --data ~/parcels --port 9192)
    """
    from streams.kafka.local_broker import LocalBroker

    node = LocalBroker(data, port)
    address = node.start()
    if json:
        _print_status(node)
    else:
        print(address)


@app.command()
def down(data: BrokerFolder, port: ExpectedPort = None, json: Json = False) -> None:
    """Stop the broker of this folder, and nothing else; its data stays.

    Examples:
      parcels broker down --data ~/parcels
    """
    from streams.kafka.local_broker import LocalBroker

    node = LocalBroker(data)
    _check(node, port)
    ran = node.stop()
    if json:
        _print_status(node)
    else:
        print("stopped" if ran else f"no broker of {data} runs")


@app.command()
def status(data: BrokerFolder, port: ExpectedPort = None, json: Json = False) -> None:
    """Tell whether the broker of this folder runs, where, and whether it answers.

    Exit code 0 when it answers, 1 when it does not run, 3 when it runs and does not answer.

    Examples:
      parcels broker status --data ~/parcels
      parcels broker status --data ~/parcels --json
    """
    from streams.kafka.local_broker import LocalBroker

    node = LocalBroker(data)
    _check(node, port)
    code = _print_status(node, as_json=json)
    raise typer.Exit(code)


def _check(node: "LocalBroker", port: int | None) -> None:
    running = node.find_process()
    if port is not None and running is not None and running.port != port:
        raise Misconfigured(f"the broker of {node.folder} runs on port {running.port}, not on {port}")


def _print_status(node: "LocalBroker", *, as_json: bool = True) -> int:
    from streams.cli.options import EXIT_DIFFERENCES, EXIT_OK, EXIT_UNREACHABLE
    from streams.errors import StreamsError
    from streams.kafka.local_broker import wait_until_reachable

    running = node.find_process()
    answers = False
    if running is not None:
        try:
            wait_until_reachable(running.bootstrap, seconds=3)
            answers = True
        except StreamsError:
            pass
    if as_json:
        told = {
            "running": running is not None,
            "answers": answers,
            "bootstrap": running.bootstrap if running else None,
            "pid": running.pid if running else None,
            "data": str(node.folder),
        }
        print(jsonlib.dumps(told))
    elif running is None:
        print(f"no broker of {node.folder} runs")
    else:
        print(f"{running.bootstrap} {'answers' if answers else 'does not answer'}, process {running.pid}")
    if running is None:
        return EXIT_DIFFERENCES
    return EXIT_OK if answers else EXIT_UNREACHABLE
