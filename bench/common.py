"""Shared by all measurements: a cluster with scans, supervised programs, a description of the machine."""

import contextlib
import json
import os
import platform
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, KafkaException, TopicPartition
from rich.console import Console

from streams.errors import Misconfigured, StreamsError
from streams.formats import topics
from streams.kafka import topic_admin
from streams.kafka.clients import new_admin_client, new_consumer
from streams.kafka.local_broker import LocalBroker, free_port, wait_until_reachable
from streams.kafka.settings import KafkaSettings

REPOSITORY = Path(__file__).parent.parent
RESULTS = REPOSITORY / "bench" / "results"
# Files of a run while it lasts: broker logs, stores of the peer, output of programs.
_SCRATCH = REPOSITORY / ".cache" / "bench"

console = Console()


class UnsupportedError(StreamsError):
    """The program does not support this measurement; the measurement is left out."""


@dataclass(frozen=True)
class Cluster:
    """A broker, and the topics of one benchmark on it."""

    settings: KafkaSettings
    scratch: Path
    # Process id of the broker that this benchmark started, to count its CPU seconds; None for an external cluster.
    broker_pid: int | None

    def with_prefix(self, suffix: str) -> "Cluster":
        """The same broker with another topic prefix."""
        settings = self.settings.model_copy(update={"prefix": f"{self.settings.prefix}{suffix}."})
        return Cluster(settings, self.scratch, self.broker_pid)

    def fresh_outputs(self) -> None:
        """Delete all topics but hub.scans, so that the next program starts at the beginning of the log.

        This worker keeps its position in parcel.state, and the peer keeps its own in a changelog and a consumer group.
        A program that finds neither reads all of hub.scans.
        """
        scans = self.settings.prefix + topics.SCANS_TOPIC
        self._delete(lambda name: name != scans)
        topic_admin.apply_topics(self.settings, topic_admin.plan_topics(self.settings))

    def remove(self) -> None:
        """Delete every topic of this benchmark."""
        self._delete(lambda _: True)

    def count(self, topic: str) -> int:
        """Number of records that `topic` holds."""
        reader = new_consumer(self.settings, "bench-count")
        name = self.settings.prefix + topic
        try:
            return sum(
                reader.get_watermark_offsets(TopicPartition(name, partition), timeout=10)[1]
                for partition in range(len(reader.list_topics(name, timeout=10).topics[name].partitions))
            )
        finally:
            reader.close()

    def _delete(self, chosen: Callable[[str], bool]) -> None:
        client = new_admin_client(self.settings)
        mine = self._mine()
        gone = {name for name in mine if chosen(name)}
        if not gone:
            return
        for future in client.delete_topics(sorted(gone), operation_timeout=30).values():
            future.result()
        wait_until(lambda: not gone & self._mine(), 30, "the topics of the last run are still there")

    def _mine(self) -> set[str]:
        return {
            name
            for name in new_admin_client(self.settings).list_topics(timeout=10).topics
            if name.startswith(self.settings.prefix)
        }


@contextlib.contextmanager
def cluster() -> Iterator[Cluster]:
    """The cluster of KAFKA_BOOTSTRAP_SERVERS, else a local broker. Topics and files are deleted afterwards."""
    _SCRATCH.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=_SCRATCH))
    prefix = f"bench-{time.strftime('%H%M%S')}-{os.getpid()}."
    bootstrap = os.environ.get("KAFKA_BOOTSTRAP_SERVERS")
    try:
        if bootstrap:
            wait_until_reachable(bootstrap, seconds=10)
            given = Cluster(KafkaSettings(bootstrap=bootstrap, prefix=prefix), scratch, None)
            try:
                yield given
            finally:
                given.remove()
            return
        node = LocalBroker(scratch / "broker", free_port())
        with console.status("starting a broker"):
            bootstrap = node.start()
        running = node.find_process()
        try:
            yield Cluster(KafkaSettings(bootstrap=bootstrap, prefix=prefix), scratch, running.pid if running else None)
        finally:
            node.stop()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@dataclass
