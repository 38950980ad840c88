"""A single Kafka node on this machine, from Maven jars and Java: for development, tests and the demo.

One folder holds all of its files: log segments, configuration, logs, and `broker.lock`, which names its process. The
broker inherits that file locked, so the lock is held exactly as long as the process lives. A process id that the system
has given to another program since then is never taken for the broker's, and never killed.
"""

import base64
import contextlib
import fcntl
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from streams.errors import Misconfigured, StreamsError

KAFKA_VERSION = "4.3.1"
MIN_JAVA_VERSION = 17
HOST = "127.0.0.1"
# Starting takes 3 to 5 s on two idle cores, and five times that on a busy machine.
START_TIMEOUT_SECONDS = 90.0
# Closing flushes and takes about 1 s; Kafka gives the controller 30 s to answer.
STOP_TIMEOUT_SECONDS = 45.0

_PROPERTIES = {
    "process.roles": "broker,controller",
    "node.id": 1,
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    # A misspelt topic must be an error, not a new topic with a wrong partition count.
    "auto.create.topics.enable": "false",
    # One node keeps one copy of everything.
    "default.replication.factor": 1,
    "offsets.topic.replication.factor": 1,
    "transaction.state.log.replication.factor": 1,
    "transaction.state.log.min.isr": 1,
    "share.coordinator.state.topic.replication.factor": 1,
    "share.coordinator.state.topic.min.isr": 1,
    # Kafka's default is 50. They are created at first use, which takes a laptop seconds.
    "offsets.topic.num.partitions": 8,
    "transaction.state.log.num.partitions": 8,
    "share.coordinator.state.topic.num.partitions": 8,
    "num.partitions": 4,
    "message.max.bytes": 16 << 20,
    "replica.fetch.max.bytes": 16 << 20,
    "log.cleaner.enable": "true",
    # After a crash the node's own controller admits it again when its last session has ended: 9 s by default.
    "broker.session.timeout.ms": 3_000,
    "broker.heartbeat.interval.ms": 500,
    "group.initial.rebalance.delay.ms": 0,
    # The group notices within seconds that a worker was killed, with either group protocol.
    "group.min.session.timeout.ms": 1_000,
    "group.max.session.timeout.ms": 300_000,
    "group.consumer.min.session.timeout.ms": 1_000,
    "group.consumer.session.timeout.ms": 6_000,
    "group.consumer.min.heartbeat.interval.ms": 500,
    "group.consumer.heartbeat.interval.ms": 1_000,
}

_LOG4J = """\
status = warn
appender.file.type = RollingFile
appender.file.name = file
appender.file.fileName = {folder}/broker.log
appender.file.filePattern = {folder}/broker.log.%i
appender.file.layout.type = PatternLayout
appender.file.layout.pattern = %d %p %c: %m%n
appender.file.policies.type = Policies
appender.file.policies.size.type = SizeBasedTriggeringPolicy
appender.file.policies.size.size = 10MB
appender.file.strategy.type = DefaultRolloverStrategy
appender.file.strategy.max = 2
# Hundreds of lines of settings at every start; server.properties has them as well.
logger.settings.name = org.apache.kafka.common.config.AbstractConfig
logger.settings.level = warn
logger.served.name = kafka.server.KafkaConfig
logger.served.level = warn
rootLogger.level = info
rootLogger.appenderRef.file.ref = file
"""


def free_port() -> int:
    """A TCP port of this machine on which no program listens.

    It is below the range from which the system takes the ports of outgoing connections. A client that retries a stopped
    broker on a port of that range can end up connected to itself, and then the port stays taken.
    """
    for port in random.SystemRandom().sample(range(20_000, 32_000), 100):
        if is_port_free(port):
            return port
    raise StreamsError("no free TCP port between 20000 and 32000")


