"""Scan to state: the time from sending a scan until a reader of committed records sees the state that contains it.

A sender replays the beginning of the log at a steady rate, and a reader follows parcel.state. Each is a process of its
own, so that neither waits for the interpreter of the other. A state's version is the number of distinct records of its
parcel, so the first state of a parcel with a version of at least v contains the v-th record.
"""

import io
import multiprocessing
import struct
import time
import zlib
from collections import defaultdict
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event
from typing import Any, cast

import fastavro
import numpy as np

from bench.common import Cluster, console, group_is_stable, reader_of, wait_until
from bench.programs import PROGRAMS, Program
from streams.errors import StreamsError
from streams.formats import topics
from streams.formats.schemas import load_schemas
from streams.kafka import topic_admin
from streams.kafka.clients import new_producer
from streams.kafka.settings import KafkaSettings
from streams.processors.parcel_processor import ParcelProcessor

# One parcel in this many is sampled: enough for a p99, and little load on the machine that is being measured.
_SAMPLE = 4
# The version of a state follows its parcel_id (at most 128 bytes and their length).
_HEAD = 160
_FRAME = 5
# The run ends when no state arrived for this long after the last scan was sent.
_SILENCE_SECONDS = 5.0


@dataclass(frozen=True)
class Sent:
    """A replayed record of the log and its time of sending (seconds since 1970)."""

    partition: int
    key: bytes | None
    value: bytes
    at: float = 0.0


def measure(cluster: Cluster, rate: int, seconds: float, warm_up_seconds: float, repeat: int) -> dict[str, Any]:
    """Latency of every program at `rate` records a second, in milliseconds.

    Args:
        cluster: where hub.scans holds a log.
        rate: records a second.
        seconds: how long is measured.
        warm_up_seconds: how long it runs before that, at the same rate.
        repeat: how often, the programs in turn; each figure is the median.
    """
    runs: dict[str, list[dict[str, Any]]] = {program.key: [] for program in PROGRAMS}
    for turn in range(repeat):
        for program in PROGRAMS:
            doing = f"{program.title}, {rate:,} scans/s, run {turn + 1} of {repeat}"
            run = _run(cluster, program, rate, seconds, warm_up_seconds, doing)
            runs[program.key].append(run)
            console.print(f"{doing}: p50 {run['p50_ms']:.0f} ms, p99 {run['p99_ms']:.0f} ms")
    result: dict[str, Any] = {
        key: {figure: round(float(np.median([run[figure] for run in taken])), 1) for figure in taken[0]}
        for key, taken in runs.items()
    }
    result["ratio"] = round(result["ours"]["p99_ms"] / result["kafka_streams"]["p99_ms"], 2)
    return result | {"rate": rate, "seconds": seconds, "runs": runs}


def _run(
    cluster: Cluster, program: Program, rate: int, seconds: float, warm_up_seconds: float, doing: str
) -> dict[str, Any]:
    fresh = cluster.with_prefix(f"live-{program.key}-{time.monotonic_ns()}")
    topic_admin.apply_topics(fresh.settings, topic_admin.plan_topics(fresh.settings))
    context = multiprocessing.get_context("spawn")
    go, done = context.Event(), context.Event()
    sender_end, sender_pipe = context.Pipe(duplex=False)
    reader_end, reader_pipe = context.Pipe(duplex=False)
    everything = round((seconds + warm_up_seconds) * rate)
    sender = context.Process(target=_send, args=(cluster.settings, fresh.settings, rate, everything, go, sender_pipe))
    reader = context.Process(target=_read, args=(fresh.settings, done, reader_pipe))
    watched = program.start(fresh, cluster.scratch / f"{program.key}-latency-{time.monotonic_ns()}", "live", None)
    try:
        with console.status(doing):
            sender.start()
            reader.start()
            wait_until(
                lambda: watched.ended() or group_is_stable(fresh.settings), 180, f"{program.title} took no partitions"
            )
            if watched.ended():
                raise StreamsError(f"{program.title} ended: {watched.last_words()}")
            go.set()
            sent: list[Sent] = _receive(sender_end, everything / rate + 120, "the sender")
            done.set()
            seen: list[tuple[bytes, bytes, float]] = _receive(reader_end, 120, "the reader")
    finally:
        watched.stop()
        for process in (sender, reader):
            if process.is_alive():
                process.terminate()
        fresh.remove()
    return _figures(sent, seen, warm_up_seconds)


def _receive(end: Connection, seconds: float, who: str) -> Any:
    if not end.poll(seconds):
        raise StreamsError(f"{who} did not answer within {seconds:.0f} s")
    return end.recv()


def _send(source: KafkaSettings, target: KafkaSettings, rate: int, count: int, go: Event, answer: Connection) -> None:
    """Replay the first `count` records of the log at `rate` a second; runs in its own process."""
    records = _beginning(source, count)
    sending = new_producer(target, linger_ms=1)
    topic = target.prefix + topics.SCANS_TOPIC
    times = np.zeros(len(records))
    go.wait()
    started = time.time()
    position = 0
    while position < len(records):
        due = min(len(records), int((time.time() - started) * rate))
        for index in range(position, due):
            record = records[index]
            times[index] = time.time()
            sending.produce(topic, record.value, record.key, partition=record.partition)
        position = due
        sending.poll(0)
        time.sleep(0.001)
    sending.flush(30)
    pairs = zip(records, times.tolist(), strict=True)
    answer.send([Sent(record.partition, record.key, record.value, at) for record, at in pairs])


