"""Random histories of parcels and containers, three levels deep, and both processors in memory to process them."""

import random
from collections import defaultdict

from streams.domain.container_events import PROPAGATED_KINDS
from streams.domain.reference.containment import ChildScan, derive_containment
from streams.formats.position import PartitionPosition
from streams.formats.record_decoder import RecordDecoder
from streams.formats.record_parser import RecordParser
from streams.formats.topics import CONTAINER_STATE_TOPIC, CONTAINERS_TOPIC, SCANS_TOPIC, partition_of
from streams.processors.container_processor import ContainerProcessor
from streams.processors.parcel_processor import ParcelProcessor
from streams.processors.rate_limiter import RateLimiter

START = 1_772_355_600_000
_ONES = [f"P{n}" for n in range(5)]
# S1 is a parcel and a container of other parcels.
PARCELS = [*_ONES, "S1"]
# Container -> what may be put into it.
CHILDREN = {"B1": _ONES, "B2": _ONES, "S1": _ONES[2:], "U1": ["B1", "B2", "P0", "S1"], "U2": ["B1", "B2", "S1"],
            "T1": ["U1", "U2"]}  # fmt: skip
TOP_DOWN = ("T1", "U1", "U2", "B1", "B2", "S1")
SITES = ("LGG", "LGG", "LGG", "LUX")
OWN = ("ARRIVED", "UNLOADED", "INDUCTED", "SORTED", "LOADED", "DISPATCHED", "CUSTOMS_HELD", "CUSTOMS_RELEASED",
       "DAMAGED", "DELIVERED")  # fmt: skip
SEEN = ("ARRIVED", "ARRIVED", "UNLOADED", "LOADED", "DISPATCHED", "CUSTOMS_HELD", "CUSTOMS_RELEASED", "SORTED")


def history(seed, size):
    """Events in the order in which they happened, no two at the same time."""
    dice = random.Random(seed)
    events = []
    for number in range(size):
        event = {"event_id": f"e{number}", "event_time": START + number * 60_000, "site": dice.choice(SITES),
                 "station": "S", "record_time": START}  # fmt: skip
        if dice.random() < 0.25:
            parcel = dice.choice(PARCELS)
            event |= {"type": "scan", "parcel_id": parcel, "kind": dice.choice(OWN)}
            if dice.random() < 0.4:
                # A scan of the parcel itself, with or without an event of the container.
                event |= {"kind": dice.choice(("PACKED", "PACKED", "UNPACKED", event["kind"]))}
                event |= {"container_id": dice.choice(("B1", "B1", "B2", "U1"))}
            earlier = [e for e in events if e.get("parcel_id") == parcel and e["kind"] != "VOID"]
            if earlier and dice.random() < 0.15:
                event |= {"kind": "VOID", "voids": dice.choice(earlier)["event_id"], "container_id": None}
            events.append(event)
            continue
        container = dice.choice(list(CHILDREN))
        event |= {"type": "container", "container_id": container}
        chance = dice.random()
        earlier = [e for e in events if _own(e, container) and e["kind"] != "VOID"]
        if chance < 0.15 and earlier:
            # The event time of the VOID may lie before that of the event.
            event |= {"kind": "VOID", "voids": dice.choice(earlier)["event_id"]}
        elif chance < 0.5:
            some = dice.sample(CHILDREN[container], dice.randint(1, len(CHILDREN[container])))
            event |= {"kind": "PACKED" if chance < 0.4 else "UNPACKED", **_named(some)}
        elif chance < 0.56:
            event |= {"kind": "UNPACKED"}
        elif chance < 0.62 and (around := [each for each, among in CHILDREN.items() if container in among]):
            event |= {"kind": dice.choice(("PACKED", "PACKED", "UNPACKED")), "parent_id": dice.choice(around)}
        else:
            event |= {"kind": dice.choice(SEEN)}
        events.append(event)
    return events


def _named(children):
    return {"parcels": [c for c in children if c in PARCELS], "containers": [c for c in children if c in CHILDREN]}


