"""Both programs of the bench make the same of histories that no simulated day has: late, ahead, voided, twice."""

import shutil
from itertools import count

import pytest

from bench import programs, throughput
from bench.common import Cluster
from streams.domain.promises import Promises, Retirement
from streams.formats import topics
from streams.kafka import topic_admin
from streams.kafka.clients import new_producer
from tests.conftest import unable
from tests.kernel.records import framed
from tests.kernel.test_tick_alerts import days

DAY = 86_400_000
PARTITIONS = topics.DEFAULT_PARTITIONS
# Histories of about five parcels each, one after the other in each partition.
HISTORIES = 60


# The peer retires nothing, so this worker does not either.
KEPT = Promises.default().model_copy(update={"retirement": Retirement(finished=None, unfinished=None)})


def history(seed, partition):
    """The records of one history as (key, value): parcels in `partition`, some days after those of the last one."""
    names, later = {}, seed * 12 * DAY
    for record in days(seed * PARTITIONS + partition, 150):
        moved = {name: record[name] + later for name in ("event_time", "hub_time", "promised_at") if record.get(name)}
        if "parcel_id" in record:
            name = f"{record['parcel_id']}-{seed}"
            moved["parcel_id"] = names.setdefault(name, parcel_in(partition, name))
        yield moved.get("parcel_id", "").encode() or None, framed(record | moved)


def parcel_in(partition, name):
    named = (f"{name}-{number}" for number in count())
    return next(each for each in named if topics.partition_of(each.encode(), PARTITIONS) == partition)


@pytest.mark.faults
def test_both_programs_hold_the_same_states_and_tell_the_same_alerts(broker, settings, tmp_path, monkeypatch):
    if shutil.which("mvn") is None or shutil.which("java") is None:
        unable("the peer is built with Maven")
    programs.KafkaStreams.build()
    topic_admin.apply_topics(settings, topic_admin.plan_topics(settings))
    sender, sent = new_producer(settings), 0
    for seed in range(HISTORIES):
        for partition in range(PARTITIONS):
            for key, value in history(seed, partition):
                sender.produce(settings.prefix + topics.SCANS_TOPIC, value, key, partition=partition)
                sent += 1
        sender.flush()
    monkeypatch.setattr(throughput, "PROGRAMS", (programs.Ours(promises=KEPT), programs.KafkaStreams()))
    result = throughput.measure(Cluster(settings, tmp_path, None), sent, "live", 1)
    assert result["same_outcome"]["parcels"] > 4 * HISTORIES
    assert sum(result["same_outcome"]["alerts"].values()) > HISTORIES
