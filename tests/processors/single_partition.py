"""One partition of the container processor without a broker, and events for it."""

from streams.formats.topics import CONTAINERS_TOPIC, SCANS_TOPIC
from streams.processors.container_processor import ContainerProcessor
from tests.formats.avro import framed

START = 1_772_355_600_000
DAY = 24 * 3_600_000
BLANK = {"utc_offset_minutes": 0, "record_time": START, "site": "LGG", "station": "X", "lane": None, "reason": None,
         "parcels": [], "containers": [], "parent_id": None, "voids": None, "inferred_from": None, "path": [],
         "device_id": "", "device_seq": 0}  # fmt: skip


def tick(hub_time):
    """The bytes of a tick."""
    return framed("Tick", {"hub_time": hub_time, "producer": "test"})


def event(container, kind, number=0, **fields):
    """The bytes of a container event, `number` seconds after START; the fields may be nonsense."""
    ids = {"event_id": f"{container}/{kind}/{number}", "container_id": container, "kind": kind}
    return framed("ContainerEvent", {**BLANK, **ids, "event_time": START + number * 1_000, **fields})


class SinglePartition:
    """A processor with a single partition, whose inferred container events come back to it."""

    def __init__(self):
        self.processor = ContainerProcessor(0, 1)
        self.scans, self.reasons, self.double_containments = [], [], []
        # Key -> value of container.state, empty for a tombstone.
        self.state_records = {}
        self.largest, self.transactions = 0, 0

    def run(self, values):
        waiting = list(values)
        while waiting or self.processor.has_pending_output:
            output = self.processor.run(waiting[:512])
            self.transactions += 1
            self.reasons += [reason for _, reason in output.rejects]
            self.double_containments += output.double_containments
            del waiting[: output.processed_count]
            self.largest = max(self.largest, sum(len(block) for *_, block in output.blocks))
            for topic, _, block in output.blocks:
                if topic == CONTAINERS_TOPIC:
                    waiting += [value for _, value in block]
                elif topic == SCANS_TOPIC:
                    self.scans += [(key.decode(), value) for key, value in block]
                else:
                    self.state_records.update(block)
        return self

    def restarted(self):
        """Another one, restored from the state records; what this one reported before is not repeated."""
        restarted = SinglePartition()
        restarted.state_records = dict(self.state_records)
        restarted.processor.restore({key: value or None for key, value in self.state_records.items()})
        restarted.processor.finish_restore(self.processor.position(0))
        return restarted
