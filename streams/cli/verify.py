"""`parcels verify`: the state of every parcel against a truth file."""

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streams.cli.options import EXIT_DIFFERENCES, Bootstrap, Json, Prefix, load_settings

if TYPE_CHECKING:
    from streams.audit.verify import VerificationReport

_SHOWN = 20


def verify(
    truth: Annotated[Path, typer.Argument(metavar="TRUTH", help='The file that "parcels simulate --truth" wrote.')],
    bootstrap: Bootstrap = None,
    prefix: Prefix = None,
    as_json: Json = False,
) -> None:
    """Compare states, milestones, alerts, throughput and dead letters with a truth file; exit 1 when anything differs.

    Where the truth is of a log with events of containers, what was inferred from them is checked too: each thing once,
    and nothing without a cause. Of the alerts it then compares those that stand in the end; a tick has to come after
    everything that was inferred, for nobody is told of it before.

    It reads the topics with a decoder of its own, not with the worker's. What it names "milestones missing" must have
    been written and is not there: after a crash of the broker itself, Kafka may have kept only a part of a transaction.

    Examples:
      parcels verify truth.json
      parcels verify truth.json --json
    """
    from streams.audit.verify import load_truth
    from streams.audit.verify_topics import verify as verify_topics

    started = time.monotonic()
    report = verify_topics(load_settings(bootstrap, prefix), load_truth(truth))
    seconds = round(time.monotonic() - started, 3)
    if as_json:
        print(json.dumps(_for_programs(report, seconds), indent=2, default=_plain))
    else:
        _print(report, seconds)
    if not report.ok:
        raise typer.Exit(EXIT_DIFFERENCES)


def _print(report: "VerificationReport", seconds: float) -> None:
    for section, differences in report.sections().items():
        if differences:
            print(f"{section}: {len(differences)} differences")
            for difference in differences[:_SHOWN]:
                print(f"  {difference}")
            if len(differences) > _SHOWN:
                print(f"  and {len(differences) - _SHOWN} more: --json has them all")
    if report.lag:
        where = ", ".join(f"{count} in partition {partition}" for partition, count in sorted(report.lag.items()))
        print(f'hub.scans has records that no worker has folded yet: {where}. "parcels run --until-idle 5" folds them')
    if report.container_lag:
        where = ", ".join(f"{count} in partition {each}" for each, count in sorted(report.container_lag.items()))
        print(f'hub.containers has records that nobody has handed on yet: {where}. "parcels run" does')
    if report.unsettled_partitions:
        where = ", ".join(map(str, report.unsettled_partitions))
        print(
            f"no tick follows what was inferred in partitions {where} of hub.scans; alerts and clocks are not final: "
            f'"parcels clock --at {report.settled_at}" sends one'
        )
    words = ", ".join(f"{count} {reason}" for reason, count in sorted(report.dead_letters.items())) or "none"
    counts = f"{report.parcels} parcels, {report.milestones} milestones, {report.alerts} alerts, {report.deltas} deltas"
    if report.inferred_records:
        counts += f", {report.inferred_records} inferred records"
    print(f"{counts}, dead letters: {words}; {seconds:.1f} s")
    print("everything is as the truth says" if report.ok else "NOT as the truth says")


def _for_programs(report: "VerificationReport", seconds: float) -> dict[str, Any]:
    def rows(differences: list[Any]) -> list[dict[str, Any]]:
        return [
            {"where": each.key, "what": each.field, "expected": each.expected, "found": each.found}
            for each in differences
        ]

    return {
        "ok": report.ok,
        "parcels": report.parcels,
        "differences": rows(report.differences),
        "milestones": {
            "count": report.milestones,
            "doubled": rows(report.duplicate_milestones),
            "wrong": rows(report.wrong_milestones),
            "missing": rows(report.missing_milestones),
        },
        "alerts": {
            "count": report.alerts,
            "doubled": rows(report.duplicate_alerts),
            "wrong": rows(report.wrong_alerts),
            "missing": rows(report.missing_alerts),
        },
        "throughput": {"count": report.deltas, "differences": rows(report.throughput_differences)},
        "inferred": {
            "count": report.inferred_records,
            "repeated": report.repeated_inferred_records,
            "wrong": rows(report.wrong_inferred),
            "missing": rows(report.missing_inferred),
        },
        "dead_letters": {
            "by_reason": dict(sorted(report.dead_letters.items())),
            "differences": rows(report.dead_letter_differences),
        },
        "behind": {str(partition): count for partition, count in sorted(report.lag.items())},
        "containers_behind": {str(each): count for each, count in sorted(report.container_lag.items())},
        "unsettled": report.unsettled_partitions,
        "seconds": seconds,
    }


def _plain(value: Any) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)
