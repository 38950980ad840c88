"""`parcels promises`: check a file of promises, and explain the promise clocks of a parcel."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streams.cli.options import EXIT_DIFFERENCES, Bootstrap, Json, Prefix, load_settings
from streams.cli.time_formats import format_time

if TYPE_CHECKING:
    from streams.domain.promises import Promises

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="""Check a file of promises; explain why a parcel is late.

    A promise says how soon a scan must follow another one, for example: sorted within three hours after unloading. The
    clock of a promise runs for each parcel that it is about.

    Examples:
      parcels promises check promises.yaml
      parcels promises explain promises.yaml LP00000042
""",
)
PromisesArgument = Annotated[
    Path, typer.Argument(metavar="FILE", help="File of promises (YAML); docs/decisions/promises.md describes it.")
]


@app.command()
def check(file: PromisesArgument, as_json: Json = False) -> None:
    """Check a file of promises, and print it in words.

    Use it before you give the file to the workers. Exit code 2: the file is not valid; the reasons are printed.

    Examples:
      parcels promises check promises.yaml
    """
    from streams.cli.promise_explanation import promise_sentence
    from streams.config import load_promises

    promises = load_promises(file)
    if as_json:
        print(json.dumps({"digest": promises.digest(), **promises.model_dump(mode="json")}, indent=2))
        return
    for promise in promises.promises:
        print(promise_sentence(promise))
    for line in _anomaly_lines(promises):
        print(line)
    print(f"digest {promises.digest()}")


@app.command()
def explain(
    file: PromisesArgument,
    parcel_id: Annotated[str, typer.Argument(metavar="PARCEL", help="The parcel_id of the parcel.")],
    bootstrap: Bootstrap = None,
    prefix: Prefix = None,
    as_json: Json = False,
) -> None:
    """Explain, scan by scan, the promise clocks of a parcel.

    Use it to find out why a parcel is late or at risk, or why it has no clock. It reads the records of the parcel from
    parcel.state and applies the promises of FILE to them, at the hub time of the parcel's partition. It also prints the
    active alerts of the parcel.

    Exit code 1: the parcel has no state.

    Examples:
      parcels promises explain promises.yaml LP00000042
      parcels promises explain promises.yaml LP00000042 --json
    """
    from streams.cli.promise_explanation import explain_promises, explanation_lines, reference_record
    from streams.config import load_promises
    from streams.formats import topics
    from streams.formats.record_decoder import RecordDecoder
    from streams.kafka import topic_admin
    from streams.kafka.reader import read_newest_of_key
    from streams.worker.position_reader import read_position

    promises, settings = load_promises(file), load_settings(bootstrap, prefix)
    key = parcel_id.encode(errors="surrogateescape")
    partition = topics.partition_of(key, topic_admin.check_topics(settings))
    record = read_newest_of_key(settings, settings.prefix + topics.PARCEL_STATE_TOPIC, key, partition)
    value = record.value() if record is not None else None
    if value is None:
        print(f"parcels: {settings.prefix}{topics.PARCEL_STATE_TOPIC} has no parcel {parcel_id}", file=sys.stderr)
        raise typer.Exit(EXIT_DIFFERENCES)
    state = RecordDecoder("ParcelState")(value)
    position = read_position(settings, partition)
    hub_time = position.hub_time if position is not None else None
    explanation = explain_promises(
        promises, [reference_record(entry) for entry in state["timeline"]], hub_time, state["active_alerts"]
    )
    promises_differ = position is not None and position.promises_digest not in (None, promises.digest())
    if as_json:
        head = {"parcel_id": parcel_id, "version": state["version"], "promises_differ": promises_differ}
        print(json.dumps(head | explanation, default=bytes.hex, indent=2, ensure_ascii=False))
        return
    print(f"{parcel_id}, version {state['version']}, at hub time {format_time(hub_time) or '(no tick yet)'}")
    if promises_differ:
        print("the workers have other promises than this file, so their alerts may differ")
    for line in explanation_lines(explanation):
        print(line)


def _anomaly_lines(promises: "Promises") -> Iterator[str]:
    from streams.domain.promises import format_duration

    rules, retirement = promises.anomalies, promises.retirement
    for name, text in (
        ("misrouted", "sorted or loaded to another lane than planned" if rules.misrouted else None),
        ("repeated_no_read", rules.repeated_no_read and f"{rules.repeated_no_read} or more"),
        ("recirculating", rules.recirculating and f"{rules.recirculating} or more"),
        (
            "not_released",
            rules.not_released is not None and f"dispatched without release: {', '.join(rules.not_released)}",
        ),
        ("held_too_long", rules.held_too_long and f"for more than {format_duration(rules.held_too_long)}"),
        (
            "from_the_future",
            rules.from_the_future and f"more than {format_duration(rules.from_the_future)} ahead of the hub time",
        ),
        (
            "number_reused",
            rules.number_reused and f"more than {format_duration(rules.number_reused)} after the journey's end",
        ),
        ("found_outside", rules.found_outside and "scanned on its own or elsewhere while it is in a container"),
        (
            "missing",
            rules.missing
            and f"in a container that was emptied {format_duration(rules.missing)} ago, and not scanned since",
        ),
        ("found_extra", rules.found_extra and "taken out of a container that it was never put into"),
    ):
        yield f"anomaly {name}: {text or 'off'}"
    for name, after in (("finished", retirement.finished), ("unfinished", retirement.unfinished)):
        yield f"{name} parcels retire " + (f"{format_duration(after)} after their last record" if after else "never")
