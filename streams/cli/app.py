"""The `parcels` command: the list of commands, each in a module of its own that is imported only when it runs.

A command named NAME lives in `streams/cli/NAME.py`, which defines either
- `app`, a `typer.Typer`, for a group of commands (`parcels broker up`), or
- a function NAME, for a single command (`parcels show ID`).
Its docstring is its help. Paragraphs with indented lines (the examples at the end) keep their line breaks.

`--help` must answer at once. Therefore modules import clients, compiled code and tables inside their functions, and
help is plain text: loading Rich takes longer than everything else here. Commands raise the errors of
`streams.errors`, and `main` reports them.
"""

from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup

from streams.cli.options import exit_on_errors

# In the order in which a newcomer needs them: set-up, data in, processing, looking, checking, repairing.
COMMANDS = {
    "demo": "Run the whole system on this machine for two minutes: start here.",
    "broker": "Start, stop and inspect a local Kafka broker, without Docker.",
    "topics": "Create the Kafka topics, or compare the existing ones.",
    "devices": "Register the devices and partners that may send to a gateway.",
    "simulate": "Generate the records of a hub, and the result to expect.",
    "load": "Send records from NDJSON or Avro files to Kafka.",
    "gateway": "Accept scans and EPCIS events by HTTP, and forward them to Kafka.",
    "clock": "Append the time to the log, so that deadlines can pass.",
    "run": "Run a worker: it turns scans into parcel states, exactly once.",
    "show": "Show the history of a parcel, or the contents of a container.",
    "follow": "Print milestones as parcels reach them.",
    "promises": "Check a file of promises; explain why a parcel is late.",
    "id": "Identify the number of a parcel or a container, and check it.",
    "epcis": "Validate EPCIS documents without sending them.",
    "schemas": "Check and lock the Avro schemas, after an edit of one.",
    "fold": "Process files of records without a broker; print a digest.",
    "verify": "Compare the output topics with the truth of a simulation.",
    "reconcile": "Find and resend output records that Kafka has lost.",
    "dlq": "List, show, redrive and purge dead letters: rejected records.",
    "spool": "Inspect what a gateway has on disk, and send it again.",
}


class LazyCommandGroup(TyperGroup):
    """Lists every command by its summary, and imports only the one that is called."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command; report its errors here, before Click handles them in its own way."""
        with exit_on_errors():
            return super().invoke(ctx)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Load the command that `args` begin with from its module, then resolve it as the base class does."""
        if args and args[0] in COMMANDS:
            self.commands[args[0]] = _load(args[0])
        return super().resolve_command(ctx, args)


app = typer.Typer(
    cls=LazyCommandGroup,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Track every parcel of a hub: from scans to states, milestones and alerts, exactly once, on Apache Kafka.",
    epilog='Start with "parcels demo". For options and examples: parcels COMMAND --help',
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
    for loaded in (command, *getattr(command, "commands", {}).values()):
        loaded.rich_markup_mode = None
        loaded.help = _with_line_breaks(loaded.help or "")
    return command


def _with_line_breaks(text: str) -> str:
    # Click wraps every paragraph, except one that begins with a backspace alone on its line.
    paragraphs = text.split("\n\n")
    return "\n\n".join(
        "\b\n" + paragraph if "\n  " in paragraph or paragraph.startswith("  ") else paragraph
        for paragraph in paragraphs
    )


def main() -> None:
    """Run the command line of this process and exit."""
    with exit_on_errors():
        typer.main.get_command(app)(prog_name="parcels")