def wait_until_reachable(bootstrap: str, seconds: float, is_alive: Callable[[], bool] = lambda: True) -> None:
    """Return once a Kafka broker at `bootstrap` answers a client's question; a port that accepts is not enough.

    Raises:
        StreamsError: none does within `seconds`, or `is_alive` says that the broker's process has ended.
    """
    client = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0, "reconnect.backoff.max.ms": 250})
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not is_alive():
            raise StreamsError("the broker's process ended")
        with contextlib.suppress(KafkaException):
            if client.list_topics(timeout=1.0).brokers:
                return
    raise StreamsError(f"no Kafka broker answered at {bootstrap} within {seconds:g} s")


@dataclass(frozen=True, slots=True)
class BrokerProcess:
    """The process of a local broker."""

    pid: int
    port: int

    @property
    def bootstrap(self) -> str:
        """Its address."""
        return f"{HOST}:{self.port}"


class LocalBroker:
    """A broker with its log in `folder` that answers on `port` of the loopback interface."""

    def __init__(self, folder: Path, port: int = 9092) -> None:
        self.folder = folder.absolute()
        self.port = port
        self._child: subprocess.Popen[bytes] | None = None

    def start(self) -> str:
        """Start it unless it runs already, wait until it answers a client, and return its address.

        Raises:
            Misconfigured: no Java or too old a one, no jars, the port is taken, the folder cannot be written, or this
                broker already runs on another port.
            StreamsError: it ended while starting, or never answered; the message has the end of its log.
        """
        with self._lock() as lock:
            if lock is not None:
                java, jars = _java(), _jars()
                if not is_port_free(self.port):
                    raise Misconfigured(
                        f"port {self.port} is taken by another program: stop it, or choose another port with --port"
                    )
                self._launch(java, jars, lock)
        process = self.find_process()
        if process is not None and process.port != self.port:
            raise Misconfigured(
                f"the broker of {self.folder} already runs on port {process.port}: use that port, "
                f'or stop it first with "parcels broker down --data {self.folder}"'
            )
        try:
            wait_until_reachable(f"{HOST}:{self.port}", START_TIMEOUT_SECONDS, lambda: self.find_process() is not None)
        except StreamsError as error:
            if self._child is not None:
                self.stop()
            raise StreamsError(f"{error}. The end of its log:\n{self._end_of_log()}") from error
        return f"{HOST}:{self.port}"

    def stop(self) -> bool:
        """Stop its process, no other, and wait until it has ended. Returns whether it ran."""
        process = self.find_process()
        if process is None:
            return False
        os.kill(process.pid, signal.SIGTERM)
        deadline = time.monotonic() + STOP_TIMEOUT_SECONDS
        while self.find_process() == process:
            if time.monotonic() > deadline:
                os.kill(process.pid, signal.SIGKILL)
                deadline = float("inf")
            time.sleep(0.05)
        if self._child is not None:
            self._child.wait()
        return True

    def find_process(self) -> BrokerProcess | None:
        """Its process; None when there is none."""
        if not (self.folder / "broker.lock").is_file():
            return None
        if self._child is not None:
            self._child.poll()
        with self._lock() as lock:
            if lock is not None:
                return None
            try:
                return BrokerProcess(**json.loads((self.folder / "broker.lock").read_text()))
            except ValueError:
                # Another program is starting it at this moment, and holds the lock until it has written the process id.
                return None

    @contextlib.contextmanager
    def _lock(self) -> Iterator[int | None]:
        """The locked file; None while the broker, or a program that starts it, holds the lock."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            file = os.open(self.folder / "broker.lock", os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise Misconfigured(f"the folder {self.folder} cannot be written: {error.strerror}") from error
        try:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield None
            else:
                yield file
        finally:
            os.close(file)

    def _launch(self, java: str, jars: Path, lock: int) -> None:
        os.truncate(lock, 0)
        properties = self.folder / "server.properties"
        controller = free_port()
        properties.write_text(
            "".join(
                f"{name}={value}\n"
                for name, value in (
                    _PROPERTIES
                    | {
                        "controller.quorum.voters": f"1@{HOST}:{controller}",
                        "listeners": f"PLAINTEXT://{HOST}:{self.port},CONTROLLER://{HOST}:{controller}",
                        "advertised.listeners": f"PLAINTEXT://{HOST}:{self.port}",
                        "log.dirs": self.folder / "log",
                    }
                ).items()
            )
        )
        logging = self.folder / "log4j2.properties"
        logging.write_text(_LOG4J.format(folder=self.folder))
        command = [java, "-cp", f"{jars}/*", f"-Dlog4j2.configurationFile={logging}", "-Dlog4j2.disableJmx=true"]
        if not (self.folder / "log" / "meta.properties").is_file():
            tool = [*command, "kafka.tools.StorageTool", "format", "-t", new_cluster_id(), "-c", str(properties)]
            formatted = subprocess.run(tool, capture_output=True, text=True, check=False)
            if formatted.returncode != 0:
                raise StreamsError(f"{self.folder} could not be formatted: {formatted.stdout}{formatted.stderr}")
        heap = ["-Xms256m", "-Xmx1g", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20", "-XX:+ExitOnOutOfMemoryError"]
        with (self.folder / "broker.out").open("wb") as output:
            self._child = subprocess.Popen(
                [*command[:1], *heap, *command[1:], "kafka.Kafka", str(properties)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                # A process group of its own, so that Ctrl-C at the terminal does not reach it.
                start_new_session=True,
                pass_fds=(lock,),
            )
        os.pwrite(lock, json.dumps({"pid": self._child.pid, "port": self.port}).encode(), 0)

    def _end_of_log(self, lines: int = 20) -> str:
        last_lines: list[str] = []
        for name in ("broker.log", "broker.out"):
            with contextlib.suppress(FileNotFoundError):
                last_lines += (self.folder / name).read_text(errors="replace").splitlines()[-lines:]
        return "\n".join(last_lines)


def new_cluster_id() -> str:
    """A random id in Kafka's format; without a dash at its beginning, which Kafka's tools would take for an option."""
    while True:
        cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        if not cluster_id.startswith("-"):
            return cluster_id


def is_port_free(port: int) -> bool:
    """Can a server of this machine listen on this port of the loopback interface?"""
    with socket.socket() as probe:
        # Connections that were closed a moment ago do not hold the port for a server.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def _java() -> str:
    home = os.environ.get("JAVA_HOME")
    java = shutil.which("java", path=f"{home}/bin" if home else None)
    if java is None:
        searched = f"in JAVA_HOME ({home}/bin)" if home else "on the PATH"
        raise Misconfigured(f"there is no java {searched}: install Java {MIN_JAVA_VERSION} or later, or set JAVA_HOME")
    output = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
    version = re.search(r'version "(?:1\.)?(\d+)', output)
    if version is None:
        raise Misconfigured(f"{java} -version did not say which Java it is: {output.strip()!r}")
    if int(version[1]) < MIN_JAVA_VERSION:
        raise Misconfigured(
            f"{java} is Java {version[1]}, but Kafka {KAFKA_VERSION} needs {MIN_JAVA_VERSION} or later: install it, "
            "or set JAVA_HOME"
        )
    return java


def jars_folder() -> Path:
    """The folder of Kafka's jars: PARCELS_KAFKA_LIBS, or a folder of the user's cache that `make setup` fills."""
    configured = os.environ.get("PARCELS_KAFKA_LIBS")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(configured) if configured else cache / "parcel-streams" / f"kafka-{KAFKA_VERSION}"


def _jars() -> Path:
    folder = jars_folder()
    if not (folder / f"kafka_2.13-{KAFKA_VERSION}.jar").is_file():
        raise Misconfigured(
            f'the jars of Kafka {KAFKA_VERSION} are not in {folder}: run "make setup", which fetches them with Maven '
            "(mvn must be installed), or set PARCELS_KAFKA_LIBS to a folder that has them"
        )
    return folder
