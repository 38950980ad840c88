"""`parcels promises`: check a file of promises, and tell why the clocks of a parcel are where they are."""

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streams.cli.options import DIFFERENCES, Bootstrap, Json, Prefix, settings
from streams.cli.times import shown

if TYPE_CHECKING:
    from streams.domain.account import Clock, Looked, Record
    from streams.domain.promises import Promise, Promises

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="""What is promised about parcels: check a file of promises, explain the clocks of one parcel.

Examples:
  parcels promises check promises.yaml
  parcels promises explain promises.yaml LP00000042
""",
)
File = Annotated[Path, typer.Argument(metavar="FILE", help="Promises, as YAML; docs/decisions/promises.md tells how.")]


@app.command()
def check(file: File, as_json: Json = False) -> None:
    """Check a file of promises and say in words what it promises; exit 2 with the reasons when it is wrong.

    Examples:
      parcels promises check promises.yaml
    """
    from streams.config import load_promises

    promises = load_promises(file)
    if as_json:
        print(json.dumps({"digest": promises.digest(), **promises.model_dump(mode="json")}, indent=2))
        return
    for promise in promises.promises:
        print(_said(promise))
    for line in _oddities(promises):
        print(line)
    print(f"digest {promises.digest()}")


@app.command()
def explain(
    file: File,
    parcel_id: Annotated[str, typer.Argument(metavar="PARCEL", help="The parcel_id.")],
    bootstrap: Bootstrap = None,
    prefix: Prefix = None,
) -> None:
    """Tell, evidence by evidence, why each clock of a parcel is where it is, and what was told of it.

    It reads the parcel's records from parcel.state and applies the promises of FILE to them, at the hub's time of the
    parcel's partition. Exits 1 when no state of the parcel is known.

    Examples:
      parcels promises explain promises.yaml LP00000042
    """
    from streams.config import load_promises
    from streams.domain.account import look
    from streams.pipeline import topics
    from streams.pipeline.clients import newest_of
    from streams.pipeline.plain_decoder import Decoder
    from streams.pipeline.position import read_position

    promises, chosen = load_promises(file), settings(bootstrap, prefix)
    key = parcel_id.encode(errors="surrogateescape")
    partition = topics.partition_of(key, topics.check(chosen))
    found = newest_of(chosen, chosen.prefix + topics.STATE, key, partition)
    value = found.value() if found is not None else None
    if value is None:
        print(f"parcels: no state of a parcel {parcel_id} in {chosen.prefix}{topics.STATE}", file=sys.stderr)
        raise typer.Exit(DIFFERENCES)
    state = Decoder("ParcelState")(value)
    position = read_position(chosen, partition)
    hub_time = position.hub_time if position is not None else None
    print(f"{parcel_id}, version {state['version']}, at the hub's time {shown(hub_time) or '(no tick yet)'}")
    if position is not None and position.promises not in (None, promises.digest()):
        print("the workers keep other promises than this file: what was told may differ")
    looked = look(promises, [record_of(entry) for entry in state["scans"]], hub_time)
    for line in explained(promises, looked, state["alerts"]):
        print(line)


def record_of(entry: Mapping[str, Any]) -> "Record":
    """An entry of ParcelState's timeline for the account of the rules."""
    from streams.domain.account import Record

    at = entry["at"] or {"site": "", "station": "", "lane": None, "reason": None}
    return Record(
        entry["identity"],
        entry["kind"],
        entry["event_time"],
        at["site"],
        at["station"],
        at["lane"],
        at["reason"],
        entry["voids"],
        entry["plan"],
        entry["promised_at"],
        entry["container_id"],
        entry["inferred"],
    )


def explained(promises: "Promises", looked: "Looked", standing: list[Mapping[str, Any]]) -> Iterator[str]:
    """Lines that tell of every clock and anomaly; `standing`: the alerts of the parcel's state."""
    told = {alert["about"]: alert for alert in standing}
    if looked.journeys > 1:
        yield f"the number is used for the {looked.journeys}. time; this is about the last journey"
    for promise in promises.promises:
        yield ""
        yield _said(promise)
        clock = looked.clocks.get(promise.name)
        if clock is None:
            yield f"  {_why_no_clock(promise, looked)}"
        else:
            yield from (f"  {line}" for line in _steps(clock))
        if alert := told.get(promise.name):
            yield f"  told {alert['type']} about the clock of {shown(alert['since'])} (alert {alert['alert_id'].hex()})"
    for about, oddity in looked.oddities.items():
        yield ""
        yield f"{about} since {shown(oddity.since)}"
        for record in oddity.evidence:
            yield f"  {_scan(record)}"
        if alert := told.get(about):
            yield f"  told (alert {alert['alert_id'].hex()})"