class Model:
    """The expected records of each parcel: found by a look at every event, for each parcel alone."""

    def __init__(self, events):
        self.events = events
        self.wrong = {(event["container_id"], event["voids"]) for event in events
                      if event["type"] == "container" and event["kind"] == "VOID"}  # fmt: skip
        # Container -> the events that it propagates, its own and inferred ones.
        self.handed = defaultdict(list)
        for container in TOP_DOWN:
            self.handed[container] = self._handed(container)

    def scans(self, parcel):
        """Records of a parcel as the parcel processor should have them, with a VOID for each wrong one."""
        return [e for e in self.events if e.get("parcel_id") == parcel] + self._inferred(parcel, "parcel_id")

    def _inferred(self, child, key):
        made = []
        for container, among in CHILDREN.items():
            if child not in among:
                continue
            for event in self.events:
                if _own(event, container) and child in _all(event):
                    if event["kind"] == "UNPACKED" and self._void(event):
                        continue
                    made.append(self._record(event, child, key, container, event["kind"]))
                    if self._void(event):
                        name = made[-1]["event_id"]
                        void = {**made[-1], "kind": "VOID", "voids": name}
                        made.append(void)
            for event in self.handed[container]:
                if self._was_in(child, container, event["event_time"]):
                    reason = "EMPTIED" if event["kind"] == "UNPACKED" else None
                    made.append(self._record(event, child, key, container, event["kind"]) | {"reason": reason})
        return made

    def _record(self, event, child, key, container, kind):
        name = f"{event['event_id']}/{child}"
        record = {"type": "scan", "event_id": name, key: child, "kind": kind, "event_time": event["event_time"],
                  "site": event["site"], "station": "S", "inferred_from": event["event_id"],
                  "record_time": START, "around": container}  # fmt: skip
        return record | ({"container_id": container} if key == "parcel_id" else {})

    def _void(self, event):
        return (event.get("container_id"), event["event_id"]) in self.wrong

    def _was_in(self, child, container, time):
        last = None
        for event in self.events:
            if not _own(event, container) or event["event_time"] >= time or self._void(event):
                continue
            emptied = _empties(event)
            if child in _all(event) or emptied:
                last = event["kind"] == "PACKED"
        return bool(last)

    def _handed(self, container):
        own = [e for e in self.events if _own(e, container) and e["kind"] != "VOID"]
        emptied = [e for e in own if _empties(e) and not self._void(e)]
        told = [e | {"around": e.get("parent_id"), "wrong": self._void(e)} for e in own
                if e["kind"] not in ("PACKED", "UNPACKED") or e.get("parent_id")]  # fmt: skip
        inferred = self._inferred(container, "child")
        gone = {e["voids"] for e in inferred if e["kind"] == "VOID"}
        told += [e | {"wrong": e["event_id"] in gone} for e in inferred if e["kind"] != "VOID"]
        told.sort(key=lambda e: e["event_time"])
        verdict = derive_containment([
            ChildScan(e["kind"], e["site"], e["around"], "inferred_from" in e, e.get("wrong", False), e.get("reason"))
            for e in told
        ])  # fmt: skip
        counting = [e for e, aside in zip(told, verdict.superseded, strict=True) if not aside and not e.get("wrong")]
        return [e for e in counting if e["kind"] in PROPAGATED_KINDS] + emptied


def _own(event, container):
    return event["type"] == "container" and event["container_id"] == container


def _empties(event):
    return event["kind"] == "UNPACKED" and not _all(event) and not event.get("parent_id")


def _all(event):
    return [*event.get("parcels", ()), *event.get("containers", ())]


class Hub:
    """Both processors, with a few partitions each, and the topics between them; restarts happen at any time."""

    def __init__(self, partitions, dice):
        self.partitions, self.dice = partitions, dice
        self.logs = {topic: [[] for _ in range(partitions)] for topic in (SCANS_TOPIC, CONTAINERS_TOPIC)}
        self.read = {topic: [0] * partitions for topic in (SCANS_TOPIC, CONTAINERS_TOPIC)}
        # With a clock that advances by chance; sometimes there is no rate limit.
        self.now = 0.0
        self.rate_limiter = dice.choice((None, RateLimiter(lambda: self.now)))
        self.containers = [ContainerProcessor(n, partitions, self.rate_limiter) for n in range(partitions)]
        self.parcels = [ParcelProcessor(n, partitions) for n in range(partitions)]
        self.state_records = [{} for _ in range(partitions)]
        self.positions = [None] * partitions
        self.states = {}
        self.rejects = []
        self.largest = 0
        self._reader = RecordParser()

    def send(self, event):
        line = self._reader(event)
        topic = CONTAINERS_TOPIC if line.to_containers_topic else SCANS_TOPIC
        self.logs[topic][partition_of(line.key, self.partitions)].append(line.value)

    def run(self):
        """Process everything."""
        places = [(topic, n) for topic in (SCANS_TOPIC, CONTAINERS_TOPIC) for n in range(self.partitions)]
        while True:
            busy = [p for p in places if self.read[p[0]][p[1]] < len(self.logs[p[0]][p[1]])]
            busy += [(CONTAINERS_TOPIC, n) for n in range(self.partitions) if self.containers[n].has_pending_output]
            if not busy:
                return
            self.now += self.dice.choice((0, 0.01, 0.1))
            topic, number = self.dice.choice(busy)
            first = self.read[topic][number]
            batch = self.logs[topic][number][first : first + self.dice.choice((1, 2, 3, 10, 1000))]
            (self._parcels if topic == SCANS_TOPIC else self._containers)(number, batch)

    def _parcels(self, number, batch):
        output = self.parcels[number].run(batch)
        self.rejects += output.rejects
        self.states.update(output.states)
        self.read[SCANS_TOPIC][number] += len(batch)

    def _containers(self, number, batch):
        if self.dice.random() < 0.2:
            self._restart(number)
        processor = self.containers[number]
        output = processor.run(batch)
        self.rejects += output.rejects
        self.read[CONTAINERS_TOPIC][number] += output.processed_count
        position = processor.position(self.read[CONTAINERS_TOPIC][number])
        self.positions[number] = PartitionPosition.decode(position.encode())
        self.largest = max(self.largest, sum(len(block) for *_, block in output.blocks))
        for topic, partition, block in output.blocks:
            for key, value in block:
                if topic == CONTAINER_STATE_TOPIC:
                    assert partition == number
                    self.state_records[number][key] = value or None
                else:
                    assert partition == partition_of(key, self.partitions)
                    self.logs[topic][partition].append(value)

    def _restart(self, number):
        position = self.positions[number]
        if position is None:
            return
        processor = ContainerProcessor(number, self.partitions, self.rate_limiter)
        records = list(self.state_records[number].items())
        self.dice.shuffle(records)
        for first in range(0, len(records), 3):
            processor.restore(dict(records[first : first + 3]))
        processor.finish_restore(position)
        assert position.next_offset == self.read[CONTAINERS_TOPIC][number]
        self.containers[number] = processor

    def state(self, parcel):
        value = self.states.get(parcel.encode())
        return _decoder(value) if value else None


_decoder = RecordDecoder("ParcelState")
