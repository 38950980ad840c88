"""Errors that mean the same in every room: one class for each thing that the caller can do about it.

The rule: an error that a caller in another room catches derives from `StreamsError`; the classes here are named for
what the caller does or must face, and any other class stands beside the code that raises it, is named for what went
wrong, and ends in Error.
"""


class StreamsError(Exception):
    """Base of every error that leaves the room that raises it."""


class Retry(StreamsError):
    """The broker asks to try the same call again."""


class Refence(StreamsError):
    """The outcome of a transaction is unknown: call init_transactions on the same id, read the position, decide."""


class PartitionLost(StreamsError):
    """Another worker owns the partition: drop its task and write nothing more of it."""


class WorkerDead(StreamsError):
    """The consumer is broken beyond repair: exit; the supervisor restarts the worker."""


class BadRecord(StreamsError):
    """A record that cannot be used. `reason` is a word of a closed set."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Misconfigured(StreamsError):
    """Refuse to start: the message names the setting that is wrong, and what would be right."""
