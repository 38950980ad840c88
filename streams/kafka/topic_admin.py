"""Topics of a cluster compared with the catalogue (streams/formats/topics.py): plan the changes, apply them, check.

`parcels topics plan` prints the changes, `parcels topics apply` carries them out, and every worker checks at its start
that the topics are fit for it.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from streams.errors import Misconfigured, StreamsError
from streams.formats.topics import (
    CONTAINER_STATE_TOPIC,
    DEAD_LETTERS_TOPIC,
    DEFAULT_PARTITIONS,
    PARCEL_STATE_TOPIC,
    TOPICS,
)
from streams.kafka.clients import new_admin_client, no_answer_error
from streams.kafka.settings import KafkaSettings

_ANSWER_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class TopicChange:
    """The change that brings one topic of the cluster in line with the catalogue."""

    # "create", "alter", or "none" when the topic is as the catalogue says.
    action: str
    topic: str
    partitions: int
    # Setting -> (value on the cluster, None for a new topic; value of the catalogue). Only those that differ.
    config: Mapping[str, tuple[str | None, str]] = field(default_factory=dict)


def plan_topics(settings: KafkaSettings, partitions: int | None = None) -> list[TopicChange]:
    """The difference between the catalogue and the cluster, one `TopicChange` a topic.

    Args:
        settings: which cluster, and the prefix of its topics.
        partitions: number of partitions of every topic; None for that of the existing topics, or 4 without any.

    Raises:
        Misconfigured: existing topics differ in their number of partitions, or have another number than `partitions`.
        StreamsError: no broker answers.
    """
    client = new_admin_client(settings)
    counts = _partition_counts(client, settings)
    existing = _require_copartitioned(settings, counts)
    if partitions is not None and partitions < 1:
        message = f"--partitions {partitions}: a topic has at least 1 partition"
        raise Misconfigured(message)
    if partitions is not None and existing is not None and partitions != existing:
        message = (
            f"{settings.prefix}{next(iter(counts))} has {existing} partitions, not {partitions}. Another number would "
            f"send a parcel's next scan to another partition than its state: keep {existing}, or choose a new --prefix "
            f"and send the log again"
        )
        raise Misconfigured(message)
    wanted = partitions or existing or DEFAULT_PARTITIONS
    configs = _configs(client, [settings.prefix + name for name in counts])
    changes = []
    for topic in TOPICS:
        name = settings.prefix + topic.name
        if topic.name not in counts:
            new = {key: (None, value) for key, value in topic.full_config().items()}
            changes.append(TopicChange("create", name, wanted, new))
            continue
        found = configs[name]
        differs = {
            key: (found.get(key), value) for key, value in topic.full_config().items() if found.get(key) != value
        }
        changes.append(TopicChange("alter" if differs else "none", name, wanted, differs))
    return changes


def apply_topics(settings: KafkaSettings, changes: Iterable[TopicChange]) -> None:
    """Carry out the changes of `plan_topics` and wait until every topic can be used. A second call changes nothing.

    Raises:
        StreamsError: the cluster refused a change, or does not answer.
    """
    client = new_admin_client(settings)
    changes = list(changes)
    new = [
        NewTopic(
            change.topic,
            num_partitions=change.partitions,
            replication_factor=-1,  # the cluster's default.replication.factor
            config={key: value for key, (_, value) in change.config.items()},
        )
        for change in changes
        if change.action == "create"
    ]
    if new:
        for name, future in client.create_topics(new, operation_timeout=_ANSWER_SECONDS).items():
            _await(settings, f"creating topic {name}", future, ignored_code=KafkaError.TOPIC_ALREADY_EXISTS)
    altered = [
        ConfigResource(
            ResourceType.TOPIC,
            change.topic,
            incremental_configs=[
                ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET)
                for key, (_, value) in change.config.items()
            ],
        )
        for change in changes
        if change.action == "alter"
    ]
    if altered:
        for resource, future in client.incremental_alter_configs(altered).items():
            _await(settings, f"changing topic {resource.name}", future)
    _wait_until_usable(client, settings, changes)


def check_topics(settings: KafkaSettings) -> int:
    """The number of partitions that every topic has, if the topics are fit for a worker.

    Raises:
        Misconfigured: a topic is missing, the numbers of partitions differ, or a state topic is not compacted.
        StreamsError: no broker answers.
    """
    client = new_admin_client(settings)
    counts = _partition_counts(client, settings)
    partitions = _require_copartitioned(settings, counts)
    missing = [settings.prefix + topic.name for topic in TOPICS if topic.name not in counts]
    if missing or partitions is None:
        verb = "does not exist" if len(missing) == 1 else "do not exist"
        message = f'{", ".join(missing)} {verb} on {settings.bootstrap}: run "parcels topics apply"'
        raise Misconfigured(message)
    state_topics = [settings.prefix + name for name in (PARCEL_STATE_TOPIC, CONTAINER_STATE_TOPIC)]
    for name, config in _configs(client, state_topics).items():
        if (cleanup := config.get("cleanup.policy")) != "compact":
            message = f'{name} has cleanup.policy={cleanup} and would lose states; run "parcels topics apply"'
            raise Misconfigured(message)
    return partitions


def _partition_counts(client: AdminClient, settings: KafkaSettings) -> dict[str, int]:
    """Name in the catalogue -> number of partitions, of each topic that exists on the cluster."""
    try:
        found = client.list_topics(timeout=_ANSWER_SECONDS).topics
    except KafkaException as error:
        raise no_answer_error(settings, _ANSWER_SECONDS, error) from error
    names = {topic.name: settings.prefix + topic.name for topic in TOPICS}
    return {name: len(found[full_name].partitions) for name, full_name in names.items() if full_name in found}


def _require_copartitioned(settings: KafkaSettings, counts: Mapping[str, int]) -> int | None:
    """The number of partitions that all existing topics have, None when there are none."""
    if len(set(counts.values())) > 1:
        (first, count), *others = counts.items()
        other, other_count = next(each for each in others if each[1] != count)
        message = (
            f"{settings.prefix}{first} has {count} partitions but {settings.prefix}{other} has {other_count}; they "
            f"must match. Delete the one that is wrong while no worker runs (a wrong {DEAD_LETTERS_TOPIC} or "
            f'{PARCEL_STATE_TOPIC} is written anew), then run "parcels topics apply"'
        )
        raise Misconfigured(message)
    return next(iter(counts.values()), None)


def _configs(client: AdminClient, topics: list[str]) -> dict[str, dict[str, str]]:
    """Topic -> its whole configuration on the cluster."""
    if not topics:
        return {}
    resources = [ConfigResource(ResourceType.TOPIC, name) for name in topics]
    futures = client.describe_configs(resources, request_timeout=_ANSWER_SECONDS)
    described: dict[str, dict[str, str]] = {}
    for resource, future in futures.items():
        try:
            described[resource.name] = {key: entry.value for key, entry in future.result().items()}
        except KafkaException as error:
            message = f"asking for the configuration of {resource.name}: {error.args[0].str()}"
            raise StreamsError(message) from error
    return described


def _await(settings: KafkaSettings, action: str, future: Any, ignored_code: int | None = None) -> None:
    """Wait for the cluster's answer to a change.

    Raises:
        StreamsError: the cluster refused, for another reason than `ignored_code`.
    """
    try:
        future.result()
    except KafkaException as error:
        if error.args[0].code() != ignored_code:
            message = f"{action} on {settings.bootstrap}: {error.args[0].str()}"
            raise StreamsError(message) from error


def _wait_until_usable(client: AdminClient, settings: KafkaSettings, changes: Sequence[TopicChange]) -> None:
    """Wait until the brokers show the changes: they learn of them after the controller has accepted them."""
    deadline = time.monotonic() + _ANSWER_SECONDS
    while pending := _pending_topics(client, settings, changes):
        if time.monotonic() > deadline:
            raise StreamsError(f"{', '.join(pending)}: not usable {_ANSWER_SECONDS:g} s after the change was accepted")
        time.sleep(0.05)


def _pending_topics(client: AdminClient, settings: KafkaSettings, changes: Sequence[TopicChange]) -> list[str]:
    """Topics that still lack a leader for a partition, or else those that still have another configuration."""
    try:
        found = client.list_topics(timeout=_ANSWER_SECONDS).topics
    except KafkaException as error:
        raise no_answer_error(settings, _ANSWER_SECONDS, error) from error
    without_leader = [
        change.topic
        for change in changes
        if change.topic not in found
        or sum(each.leader >= 0 for each in found[change.topic].partitions.values()) < change.partitions
    ]
    if without_leader:
        return without_leader
    configs = _configs(client, [change.topic for change in changes])
    return [
        change.topic
        for change in changes
        if any(configs[change.topic].get(key) != wanted for key, (_, wanted) in change.config.items())
    ]
