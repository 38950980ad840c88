"""What a broken consumer means: that its place in the group is gone, or that nothing can be done.

A place is lost without anybody's fault: the machine or the broker stood still for longer than a session, or the answer
to a join was lost, and the group takes the worker for its own predecessor. It may come back. But two workers under one
name would take the place from each other for ever; so whoever loses it twice in a short time ends, and says so.

The answer to a join may also never come, and then the client knows of no error: it waits for as long as a rebalance may
take, which here is ten minutes.
"""

import math
from dataclasses import dataclass
from typing import Final

from confluent_kafka import KafkaError

from streams.errors import WorkerDead

# Two that fight take the place from each other at every heartbeat, one a second.
_FIGHT_SECONDS: Final = 30.0
# Longer than a broker lets any session of the new protocol be (group.consumer.max.session.timeout.ms).
_LONGEST_SESSION_SECONDS: Final = 75.0
_ASK_AGAIN_SECONDS: Final = 1.0
# Whoever asks to join is answered when the other members have asked too, or their sessions of 6 s have ended.
_JOIN_SECONDS: Final = 20.0
_GONE: Final = {
    KafkaError.FENCED_INSTANCE_ID: "fenced_instance_id",
    KafkaError.UNRELEASED_INSTANCE_ID: "unreleased_instance_id",
    KafkaError.UNKNOWN_MEMBER_ID: "unknown_member_id",
    KafkaError.ILLEGAL_GENERATION: "unknown_member_id",
    KafkaError.FENCED_MEMBER_EPOCH: "unknown_member_id",
    KafkaError.STALE_MEMBER_EPOCH: "unknown_member_id",
}


@dataclass(frozen=True, slots=True)
class Rejoin:
    """Join again under the same name."""

    # "fenced_instance_id": somebody came under the same name. "unreleased_instance_id": the name is a predecessor's
    # until its session ends. "unknown_member_id": the group has forgotten this member. "timeout": it has not answered
    # for long.
    reason: str
    # Whether this is news, or the same answer as a second ago.
    is_new: bool
    # Not before so long.
    wait_seconds: float


class GroupMembership:
    """What the group said of this worker's place in it."""

    def __init__(self, name: str | None) -> None:
        """`name`: under which the worker joins; None for one that gets another each time."""
        self._name = name
        self._lost_at: float | None = None
        self._held_since: float | None = None
        # Since when the group is asked for a place (time.monotonic()); not yet, at first. None: it has answered.
        self._asked_at: float | None = math.inf
        self._unanswered = False

    @property
    def is_joined(self) -> bool:
        """Whether the group has answered: with nothing to do, where there are more workers than partitions."""
        return self._asked_at is None

    def start_join(self, now: float) -> None:
        """The group is asked for a place from now on (time.monotonic())."""
        self._asked_at = now

    def joined(self) -> None:
        """The group has answered."""
        self._held_since = self._asked_at = None
        self._unanswered = False

    def is_join_overdue(self, now: float) -> bool:
        """Whether the group should have answered by now (time.monotonic())."""
        return self._asked_at is not None and now - self._asked_at > _JOIN_SECONDS

    def on_join_timeout(self) -> Rejoin:
        """What to do when the group does not answer."""
        news, self._unanswered = not self._unanswered, True
        return Rejoin("timeout", is_new=news, wait_seconds=0.0)

    def lost(self, error: KafkaError, now: float) -> Rejoin:
        """What to do about a consumer that this error (a fatal one) broke; `now` is time.monotonic().

        Raises:
            WorkerDead: joining again would not help.
        """
        reason = membership_loss_reason(error)
        if reason is None:
            raise WorkerDead(f"the consumer is broken: {error.str()}")
        if reason == "unreleased_instance_id":
            return self._wait(now)
        before, self._lost_at = self._lost_at, now
        if before is not None and now - before < _FIGHT_SECONDS:
            raise WorkerDead(
                f"this worker lost its place in the group twice within {_FIGHT_SECONDS:g} s ({error.str()}): another "
                f'one runs under the same name, "{self._name or ""}"; give each worker a --group-instance-id of its own'
            )
        return Rejoin(reason, is_new=True, wait_seconds=0.0)

    def _wait(self, now: float) -> Rejoin:
        news = self._held_since is None
        self._held_since = now if self._held_since is None else self._held_since
        if now - self._held_since > _LONGEST_SESSION_SECONDS:
            raise WorkerDead(
                f'the group has kept the name "{self._name or ""}" for another worker for {_LONGEST_SESSION_SECONDS:g} '
                "s, longer than any session: it runs; give each worker a --group-instance-id of its own"
            )
        return Rejoin("unreleased_instance_id", is_new=news, wait_seconds=_ASK_AGAIN_SECONDS)


def membership_loss_reason(error: KafkaError) -> str | None:
    """Why the place in the group is gone; None when the error says something else."""
    if error.code() in _GONE:
        return _GONE[error.code()]
    # A consumer tells a fatal error as a message with a code for all of them; its text holds the broker's own words.
    text = error.str()
    return next((reason for code, reason in _GONE.items() if KafkaError(code).str() in text), None)
