"""Workers under a supervisor that restarts those that die, and a log of the faults with their times.

Everything that happens to a run is in its `Chronicle`: printed when a test fails, beside the seed, so that a failure
can be understood. Nothing here looks inside a worker: what it did is read from the topics, what it said from its log.
"""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from streams.formats import topics
from streams.formats.record_decoder import RecordDecoder
from streams.kafka import topic_admin
from streams.kafka.clients import new_consumer
from streams.kafka.local_broker import LocalBroker
from streams.kafka.settings import KafkaSettings
from tests.faults.load_generator import Pump

REPOSITORY = Path(__file__).parents[2]
SESSION_SECONDS = 6.0
# Failpoints that a worker hits again and again, but only while records arrive.
BATCH_POINTS = ("after_fold", "after_begin", "while_producing", "before_commit", "after_commit")
# Exit code of a worker after WorkerDead; its supervisor starts a new one.
DEAD = 3
# Two busy cores may take this long for the work of a second.
PATIENCE_SECONDS = 120.0


def wait_until(happened: Callable[[], Any], otherwise: str, seconds: float = PATIENCE_SECONDS) -> Any:
    """Call `happened` until its answer is true, and return that answer."""
    deadline = time.monotonic() + seconds
    while not (answer := happened()):
        assert time.monotonic() < deadline, f"{otherwise} within {seconds:g} s"
        time.sleep(0.05)
    return answer


class Chronicle:
    """A log of the faults: one line each, printed at once (pytest shows it when the test fails)."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.counts: Counter[str] = Counter()
        self._started = time.monotonic()
        self.tell("seed", str(seed))

    def tell(self, what: str, detail: str = "") -> None:
        """Write a line; faults are counted by `what`."""
        self.counts[what] += 1
        print(f"{time.monotonic() - self._started:8.2f} s  {time.strftime('%H:%M:%S')}  {what} {detail}", flush=True)


@dataclass
class Installation:
    """Topics on a broker, and the commands that use them."""

    settings: KafkaSettings
    folder: Path
    chronicle: Chronicle
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.environment = {
            **os.environ,
            "PYTHONPATH": str(REPOSITORY),
            "KAFKA_BOOTSTRAP_SERVERS": self.settings.bootstrap,
            "PARCELS_PREFIX": self.settings.prefix,
            **self.environment,
        }

    def create_topics(self, partitions: int = 4) -> None:
        topic_admin.apply_topics(self.settings, topic_admin.plan_topics(self.settings, partitions))

    def start(self, *args: str, name: str, module: str = "streams.cli", **environment: str) -> "Member":
        return Member([sys.executable, "-m", module, *args], self.folder / name, self.environment | environment)

    def parcels(self, *args: str, seconds: float = PATIENCE_SECONDS) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "streams.cli", *args]
        return subprocess.run(
            command, env=self.environment, cwd=self.folder, capture_output=True, text=True, timeout=seconds, check=False
        )

    def fold_the_rest(self) -> None:
        """Process the remaining records with a worker without faults; it must end by itself."""
        done = self.parcels("run", "--until-idle", "2", seconds=4 * PATIENCE_SECONDS)
        assert done.returncode == 0, done.stderr
        assert not behind(self.settings), "the worker that ended by itself left records of hub.scans behind"

    def verify(self, truth: Path) -> dict[str, Any]:
        """The report of `parcels verify`."""
        done = self.parcels("verify", str(truth), "--json", seconds=4 * PATIENCE_SECONDS)
        assert done.returncode in (0, 1), done.stderr
        report: dict[str, Any] = json.loads(done.stdout)
        self.chronicle.tell("verified", f"{report['parcels']} parcels, {report['milestones']['count']} milestones")
        return report


class Member:
    """A process of the command line, with its output in files."""

    def __init__(self, command: Sequence[str], folder: Path, environment: dict[str, str]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        number = sum(1 for _ in folder.glob("*.err"))
        self._out, self._err = folder / f"{number}.out", folder / f"{number}.err"
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=environment, cwd=folder
            )

    @property
    def code(self) -> int | None:
        """Its exit code; None while it runs."""
        return self.process.poll()

    @property
    def out(self) -> str:
        return self._out.read_text(errors="replace")

    @property
    def err(self) -> str:
        return self._err.read_text(errors="replace")

    def said(self, event: str) -> list[dict[str, Any]]:
        """Its log lines of one event."""
        lines = []
        for line in self.err.splitlines():
            with contextlib.suppress(ValueError):
                found = json.loads(line)
                if found.get("event") == event:
                    lines.append(found)
        return lines

    @property
    def holds(self) -> set[int]:
        """Partitions of hub.scans that it holds, by its last log line about them."""
        told = [
            line for word in ("assigned", "revoked", "lost") for line in self.said(f"parcels.worker.partitions_{word}")
        ]
        told = [line for line in told if line["processor"] == "parcels"]
        last = max(told, key=lambda line: line["timestamp"], default={"owned": ""})
        return {int(number) for number in last["owned"].split(",") if number}

    def memory_megabytes(self) -> float:
        """Its resident memory."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) / 1024

    def signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)

    @property
    def halted(self) -> bool:
        """Whether a SIGSTOP has stopped it."""
        return Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"

    def wait(self, seconds: float = PATIENCE_SECONDS) -> int:
        """Wait for its end; returns its exit code."""
        return self.process.wait(seconds)

    def end(self) -> None:
        """Kill it, whatever state it is in."""
        if self.code is None:
            self.signal(signal.SIGKILL)
            self.signal(signal.SIGCONT)
            self.process.wait()


