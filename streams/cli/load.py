"""`parcels load`: send records from files to hub.scans and hub.containers."""

import json as jsonlib
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer

from streams.cli.options import EXIT_DIFFERENCES, Bootstrap, Json, Prefix, load_settings
from streams.errors import Misconfigured

if TYPE_CHECKING:
    from streams.formats.record_parser import ProducerRecord
    from streams.kafka.bulk_producer import BulkProducer

_RECORDS_PER_BATCH = 5_000
# Messages about rejected lines that are printed at most.
_MAX_MESSAGES = 100


def load(
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="Files to send, in this order; - reads stdin.")],
    reject_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Where to write rejected lines; default: INPUT.rejected beside each input."),
    ] = None,
    rate: Annotated[
        float | None, typer.Option(metavar="N", min=0.001, help="Records a second; default: as fast as possible.")
    ] = None,
    bootstrap: Bootstrap = None,
    prefix: Prefix = None,
    json: Json = False,
) -> None:
    """Send records from NDJSON or Avro files to Kafka.

    Use it to load your own scans, container events, advices and ticks. docs/files.md describes the two formats. A line
    that is not a valid record is not sent: it is reported with its number and copied to the reject file
    (stdin.rejected for stdin), and the other lines are sent. Correct the reject file and load it.

    Exit code 1: there were rejected lines.

    Examples:
      parcels load history.ndjson
      parcels load monday.avro tuesday.avro --rate 5000
      zcat history.ndjson.gz | parcels load - --reject-file history.rejected
    """
    from streams.kafka.bulk_producer import BulkProducer

    # Checked before the first record is sent: a wrong file name must not leave half of the files sent.
    for name in files:
        with _open_input(name):
            pass
    results = []
    with BulkProducer(load_settings(bootstrap, prefix), rate) as producer:
        for name in files:
            with _open_input(name) as (stream, size), _open_reject_file(name, reject_file, name == files[0]) as rejects:
                results.append({"file": name, **_send(producer, stream, size, name, rejects)})
    _report(results, producer.elapsed_seconds, json)
    if any(result["rejected_lines"] for result in results):
        raise typer.Exit(EXIT_DIFFERENCES)


def _send(
    producer: "BulkProducer", stream: BinaryIO, size: int | None, name: str, rejects: "_RejectFile"
) -> dict[str, Any]:
    from streams.formats.record_files import RecordFile, RejectedLine

    sent, waiting = 0, list["ProducerRecord"]()
    with _progress(name, stream, size) as progress:
        for line in RecordFile(stream, name):
            if isinstance(line, RejectedLine):
                rejects.write(line)
                continue
            waiting.append(line)
            if len(waiting) >= _RECORDS_PER_BATCH:
                sent += _send_batch(producer, waiting)
                progress(sent)
        sent += _send_batch(producer, waiting)
    return {
        "sent": sent,
        "rejected_lines": rejects.count,
        "reject_file": str(rejects.path) if rejects.count else None,
    }


def _send_batch(producer: "BulkProducer", waiting: "list[ProducerRecord]") -> int:
    from streams.kafka.bulk_producer import ProducerBatch

    everywhere = [index for index, line in enumerate(waiting) if line.broadcast]
    containers = [index for index, line in enumerate(waiting) if line.to_containers_topic]
    producer.send(
        ProducerBatch([line.key for line in waiting], [line.value for line in waiting], everywhere, containers)
    )
    size = len(waiting)
    waiting.clear()
    return size


def _report(results: list[dict[str, Any]], seconds: float, json: bool) -> None:
    if json:
        print(jsonlib.dumps({"files": results, "seconds": seconds}))
        return
    for result in results:
        text = f"{result['file']}: {result['sent']:,} records sent"
        if result["rejected_lines"]:
            text += f", {result['rejected_lines']:,} rejected lines not sent: they are in {result['reject_file']}"
        print(text)


class _RejectFile:
    """Copies of the rejected lines; the file is created with the first of them."""

    def __init__(self, path: Path, mode: str) -> None:
        self.path, self.count = path, 0
        self._mode = mode
        self._file: Any = None

    def write(self, rejected: Any) -> None:
        """Copy a rejected line, and print its number and the reason."""
        if self._file is None:
            try:
                self._file = self.path.open(self._mode)
            except OSError as error:
                message = f"the reject file cannot be written: {error}; name another one with --reject-file FILE"
                raise Misconfigured(message) from error
        line = rejected.line
        self._file.write(line if line.endswith(b"\n") or not rejected.file_position else line + b"\n")
        if not rejected.file_position:  # one more piece of a line that is too long
            return
        self.count += 1
        if self.count <= _MAX_MESSAGES:
            print(rejected, file=sys.stderr)
        elif self.count == _MAX_MESSAGES + 1:
            print(f"{self.path} has more rejected lines; load that file to see their messages", file=sys.stderr)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()


@contextmanager
def _open_reject_file(name: str, reject_file: Path | None, first: bool) -> Iterator[_RejectFile]:
    path = reject_file or Path("stdin.rejected" if name == "-" else f"{name}.rejected")
    if name != "-" and path.resolve() == Path(name).resolve():
        raise Misconfigured(f"--reject-file {path} is the input; rejected lines need another file")
    # One reject file for all inputs is overwritten by the first input only.
    rejects = _RejectFile(path, "wb" if reject_file is None or first else "ab")
    try:
        yield rejects
    finally:
        rejects.close()


@contextmanager
def _open_input(name: str) -> Iterator[tuple[BinaryIO, int | None]]:
    if name == "-":
        yield sys.stdin.buffer, None
        return
    with ExitStack() as stack:
        try:
            stream = stack.enter_context(Path(name).open("rb"))
        except OSError as error:
            raise Misconfigured(f"{name} cannot be read: {error.strerror}") from error
        yield stream, Path(name).stat().st_size


@contextmanager
def _progress(name: str, stream: BinaryIO, size: int | None) -> Iterator[Any]:
    """A progress bar on a terminal, nothing elsewhere."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn(name), BarColumn(), TextColumn("{task.fields[sent]:,} sent"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=size, sent=0)
        yield lambda sent: bar.update(task, completed=None if size is None else stream.tell(), sent=sent)
