"""`parcels load`: records from files into hub.scans and hub.containers."""

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

# Records sent at a time, and messages about bad lines shown at most.
_BATCH = 5_000
_SHOWN = 100


def load(
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="Files to send, in this order; - is stdin.")],
    bad: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Where bad lines go; FILE.bad beside each file when not given."),
    ] = None,
    rate: Annotated[
        float | None, typer.Option(metavar="N", min=0.001, help="Records a second; as fast as it can when not given.")
    ] = None,
    bootstrap: Bootstrap = None,
    prefix: Prefix = None,
    json: Json = False,
) -> None:
    """Send scans, container events, advices and ticks from files to hub.scans and hub.containers.

    A file is newline-delimited JSON or an Avro container; docs/files.md tells what a record says. A line that cannot
    be sent is reported with its number and copied to a side file (stdin.bad for stdin); the rest goes on. Exit code 1
    when there were bad lines.

    Examples:
      parcels load history.ndjson
      parcels load monday.avro tuesday.avro --rate 5000
      zcat history.ndjson.gz | parcels load - --bad history.bad
    """
    from streams.kafka.bulk_producer import BulkProducer

    # Before anything is sent: a wrong name must not leave half of the files sent.
    for name in files:
        with _opened(name):
            pass
    results = []
    with BulkProducer(load_settings(bootstrap, prefix), rate) as feed:
        for name in files:
            with _opened(name) as (stream, size), _side_file(name, bad, name == files[0]) as side:
                results.append({"file": name, **_send(feed, stream, size, name, side)})
    _report(results, feed.elapsed_seconds, json)
    if any(result["bad"] for result in results):
        raise typer.Exit(EXIT_DIFFERENCES)


def _send(feed: "BulkProducer", stream: BinaryIO, size: int | None, name: str, side: "_BadLinesFile") -> dict[str, Any]:
    from streams.formats.record_files import RecordFile, RejectedLine

    sent, waiting = 0, list["ProducerRecord"]()
    with _progress(name, stream, size) as progress:
        for line in RecordFile(stream, name):
            if isinstance(line, RejectedLine):
                side.take(line)
                continue
            waiting.append(line)
            if len(waiting) >= _BATCH:
                sent += _hand_on(feed, waiting)
                progress(sent)
        sent += _hand_on(feed, waiting)
    return {"sent": sent, "bad": side.lines, "bad_file": str(side.path) if side.lines else None}


def _hand_on(feed: "BulkProducer", waiting: "list[ProducerRecord]") -> int:
    from streams.kafka.bulk_producer import ProducerBatch

    everywhere = [index for index, line in enumerate(waiting) if line.broadcast]
    containers = [index for index, line in enumerate(waiting) if line.to_containers_topic]
    feed.send(ProducerBatch([line.key for line in waiting], [line.value for line in waiting], everywhere, containers))
    size = len(waiting)
    waiting.clear()
    return size


def _report(results: list[dict[str, Any]], seconds: float, json: bool) -> None:
    if json:
        print(jsonlib.dumps({"files": results, "seconds": seconds}))
        return
    for result in results:
        said = f"{result['file']}: {result['sent']:,} records sent"
        if result["bad"]:
            said += f", {result['bad']:,} bad lines not sent: they are in {result['bad_file']}"
        print(said)


class _BadLinesFile:
    """Bad lines, as they came; the file is made when the first one comes."""

    def __init__(self, path: Path, mode: str) -> None:
        self.path, self.lines = path, 0
        self._mode = mode
        self._file: Any = None

    def take(self, bad: Any) -> None:
        """Keep a bad line and say what is wrong with it."""
        if self._file is None:
            try:
                self._file = self.path.open(self._mode)
            except OSError as error:
                raise Misconfigured(f"bad lines cannot be kept: {error}; give another place with --bad FILE") from error
        self._file.write(bad.line if bad.line.endswith(b"\n") or not bad.file_position else bad.line + b"\n")
        if not bad.file_position:  # one more piece of a line that is too long
            return
        self.lines += 1
        if self.lines <= _SHOWN:
            print(bad, file=sys.stderr)
        elif self.lines == _SHOWN + 1:
            print(f"more bad lines are in {self.path}; load it for their messages", file=sys.stderr)

    def close(self) -> None:
        """End the file."""
        if self._file is not None:
            self._file.close()


@contextmanager
def _side_file(name: str, bad: Path | None, first: bool) -> Iterator[_BadLinesFile]:
    path = bad or Path("stdin.bad" if name == "-" else f"{name}.bad")
    if name != "-" and path.resolve() == Path(name).resolve():
        raise Misconfigured(f"--bad {path} is the file to be read; bad lines need another one")
    # One side file for all files is begun anew by the first of them.
    side = _BadLinesFile(path, "wb" if bad is None or first else "ab")
    try:
        yield side
    finally:
        side.close()


@contextmanager
def _opened(name: str) -> Iterator[tuple[BinaryIO, int | None]]:
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
    """A bar on a terminal, nothing elsewhere."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn(name), BarColumn(), TextColumn("{task.fields[sent]:,} sent"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=size, sent=0)
        yield lambda sent: bar.update(task, completed=None if size is None else stream.tell(), sent=sent)
