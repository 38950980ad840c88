"""A simulated hub's records through a gateway, as its scanners would send them.

Ticks go the same way, which a gateway allows where it lets everybody in: they must not overtake the scans before them.
Values that nobody can read go to Kafka as ever; no gateway would take them.
"""

import time
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from streams.domain.record_columns import RecordColumns, RecordType
from streams.errors import StreamsError

if TYPE_CHECKING:
    from streams.capture.client import CaptureClient
    from streams.kafka.bulk_producer import BulkProducer, RecordColumnsEncoder

_BATCH: Final = 500


class HttpProducer:
    """Sends the columns of a simulation; `direct` is the way into Kafka for what no scanner sends."""

    def __init__(
        self, client: "CaptureClient", direct: "BulkProducer", encoder: "RecordColumnsEncoder", rate: float | None
    ) -> None:
        self._client, self._direct, self._encoder, self._rate = client, direct, encoder, rate
        self.sent = 0
        self._waiting: list[str] = []
        self._begun = time.monotonic()

    def send(self, columns: RecordColumns, due: Any = None) -> None:
        """Send records in their order, each when it is due (seconds since the feed was made).

        Raises:
            StreamsError: the gateway refused one of them, or does not answer.
        """
        from streams.kafka.bulk_producer import ProducerBatch
        from streams.simulate.ndjson import ndjson_lines

        written = list(ndjson_lines(columns))
        by_http = ~np.isin(columns.types, (RecordType.RAW, RecordType.RAW_CONTAINER))
        encoded = self._encoder.encode(columns) if not by_http.all() else None
        first = 0
        while first < len(written):
            last = min(first + _BATCH, len(written))
            at = self.sent / self._rate if self._rate is not None else 0.0 if due is None else float(due[first])
            if due is not None and self._rate is None:
                # As many as are due together; a quiet hour must not hold back what is due now.
                last = min(last, max(first + 1, int(np.searchsorted(due, max(at, self._seconds()), side="right"))))
            if (early := at - self._seconds()) > 0:
                time.sleep(early)
            self._waiting += [written[row] for row in range(first, last) if by_http[row]]
            if len(self._waiting) >= _BATCH or due is not None or self._rate is not None:
                self.flush()
            rest = [row for row in range(first, last) if not by_http[row]]
            if rest and encoded is not None:
                theirs = frozenset(encoded.container_indexes)
                of_containers = [place for place, row in enumerate(rest) if row in theirs]
                keys, values = ([part[row] for row in rest] for part in (encoded.keys, encoded.values))
                self._direct.send(ProducerBatch(keys, values, container_indexes=of_containers))
            self.sent += last - first
            first = last

    def flush(self) -> None:
        """Send what waits for company.

        Raises:
            StreamsError: the gateway refused a record, or does not answer.
        """
        if not self._waiting:
            return
        body = "\n".join(self._waiting).encode()
        self._waiting.clear()
        said = self._client.post("/scans", body, "application/x-ndjson").content
        if said["rejected"]:
            wrong = next(each for each in said["results"] if each["status"] == "rejected")
            raise StreamsError(f"the gateway refused {said['rejected']} records, the first: {wrong['error']}")

    def _seconds(self) -> float:
        return time.monotonic() - self._begun
