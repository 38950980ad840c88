"""`parcels dlq`: dead letters, the records that a worker rejected."""

import base64
import json
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streams.cli.options import EXIT_DIFFERENCES, Bootstrap, Json, Prefix, load_settings
from streams.cli.time_formats import format_time
from streams.errors import Misconfigured

if TYPE_CHECKING:
    from streams.kafka.dead_letters import DeadLetter, PartitionOffset
    from streams.kafka.settings import KafkaSettings

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="""List, show, redrive and purge dead letters.

    A dead letter is a record of the log that a worker rejected, with the reason in its headers. First look at them with
    `list` and `show`. Then remove the cause and send them again with `redrive`, or delete them with `purge`.
    """,
    epilog="PARTITION:OFFSET is the position in the dead-letter topic, as `list` prints it.",
)

# Bytes of a value that `show` prints; --json prints all.
_MAX_DUMP_BYTES = 512

ReasonOption = Annotated[
    list[str] | None,
    typer.Option("--reason", metavar="REASON", help="Only dead letters with this reason. Repeatable."),
]
DeadLetterOffsets = Annotated[
    list[str] | None,
    typer.Argument(metavar="[PARTITION:OFFSET]...", help="Dead letters to send; default: all with --reason."),
]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")]


@app.command("list")
def list_(
    reason: ReasonOption = None,
    bootstrap: Bootstrap = None,
    prefix: Prefix = None,
    as_json: Json = False,
) -> None:
    """Count the dead letters by reason.

    With --reason, list each of them with its PARTITION:OFFSET, and with the topic and offset of the original record.

    Examples:
      parcels dlq list
      parcels dlq list --reason TRUNCATED --json
    """
    from streams.domain.reject_reasons import REJECT_REASON_TEXTS, RejectReason
    from streams.kafka.dead_letters import read_dead_letters

    reasons = _reasons(reason)
    rows: dict[str, list[dict[str, Any]]] = {}
    for letter in read_dead_letters(load_settings(bootstrap, prefix), reasons=reasons):
        rows.setdefault(letter.reason, []).append(_row(letter))
    total = sum(map(len, rows.values()))
    if as_json:
        by_reason = {name: {"count": len(rows[name]), "records": rows[name]} for name in sorted(rows)}
        print(json.dumps({"count": total, "by_reason": by_reason}, indent=2))
        return
    for name in sorted(rows):
        explanation = (
            REJECT_REASON_TEXTS[RejectReason[name]]
            if name in RejectReason.__members__
            else "the headers name no reason"
        )
        print(f"{len(rows[name]):>8}  {name}: {explanation}")
        if reasons:
            for row in rows[name]:
                origin = f"from {row['source']}  {row['bytes']} bytes  rejected {format_time(row['timestamp'])}"
                print(f"          {row['partition_offset']}  {origin}")
        else:
            print(f"          first {rows[name][0]['partition_offset']}, last {rows[name][-1]['partition_offset']}")
    print(f"{total:>8}  dead letters")


@app.command()
def show(
    partition_offset: Annotated[str, typer.Argument(metavar="PARTITION:OFFSET", help="The dead letter to show.")],
    bootstrap: Bootstrap = None,
    prefix: Prefix = None,
    as_json: Json = False,
) -> None:
    """Show one dead letter: origin, headers, bytes, decoded fields.

    The value is decoded as far as possible. Exit code 1: there is no dead letter at PARTITION:OFFSET, or not any more.

    Examples:
      parcels dlq show 2:17
      parcels dlq show 2:17 --json
    """
    from streams.kafka.dead_letters import read_dead_letter

    letter = read_dead_letter(load_settings(bootstrap, prefix), _parse_partition_offset(partition_offset))
    if letter is None:
        print(f"parcels: there is no dead letter at {partition_offset}, or not any more", file=sys.stderr)
        raise typer.Exit(EXIT_DIFFERENCES)
    if as_json:
        print(json.dumps(_to_json(letter), indent=2, ensure_ascii=False))
    else:
        _print(letter)


