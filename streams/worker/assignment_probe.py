"""Whether the group has anything to do for a member that holds nothing: asked of the group itself.

Under the protocol of KIP-848 a member that gets no partitions is never told so: its client (librdkafka 2.16) reports
changes only. It cannot be told from one that has lost its partitions and not got them back, but the group knows.
"""

from concurrent.futures import Future
from typing import Final

from confluent_kafka import Consumer, ConsumerGroupState, KafkaException
from confluent_kafka.admin import AdminClient, ConsumerGroupDescription

from streams.kafka.clients import new_admin_client
from streams.kafka.settings import KafkaSettings

_EVERY_SECONDS: Final = 0.5
_ANSWER_SECONDS: Final = 5.0
# One that has just come back has nothing either, until the group's assignor has run again, which it does at intervals.
_SETTLED_SECONDS: Final = 3.0


class AssignmentProbe:
    """Asks twice a second, without waiting; one client, made when it is first needed."""

    def __init__(self, settings: KafkaSettings, group: str) -> None:
        """`group`: with its prefix."""
        self._settings = settings
        self._group = group
        self._client: AdminClient | None = None
        self._asked: Future[ConsumerGroupDescription] | None = None
        self._asked_at = 0.0
        # Since when every answer was that there is nothing.
        self._since: float | None = None

    def forget(self) -> None:
        """What is being asked is of no interest any more: the member holds something."""
        self._asked = self._since = None

    def poll(self, member: Consumer, now: float) -> bool | None:
        """Is this one a member of the group, which has had nothing for it for a while? None: nothing new.

        A group that cannot be asked just now has not said so. `now` is time.monotonic().
        """
        if self._asked is not None and self._asked.done():
            asked, self._asked = self._asked, None
            if not _has_nothing_for(member.memberid(), asked):
                self._since = None
                return False
            self._since = now if self._since is None else self._since
            return now - self._since >= _SETTLED_SECONDS
        if self._asked is None and now - self._asked_at > _EVERY_SECONDS:
            self._asked_at = now
            if self._client is None:
                self._client = new_admin_client(self._settings)
            found = self._client.describe_consumer_groups([self._group], request_timeout=_ANSWER_SECONDS)
            self._asked = found[self._group]
        return None


def _has_nothing_for(member: str, asked: "Future[ConsumerGroupDescription]") -> bool:
    try:
        group = asked.result()
    except KafkaException:
        return False
    own = next((each for each in group.members if each.member_id == member), None)
    # Until every member has what it is to have, this one may get something yet.
    if own is None or group.state is not ConsumerGroupState.STABLE:
        return False
    wanted = own.target_assignment
    return not own.assignment.topic_partitions and not (wanted is not None and wanted.topic_partitions)
