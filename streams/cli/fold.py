"""`parcels fold`: the states, milestones and alerts that follow from records in files, without a broker."""

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

# Messages about rejected lines that are printed at most.
_MAX_MESSAGES = 20


def _output_option(content: str) -> Any:
    return typer.Option(metavar="FILE", help=f"Write {content} to FILE, one JSON object a line; - is stdout.")


def fold(
    files: Annotated[
        list[str], typer.Argument(metavar="INPUT...", help="Files of records, in this order; - reads stdin.")
    ],
    states: Annotated[str | None, _output_option("the last state of every parcel")] = None,
    milestones: Annotated[str | None, _output_option("every milestone")] = None,
    alerts: Annotated[str | None, _output_option("every alert")] = None,
    promises: PromisesOption = None,
    batch: Annotated[
        int,
        typer.Option(
            metavar="N", min=1, max=1_000_000, help="Records in a batch; affects the speed and not the result."
        ),
    ] = 20_000,
    digest: Annotated[
        bool,
        typer.Option("--digest", help="Print one SHA-256 over all states and alerts; their order does not matter."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Process files of records with the worker's code, without a broker.

    Use it to see what a log leads to, to try out promises, or to compare two logs by their digest. The files are those
    of "parcels load" (docs/files.md). The records that a container event implies for its parcels follow directly
    behind it.

    A line that cannot be read is reported with its number and left out. Records that a worker would write as dead
    letters are counted by reason. Exit code 1: there were such lines or records.

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
    from streams.processors.compilation import show_compilation

    refold, rejected = Refold(batch=batch, promises=load_promises(promises)), _RejectedLineReporter()
    inference, record_digest = ContainerInference(), RecordSetDigest()
    with ExitStack() as stack:
        stack.enter_context(show_compilation())
        states_file, milestones_file, alerts_file = (_open_output(name, stack) for name in (states, milestones, alerts))
        decode_milestone, decode_alert = RecordDecoder("Milestone"), RecordDecoder("Alert")
        for output in refold.fold(inference.infer(_records(files, rejected))):
            if milestones_file is not None:
                _write(milestones_file, (decode_milestone(value) for _, value in output.milestones))
            if alerts_file is not None:
                _write(alerts_file, (decode_alert(value) for _, value in output.alerts))
            if digest:
                for key, value in output.alerts:
                    record_digest.add(ALERTS_TOPIC, key, value)
        if states_file is not None:
            _write(states_file, map(RecordDecoder("ParcelState"), (value for _, value in refold.states())))
        dead_letters = refold.refused + inference.refused
        if digest:
            for key, value in refold.states():
                record_digest.add(PARCEL_STATE_TOPIC, key, value)
    if as_json:
        result = {
            "records": refold.records,
            "parcels": len(refold.processor.table),
            "duplicates": refold.duplicates,
            "container_events": inference.event_count,
            "dead_letters": {reason.name: number for reason, number in sorted(dead_letters.items())},
            "rejected_lines": rejected.count,
            "digest": record_digest.hexdigest() if digest else None,
        }
        print(json.dumps(result, indent=2))
    else:
        _print_counts(refold, inference, dead_letters)
        if digest:
            print(record_digest.hexdigest())
    if rejected.count or dead_letters:
        raise typer.Exit(EXIT_DIFFERENCES)


def _print_counts(
    refold: "Refold", inference: "ContainerInference", dead_letters: "Mapping[RejectReason, int]"
) -> None:
    counts = f"{refold.records:,} records of {len(refold.processor.table):,} parcels, {refold.duplicates:,} duplicates"
    if inference.event_count:
        counts += f", {inference.event_count:,} container events"
    reasons = ", ".join(f"{number:,} {reason.name}" for reason, number in sorted(dead_letters.items()))
    print(counts + (f"; dead letters: {reasons}" if reasons else ""), file=sys.stderr)


class _RejectedLineReporter:
    """Counts the lines that cannot be read, and reports the first of them on stderr."""

    def __init__(self) -> None:
        self.count = 0

    def report(self, line: "RejectedLine") -> None:
        """Count a line and print its number and the reason."""
        if not line.file_position:  # one more piece of a line that is too long
            return
        self.count += 1
        if self.count <= _MAX_MESSAGES:
            print(line, file=sys.stderr)
        elif self.count == _MAX_MESSAGES + 1:
            print('there are more rejected lines; "parcels load" writes all of them to a file', file=sys.stderr)


def _records(files: list[str], rejected: _RejectedLineReporter) -> "Iterator[ProducerRecord]":
    from streams.formats.record_files import RecordFile, RejectedLine

    for name in files:
        with ExitStack() as stack:
            try:
                stream = sys.stdin.buffer if name == "-" else stack.enter_context(Path(name).open("rb"))
            except OSError as error:
                raise Misconfigured(f"{name} cannot be read: {error.strerror}") from error
            for line in RecordFile(stream, name):
                if isinstance(line, RejectedLine):
                    rejected.report(line)
                else:
                    yield line


def _open_output(name: str | None, stack: ExitStack) -> TextIO | None:
    if name is None or name == "-":
        return sys.stdout if name else None
    try:
        return stack.enter_context(Path(name).open("w", encoding="utf-8"))
    except OSError as error:
        raise Misconfigured(f"{name} cannot be written: {error.strerror}") from error


def _write(file: TextIO, records: Iterable[Any]) -> None:
    file.writelines(json.dumps(record, default=bytes.hex, ensure_ascii=False) + "\n" for record in records)
