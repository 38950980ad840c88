"""A worker's lease on a partition, from assignment to loss."""

import threading
from collections.abc import Callable

from streams.errors import PartitionLost


class PartitionLease:
    """Whether the partition is still this worker's. Shared by the worker's loop and the partition's threads."""

    def __init__(self, poll_count: Callable[[], int]) -> None:
        """`poll_count`: how often the worker has polled its consumer."""
        self._poll_count = poll_count
        self._revoked = threading.Event()

    def revoke(self) -> None:
        """The partition is not this worker's any more."""
        self._revoked.set()

    def wait(self, seconds: float) -> None:
        """Pause.

        Raises:
            PartitionLost: the lease was revoked meanwhile, or before.
        """
        if self._revoked.wait(seconds):
            message = "the partition was given to another worker"
            raise PartitionLost(message)

    def confirm(self) -> None:
        """Wait for a whole poll of the consumer: a zombie must learn that it lost the partition before it fences.

        Raises:
            PartitionLost: the lease was revoked.
        """
        before = self._poll_count()
        while self._poll_count() < before + 2:
            self.wait(0.01)
        self.wait(0)
