"""The `parcels` command: a list of commands here, one module each, imported only when it is the one that runs.

A command named NAME lives in `streams/cli/NAME.py`, which defines either
- `app`, a `typer.Typer`, for a group of commands (`parcels broker up`), or
- a function NAME, for a single command (`parcels show ID`).
Its docstring is its help; paragraphs with indented lines (the examples at its end) keep their line breaks. Modules
import clients, compiled code and tables inside their functions, so that `--help` answers at once; for the same reason
help is plain text: Rich takes longer to load than everything else here. Errors are raised as `streams.errors` has
them; `main` reports them.
"""

from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup

from streams.cli.options import exit_on_errors

COMMANDS = {
    "demo": "Watch a day of a small hub flow through broker, worker and board.",
    "broker": "Start, stop and look at a local Kafka broker.",
    "topics": "Compare the topics of the cluster with the catalogue, and create them.",
    "schemas": "Check that every schema can read everything ever written.",
    "simulate": "Play a hub: scans, advices and ticks, and the truth about them.",
    "load": "Send scans from newline-delimited JSON or Avro files.",
    "clock": "Append the time to the log, so that deadlines can pass.",
    "gateway": "Take scans and EPCIS events by HTTP; on disk before the answer, then to Kafka.",
    "spool": "Look at what a gateway has on disk, and send it again.",
    "devices": "Enrol and revoke the devices and partners that may send.",
    "run": "Run a worker: scans in, the state of every parcel out, exactly once.",
    "show": "Show the timeline of one parcel.",
    "promises": "Check a file of promises; explain the clocks of one parcel.",
    "follow": "Watch milestones as they happen.",
    "fold": "Fold files of records without a broker: states, milestones, a digest.",
    "check": "Validate EPCIS documents without sending them.",
    "id": "Say what an identifier is, and whether it can be right.",
    "verify": "Compare the state of every parcel with a truth file.",
    "reconcile": "Fold the log again, find what was not told, and send it.",
    "dlq": "List, show, redrive and purge records that could not be used.",
}


class LazyCommandGroup(TyperGroup):
    """Lists every command by its summary; imports the one that is called."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was called; its errors are told before Click makes something else of them."""
        with exit_on_errors():
            return super().invoke(ctx)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command that `args` begin with, as the base class does, from its own module."""
        if args and args[0] in COMMANDS:
            self.commands[args[0]] = _load(args[0])
        return super().resolve_command(ctx, args)


app = typer.Typer(
    cls=LazyCommandGroup,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="The state of every parcel of a hub, from its scans, exactly once, on Apache Kafka.",
    epilog='Start with "parcels demo". Each command tells more, with examples: parcels COMMAND --help',
)
for _name, _summary in COMMANDS.items():
    app.command(_name, short_help=_summary)(lambda: None)


def _load(name: str) -> Any:
    module = import_module(f"streams.cli.{name}")
    group = getattr(module, "app", None)
    if group is None:
        group = typer.Typer(add_completion=False)
        group.command()(getattr(module, name))
    command: Any = typer.main.get_command(group)
    command.name = name
    for each in (command, *getattr(command, "commands", {}).values()):
        each.rich_markup_mode = None
        each.help = _with_line_breaks(each.help or "")
    return command


def _with_line_breaks(text: str) -> str:
    # Click wraps every paragraph, except one that begins with a backspace alone on its line.
    paragraphs = text.split("\n\n")
    return "\n\n".join("\b\n" + each if "\n  " in each or each.startswith("  ") else each for each in paragraphs)


def main() -> None:
    """Run the command line of this process and exit."""
    with exit_on_errors():
        typer.main.get_command(app)(prog_name="parcels")
