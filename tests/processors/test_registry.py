"""A processor is added by its registration alone: the registry, its spec and the worker's parts take it as it is."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import get_args

import pytest
from confluent_kafka import TIMESTAMP_CREATE_TIME

from streams.cli.run import run
from streams.domain.promises import Promises
from streams.domain.reject_reasons import RejectReason
from streams.formats.position import PartitionPosition
from streams.formats.record_block import RecordBlock
from streams.kafka.settings import KafkaSettings
from streams.processors import registry
from streams.processors.processor import ProcessorSpec
from streams.processors.registry import processor_names, processor_spec, register_processor
from streams.telemetry.worker_events import PartitionRestored
from streams.worker.partition_task import PartitionTask, ProcessingTotals


@dataclass
class CountOutput:
    processed_count: int
    blocks: list
    rejects: list
    phase_seconds: dict = field(default_factory=dict)

    def committed_event(self, summary):
        return summary


class CountProcessor:
    """Counts records by their value; an empty one cannot be counted."""

    hub_time = None
    has_pending_output = False
    has_due_output = False

    def __init__(self, partition, _):
        self.partition = partition
        self.counts = {}

    def run(self, payloads, *, outputs=True):  # noqa: ARG002 - as the protocol has it
        for value in filter(None, payloads):
            self.counts[value] = self.counts.get(value, 0) + 1
        counted = dict.fromkeys(filter(None, payloads))
        block = RecordBlock.from_records([(value, b"%d" % self.counts[value]) for value in counted])
        rejects = [(index, RejectReason.NO_VALUE) for index, value in enumerate(payloads) if not value]
        return CountOutput(len(payloads), [("count.state", self.partition, block)], rejects)

    def position(self, next_offset):
        return PartitionPosition(next_offset, None)

    def restore(self, records):
        self.counts |= {key: int(value) for key, value in records.items()}

    def finish_restore(self, position):
        pass

    def restored_event(self, records, seconds, offset):
        return PartitionRestored(self.partition, len(self.counts), records, seconds, offset, processor="counts")


def count_processor_spec(_: Promises) -> ProcessorSpec:
    return ProcessorSpec(
        name="counts",
        input_topic="hub.scans",
        state_topic="count.state",
        copartitioned_topics=(),
        repartition_topics=(),
        group_id="parcels.counts",
        transactional_id_prefix="parcels.counts",
        create_processor=CountProcessor,
        max_batch_records=2,
        max_backlog_records=100,
    )


@pytest.fixture
def spec(monkeypatch: pytest.MonkeyPatch) -> Iterator[ProcessorSpec]:
    monkeypatch.setattr(registry, "_FACTORIES", dict(registry._FACTORIES))
    register_processor("counts", count_processor_spec)
    return processor_spec("counts", Promises.default())


class Message:
    def __init__(self, offset, value):
        self._offset, self._value = offset, value

    def offset(self):
        return self._offset

    def key(self):
        return None

    def value(self):
        return self._value

    def headers(self):
        return None

    def timestamp(self):
        return TIMESTAMP_CREATE_TIME, 1_000


@pytest.mark.usefixtures("spec")
def test_it_is_one_of_the_processors():
    assert processor_names() == ("parcels", "containers", "counts")
    assert processor_spec("counts", Promises.default()).group_id == "parcels.counts"


@pytest.mark.usefixtures("spec")
def test_a_name_is_registered_once():
    with pytest.raises(ValueError, match="there is a processor 'counts' already"):
        register_processor("counts", count_processor_spec)


def test_the_command_line_knows_the_processors_by_name():
    assert get_args(get_args(get_args(run.__annotations__["processor"])[0])[0]) == processor_names()


def test_a_partition_task_runs_it(spec: ProcessorSpec, monkeypatch: pytest.MonkeyPatch):
    for module in ("backlog", "partition_task"):
        monkeypatch.setattr(f"streams.worker.{module}.Message", Message)
    events = []
    task = PartitionTask(
        KafkaSettings(),
        spec,
        3,
        4,
        poll_count=lambda: 0,
        listener=events.append,
        totals=ProcessingTotals(),
        no_output=True,
    )
    task.step()
    task.accept([Message(offset, value) for offset, value in enumerate((b"a", b"b", b"a", None, b"a"))])
    deadline = time.monotonic() + 30
    while task.busy and time.monotonic() < deadline:
        task.step()
        time.sleep(0.001)
    assert task.position == 5
    assert task._processor.counts == {b"a": 3, b"b": 1}
    assert [(event.partition, event.records) for event in events] == [(3, 2), (3, 2), (3, 1)]
    assert [event.dead_letters for event in events] == [{}, {"NO_VALUE": 1}, {}]
