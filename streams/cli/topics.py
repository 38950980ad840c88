"""`parcels topics`: create the topics of the catalogue, and compare them with the cluster."""

import json
from typing import TYPE_CHECKING, Annotated

import typer

from streams.cli.options import Bootstrap, Json, Prefix, load_settings

if TYPE_CHECKING:
    from streams.kafka.topic_admin import TopicChange

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="""Create the Kafka topics, or compare the existing ones.

    Run "parcels topics apply" once for each cluster, before the first worker.
    """,
    epilog="What each topic holds: docs/reference/topics.md",
)

Partitions = Annotated[
    int | None,
    typer.Option(
        "--partitions",
        metavar="N",
        help="Partitions of every topic; default: as many as the existing topics have, else 4.",
        show_default=False,
    ),
]


@app.command()
def plan(
    partitions: Partitions = None,
    bootstrap: Bootstrap = None,
    prefix: Prefix = None,
    as_json: Json = False,
) -> None:
    """Show what `apply` would change; change nothing.

    Examples:
      parcels topics plan
      parcels topics plan --partitions 8 --json
    """
    from streams.kafka import topic_admin

    _print(topic_admin.plan_topics(load_settings(bootstrap, prefix), partitions), as_json, done=False)


@app.command()
def apply(
    partitions: Partitions = None,
    bootstrap: Bootstrap = None,
    prefix: Prefix = None,
    as_json: Json = False,
) -> None:
    """Create missing topics and correct settings that differ.

    A second run changes nothing. The number of partitions of an existing topic is never changed, because that would
    send new scans of a parcel to another partition than its state.

    Examples:
      parcels topics apply
      parcels topics apply --partitions 8
    """
    from streams.kafka import topic_admin

    settings = load_settings(bootstrap, prefix)
    changes = topic_admin.plan_topics(settings, partitions)
    topic_admin.apply_topics(settings, changes)
    _print(changes, as_json, done=True)


def _print(changes: "list[TopicChange]", as_json: bool, *, done: bool) -> None:
    if as_json:
        rows = [
            {
                "topic": change.topic,
                "action": change.action,
                "partitions": change.partitions,
                "config": {key: {"found": found, "wanted": wanted} for key, (found, wanted) in change.config.items()},
            }
            for change in changes
        ]
        print(json.dumps({"applied": done, "changes": rows}, indent=2))
        return
    for change in changes:
        if change.action == "create":
            print(f"{'created' if done else 'would create'} {change.topic} with {change.partitions} partitions")
        elif change.action == "none":
            print(f"{change.topic} is as it should be, with {change.partitions} partitions")
        else:
            print(f"{'changed' if done else 'would change'} {change.topic}")
        for key, (found, wanted) in change.config.items():
            print(f"  {key} = {wanted}" + ("" if found is None else f" (was {found})" if done else f" (is {found})"))
