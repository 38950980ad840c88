"""`parcels reconcile`: compare the output topics with what follows from the log."""

import json as jsonlib
import sys
from typing import Annotated

import typer

from streams.cli.options import EXIT_DIFFERENCES, Bootstrap, Json, Prefix, PromisesOption, load_settings


def reconcile(
    send: Annotated[
        bool, typer.Option("--send", help="Write the missing records to their topics; default: only report them.")
    ] = False,
    promises: PromisesOption = None,
    json: Json = False,
    bootstrap: Bootstrap = None,
    prefix: Prefix = None,
) -> None:
    """Find and resend output records that Kafka has lost.

    Use it after the crash of a broker, which can lose a part of a committed transaction. It processes hub.scans again
    and compares the ids of the milestones and alerts that follow with those in the topics. Workers may run meanwhile.
    With --send it writes each missing record with the same bytes. Such a record comes later than others of its parcel,
    so consumers must order records by their version.

    Exit code 1: records are missing (and were not sent), are duplicated, or are unexpected: they do not follow from the
    log.

    Examples:
      parcels reconcile
      parcels reconcile --send
    """
    from streams.audit import reconcile as reconciliation
    from streams.config import load_promises
    from streams.processors.compilation import show_compilation

    settings = load_settings(bootstrap, prefix)
    show_progress = sys.stderr.isatty()

    def progress(partition: int, records: int) -> None:
        if show_progress:
            print(f"\rpartition {partition}: {records:,} records processed again", end="", file=sys.stderr, flush=True)

    with show_compilation():
        topics = reconciliation.reconcile(settings, load_promises(promises), progress)
    if show_progress:
        print(file=sys.stderr)
    sent = reconciliation.send_missing(settings, topics) if send else 0
    differs = any(topic.extra or topic.duplicates or (topic.missing and not send) for topic in topics.values())
    if json:
        print(
            jsonlib.dumps(
                {
                    "ok": not differs,
                    "sent": sent,
                    "topics": {
                        name: {
                            "expected": topic.expected,
                            "missing": topic.missing_records,
                            "unexpected": topic.extra,
                            "duplicated": topic.duplicates,
                        }
                        for name, topic in topics.items()
                    },
                }
            )
        )
    else:
        for name, topic in topics.items():
            counts = f"{topic.missing_records:,} missing, {topic.extra:,} unexpected, {topic.duplicates:,} duplicated"
            print(f"{name}: {topic.expected:,} records follow from the log; {counts}")
        if sent:
            print(f"{sent:,} records sent")
    if differs:
        raise typer.Exit(EXIT_DIFFERENCES)