class Crew:
    """Workers by name. `keep_up` restarts those that died; a death without a fault fails the test."""

    def __init__(self, installation: Installation, *options: str) -> None:
        self.installation = installation
        self.options = options
        self.members: dict[str, Member] = {}
        self._chronicle = installation.chronicle

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for member in self.members.values():
            member.end()

    def start(self, name: str, *, crash_at: str = "", spoilt: dict[str, str] | None = None) -> Member:
        """Start a worker.

        Args:
            name: under which the group knows it again.
            crash_at: the point of its path at which it kills itself, and at which pass.
            spoilt: environment of tests/faults/faulty_worker.py, which then runs it.
        """
        self._chronicle.tell("start", f"{name} {crash_at}{spoilt or ''}")
        environment = {**({"PARCELS_FAILPOINT": crash_at} if crash_at else {}), **(spoilt or {})}
        module = "tests.faults.faulty_worker" if spoilt else "streams.cli"
        # Under the other protocol the group refuses a restarted member of the same name until its session ends.
        named = () if "consumer" in self.options else ("--group-instance-id", name)
        member = self.installation.start("run", *named, *self.options, name=name, module=module, **environment)
        self.members[name] = member
        return member

    def kill(self, name: str) -> None:
        """Send SIGKILL and wait for the end."""
        self._chronicle.tell("kill", name)
        self.members[name].end()

    def freeze(self, name: str) -> None:
        """SIGSTOP."""
        self._chronicle.tell("freeze", name)
        self.members[name].signal(signal.SIGSTOP)

    def thaw(self, name: str) -> None:
        """SIGCONT."""
        self.members[name].signal(signal.SIGCONT)
        self._chronicle.tell("thaw", name)

    def crash(self, name: str, point: str, times: int = 1, *, pump: Pump, seconds: float = PATIENCE_SECONDS) -> None:
        """Restart a worker such that it kills itself at a failpoint; a running worker of the name is killed first."""
        if name in self.members and self.members[name].code is None:
            self.kill(name)
        member = self.start(name, crash_at=f"{point}:{times}")
        if point in BATCH_POINTS:
            wait_until(
                lambda: member.said("parcels.worker.restored") or member.code is not None, f"{name} did not restore"
            )
            pump.open()
        elif point == "before_close":
            self.wait_for(name, "parcels.worker.restored")
            member.signal(signal.SIGTERM)
        code = member.wait(seconds)
        assert code == -signal.SIGKILL, f"{name} was to crash at {point}, but ended with {code}: {member.err}"
        self._chronicle.tell("crash", f"{name} at {point}:{times}")

    def keep_up(self, seconds: float = 0.0) -> None:
        """Restart the workers that die, for so long."""
        deadline = time.monotonic() + seconds
        while True:
            for name, member in list(self.members.items()):
                if member.code is not None:
                    assert member.code in (-signal.SIGKILL, DEAD), f"{name} ended with {member.code}: {member.err}"
                    if member.code == DEAD:
                        self._chronicle.tell("ended by itself", f"{name}: {member.err.splitlines()[-1:]}")
                    self.start(name)
            if time.monotonic() > deadline:
                return
            time.sleep(0.02)

    def wait_for(self, name: str, event: str, seconds: float = PATIENCE_SECONDS) -> dict[str, Any]:
        """The first log line of this event from the worker of this name."""
        member = self.members[name]

        def heard() -> dict[str, Any] | None:
            assert member.code is None or member.said(event), f"{name} ended with {member.code}: {member.err}"
            return next(iter(member.said(event)), None)

        return wait_until(heard, f"{name} did not say {event}", seconds)

    def stop(self) -> None:
        """Send SIGTERM to all; each must exit cleanly."""
        running = {name: member for name, member in self.members.items() if member.code is None}
        for name, member in running.items():
            member.signal(signal.SIGCONT)
            self.wait_for(name, "parcels.worker.started")
            member.signal(signal.SIGTERM)
        for name, member in running.items():
            code = member.wait()
            assert code == 0, f"{name} ended with {code} after SIGTERM: {member.err}"
        self._chronicle.tell("stop", ", ".join(running))


