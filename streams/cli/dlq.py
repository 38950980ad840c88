"""`parcels dlq`: records that could not be used."""

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
    help="List, show, redrive and purge records that could not be used.",
    epilog="Places are PARTITION:OFFSET in the dead-letter topic, as `list` prints them.",
)

# Bytes of a value that `show` prints; --json has them all.
_SHOWN_BYTES = 512

ReasonOption = Annotated[
    list[str] | None,
    typer.Option("--reason", metavar="REASON", help="Only this reason; may be given several times."),
]
DeadLetterOffsets = Annotated[
    list[str] | None,
    typer.Argument(metavar="[PARTITION:OFFSET]...", help="Only the dead letters at these places."),
]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


@app.command("list")
def list_(
    reason: ReasonOption = None,
    bootstrap: Bootstrap = None,
    prefix: Prefix = None,
    as_json: Json = False,
) -> None:
    """Count the dead letters by reason; with --reason, list each with the place it came from.

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
        known = (
            REJECT_REASON_TEXTS[RejectReason[name]]
            if name in RejectReason.__members__
            else "the headers do not say why"
        )
        print(f"{len(rows[name]):>8}  {name}: {known}")
        if reasons:
            for row in rows[name]:
                print(
                    f"          {row['place']}  from {row['source']}  {row['bytes']} bytes  sent {format_time(row['sent'])}"
                )
        else:
            print(f"          first {rows[name][0]['place']}, last {rows[name][-1]['place']}")
    print(f"{total:>8}  dead letters")


@app.command()
def show(
    place: Annotated[str, typer.Argument(metavar="PARTITION:OFFSET", help="Which one.")],
    bootstrap: Bootstrap = None,
    prefix: Prefix = None,
    as_json: Json = False,
) -> None:
    """Show one dead letter: where it came from, its headers, its bytes, and as much as can be decoded of them.

    Exits 1 when there is none at that place (any more).

    Examples:
      parcels dlq show 2:17
      parcels dlq show 2:17 --json
    """
    from streams.kafka.dead_letters import read_dead_letter

    letter = read_dead_letter(load_settings(bootstrap, prefix), _place(place))
    if letter is None:
        print(f"parcels: there is no dead letter at {place} (any more)", file=sys.stderr)
        raise typer.Exit(EXIT_DIFFERENCES)
    if as_json:
        print(json.dumps(_whole(letter), indent=2, ensure_ascii=False))
    else:
        _print(letter)


@app.command()
def redrive(
    places: DeadLetterOffsets = None,
    reason: ReasonOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be sent.")] = False,
    yes: Yes = False,
    bootstrap: Bootstrap = None,
    prefix: Prefix = None,
    as_json: Json = False,
) -> None:
    """Send dead letters again, once the cause is gone, to the topic they came from, as they came.

    A record from a wrong partition is sent with its parcel_id as the key, so that it comes to the right one. What is
    sent stays in the dead-letter topic: purge it, or not; what arrives twice is recognised as a duplicate.

    Examples:
      parcels dlq redrive --reason WRONG_PARTITION --dry-run
      parcels dlq redrive 2:17 2:18 --yes --json
    """
    from streams.kafka import dead_letters

    chosen = load_settings(bootstrap, prefix)
    if not places and not reason:
        raise Misconfigured("say which: --reason REASON, or places as PARTITION:OFFSET")
    wanted = {_place(each) for each in places or ()}
    letters = dead_letters.read_dead_letters(chosen, reasons=_reasons(reason), partition_offsets=wanted)
    found: dict[PartitionOffset, str] = {
        letter.partition_offset: letter.source[0] if letter.source else "" for letter in letters
    }
    missing = wanted - found.keys()
    if missing:
        print(f"not there, or of another reason: {_words(missing)}", file=sys.stderr)
    names = sorted(set(filter(None, found.values())))
    topics = " and ".join(names) or "nowhere"
    only_look = dry_run or not found
    left: Iterable[PartitionOffset] = ()
    if not only_look:
        _ask(f"Send {len(found)} records to {topics} again?", yes)
        left = dead_letters.redrive(chosen, found.keys())
    sent = found.keys() - set(left)
    if as_json:
        rows = {"would_send" if only_look else "sent": sent, "left": left, "not_found": missing}
        by_name = {name: [f"{place[0]}:{place[1]}" for place in sorted(each)] for name, each in rows.items()}
        print(json.dumps({"topics": names} | by_name, indent=2))
    else:
        print(f"{'would send' if only_look else 'sent'} {len(sent)} records to {topics}")
        if left:
            print(f"left: {_words(left)}; nobody knows where they came from, or of which parcel they are")
    if left or missing:
        raise typer.Exit(EXIT_DIFFERENCES)


@app.command()
def purge(
    until: Annotated[
        list[str] | None,
        typer.Option(
            "--until",
            metavar="PARTITION:OFFSET",
            help="Up to and including this one; all that are there when not given.",
        ),
    ] = None,
    yes: Yes = False,
    bootstrap: Bootstrap = None,
    prefix: Prefix = None,
) -> None:
    """Delete dead letters for good: all, or in each partition those up to a place.

    Kafka deletes from the beginning of a partition only, so a single one or one reason cannot be chosen.

    Examples:
      parcels dlq purge
      parcels dlq purge --until 2:17 --until 3:4 --yes
    """
    from streams.kafka import dead_letters

    chosen = load_settings(bootstrap, prefix)
    ends = dict(map(_place, until or ()))
    count, last = _count_until(chosen, ends)
    if count:
        _ask(f"Delete {count} dead letters for good?", yes)
        dead_letters.purge(chosen, {partition: offset + 1 for partition, offset in last.items()})
    print(f"deleted {count} dead letters")


def _count_until(chosen: "KafkaSettings", ends: dict[int, int]) -> tuple[int, dict[int, int]]:
    """How many are there up to `ends` (all if empty), and the last of them in each partition."""
    from streams.kafka.dead_letters import read_dead_letters

    count = 0
    last: dict[int, int] = {}
    for letter in read_dead_letters(chosen):
        partition, offset = letter.partition_offset
        if not ends or offset <= ends.get(partition, -1):
            count += 1
            last[partition] = offset
    return count, last


def _print(letter: "DeadLetter") -> None:
    row = _row(letter)
    print(f"{letter.reason}: {letter.message}")
    print(f"from {row['source']}, sent here {format_time(letter.timestamp)}")
    print(f"key: {_text(letter.key)}")
    for name, value in letter.headers:
        print(f"header {name}: {_text(value)}")
    _print_decoded(letter)
    value = letter.value or b""
    print(f"value: {row['bytes']} bytes" + ("" if letter.value is not None else " (none at all)"))
    for at in range(0, min(len(value), _SHOWN_BYTES), 16):
        line = value[at : at + 16]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in line)
        print(f"  {at:08x}  {line.hex(' '):<47}  {text}")
    if len(value) > _SHOWN_BYTES:
        print(f"  and {len(value) - _SHOWN_BYTES} bytes more: --json has them all")


def _print_decoded(letter: "DeadLetter") -> None:
    from streams.kafka.dead_letters import decode_partially

    decoded = decode_partially(letter.value)
    if decoded is None:
        print("decoded: nothing, it names no schema of this topic")
        return
    end = f", until {decoded.failed_field}" if decoded.failed_field else ""
    print(f"decoded as {decoded.schema}{end}; {decoded.remaining_bytes} bytes follow")
    for name, field in decoded.fields.items():
        print(f"  {name} = {field!r}" + (f" ({format_time(field)})" if name.endswith("_time") else ""))


def _whole(letter: "DeadLetter") -> dict[str, Any]:
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
            "stopped_at": decoded.failed_field,
            "rest_bytes": decoded.remaining_bytes,
        },
    }


def _row(letter: "DeadLetter") -> dict[str, Any]:
    source = "unknown" if letter.source is None else f"{letter.source[0]} {letter.source[1]}:{letter.source[2]}"
    return {
        "place": f"{letter.partition_offset[0]}:{letter.partition_offset[1]}",
        "source": source,
        "sent": letter.timestamp,
        "bytes": len(letter.value or b""),
    }


def _reasons(names: list[str] | None) -> set[str]:
    from streams.domain.reject_reasons import RejectReason

    known = [reason.name for reason in RejectReason if reason is not RejectReason.OK] + ["UNKNOWN"]
    for name in names or ():
        if name not in known:
            raise Misconfigured(f"--reason {name}: there is {', '.join(known)}")
    return set(names or ())


def _place(text: str) -> "PartitionOffset":
    partition, _, offset = text.partition(":")
    if not (partition.isdecimal() and offset.isdecimal()):
        raise Misconfigured(f"{text} is no place of a dead letter: PARTITION:OFFSET, for example 2:17")
    return int(partition), int(offset)


def _words(places: "Iterable[PartitionOffset]") -> str:
    return ", ".join(f"{partition}:{offset}" for partition, offset in sorted(places))


def _ask(question: str, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise Misconfigured("there is nobody to ask here: say --yes, or look first with --dry-run or list")
    if not typer.confirm(question):
        raise typer.Exit(EXIT_DIFFERENCES)


def _text(raw: str | bytes | None) -> str | None:
    return raw.decode(errors="backslashreplace") if isinstance(raw, bytes) else raw
