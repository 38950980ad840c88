"""A worker's place in its consumer group: how it joins, and what to do when its consumer breaks.

A place can be lost without any fault of the worker. The machine or the broker stood still for longer than a session, or
the answer to a join was lost and the group takes the worker for its own predecessor. Then the worker joins again. But
two workers of one name would take the place from each other for ever; so a worker that loses it twice in a short time
ends with an error.

The answer to a join may also never come. The client reports no error then: it waits for as long as a rebalance may
take, which here is ten minutes.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from confluent_kafka import Consumer, KafkaError

from streams.errors import WorkerDead
from streams.kafka.clients import new_consumer
from streams.kafka.settings import KafkaSettings

GroupProtocol = Literal["classic", "consumer"]

# Two members that fight take the place from each other at every heartbeat, one a second.
_FIGHT_SECONDS: Final = 30.0
# Longer than a broker lets any session of the new protocol be (group.consumer.max.session.timeout.ms).
_LONGEST_SESSION_SECONDS: Final = 75.0
_RETRY_SECONDS: Final = 1.0
# A join is answered when the other members have joined too, or their sessions of 6 s have ended.
_JOIN_SECONDS: Final = 20.0
_SESSION_MS: Final = 6_000
_LOSS_REASONS: Final = {
    KafkaError.FENCED_INSTANCE_ID: "fenced_instance_id",
    KafkaError.UNRELEASED_INSTANCE_ID: "unreleased_instance_id",
    KafkaError.UNKNOWN_MEMBER_ID: "unknown_member_id",
    KafkaError.ILLEGAL_GENERATION: "unknown_member_id",
    KafkaError.FENCED_MEMBER_EPOCH: "unknown_member_id",
    KafkaError.STALE_MEMBER_EPOCH: "unknown_member_id",
}


@dataclass(frozen=True, slots=True)
class Rejoin:
    """An instruction to join again under the same name."""

    # As in GroupMembershipLost.
    reason: str
    # False for the same answer as a second ago.
    is_new: bool
    # Time to wait before the join.
    wait_seconds: float


class GroupMembership:
    """What the group answered about this worker's place in it."""

    def __init__(self, group_instance_id: str | None) -> None:
        """`group_instance_id`: name under which the worker joins; None for one that gets another name each time."""
        self._name = group_instance_id
        self._lost_at: float | None = None
        self._held_since: float | None = None
        # Since when a join is unanswered (time.monotonic()); infinite before the first join. None: it is answered.
        self._asked_at: float | None = math.inf
        self._is_unanswered = False

    @property
    def is_joined(self) -> bool:
        """Whether the group has answered, be it without a partition where there are more workers than partitions."""
        return self._asked_at is None

    def start_join(self, now: float) -> None:
        """A join is on its way from now on (time.monotonic())."""
        self._asked_at = now

    def complete_join(self) -> None:
        """The group has answered."""
        self._held_since = self._asked_at = None
        self._is_unanswered = False

    def is_join_overdue(self, now: float) -> bool:
        """Whether the group should have answered by now (time.monotonic())."""
        return self._asked_at is not None and now - self._asked_at > _JOIN_SECONDS

    def on_join_timeout(self) -> Rejoin:
        """What to do when the group does not answer."""
        is_new, self._is_unanswered = not self._is_unanswered, True
        return Rejoin("timeout", is_new=is_new, wait_seconds=0.0)

    def on_fatal_error(self, error: KafkaError, now: float) -> Rejoin:
        """What to do about a consumer that this fatal error broke; `now` is time.monotonic().

        Raises:
            WorkerDead: joining again would not help.
        """
        reason = membership_loss_reason(error)
        if reason is None:
            raise WorkerDead(f"the consumer is broken: {error.str()}")
        if reason == "unreleased_instance_id":
            return self._wait_for_name(now)
        previous, self._lost_at = self._lost_at, now
        if previous is not None and now - previous < _FIGHT_SECONDS:
            raise WorkerDead(
                f"this worker lost its place in the group twice within {_FIGHT_SECONDS:g} s ({error.str()}): another "
                f'one runs under the same name, "{self._name or ""}"; give each worker a --group-instance-id of its own'
            )
        return Rejoin(reason, is_new=True, wait_seconds=0.0)

    def _wait_for_name(self, now: float) -> Rejoin:
        is_new = self._held_since is None
        self._held_since = now if self._held_since is None else self._held_since
        if now - self._held_since > _LONGEST_SESSION_SECONDS:
            raise WorkerDead(
                f'the group has kept the name "{self._name or ""}" for another worker for {_LONGEST_SESSION_SECONDS:g} '
                "s, longer than any session: it runs; give each worker a --group-instance-id of its own"
            )
        return Rejoin("unreleased_instance_id", is_new=is_new, wait_seconds=_RETRY_SECONDS)


def membership_loss_reason(error: KafkaError) -> str | None:
    """Why the place in the group is lost; None when the error is about something else."""
    if error.code() in _LOSS_REASONS:
        return _LOSS_REASONS[error.code()]
    # A consumer reports every fatal error as a message with one code; only its text holds the broker's own error.
    text = error.str()
    return next((reason for code, reason in _LOSS_REASONS.items() if KafkaError(code).str() in text), None)


def new_group_consumer(
    settings: KafkaSettings,
    group: str,
    group_instance_id: str | None,
    protocol: GroupProtocol,
    on_error: Callable[[KafkaError], None],
) -> Consumer:
    """A consumer for a worker; it is not a member before it subscribes.

    Args:
        settings: which cluster.
        group: without the prefix.
        group_instance_id: name of a static member; None for a dynamic one.
        protocol: of the group.
        on_error: called from within `poll` with errors of the client as a whole.
    """
    options: dict[str, object] = {}
    if group_instance_id is not None:
        options["group_instance_id"] = group_instance_id
    if protocol == "classic":
        options |= {
            "partition_assignment_strategy": "cooperative-sticky",
            "session_timeout_ms": _SESSION_MS,
            "heartbeat_interval_ms": 1_000,
        }
    else:
        options["group_protocol"] = "consumer"
    return new_consumer(
        settings,
        group,
        error_cb=on_error,
        enable_partition_eof=True,
        # Above what a turn of the loop may take: the watchdog ends a loop that hangs.
        max_poll_interval_ms=600_000,
        fetch_wait_max_ms=50,
        queued_min_messages=200_000,
        queued_max_messages_kbytes=128 << 10,
        **options,
    )
