"""`parcels promises`: check a file of promises, and tell why the clocks of a parcel are where they are."""

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
    help="""What is promised about parcels: check a file of promises, explain the clocks of one parcel.

Examples:
  parcels promises check promises.yaml
  parcels promises explain promises.yaml LP00000042
""",
)
PromisesArgument = Annotated[
    Path, typer.Argument(metavar="FILE", help="Promises, as YAML; docs/decisions/promises.md tells how.")
]


@app.command()
def check(file: PromisesArgument, as_json: Json = False) -> None:
    """Check a file of promises and say in words what it promises; exit 2 with the reasons when it is wrong.

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
    parcel_id: Annotated[str, typer.Argument(metavar="PARCEL", help="The parcel_id.")],
    bootstrap: Bootstrap = None,
    prefix: Prefix = None,
    as_json: Json = False,
) -> None:
    """Tell, evidence by evidence, why each clock of a parcel is where it is, and what was told of it.

    It reads the parcel's records from parcel.state and applies the promises of FILE to them, at the hub's time of the
    parcel's partition. Exits 1 when no state of the parcel is known.

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

    promises, chosen = load_promises(file), load_settings(bootstrap, prefix)
    key = parcel_id.encode(errors="surrogateescape")
    partition = topics.partition_of(key, topic_admin.check_topics(chosen))
    found = read_newest_of_key(chosen, chosen.prefix + topics.PARCEL_STATE_TOPIC, key, partition)
    value = found.value() if found is not None else None
    if value is None:
        print(
            f"parcels: no state of a parcel {parcel_id} in {chosen.prefix}{topics.PARCEL_STATE_TOPIC}", file=sys.stderr
        )
        raise typer.Exit(EXIT_DIFFERENCES)
    state = RecordDecoder("ParcelState")(value)
    position = read_position(chosen, partition)
    hub_time = position.hub_time if position is not None else None
    explained = explain_promises(
        promises, [reference_record(entry) for entry in state["timeline"]], hub_time, state["active_alerts"]
    )
    others = position is not None and position.promises_digest not in (None, promises.digest())
    if as_json:
        head = {"parcel_id": parcel_id, "version": state["version"], "workers_keep_other_promises": others}
        print(json.dumps(head | explained, default=bytes.hex, indent=2, ensure_ascii=False))
        return
    print(f"{parcel_id}, version {state['version']}, at the hub's time {format_time(hub_time) or '(no tick yet)'}")
    if others:
        print("the workers keep other promises than this file: what was told may differ")
    for line in explanation_lines(explained):
        print(line)


def _anomaly_lines(promises: "Promises") -> Iterator[str]:
    from streams.domain.promises import format_duration

    odd, retires = promises.anomalies, promises.retirement
    for name, text in (
        ("misrouted", "sorted or loaded to another lane than planned" if odd.misrouted else None),
        ("no_reads", odd.no_reads and f"{odd.no_reads} or more"),
        ("recirculations", odd.recirculations and f"{odd.recirculations} or more"),
        ("unreleased", odd.unreleased is not None and f"dispatched without release: {', '.join(odd.unreleased)}"),
        ("held_too_long", odd.held_too_long and f"for more than {format_duration(odd.held_too_long)}"),
        ("future", odd.future and f"more than {format_duration(odd.future)} ahead of the hub's time"),
        ("reused", odd.reused and f"more than {format_duration(odd.reused)} after the journey's end"),
        ("found_outside", odd.found_outside and "seen on its own or elsewhere while it is in a container"),
        (
            "missing",
            odd.missing and f"in a container that was emptied {format_duration(odd.missing)} ago, and not seen since",
        ),
        ("found_extra", odd.found_extra and "taken out of a container that it was never put into"),
    ):
        yield f"odd, {name}: {text or 'off'}"
    for name, after in (("finished", retires.finished), ("unfinished", retires.unfinished)):
        yield f"{name} parcels retire " + (f"{format_duration(after)} after their last record" if after else "never")
