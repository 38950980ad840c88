"""`parcels broker`: a local Kafka broker, without Docker."""

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
    add_completion=False,
    help="""Start, stop and inspect a local Kafka broker, without Docker.

    Use it to try things out on your own machine. It is a single node that needs Java 17 or later, and Kafka's jars,
    which "make setup" fetches. It keeps all of its data in one folder; its log file is broker.log in there.

    Examples:
      parcels broker up --data ~/parcels --port 9092
      parcels broker status --data ~/parcels
      parcels broker down --data ~/parcels
    """,
)

BrokerFolder = Annotated[Path, typer.Option("--data", metavar="DIR", help="Folder of the broker.")]
ExpectedPort = Annotated[
    int | None,
    typer.Option("--port", min=1, max=65535, help="Fail if the broker of the folder runs on another port."),
]


@app.command()
def up(
    data: BrokerFolder,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on, on 127.0.0.1.")] = 9092,
    json: Json = False,
) -> None:
    """Start the broker, wait until it answers, and print its address.

    A broker of the folder that runs already is left as it is.

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
    """Stop the broker of the folder; its data stays.

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
        print("stopped" if ran else f"no broker runs in {data}")


@app.command()
def status(data: BrokerFolder, port: ExpectedPort = None, json: Json = False) -> None:
    """Show whether the broker of the folder runs and answers.

    Exit code 0: it answers. 1: it does not run. 3: it runs and does not answer.

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
        raise Misconfigured(f"the broker in {node.folder} runs on port {running.port}, not on {port}")


def _print_status(node: "LocalBroker", *, as_json: bool = True) -> int:
    from streams.cli.options import EXIT_DIFFERENCES, EXIT_OK, EXIT_UNREACHABLE
    from streams.errors import StreamsError
    from streams.kafka.local_broker import wait_until_reachable

    running = node.find_process()
    reachable = False
    if running is not None:
        try:
            wait_until_reachable(running.bootstrap, seconds=3)
            reachable = True
        except StreamsError:
            pass
    if as_json:
        result = {
            "running": running is not None,
            "reachable": reachable,
            "bootstrap": running.bootstrap if running else None,
            "pid": running.pid if running else None,
            "data": str(node.folder),
        }
        print(jsonlib.dumps(result))
    elif running is None:
        print(f"no broker runs in {node.folder}")
    else:
        print(f"{running.bootstrap} {'answers' if reachable else 'does not answer'}, process {running.pid}")
    if running is None:
        return EXIT_DIFFERENCES
    return EXIT_OK if reachable else EXIT_UNREACHABLE