class Watched:
    """A supervised program, running or ended."""

    title: str
    process: subprocess.Popen[bytes]
    output: Path
    errors: Path
    # CPU seconds of the program and its children, start-up included; peak resident memory.
    cpu_seconds: float = field(default=0.0)
    peak_megabytes: float = field(default=0.0)

    def ended(self) -> bool:
        """Whether it has ended; reads its CPU time and peak memory when it has."""
        if self.process.returncode is not None:
            return True
        pid, status, usage = os.wait4(self.process.pid, os.WNOHANG)
        if pid == 0:
            return False
        self.process.returncode = os.waitstatus_to_exitcode(status)
        self.cpu_seconds = usage.ru_utime + usage.ru_stime
        self.peak_megabytes = usage.ru_maxrss / 1024
        return True

    def wait(self, seconds: float, doing: str) -> None:
        """Wait for its end and show the time that has passed.

        Raises:
            StreamsError: it did not end within `seconds` and was killed.
        """
        started = time.monotonic()
        with console.status("") as status:
            while not self.ended():
                passed = time.monotonic() - started
                if passed > seconds:
                    self.stop()
                    raise StreamsError(f"{self.title} did not end within {seconds:.0f} s: {self.last_words()}")
                status.update(f"{doing}: {passed:.0f} s")
                time.sleep(0.1)

    def stop(self) -> None:
        """End it with SIGTERM, and with SIGKILL after 30 s."""
        for asked in (signal.SIGTERM, signal.SIGKILL):
            if self.ended():
                return
            self.process.send_signal(asked)
            deadline = time.monotonic() + 30
            while not self.ended() and time.monotonic() < deadline:
                time.sleep(0.05)

    def report(self) -> dict[str, Any]:
        """The JSON object on the last line of its output.

        Raises:
            StreamsError: it failed, or printed none.
        """
        if self.process.returncode != 0:
            raise StreamsError(f"{self.title} ended with exit code {self.process.returncode}: {self.last_words()}")
        for line in reversed(self.output.read_text().splitlines()):
            with contextlib.suppress(ValueError):
                found = json.loads(line)
                if isinstance(found, dict):
                    return found
        raise StreamsError(f"{self.title} printed no JSON: {self.last_words()}")

    def last_words(self) -> str:
        """The last lines of its standard error."""
        return "\n".join(self.errors.read_text(errors="replace").splitlines()[-12:])


def start(title: str, command: list[str], folder: Path) -> Watched:
    """Start a program with its output in files of `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    output, errors = folder / "stdout", folder / "stderr"
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    with output.open("wb") as out, errors.open("wb") as err:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=environment, cwd=folder
        )
    return Watched(title, process, output, errors)


def cpu_seconds_of(pid: int | None) -> float | None:
    """CPU seconds that a process has used so far; None without a process id."""
    if pid is None:
        return None
    # The command in brackets may hold spaces; utime and stime are the 12th and 13th words behind it.
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def wait_until(happened: Callable[[], bool], seconds: float, otherwise: str) -> None:
    """Wait until `happened` returns true.

    Raises:
        StreamsError: it did not within `seconds`; the message begins with `otherwise`.
    """
    deadline = time.monotonic() + seconds
    while not happened():
        if time.monotonic() > deadline:
            raise StreamsError(f"{otherwise} after {seconds:.0f} s")
        time.sleep(0.05)


def machine() -> dict[str, Any]:
    """The machine and the versions of a measurement."""
    cpu = re_first(Path("/proc/cpuinfo").read_text(), "model name")
    memory = re_first(Path("/proc/meminfo").read_text(), "MemTotal")
    return {
        "cpu": cpu or platform.machine(),
        "cores": os.cpu_count(),
        "memory_gib": round(int(memory.split()[0]) / 2**20) if memory else None,
        "kernel": platform.release(),
        "load_at_start": os.getloadavg()[0],
        "python": platform.python_version(),
        "java": _java_version(),
        **{name: version(name) for name in ("confluent-kafka", "numba", "numpy")},
    }


def re_first(text: str, key: str) -> str | None:
    """The value of the first `key: value` line."""
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return None


def _java_version() -> str:
    try:
        said = subprocess.run(["java", "-version"], capture_output=True, text=True, check=True).stderr
    except (OSError, subprocess.CalledProcessError) as error:
        raise Misconfigured("no java on the PATH: Kafka Streams needs Java 17 or newer") from error
    return said.partition('"')[2].partition('"')[0]


def group_is_stable(settings: KafkaSettings) -> bool:
    """Whether the consumer groups of this prefix have assigned all partitions to their members."""
    client = new_admin_client(settings)
    try:
        groups = [
            group.group_id
            for group in client.list_consumer_groups(request_timeout=10).result().valid
            if group.group_id.startswith(settings.prefix)
        ]
        if not groups:
            return False
        described = [future.result() for future in client.describe_consumer_groups(groups).values()]
    except KafkaException:
        return False
    return all(
        sum(len(member.assignment.topic_partitions) for member in group.members) >= topics.DEFAULT_PARTITIONS
        for group in described
    )


def reader_of(settings: KafkaSettings, topic: str, **options: Any) -> Consumer:
    """A consumer of all partitions of `topic`, from their beginnings."""
    reader = new_consumer(settings, "bench-reader", **options)
    name = settings.prefix + topic
    count = len(reader.list_topics(name, timeout=10).topics[name].partitions)
    reader.assign([TopicPartition(name, partition, 0) for partition in range(count)])
    return reader
