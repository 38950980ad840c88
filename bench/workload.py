"""The scans that all programs fold: a simulated day of the hub."""

import subprocess
import sys

from bench.common import REPOSITORY, Cluster, console, start
from streams.errors import StreamsError
from streams.formats import topics
from streams.kafka import topic_admin

# A simulated parcel has about this many records, duplicates included.
RECORDS_PER_PARCEL = 11.92
SEED = 7
_SECONDS = 300


def produce(cluster: Cluster, records: int) -> int:
    """Fill hub.scans with about `records` records; returns how many there are.

    Raises:
        StreamsError: the simulator failed.
    """
    topic_admin.apply_topics(cluster.settings, topic_admin.plan_topics(cluster.settings))
    command = [sys.executable, "-m", "streams.cli", "simulate", "--scans-only", "--seed", str(SEED)]
    command += ["--parcels", str(round(records / RECORDS_PER_PARCEL))]
    command += ["--bootstrap", cluster.settings.bootstrap, "--prefix", cluster.settings.prefix]
    simulator = start("parcels simulate", command, cluster.scratch / "simulate")
    simulator.wait(_SECONDS, f"simulating a day of about {records:,} scans")
    if simulator.process.returncode != 0:
        raise StreamsError(f"parcels simulate failed: {simulator.last_words()}")
    found = cluster.count(topics.SCANS_TOPIC)
    console.print(f"hub.scans holds {found:,} records")
    return found


def commit() -> str | None:
    """The commit of this tree that is measured; None outside a checkout."""
    asked = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    return asked.stdout.strip() or None
