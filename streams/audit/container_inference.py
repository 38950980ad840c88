"""What follows from events of containers, put where they stand among other records: that stage without a broker."""

from collections import Counter
from collections.abc import Iterable, Iterator

from streams.domain.reject_reasons import RejectReason
from streams.formats.record_parser import ProducerRecord
from streams.formats.topics import CONTAINERS_TOPIC, SCANS_TOPIC
from streams.processors.container_processor import ContainerProcessor


class ContainerInference:
    """Makes values of hub.scans of the records of both logs, in the order of the records."""

    def __init__(self) -> None:
        self._stage = ContainerProcessor(0, 1)
        self.events = 0
        self.refused: Counter[RejectReason] = Counter()

    def values(self, lines: Iterable[ProducerRecord]) -> Iterator[bytes | None]:
        """The scans, advices and ticks among `lines`, and behind each event of a container what it says of parcels."""
        for line in lines:
            if not line.to_containers_topic:
                yield line.value
            if line.to_containers_topic or line.broadcast:
                self.events += line.to_containers_topic
                yield from self._hand_on(line.value)

    def _hand_on(self, value: bytes | None) -> Iterator[bytes | None]:
        waiting: list[bytes | None] = [value]
        while waiting or self._stage.has_pending_output:
            made = self._stage.run(waiting)
            del waiting[: made.processed_count]
            self.refused.update(reason for _, reason in made.rejects)
            for topic, _, block in made.blocks:
                if topic == CONTAINERS_TOPIC:
                    waiting += [each for _, each in block]
                elif topic == SCANS_TOPIC:
                    yield from (each for _, each in block)
