"""Workers killed during fan-outs: every parcel gets the scan of every event of its containers, once."""

import signal
from collections import Counter
from pathlib import Path

import pytest

from streams.domain.inferred_ids import inferred_id
from streams.formats import topics
from streams.formats.record_decoder import RecordDecoder
from streams.formats.record_parser import RecordParser
from streams.kafka.clients import new_producer
from streams.kafka.reader import read_to_end
from streams.kafka.settings import KafkaSettings
from tests.faults.harness import BATCH_POINTS, Chronicle, Crew, Installation, wait_until

SEED = 20_261_122
START = 1_772_355_600_000
BAGS, IN_A_BAG, LOOSE = 20, 50, 3_000
SCANS = ("ARRIVED", "UNLOADED", "LOADED")


class Uld:
    """A ULD with bags and loose parcels, its events, and the inferred scans that must follow."""

    def __init__(self, number: int) -> None:
        self.name = f"ULD{number}"
        self.bags = {
            f"{self.name}-BAG{bag}": [f"{self.name}-{bag}-{n}" for n in range(IN_A_BAG)] for bag in range(BAGS)
        }
        self.loose = [f"{self.name}-{n}" for n in range(LOOSE)]

    def events(self) -> list[dict[str, object]]:
        packed = [self._event(bag, "PACKED", parcels=parcels) for bag, parcels in self.bags.items()]
        uld = self._event(self.name, "PACKED", parcels=self.loose, containers=list(self.bags))
        return [*packed, uld, *(self._event(self.name, kind) for kind in SCANS), self._event(self.name, "UNPACKED")]

    def _event(self, container: str, kind: str, **more: object) -> dict[str, object]:
        minute = ("PACKED", *SCANS, "UNPACKED").index(kind)
        said = {"type": "container", "event_id": f"{container} {kind}", "container_id": container, "kind": kind}
        return said | {"event_time": START + minute * 60_000, "site": "LGG", "station": "GATE", **more}

    def scans(self) -> list[str]:
        """event_ids of all inferred scans."""
        own = [f"{self.name} {kind}" for kind in ("PACKED", *SCANS, "UNPACKED")]
        ids = [inferred_id(cause, parcel) for cause in own for parcel in self.loose]
        for bag, parcels in self.bags.items():
            # A bag keeps its parcels when it leaves the ULD: its unpacking is not propagated to them.
            causes = [f"{bag} PACKED", *(inferred_id(f"{self.name} {kind}", bag) for kind in SCANS)]
            ids += [inferred_id(cause, parcel) for cause in causes for parcel in parcels]
        return ids


def send(settings: KafkaSettings, events: list[dict[str, object]]) -> None:
    reader, sender = RecordParser(), new_producer(settings)
    for event in events:
        line = reader(event)
        sender.produce(settings.prefix + topics.CONTAINERS_TOPIC, line.value, line.key)
    assert sender.flush(30) == 0


def killed_in_fan_outs(settings: KafkaSettings, folder: Path, kills: int) -> None:
    chronicle = Chronicle(SEED)
    installation = Installation(settings, folder, chronicle)
    installation.create_topics(2)
    ulds = [Uld(number) for number in range(kills)]
    points = (*BATCH_POINTS, "while_producing", "before_commit", "after_restore")
    with Crew(installation, "containers") as crew:
        for uld in ulds:
            send(settings, uld.events())
            point = chronicle.random.choice(points)
            passes = 1 if point == "after_restore" else chronicle.random.randint(1, 4)
            member = crew.start("worker", crash_at=f"{point}:{passes}")
            assert member.wait() == -signal.SIGKILL, member.err
            chronicle.tell("killed", f"{point}:{passes}")
        worker = crew.start("worker")
        crew.wait_for("worker", "parcels.worker.restored")
        wait_until(lambda: count(settings) >= len(ulds) * len(ulds[0].scans()), "the fan-outs do not end")
        assert worker.code is None
        crew.stop()
    installation.fold_the_rest()
    scans = RecordDecoder("Scan")
    found = Counter(
        scans(record.value())["event_id"] for record in read_to_end(settings, settings.prefix + topics.SCANS_TOPIC)
    )
    assert found == Counter(event_id for uld in ulds for event_id in uld.scans())
    state = RecordDecoder("ParcelState")
    states = {record.key(): record for record in read_to_end(settings, settings.prefix + topics.PARCEL_STATE_TOPIC)}
    for uld in ulds:
        for parcel in uld.loose:
            said = state(states[parcel.encode()].value())
            assert (said["stage"], said["container_id"], said["version"]) == ("UNPACKED", None, 5)
        for bag, parcels in uld.bags.items():
            for parcel in parcels:
                said = state(states[parcel.encode()].value())
                assert (said["stage"], said["container_id"], said["version"]) == ("LOADED", bag, 4)


def count(settings: KafkaSettings) -> int:
    return sum(1 for _ in read_to_end(settings, settings.prefix + topics.SCANS_TOPIC))


def test_a_few_kills(settings: KafkaSettings, tmp_path: Path) -> None:
    killed_in_fan_outs(settings, tmp_path, 4)


@pytest.mark.faults
@pytest.mark.timeout(1800)
def test_twenty_kills(settings: KafkaSettings, tmp_path: Path) -> None:
    killed_in_fan_outs(settings, tmp_path, 20)