def _steps(clock: "Clock") -> Iterator[str]:
    from streams.domain.promises import duration

    yield f"{_scan(clock.start)}: the clock starts, {duration(max(clock.limit, 0))} to go"
    for begin, until in clock.pauses:
        if until is not None and until <= clock.start.time:
            continue
        if clock.deadline is not None and begin > clock.deadline:
            continue
        yield f"{shown(begin)} held by customs with a reason: it stands still"
        if until is not None:
            yield f"{shown(until)} released: it goes on"
    if clock.stop is not None:
        yield f"{_scan(clock.stop)}: the clock stops"
    match clock.standing:
        case "PAUSED":
            yield f"PAUSED, {duration(clock.left)} left"
        case "RUNNING" if clock.level == "AT_RISK":
            yield f"RUNNING and at risk, until {shown(clock.deadline)}"
        case _:
            yield f"{clock.standing}, the last instant is {shown(clock.deadline)}"


def _why_no_clock(promise: "Promise", looked: "Looked") -> str:
    if not any(record.kind in promise.starts for record in looked.journey):
        return f"no clock: no scan of {' or '.join(promise.starts)} counts"
    advice = next((record for record in reversed(looked.journey) if record.plan is not None), None)
    if advice is None or advice.plan is None:
        return "no clock: the parcel was not advised, so nobody knows whether it is one of these"
    plan = f"{advice.plan['direction']}, service {advice.plan['service']}, lane {advice.plan['planned_lane']}"
    if promise.limit == "promised_at" and advice.promised_at is None:
        return f"no clock: the advice promises no instant ({plan})"
    return f"no clock: the promise is for other parcels than {plan}"


def _scan(record: "Record") -> str:
    where = " ".join(filter(None, (record.site, record.station)))
    words = filter(None, (record.kind, where and f"at {where}", record.lane and f"lane {record.lane}", record.reason))
    return f"{shown(record.time)} {' '.join(words)} ({record.identity.hex()})"


def _said(promise: "Promise") -> str:
    from streams.domain.promises import duration

    which = "".join(
        f", {name} {' or '.join(words)}"
        for name, words in (
            ("direction", promise.directions),
            ("service", promise.services),
            ("lane", promise.lanes),
        )
        if words
    )
    limit = "by the instant promised" if promise.limit == "promised_at" else f"within {duration(promise.limit)}"
    first = "the last" if promise.restarts else "the first"
    said = f"{promise.name}{which}: {limit} from {first} {' or '.join(promise.starts)}"
    if promise.renews:
        said += f" (or {' or '.join(promise.renews)} after it)"
    said += f" to {' or '.join(promise.stops)}"
    if promise.at_risk is not None:
        said += f", at risk after {promise.at_risk:.0%}"
    return said + (", standing still while customs hold it with a reason" if promise.pauses else "")


def _oddities(promises: "Promises") -> Iterator[str]:
    from streams.domain.promises import duration

    odd, retires = promises.anomalies, promises.retirement
    for name, text in (
        ("misrouted", "sorted or loaded to another lane than planned" if odd.misrouted else None),
        ("no_reads", odd.no_reads and f"{odd.no_reads} or more"),
        ("recirculations", odd.recirculations and f"{odd.recirculations} or more"),
        ("unreleased", odd.unreleased is not None and f"dispatched without release: {', '.join(odd.unreleased)}"),
        ("held_too_long", odd.held_too_long and f"for more than {duration(odd.held_too_long)}"),
        ("future", odd.future and f"more than {duration(odd.future)} ahead of the hub's time"),
        ("reused", odd.reused and f"more than {duration(odd.reused)} after the journey's end"),
    ):
        yield f"odd, {name}: {text or 'off'}"
    for name, after in (("finished", retires.finished), ("unfinished", retires.unfinished)):
        yield f"{name} parcels retire " + (f"{duration(after)} after their last record" if after else "never")