def _beginning(settings: KafkaSettings, count: int) -> list[Sent]:
    """The first records of the log, with the partitions interleaved as they were written."""
    reader = reader_of(settings, topics.SCANS_TOPIC, enable_partition_eof=True)
    found: dict[int, list[Any]] = defaultdict(list)
    partitions = len(reader.assignment())
    ended: set[int] = set()
    try:
        # Each partition gives one and a half times its share, because partitions differ in length.
        while len(ended) < partitions:
            for record in reader.consume(10_000, 0.5):
                partition = cast(int, record.partition())
                if record.error() is not None:
                    ended.add(partition)
                elif len(found[partition]) < count * 3 // (2 * partitions):
                    found[partition].append(record)
                else:
                    ended.add(partition)
    finally:
        reader.close()
    mixed = sorted((record for records in found.values() for record in records), key=lambda r: r.timestamp()[1])
    return [Sent(record.partition(), record.key(), record.value()) for record in mixed[:count]]


def _read(settings: KafkaSettings, done: Event, answer: Connection) -> None:
    """Follow parcel.state until `done` is set and no state arrives any more; runs in its own process."""
    reader = reader_of(settings, topics.PARCEL_STATE_TOPIC, fetch_queue_backoff_ms=1)
    seen = []
    now = time.time()
    try:
        while True:
            first = reader.poll(0.1)
            if first is None:
                if done.is_set() and time.time() - now > _SILENCE_SECONDS:
                    break
                continue
            records = [first, *reader.consume(10_000, 0)]
            now = time.time()
            for record in records:
                key = cast(bytes, record.key())
                if record.error() is None and zlib.crc32(key) % _SAMPLE == 0 and not key.startswith(b"\0"):
                    seen.append((key, cast(bytes, record.value())[:_HEAD], now))
    finally:
        reader.close()
    answer.send(seen)


def _figures(sent: list[Sent], seen: list[tuple[bytes, bytes, float]], warm_up_seconds: float) -> dict[str, Any]:
    first_at = sent[0].at
    states: dict[bytes, list[tuple[int, float]]] = defaultdict(list)
    for key, head, at in seen:
        states[key].append((_version(head), at))
    waits, missing = [], 0
    for key, times in _clean_histories(sent).items():
        shown = iter(states.get(key, ()))
        version, at = next(shown, (0, 0.0))
        for number, sent_at in enumerate(times, start=1):
            while version < number and (later := next(shown, None)) is not None:
                version, at = later
            if sent_at - first_at < warm_up_seconds:
                continue
            if version < number:
                missing += 1
            else:
                waits.append(at - sent_at)
    if missing or not waits:
        raise StreamsError(f"{missing:,} of {missing + len(waits):,} scans never appeared in a state")
    p50, p99, p999 = np.percentile(waits, [50, 99, 99.9]) * 1000
    return {
        "p50_ms": round(float(p50), 1),
        "p99_ms": round(float(p99), 1),
        "p999_ms": round(float(p999), 1),
        "max_ms": round(max(waits) * 1000, 1),
        "scans": len(waits),
        "sent_per_second": round(len(sent) / (sent[-1].at - first_at)),
    }


def _clean_histories(sent: list[Sent]) -> dict[bytes, list[float]]:
    """Sending times of the records of each parcel of the sample that has no duplicate, no void and no dead letter.

    Only of these is it certain that the v-th record makes version v. Which records are dead letters the parcel stage
    says itself: some of them Avro reads without complaint.
    """
    writers = load_schemas().writer_schemas("Scan", "Advice")
    stage = ParcelProcessor(partition=0, partitions=1)
    refused = {place for place, _ in stage.run([record.value for record in sent], outputs=False).rejects}
    times: dict[bytes, list[float]] = defaultdict(list)
    known: set[tuple[bytes, str]] = set()
    odd: set[bytes] = set()
    for place, record in enumerate(sent):
        key = record.key
        if key is None or zlib.crc32(key) % _SAMPLE != 0:
            continue
        if place in refused:
            odd.add(key)
            continue
        schema_id = struct.unpack_from(">I", record.value, 1)[0]
        body: Any = fastavro.schemaless_reader(io.BytesIO(record.value[_FRAME:]), writers[schema_id][1], None)
        identity = (key, body["event_id"])
        if identity in known or body["parcel_id"].encode() != key or body.get("kind") == "VOID":
            odd.add(key)
        known.add(identity)
        times[key].append(record.at)
    return {key: at for key, at in times.items() if key not in odd}


def _version(head: bytes) -> int:
    """The version in the first bytes of a framed ParcelState: it follows the parcel_id."""
    length, position = _number(head, _FRAME)
    return _number(head, position + length)[0]


def _number(data: bytes, position: int) -> tuple[int, int]:
    """An Avro long and the offset after it."""
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return (value >> 1) ^ -(value & 1), position
        shift += 7
