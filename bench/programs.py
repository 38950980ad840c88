"""The programs that are measured, and how to start each of them."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from bench.common import REPOSITORY, Cluster, UnsupportedError, Watched, console, start
from streams.domain.promises import Promises
from streams.errors import Misconfigured

# live: states, milestones and the alerts of the promises are written, exactly once. live_plain: the same without
# promises. replay: the log is folded and the promises are watched, nothing is written.
Mode = Literal["live", "live_plain", "replay"]
PEERS = REPOSITORY / "bench" / "peers"
THREADS = 2
COMMIT_MILLIS = 100
# The parallel collector took a tenth fewer CPU seconds than G1, in both of two pairs of runs on two busy cores.
_JVM = ["-Xms3g", "-Xmx3g", "-XX:+UseParallelGC"]
_IDLE_SECONDS = 5


class Program(Protocol):
    """A program that folds hub.scans."""

    @property
    def key(self) -> str:
        """Its name in results."""
        ...

    @property
    def title(self) -> str:
        """Its name in sentences."""
        ...

    def start(self, cluster: Cluster, folder: Path, mode: Mode, records: int | None) -> Watched:
        """Start it on `cluster`; it ends by itself after `records` records, and runs until SIGTERM when None."""
        ...


@dataclass(frozen=True)
class Ours:
    """The worker of this project."""

    key: str = "ours"
    title: str = "parcel-streams"
    # Promises other than the shipped ones.
    promises: Promises | None = None

    def start(self, cluster: Cluster, folder: Path, mode: Mode, records: int | None) -> Watched:
        """See Program. It ends when no record arrived for 5 s; its report leaves these seconds out."""
        settings = cluster.settings
        command = [sys.executable, "-m", "streams.cli", "run"]
        command += ["--bootstrap", settings.bootstrap, "--prefix", settings.prefix, "--json"]
        if records is not None:
            command += ["--until-idle", str(_IDLE_SECONDS)]
        if mode == "replay":
            command += ["--no-output"]
        promises = Promises.empty() if mode == "live_plain" else self.promises
        if promises is not None:
            folder.mkdir(parents=True, exist_ok=True)
            # JSON is YAML.
            file = folder / "promises.yaml"
            file.write_text(promises.model_dump_json())
            command += ["--promises", str(file)]
        return start(self.title, command, folder)


@dataclass(frozen=True)
class KafkaStreams:
    """The same work in Kafka Streams, without anomalies, retirement, hub.throughput and dead letters."""

    key: str = "kafka_streams"
    title: str = "Kafka Streams"

    def start(self, cluster: Cluster, folder: Path, mode: Mode, records: int | None) -> Watched:
        """See Program."""
        settings = cluster.settings
        target = PEERS / "target"
        command = ["java", *_JVM, "-cp", f"{target / 'classes'}:{target / 'lib'}/*", "parcels.peer.Main"]
        command += ["--bootstrap", settings.bootstrap, "--prefix", settings.prefix]
        # A new application id for each run, so that no group offsets are found.
        command += ["--application", folder.name, "--state-dir", str(folder / "store")]
        command += ["--threads", str(THREADS), "--commit-ms", str(COMMIT_MILLIS), "--records", str(records or 0)]
        if mode == "replay":
            command += ["--no-output"]
        if mode != "live_plain":
            command += ["--promises"]
        return start(self.title, command, folder)

    @staticmethod
    def settings() -> dict[str, Any]:
        """Its settings, for the results. Call it after `build`."""
        jar = next((PEERS / "target" / "lib").glob("kafka-streams-*.jar"))
        return {
            "version": jar.stem.removeprefix("kafka-streams-"),
            "threads": THREADS,
            "commit_interval_ms": COMMIT_MILLIS,
            "processing_guarantee": "exactly_once_v2",
            "store": "RocksDB",
            "promises": "timers in a RocksDB store, read at every Tick",
            "left_out": ["anomalies", "retirement", "hub.throughput", "hub.dlq"],
            "java_options": _JVM,
        }

    @staticmethod
    def build() -> None:
        """Build it with Maven if its sources changed since the last build.

        Raises:
            Misconfigured: there is no Maven, or the build failed.
        """
        sources = [PEERS / "pom.xml", *(PEERS / "src").rglob("*.*"), *(REPOSITORY / "schemas").glob("*.avsc")]
        built = PEERS / "target" / "built"
        if built.exists() and built.stat().st_mtime > max(source.stat().st_mtime for source in sources):
            return
        with console.status("building the Kafka Streams program with Maven"):
            try:
                subprocess.run(["mvn", "-q", "-B", "clean", "package"], cwd=PEERS, check=True)
            except FileNotFoundError as error:
                raise Misconfigured("no mvn on the PATH: the Kafka Streams program is built with Maven") from error
            except subprocess.CalledProcessError as error:
                raise Misconfigured(f"Maven could not build {PEERS}; its reasons are above") from error
        built.touch()


PROGRAMS: tuple[Program, ...] = (Ours(), KafkaStreams())


def require_supported(watched: Watched, mode: Mode) -> None:
    """Distinguish a program that lacks an option from one that failed.

    Raises:
        UnsupportedError: it does not know the mode.
    """
    if watched.process.returncode == 2 and "no such option" in watched.last_words().lower():
        raise UnsupportedError(f"{watched.title} has no {mode} mode")
