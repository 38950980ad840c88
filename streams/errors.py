"""Errors: one class for each thing that the caller can do about it."""


class StreamsError(Exception):
    """Base of every error of this package."""


class Retry(StreamsError):
    """Try the same call again; the broker said so."""


class Refence(StreamsError):
    """A transaction's outcome is unknown: new producer on the same id, read the position, then send again or go on."""


class PartitionLost(StreamsError):
    """Another worker owns the partition: drop its task, nothing of it may be written any more."""


class WorkerDead(StreamsError):
    """The consumer is broken beyond repair: exit, the supervisor restarts."""


class BadRecord(StreamsError):
    """A record that cannot be used. `reason` is a word of a closed set."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Misconfigured(StreamsError):
    """Refuse to start: the message says what is wrong with which setting, and what would be right."""