@app.command()
def redrive(
    partition_offsets: DeadLetterOffsets = None,
    reason: ReasonOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print how many records would be sent.")] = False,
    yes: Yes = False,
    bootstrap: Bootstrap = None,
    prefix: Prefix = None,
    as_json: Json = False,
) -> None:
    """Send dead letters again, to the topic that they came from.

    Use it once the cause is removed. Key, value and headers are those of the original record. A record from a wrong
    partition gets its parcel_id as the key, so that it arrives in the right one. The dead letters stay in their topic:
    `purge` deletes them. A record that is sent twice is recognised as a duplicate.

    Exit code 1: a dead letter was not found, or was not sent because its origin or its parcel is unknown.

    Examples:
      parcels dlq redrive --reason WRONG_PARTITION --dry-run
      parcels dlq redrive 2:17 2:18 --yes --json
    """
    from streams.kafka import dead_letters

    settings = load_settings(bootstrap, prefix)
    if not partition_offsets and not reason:
        raise Misconfigured("no dead letters are chosen: give --reason REASON or PARTITION:OFFSET")
    wanted = {_parse_partition_offset(text) for text in partition_offsets or ()}
    letters = dead_letters.read_dead_letters(settings, reasons=_reasons(reason), partition_offsets=wanted)
    found: dict[PartitionOffset, str] = {
        letter.partition_offset: letter.source[0] if letter.source else "" for letter in letters
    }
    missing = wanted - found.keys()
    if missing:
        print(f"not found, or with another reason: {', '.join(_texts(missing))}", file=sys.stderr)
    names = sorted(set(filter(None, found.values())))
    topics = " and ".join(names) or "no topic"
    nothing_sent = dry_run or not found
    not_sent: Iterable[PartitionOffset] = ()
    if not nothing_sent:
        _confirm(f"Send {len(found)} records to {topics} again?", yes)
        not_sent = dead_letters.redrive(settings, found.keys())
    sent = found.keys() - set(not_sent)
    if as_json:
        rows = {"would_send" if nothing_sent else "sent": sent, "not_sent": not_sent, "not_found": missing}
        print(json.dumps({"topics": names} | {name: _texts(offsets) for name, offsets in rows.items()}, indent=2))
    else:
        print(f"{'would send' if nothing_sent else 'sent'} {len(sent)} records to {topics}")
        if not_sent:
            print(f"not sent, because their origin or their parcel is unknown: {', '.join(_texts(not_sent))}")
    if not_sent or missing:
        raise typer.Exit(EXIT_DIFFERENCES)


@app.command()
def purge(
    until: Annotated[
        list[str] | None,
        typer.Option(
            "--until",
            metavar="PARTITION:OFFSET",
            help="Last dead letter to delete in its partition; default: all. Repeatable.",
        ),
    ] = None,
    yes: Yes = False,
    bootstrap: Bootstrap = None,
    prefix: Prefix = None,
) -> None:
    """Delete dead letters: all, or those up to an offset.

    They cannot be restored. Kafka deletes only from the beginning of a partition, so you cannot choose a single dead
    letter or a reason. With --until, only the partitions that it names are changed.

    Examples:
      parcels dlq purge
      parcels dlq purge --until 2:17 --until 3:4 --yes
    """
    from streams.kafka import dead_letters

    settings = load_settings(bootstrap, prefix)
    ends = dict(map(_parse_partition_offset, until or ()))
    count, last = _count_until(settings, ends)
    if count:
        _confirm(f"Delete {count} dead letters for good?", yes)
        dead_letters.purge(settings, {partition: offset + 1 for partition, offset in last.items()})
    print(f"deleted {count} dead letters")


def _count_until(settings: "KafkaSettings", ends: dict[int, int]) -> tuple[int, dict[int, int]]:
    """The number of dead letters up to `ends` (all if empty), and the last offset of them by partition."""
    from streams.kafka.dead_letters import read_dead_letters

    count = 0
    last: dict[int, int] = {}
    for letter in read_dead_letters(settings):
        partition, offset = letter.partition_offset
        if not ends or offset <= ends.get(partition, -1):
            count += 1
            last[partition] = offset
    return count, last


