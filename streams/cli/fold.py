"""`parcels fold`: the states, milestones and alerts that a log in files leads to, without a broker."""

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from streams.cli.options import EXIT_DIFFERENCES, Json, PromisesOption
from streams.errors import Misconfigured

if TYPE_CHECKING:
    from streams.audit.container_inference import ContainerInference
    from streams.audit.refold import Refold
    from streams.domain.reject_reasons import RejectReason
    from streams.formats.record_files import RejectedLine
    from streams.formats.record_parser import ProducerRecord

_SHOWN = 20


def _out(what: str) -> Any:
    return typer.Option(metavar="FILE", help=f"Write {what} here, one JSON object a line; - for standard output.")


def fold(
    files: Annotated[list[str], typer.Argument(metavar="INPUT...", help="Files of records; - for standard input.")],
    states: Annotated[str | None, _out("the last state of every parcel")] = None,
    milestones: Annotated[str | None, _out("every milestone")] = None,
    alerts: Annotated[str | None, _out("every alert")] = None,
    promises: PromisesOption = None,
    batch: Annotated[
        int, typer.Option(metavar="N", min=1, max=1_000_000, help="Records a batch; changes nothing but the time.")
    ] = 20_000,
    digest: Annotated[
        bool, typer.Option("--digest", help="Print one SHA-256 over all states and alerts, in whatever order they are.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Fold files of records, in their order, with the worker's own code and without a broker.

    The files are those of "parcels load" (docs/files.md). What cannot be read is told with its line and left out, what
    the fold refuses is counted by its reason; exit code 1 when there was either. What follows from events of containers
    comes right behind them.

    Examples:
      parcels fold day.ndjson --digest
      parcels fold day.ndjson --digest --json
      parcels fold day.ndjson --promises stricter.yaml --alerts alerts.ndjson
      parcels fold monday.ndjson tuesday.avro --states states.ndjson --milestones milestones.ndjson
      parcels fold day.ndjson --milestones - | head
    """
    from streams.audit.container_inference import ContainerInference
    from streams.audit.refold import RecordSetDigest, Refold
    from streams.config import load_promises
    from streams.formats.record_decoder import RecordDecoder
    from streams.formats.topics import ALERTS_TOPIC, PARCEL_STATE_TOPIC

    refold, bad, over = Refold(batch=batch, promises=load_promises(promises)), _BadLineReporter(), RecordSetDigest()
    inferring = ContainerInference()
    with ExitStack() as stack:
        to_states, to_milestones, to_alerts = (_opened(name, stack) for name in (states, milestones, alerts))
        milestone, alert = RecordDecoder("Milestone"), RecordDecoder("Alert")
        for made in refold.fold(inferring.values(_lines(files, bad))):
            if to_milestones is not None:
                _write(to_milestones, (milestone(value) for _, value in made.milestones))
            if to_alerts is not None:
                _write(to_alerts, (alert(value) for _, value in made.alerts))
            if digest:
                for key, value in made.alerts:
                    over.add(ALERTS_TOPIC, key, value)
        if to_states is not None:
            _write(to_states, map(RecordDecoder("ParcelState"), (value for _, value in refold.states())))
    reasons = refold.refused + inferring.refused
    if digest:
        for key, value in refold.states():
            over.add(PARCEL_STATE_TOPIC, key, value)
    if as_json:
        result = {
            "records": refold.records,
            "parcels": len(refold.stage.table),
            "duplicates": refold.duplicates,
            "container_events": inferring.events,
            "refused": {reason.name: number for reason, number in sorted(reasons.items())},
            "bad_lines": bad.lines,
            "digest": over.hexdigest() if digest else None,
        }
        print(json.dumps(result, indent=2))
    else:
        _tell(refold, inferring, reasons)
        if digest:
            print(over.hexdigest())
    if bad.lines or reasons:
        raise typer.Exit(EXIT_DIFFERENCES)


def _tell(refold: "Refold", inferring: "ContainerInference", reasons: "Mapping[RejectReason, int]") -> None:
    said = f"{refold.records:,} records of {len(refold.stage.table):,} parcels, {refold.duplicates:,} duplicates"
    if inferring.events:
        said += f", {inferring.events:,} events of containers"
    refused = ", ".join(f"{number:,} {reason.name}" for reason, number in sorted(reasons.items()))
    print(said + (f"; refused: {refused}" if refused else ""), file=sys.stderr)


class _BadLineReporter:
    """Lines that could not be read."""

    def __init__(self) -> None:
        self.lines = 0

    def take(self, bad: "RejectedLine") -> None:
        """Say what is wrong with one."""
        if not bad.file_position:  # one more piece of a line that is too long
            return
        self.lines += 1
        if self.lines <= _SHOWN:
            print(bad, file=sys.stderr)
        elif self.lines == _SHOWN + 1:
            print('more bad lines: "parcels load" puts them into a side file', file=sys.stderr)


def _lines(files: list[str], bad: _BadLineReporter) -> "Iterator[ProducerRecord]":
    from streams.formats.record_files import RecordFile, RejectedLine

    for name in files:
        with ExitStack() as stack:
            try:
                stream = sys.stdin.buffer if name == "-" else stack.enter_context(Path(name).open("rb"))
            except OSError as error:
                raise Misconfigured(f"{name} cannot be read: {error.strerror}") from error
            for line in RecordFile(stream, name):
                if isinstance(line, RejectedLine):
                    bad.take(line)
                else:
                    yield line


def _opened(name: str | None, stack: ExitStack) -> TextIO | None:
    if name is None or name == "-":
        return sys.stdout if name else None
    try:
        return stack.enter_context(Path(name).open("w", encoding="utf-8"))
    except OSError as error:
        raise Misconfigured(f"{name} cannot be written: {error.strerror}") from error


def _write(to: TextIO, records: Iterable[Any]) -> None:
    to.writelines(json.dumps(record, default=bytes.hex, ensure_ascii=False) + "\n" for record in records)
