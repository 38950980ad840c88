"""Sends the records of a simulated hub through a gateway, as its scanners would.

Ticks go the same way, because they must not overtake the scans before them; a gateway accepts ticks only with
--insecure-local. Malformed values go to Kafka directly, because a gateway rejects them.
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
    """Sends the columns of a simulation by HTTP; `kafka_producer` sends the malformed values."""

    def __init__(
        self,
        client: "CaptureClient",
        kafka_producer: "BulkProducer",
        encoder: "RecordColumnsEncoder",
        rate: float | None,
    ) -> None:
        self._client, self._kafka_producer, self._encoder, self._rate = client, kafka_producer, encoder, rate
        self.records_sent = 0
        self._pending_lines: list[str] = []
        self._start_time = time.monotonic()

    def send(self, columns: RecordColumns, due_times: Any = None) -> None:
        """Send records in their order.

        Args:
            columns: the records.
            due_times: when to send each of them, in seconds since this producer was created; None: at once.

        Raises:
            StreamsError: the gateway rejected a record, or does not answer.
        """
        from streams.kafka.bulk_producer import ProducerBatch
        from streams.simulate.ndjson import ndjson_lines

        lines = list(ndjson_lines(columns))
        by_http = ~np.isin(columns.types, (RecordType.RAW, RecordType.RAW_CONTAINER))
        encoded = self._encoder.encode(columns) if not by_http.all() else None
        first = 0
        while first < len(lines):
            last = min(first + _BATCH, len(lines))
            send_time = 0.0 if due_times is None else float(due_times[first])
            if self._rate is not None:
                send_time = self.records_sent / self._rate
            elif due_times is not None:
                # All that are due by then, and no more: a quiet hour must not hold back what is due now.
                due_count = int(np.searchsorted(due_times, max(send_time, self._seconds()), side="right"))
                last = min(last, max(first + 1, due_count))
            if (early := send_time - self._seconds()) > 0:
                time.sleep(early)
            self._pending_lines += [lines[row] for row in range(first, last) if by_http[row]]
            if len(self._pending_lines) >= _BATCH or due_times is not None or self._rate is not None:
                self.flush()
            malformed = [row for row in range(first, last) if not by_http[row]]
            if malformed and encoded is not None:
                container_rows = frozenset(encoded.container_indexes)
                container_indexes = [index for index, row in enumerate(malformed) if row in container_rows]
                keys, values = ([column[row] for row in malformed] for column in (encoded.keys, encoded.values))
                self._kafka_producer.send(ProducerBatch(keys, values, container_indexes=container_indexes))
            self.records_sent += last - first
            first = last

    def flush(self) -> None:
        """Send the lines that wait until a request is full.

        Raises:
            StreamsError: the gateway rejected a record, or does not answer.
        """
        if not self._pending_lines:
            return
        body = "\n".join(self._pending_lines).encode()
        self._pending_lines.clear()
        answer = self._client.post("/scans", body, "application/x-ndjson").content
        if answer["rejected"]:
            first = next(result for result in answer["results"] if result["status"] == "rejected")
            raise StreamsError(f"the gateway rejected {answer['rejected']} records, the first: {first['error']}")

    def _seconds(self) -> float:
        return time.monotonic() - self._start_time