def positions(settings: KafkaSettings) -> dict[int, int]:
    """Partition of hub.scans -> next offset of its position record in parcel.state; committed records only."""
    decode = RecordDecoder("InputPosition")
    found: dict[int, int] = {}
    for partition, value in _newest(settings, topics.POSITION_KEY).items():
        found[partition] = decode(value)["next_offset"]
    return found


def behind(settings: KafkaSettings) -> dict[int, int]:
    """Partition -> records of hub.scans beyond the position, for partitions where there are some."""
    known, name = positions(settings), settings.prefix + topics.SCANS_TOPIC
    left = {}
    for p, (low, high) in ends_of(settings, topics.SCANS_TOPIC).items():
        # The control records of transactions have offsets, too.
        beyond = high - known.get(p, low)
        if beyond > 0:
            left[p] = beyond if beyond > 1_000 else sum(1 for _ in _between(settings, name, p, known.get(p, low), high))
    return {p: records for p, records in left.items() if records}


def ends_of(settings: KafkaSettings, topic: str) -> dict[int, tuple[int, int]]:
    """Partition -> first and next offset."""
    reader = new_consumer(settings, "test")
    name = settings.prefix + topic
    try:
        partitions = reader.list_topics(name, timeout=20).topics[name].partitions
        return {p: reader.get_watermark_offsets(TopicPartition(name, p), timeout=20) for p in partitions}
    finally:
        reader.close()


def _newest(settings: KafkaSettings, key: bytes) -> dict[int, bytes]:
    name = settings.prefix + topics.PARCEL_STATE_TOPIC
    found: dict[int, bytes] = {}
    for partition, (low, high) in ends_of(settings, topics.PARCEL_STATE_TOPIC).items():
        look = 256
        while low < high and partition not in found:
            start = max(low, high - look)
            for record in _between(settings, name, partition, start, high):
                if record.key() == key:
                    found[partition] = record.value()
            if start == low:
                break
            look *= 16
    return found