def _print(letter: "DeadLetter") -> None:
    row = _row(letter)
    print(f"{letter.reason}: {letter.message}")
    print(f"from {row['source']}, rejected {format_time(letter.timestamp)}")
    print(f"key: {_text(letter.key)}")
    for name, value in letter.headers:
        print(f"header {name}: {_text(value)}")
    _print_decoded(letter)
    value = letter.value or b""
    print(f"value: {row['bytes']} bytes" + ("" if letter.value is not None else " (no value)"))
    for offset in range(0, min(len(value), _MAX_DUMP_BYTES), 16):
        line = value[offset : offset + 16]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in line)
        print(f"  {offset:08x}  {line.hex(' '):<47}  {text}")
    if len(value) > _MAX_DUMP_BYTES:
        print(f"  and {len(value) - _MAX_DUMP_BYTES} more bytes: --json prints all")


def _print_decoded(letter: "DeadLetter") -> None:
    from streams.kafka.dead_letters import decode_partially

    decoded = decode_partially(letter.value)
    if decoded is None:
        print("decoded: nothing, because the value names no schema of this topic")
        return
    end = f", up to the field {decoded.failed_field}" if decoded.failed_field else ""
    print(f"decoded as {decoded.schema}{end}; {decoded.remaining_bytes} trailing bytes")
    for name, field in decoded.fields.items():
        print(f"  {name} = {field!r}" + (f" ({format_time(field)})" if name.endswith("_time") else ""))


def _to_json(letter: "DeadLetter") -> dict[str, Any]:
    from streams.kafka.dead_letters import decode_partially

    decoded = decode_partially(letter.value)
    return _row(letter) | {
        "reason": letter.reason,
        "message": letter.message,
        "key": _text(letter.key),
        "headers": {name: _text(value) for name, value in letter.headers},
        "value_base64": None if letter.value is None else base64.b64encode(letter.value).decode(),
        "decoded": decoded
        and {
            "schema": decoded.schema,
            "fields": decoded.fields,
            "failed_field": decoded.failed_field,
            "trailing_bytes": decoded.remaining_bytes,
        },
    }


def _row(letter: "DeadLetter") -> dict[str, Any]:
    source = "unknown" if letter.source is None else f"{letter.source[0]} {letter.source[1]}:{letter.source[2]}"
    return {
        "partition_offset": f"{letter.partition_offset[0]}:{letter.partition_offset[1]}",
        "source": source,
        "timestamp": letter.timestamp,
        "bytes": len(letter.value or b""),
    }


def _reasons(names: list[str] | None) -> set[str]:
    from streams.domain.reject_reasons import RejectReason

    known = [reason.name for reason in RejectReason if reason is not RejectReason.OK] + ["UNKNOWN"]
    for name in names or ():
        if name not in known:
            raise Misconfigured(f"--reason {name} is not a reason; the reasons are {', '.join(known)}")
    return set(names or ())


def _parse_partition_offset(text: str) -> "PartitionOffset":
    partition, _, offset = text.partition(":")
    if not (partition.isdecimal() and offset.isdecimal()):
        raise Misconfigured(f'{text} is not PARTITION:OFFSET; write it like 2:17, as "parcels dlq list" prints it')
    return int(partition), int(offset)


def _texts(partition_offsets: "Iterable[PartitionOffset]") -> list[str]:
    return [f"{partition}:{offset}" for partition, offset in sorted(partition_offsets)]


def _confirm(question: str, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise Misconfigured("confirmation needs a terminal: give --yes, or look first with --dry-run or list")
    if not typer.confirm(question):
        raise typer.Exit(EXIT_DIFFERENCES)


def _text(raw: str | bytes | None) -> str | None:
    return raw.decode(errors="backslashreplace") if isinstance(raw, bytes) else raw
