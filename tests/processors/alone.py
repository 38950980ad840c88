"""One partition of the container stage without a broker, and events to give it."""

from streams.formats.topics import CONTAINERS_TOPIC, SCANS_TOPIC
from streams.processors.container_processor import ContainerProcessor
from tests.formats.avro import framed

START = 1_772_355_600_000
DAY = 24 * 3_600_000
BLANK = {"utc_offset_minutes": 0, "record_time": START, "site": "LGG", "station": "X", "lane": None, "reason": None,
         "parcels": [], "containers": [], "parent_id": None, "voids": None, "inferred_from": None, "path": [],
         "device_id": "", "device_seq": 0}  # fmt: skip


def tick(hub_time):
    """Its bytes."""
    return framed("Tick", {"hub_time": hub_time, "producer": "test"})


def event(container, kind, number=0, **more):
    """Its bytes, whatever nonsense it says."""
    said = {"event_id": f"{container}/{kind}/{number}", "container_id": container, "kind": kind}
    return framed("ContainerEvent", {**BLANK, **said, "event_time": START + number * 1_000, **more})


class Alone:
    """One partition, whose inferred container events come back to it."""

    def __init__(self):
        self.stage = ContainerProcessor(0, 1)
        self.scans, self.refused, self.kept, self.in_two, self.largest, self.turns = [], [], {}, [], 0, 0

    def run(self, values):
        waiting = list(values)
        while waiting or self.stage.pending:
            made = self.stage.run(waiting[:512])
            self.turns += 1
            self.refused += [each for _, each in made.refused]
            self.in_two += made.figures.in_two
            del waiting[: made.taken]
            self.largest = max(self.largest, sum(len(block) for *_, block in made.blocks))
            for topic, _, block in made.blocks:
                if topic == CONTAINERS_TOPIC:
                    waiting += [value for _, value in block]
                elif topic == SCANS_TOPIC:
                    self.scans += [(key.decode(), value) for key, value in block]
                else:
                    self.kept.update(block)
        return self

    def restarted(self):
        """The same, restored from what is kept; what it found before is forgotten."""
        again = Alone()
        again.kept = dict(self.kept)
        again.stage.restore({key: value or None for key, value in self.kept.items()})
        again.stage.restored(self.stage.position(0))
        return again
