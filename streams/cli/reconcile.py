"""`parcels reconcile`: is everything told that the log leads to?"""

import json as jsonlib
import sys
from typing import Annotated

import typer

from streams.cli.options import EXIT_DIFFERENCES, Bootstrap, Json, Prefix, PromisesOption, load_settings


def reconcile(
    send: Annotated[bool, typer.Option("--send", help="Send what is missing.")] = False,
    promises: PromisesOption = None,
    json: Json = False,
    bootstrap: Bootstrap = None,
    prefix: Prefix = None,
) -> None:
    """Fold the log of hub.scans again, beside whoever folds it now, and compare the ids of what was told.

    A broker's own crash can take a part of a transaction away; this finds what is gone, and with --send puts it back, a
    record of the same bytes. Who reads it goes by its version, for it comes later than it should. Exit code 1 when
    something is missing (and was not sent), doubled, or told without a reason.

    Examples:
      parcels reconcile
      parcels reconcile --send
    """
    from streams.audit import reconcile as replay
    from streams.config import load_promises

    chosen = load_settings(bootstrap, prefix)
    shown = sys.stderr.isatty()

    def progress(partition: int, records: int) -> None:
        if shown:
            print(f"\rpartition {partition}: {records:,} records folded again", end="", file=sys.stderr, flush=True)

    told = replay.reconcile(chosen, load_promises(promises), progress)
    if shown:
        print(file=sys.stderr)
    sent = replay.send_missing(chosen, told) if send else 0
    wrong = any(each.extra or each.duplicates or (each.missing and not send) for each in told.values())
    if json:
        print(
            jsonlib.dumps(
                {
                    "ok": not wrong,
                    "sent": sent,
                    "topics": {
                        topic: {
                            "expected": each.expected,
                            "missing": each.missing_records,
                            "extra": each.extra,
                            "doubled": each.duplicates,
                        }
                        for topic, each in told.items()
                    },
                }
            )
        )
    else:
        for topic, each in told.items():
            counts = f"{each.missing_records:,} missing, {each.extra:,} extra, {each.duplicates:,} doubled"
            print(f"{topic}: {each.expected:,} records follow from the log; {counts}")
        if sent:
            print(f"{sent:,} records sent")
    if wrong:
        raise typer.Exit(EXIT_DIFFERENCES)
