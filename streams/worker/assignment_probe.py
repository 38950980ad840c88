"""Whether the consumer group has no partition for a member that holds none: the group itself is asked.

Under the protocol of KIP-848 a member that gets no partitions is never told so: its client (librdkafka 2.16) reports
changes only. Such a member looks like one that has lost its partitions and not got them back, but the group knows.
"""

from concurrent.futures import Future
from typing import Final

from confluent_kafka import Consumer, ConsumerGroupState, KafkaException
from confluent_kafka.admin import AdminClient, ConsumerGroupDescription

from streams.kafka.clients import new_admin_client
from streams.kafka.settings import KafkaSettings

_INTERVAL_SECONDS: Final = 0.5
_ANSWER_SECONDS: Final = 5.0
# A member that has just come back has nothing either, until the group's assignor has run again, which it does at
# intervals.
_SETTLED_SECONDS: Final = 3.0


class AssignmentProbe:
    """Asks the group twice a second, without waiting; its one client is created when it is first needed."""

    def __init__(self, settings: KafkaSettings, group: str) -> None:
        """`group`: with its prefix."""
        self._settings = settings
        self._group = group
        self._client: AdminClient | None = None
        self._answer: Future[ConsumerGroupDescription] | None = None
        self._asked_at = 0.0
        # Since when every answer was that the group has nothing for the member.
        self._unassigned_since: float | None = None

    def reset(self) -> None:
        """Drop all answers: the member holds a partition."""
        self._answer = self._unassigned_since = None

    def poll(self, consumer: Consumer, now: float) -> bool | None:
        """Whether the consumer is a member for which the group has had no partition for a while.

        A group that cannot be asked at the moment counts as False. `now` is time.monotonic().

        Returns:
            None while there is no new answer.
        """
        if self._answer is not None and self._answer.done():
            answer, self._answer = self._answer, None
            if not _is_unassigned(consumer.memberid(), answer):
                self._unassigned_since = None
                return False
            self._unassigned_since = now if self._unassigned_since is None else self._unassigned_since
            return now - self._unassigned_since >= _SETTLED_SECONDS
        if self._answer is None and now - self._asked_at > _INTERVAL_SECONDS:
            self._asked_at = now
            if self._client is None:
                self._client = new_admin_client(self._settings)
            answers = self._client.describe_consumer_groups([self._group], request_timeout=_ANSWER_SECONDS)
            self._answer = answers[self._group]
        return None


def _is_unassigned(member_id: str, answer: "Future[ConsumerGroupDescription]") -> bool:
    try:
        group = answer.result()
    except KafkaException:
        return False
    member = next((each for each in group.members if each.member_id == member_id), None)
    # Until every member has its target assignment, this one may still get a partition.
    if member is None or group.state is not ConsumerGroupState.STABLE:
        return False
    target = member.target_assignment
    return not member.assignment.topic_partitions and not (target is not None and target.topic_partitions)
