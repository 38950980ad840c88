"""`parcels verify`: compare the output topics with a truth file."""

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streams.cli.options import EXIT_DIFFERENCES, Bootstrap, Json, Prefix, load_settings

if TYPE_CHECKING:
    from streams.audit.verify import VerificationReport

# Differences that are printed at most, of each kind.
_MAX_SHOWN = 20


def verify(
    truth: Annotated[
        Path, typer.Argument(metavar="TRUTH", help='Truth file, as "parcels simulate --truth" writes it.')
    ],
    bootstrap: Bootstrap = None,
    prefix: Prefix = None,
    as_json: Json = False,
) -> None:
    """Compare the output topics with the truth of a simulation.

    Use it after "parcels simulate --truth FILE" and a run of the workers, to prove that they are right. It compares
    states, milestones, alerts, throughput and dead letters. It reads the topics with a decoder of its own, not with the
    code of the worker.

    If the log has container events, it also checks the records that were inferred from them: each exists once, and
    each has a cause. Of the alerts it then compares only those that are active at the end. They are final only after a
    tick that follows all inferred records; the command to send one is printed.

    "milestones missing" are records that a worker must have written. The crash of a broker can lose a part of a
    transaction: see "parcels reconcile".

    Exit code 1: something differs.

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
        print(json.dumps(_to_json(report, seconds), indent=2, default=_text))
    else:
        _print(report, seconds)
    if not report.ok:
        raise typer.Exit(EXIT_DIFFERENCES)


def _print(report: "VerificationReport", seconds: float) -> None:
    for section, differences in report.sections().items():
        if differences:
            print(f"{section}: {len(differences)} differences")
            for difference in differences[:_MAX_SHOWN]:
                print(f"  {difference}")
            if len(differences) > _MAX_SHOWN:
                print(f"  and {len(differences) - _MAX_SHOWN} more: --json prints all")
    if report.lag:
        counts = ", ".join(f"{count} in partition {partition}" for partition, count in sorted(report.lag.items()))
        print(f'no worker has processed all of hub.scans: {counts} left; run "parcels run --until-idle 5"')
    if report.container_lag:
        counts = ", ".join(
            f"{count} in partition {partition}" for partition, count in sorted(report.container_lag.items())
        )
        print(f'no worker has processed all of hub.containers: {counts} left; run "parcels run --until-idle 5"')
    if report.unsettled_partitions:
        partitions = ", ".join(map(str, report.unsettled_partitions))
        print(
            f"no tick follows the last inferred record in partitions {partitions} of hub.scans, so alerts and clocks "
            f'are not final; run "parcels clock --at {report.settled_at}" and then a worker'
        )
    reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(report.dead_letters.items())) or "none"
    counts = f"{report.parcels} parcels, {report.milestones} milestones, {report.alerts} alerts, {report.deltas} deltas"
    if report.inferred_records:
        counts += f", {report.inferred_records} inferred records"
    print(f"{counts}, dead letters: {reasons}; {seconds:.1f} s")
    print("everything matches the truth" if report.ok else "does NOT match the truth")


def _to_json(report: "VerificationReport", seconds: float) -> dict[str, Any]:
    def rows(differences: list[Any]) -> list[dict[str, Any]]:
        return [
            {
                "key": difference.key,
                "field": difference.field,
                "expected": difference.expected,
                "found": difference.found,
            }
            for difference in differences
        ]

    return {
        "ok": report.ok,
        "parcels": report.parcels,
        "differences": rows(report.differences),
        "milestones": {
            "count": report.milestones,
            "duplicated": rows(report.duplicate_milestones),
            "wrong": rows(report.wrong_milestones),
            "missing": rows(report.missing_milestones),
        },
        "alerts": {
            "count": report.alerts,
            "duplicated": rows(report.duplicate_alerts),
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
        "unprocessed": {str(partition): count for partition, count in sorted(report.lag.items())},
        "unprocessed_containers": {str(partition): count for partition, count in sorted(report.container_lag.items())},
        "partitions_without_final_tick": report.unsettled_partitions,
        "seconds": seconds,
    }


def _text(value: Any) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)
