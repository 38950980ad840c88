"""Every record that the bulk producer sent is in the log once, in the partition of its key and in order."""

import json
import os
from collections import Counter

import numpy as np
import pytest

from streams.errors import Misconfigured, StreamsError
from streams.formats.topics import CONTAINERS_TOPIC, SCANS_TOPIC, partition_of
from streams.kafka import topic_admin
from streams.kafka.bulk_producer import BulkProducer, ProducerBatch, RecordColumnsEncoder
from streams.kafka.reader import read_to_end
from streams.kafka.settings import KafkaSettings
from streams.simulate.day import Scenario, Simulation


@pytest.fixture
def log(settings):
    topic_admin.apply_topics(settings, topic_admin.plan_topics(settings, 3))
    return lambda topic=SCANS_TOPIC: list(read_to_end(settings, settings.prefix + topic))


def numbered(count: int, everywhere=(), containers=()) -> ProducerBatch:
    keys = [None if n in everywhere else b"P%d" % (n % 7) for n in range(count)]
    return ProducerBatch(keys, [b"%d" % n for n in range(count)], everywhere, containers)


class TestTheProducer:
    def test_puts_a_simulated_hub_into_the_log_as_it_is(self, settings, log):
        encoder, sent = RecordColumnsEncoder(), []
        with BulkProducer(settings) as producer:
            for columns in Simulation(Scenario(300, seed=9)).batches():
                encoded = encoder.encode(columns)
                producer.send(encoded)
                ticks = set(encoded.broadcast_indexes)
                for n, pair in enumerate(zip(encoded.keys, encoded.values, strict=True)):
                    sent += [pair] * (6 if n in ticks else 1)
        found = [*log(), *log(CONTAINERS_TOPIC)]
        assert Counter((message.key(), message.value()) for message in found) == Counter(sent)
        assert producer.records_sent == len(found)
        for message in found:
            assert message.key() is None or message.partition() == partition_of(message.key(), 3)

    def test_puts_containers_and_ticks_into_their_own_log(self, settings, log):
        with BulkProducer(settings) as producer:
            producer.send(numbered(100, everywhere=[0, 50], containers=[7, 8, 60, 99]))
        found = Counter(int(message.value()) for message in log(CONTAINERS_TOPIC))
        assert found == {0: 3, 50: 3, 7: 1, 8: 1, 60: 1, 99: 1}
        assert Counter(int(message.value()) for message in log()) == {
            0: 3,
            50: 3,
            **{n: 1 for n in range(100) if n not in found},
        }

    def test_keeps_the_order_within_a_partition_and_sends_ticks_to_each(self, settings, log):
        with BulkProducer(settings) as producer:
            producer.send(numbered(1_000, everywhere=[0, 500, 999]))
        by_partition = {n: [] for n in range(3)}
        for message in log():
            by_partition[message.partition()].append(int(message.value()))
        for values in by_partition.values():
            assert values == sorted(values)
            assert {0, 500, 999} <= set(values)

    def test_keeps_to_its_rate(self, settings, log):
        with BulkProducer(settings, rate=2_000) as producer:
            producer.send(numbered(1_000))
            producer.send(numbered(1_000))
            seconds = producer.elapsed_seconds
        assert seconds >= 0.95
        assert len(log()) == 2_000

    def test_sends_each_record_when_it_is_due(self, settings, log):
        with BulkProducer(settings) as producer:
            producer.send(numbered(10), np.full(10, 0.3))
            assert producer.elapsed_seconds >= 0.3
        assert len(log()) == 10

    @pytest.mark.usefixtures("log")
    def test_says_when_a_record_did_not_arrive(self, settings):
        def send_what_is_too_large():
            with BulkProducer(settings) as producer:
                producer.send(ProducerBatch([b"P1"], [os.urandom(17 << 20)]))

        with pytest.raises(StreamsError, match=r"1 records did not arrive in .*hub\.scans"):
            send_what_is_too_large()

    def test_refuses_to_start_without_the_topic(self, settings):
        with pytest.raises(Misconfigured, match="parcels topics apply"), BulkProducer(settings):
            pass


def test_an_unreachable_broker_is_an_error(tmp_path):
    with (
        pytest.raises(StreamsError, match="no answer from Kafka"),
        BulkProducer(KafkaSettings(bootstrap="127.0.0.1:9")),
    ):
        pass


class TestTheCommands:
    def test_simulate_then_load_gives_the_same_log_and_truth(self, parcels, tmp_path, log):
        options = ("simulate", "--parcels", "200", "--seed", "7", "--json")
        direct = json.loads(parcels(*options, "--truth", str(tmp_path / "a.json"), check=True).stdout)
        whole = Counter((message.key(), message.value()) for message in log())
        ticks = len(log(CONTAINERS_TOPIC))
        out = tmp_path / "log.ndjson"
        parcels(*options, "--truth", str(tmp_path / "b.json"), "--out", str(out), check=True)
        loaded = json.loads(parcels("load", str(out), "--json", check=True).stdout)
        assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
        assert direct["sent"] == whole.total() + ticks
        assert loaded["files"][0]["rejected_lines"] == 0
        assert Counter((message.key(), message.value()) for message in log()) == whole + whole

    def test_load_keeps_bad_lines_and_exits_with_1(self, parcels, tmp_path, log):
        tick = '{"type": "tick", "hub_time": "2026-03-01T04:00:00Z"}\n'
        path = tmp_path / "in.ndjson"
        path.write_text(tick + "nonsense\n" + tick)
        ended = parcels("load", str(path))
        assert ended.returncode == 1
        assert f"{path}:2: this is not JSON" in ended.stderr
        assert (tmp_path / "in.ndjson.rejected").read_text() == "nonsense\n"
        assert len(log()) == 6

    def test_load_reads_stdin(self, parcels, tmp_path, log):
        ended = parcels("load", "-", "--reject-file", str(tmp_path / "bad"), input='{"type": "tick", "hub_time": 0}\n')
        assert ended.returncode == 0, ended.stderr
        assert len(log()) == 3

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("load", "nowhere.ndjson"), "nowhere.ndjson cannot be read"),
            (("simulate", "--rate", "1", "--speed", "1"), "cannot be combined"),
            (("simulate", "--fault", "mud=1"), "there are duplicates"),
            (("simulate", "--fault", "late=much"), "write a number"),
            (("simulate", "--start", "soon"), "--start 'soon' is not a time"),
            (("simulate", "--hub", "nowhere.yaml"), "cannot be read"),
            (("simulate", "--truth", "nowhere/truth.json"), "cannot be written"),
        ],
    )
    def test_wrong_use_is_refused_with_one_message(self, parcels, arguments, message):
        ended = parcels(*arguments)
        assert ended.returncode == 2
        assert message in ended.stderr
        assert ended.stderr.count("\n") == 1