def _between(settings: KafkaSettings, name: str, partition: int, start: int, high: int) -> Iterator[Any]:
    reader = new_consumer(settings, "test", enable_partition_eof=True)
    try:
        reader.assign([TopicPartition(name, partition, start or OFFSET_BEGINNING)])
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            for record in reader.consume(1000, 0.1):
                error = record.error()
                if error is None and record.offset() < high:
                    yield record
                elif error is None or error.code() == KafkaError._PARTITION_EOF:
                    # An open transaction hides the records behind it, too; they do not count yet.
                    return
    finally:
        reader.close()


class Broker:
    """A broker of this test, to be killed and restarted on the same data."""

    def __init__(self, folder: Path, port: int, chronicle: Chronicle) -> None:
        self._node = LocalBroker(folder, port)
        self._chronicle = chronicle
        self.bootstrap = self._node.start()

    def kill(self) -> None:
        """SIGKILL."""
        running = self._node.find_process()
        assert running is not None
        os.kill(running.pid, signal.SIGKILL)
        wait_until(lambda: self._node.find_process() is None, "the broker did not die")
        self._chronicle.tell("broker killed")

    def freeze(self) -> None:
        running = self._node.find_process()
        assert running is not None
        os.kill(running.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        running = self._node.find_process()
        assert running is not None
        os.kill(running.pid, signal.SIGCONT)

    def down(self) -> None:
        self._node.stop()
        self._chronicle.tell("broker down")

    def up(self) -> None:
        self._node.start()
        self._chronicle.tell("broker up")

    def close(self) -> None:
        self._node.stop()


def compact_often(settings: KafkaSettings) -> None:
    """Let the log cleaner compact parcel.state every few seconds."""
    client = AdminClient({"bootstrap.servers": settings.bootstrap})
    wanted = {"segment.ms": "2000", "min.cleanable.dirty.ratio": "0.001", "max.compaction.lag.ms": "1000"}
    resource = ConfigResource(
        ResourceType.TOPIC,
        settings.prefix + topics.PARCEL_STATE_TOPIC,
        incremental_configs=[
            ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET) for name, value in wanted.items()
        ],
    )
    for future in client.incremental_alter_configs([resource]).values():
        future.result(30)


def held_below(settings: KafkaSettings, ends: dict[int, tuple[int, int]]) -> int:
    """Number of records of parcel.state below these ends; a compaction makes it smaller."""
    name = settings.prefix + topics.PARCEL_STATE_TOPIC
    held = 0
    for partition, (low, high) in ends.items():
        if low < high:
            held += sum(1 for _ in _between(settings, name, partition, low, high))
    return held


def group_offsets(settings: KafkaSettings, group: str) -> dict[int, int]:
    """Offsets that a group committed."""
    reader = Consumer({"bootstrap.servers": settings.bootstrap, "group.id": settings.prefix + group})
    name = settings.prefix + topics.SCANS_TOPIC
    try:
        wanted = [TopicPartition(name, partition) for partition in ends_of(settings, topics.SCANS_TOPIC)]
        return {each.partition: each.offset for each in reader.committed(wanted, timeout=20) if each.offset >= 0}
    except KafkaException:
        return {}
    finally:
        reader.close()


def assert_exact(report: dict[str, Any], *, broker_crashed: bool = False) -> None:
    """Check that nothing is lost, duplicated or wrong.

    broker_crashed: Kafka itself may have kept a part of a transaction; only milestones that are missing may follow.
    """
    assert report["differences"] == [], report["differences"][:5]
    assert report["milestones"]["duplicated"] == [], report["milestones"]["duplicated"][:5]
    assert report["milestones"]["wrong"] == [], report["milestones"]["wrong"][:5]
    assert report["dead_letters"]["differences"] == [], report["dead_letters"]["differences"][:5]
    assert report["unprocessed"] == {}, report["unprocessed"]
    if broker_crashed:
        print(f"milestones that the broker's own crash took: {len(report['milestones']['missing'])}")
        print(f"cells of the throughput that it changed: {len(report['throughput']['differences'])}")
    else:
        assert report["milestones"]["missing"] == [], report["milestones"]["missing"][:5]
        assert report["throughput"]["differences"] == [], report["throughput"]["differences"][:5]
