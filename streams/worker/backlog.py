"""Messages of a partition that were polled and wait to be processed."""

from collections import deque
from dataclasses import dataclass

import numpy as np
from confluent_kafka import Message
from numpy.typing import NDArray


@dataclass(slots=True)
class MessageBatch:
    """Consecutive messages of a partition, offsets ascending."""

    messages: list[Message]
    offsets: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.messages)

    def split(self, count: int) -> tuple["MessageBatch", "MessageBatch"]:
        """The first `count` messages, and the others."""
        return (
            MessageBatch(self.messages[:count], self.offsets[:count]),
            MessageBatch(self.messages[count:], self.offsets[count:]),
        )


class Backlog:
    """A queue of message batches; every offset enters it once, in ascending order."""

    def __init__(self, next_offset: int = 0) -> None:
        """`next_offset`: every record below it is processed already."""
        self.next_offset = next_offset
        self._batches: deque[MessageBatch] = deque()
        self._record_count = 0

    def __len__(self) -> int:
        """Number of records."""
        return self._record_count

    def append(self, messages: list[Message]) -> None:
        """Append messages as they were polled; those below `next_offset` are dropped."""
        offsets = np.fromiter(map(Message.offset, messages), np.int64, len(messages))
        # After a seek librdkafka may still deliver what it had fetched before: older records, never a gap.
        ascending = np.maximum.accumulate(offsets)
        fresh = offsets >= self.next_offset
        fresh[1:] &= offsets[1:] > ascending[:-1]
        if not fresh.all():
            messages = [message for message, is_fresh in zip(messages, fresh.tolist(), strict=True) if is_fresh]
            offsets = offsets[fresh]
        if not messages:
            return
        self.next_offset = int(offsets[-1]) + 1
        self._batches.append(MessageBatch(messages, offsets))
        self._record_count += len(messages)

    def take(self, limit: int) -> MessageBatch:
        """Remove and return the next records, `limit` at most."""
        messages: list[Message] = []
        offsets = [np.empty(0, np.int64)]
        while self._batches and len(messages) < limit:
            batch, rest = self._batches.popleft().split(limit - len(messages))
            messages += batch.messages
            offsets.append(batch.offsets)
            if len(rest):
                self._batches.appendleft(rest)
        self._record_count -= len(messages)
        return MessageBatch(messages, np.concatenate(offsets))

    def put_back(self, batch: MessageBatch) -> None:
        """Return records that were taken and not processed to the front."""
        if len(batch):
            self._batches.appendleft(batch)
            self._record_count += len(batch)

    def clear(self) -> None:
        """Drop everything."""
        self._batches.clear()
        self._record_count = 0
