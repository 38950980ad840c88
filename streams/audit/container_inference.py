"""The container processor without a broker: inferred records take their place among the records of a file."""

from collections import Counter
from collections.abc import Iterable, Iterator

from streams.domain.reject_reasons import RejectReason
from streams.formats.record_parser import ProducerRecord
from streams.formats.topics import CONTAINERS_TOPIC, SCANS_TOPIC
from streams.processors.container_processor import ContainerProcessor


class ContainerInference:
    """Turns the records of both logs into values of hub.scans, in the order of the records."""

    def __init__(self) -> None:
        self._processor = ContainerProcessor(0, 1)
        self.event_count = 0
        self.refused: Counter[RejectReason] = Counter()

    def infer(self, records: Iterable[ProducerRecord]) -> Iterator[bytes | None]:
        """Yield the scans, advices and ticks among `records`, and after each container event its inferred scans."""
        for record in records:
            if not record.to_containers_topic:
                yield record.value
            if record.to_containers_topic or record.broadcast:
                self.event_count += record.to_containers_topic
                yield from self._propagate(record.value)

    def _propagate(self, value: bytes | None) -> Iterator[bytes | None]:
        values: list[bytes | None] = [value]
        while values or self._processor.has_pending_output:
            output = self._processor.run(values)
            del values[: output.processed_count]
            self.refused.update(reason for _, reason in output.rejects)
            for topic, _, block in output.blocks:
                if topic == CONTAINERS_TOPIC:
                    values += [inferred for _, inferred in block]
                elif topic == SCANS_TOPIC:
                    yield from (inferred for _, inferred in block)
