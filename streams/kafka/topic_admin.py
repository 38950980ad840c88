"""The catalogue of topics and the cluster: what differs, how to remove it, and whether a worker can run on it."""

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
    """What must be done to one topic of the cluster."""

    # "create", "alter", or "none" when the topic is as the catalogue says.
    action: str
    topic: str
    partitions: int
    # Name of a configuration -> (as the cluster has it, None for a new topic; as it must be). Only what differs.
    config: Mapping[str, tuple[str | None, str]] = field(default_factory=dict)


def plan_topics(settings: KafkaSettings, partitions: int | None = None) -> list[TopicChange]:
    """The difference between the catalogue and the cluster, one `TopicChange` a topic.

    Args:
        settings: which cluster, and the prefix of its topics.
        partitions: how many every topic shall have; None for as many as the existing ones have, else 4.

    Raises:
        Misconfigured: existing topics differ in their number of partitions, or have another one than was asked for.
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
    """Carry out what `plan_topics` found; wait until every topic can be used. Doing it again does nothing.

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
            _result(settings, f"creating topic {name}", future, fine=KafkaError.TOPIC_ALREADY_EXISTS)
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
            _result(settings, f"changing topic {resource.name}", future)
    _wait_until_usable(client, settings, changes)


def check_topics(settings: KafkaSettings) -> int:
    """How many partitions every topic has, if the topics are fit for a worker.

    Raises:
        Misconfigured: a topic is missing, the numbers of partitions differ, or a topic of states would lose some.
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
    for state, config in _configs(
        client, [settings.prefix + name for name in (PARCEL_STATE_TOPIC, CONTAINER_STATE_TOPIC)]
    ).items():
        if (cleanup := config.get("cleanup.policy")) != "compact":
            message = f'{state} has cleanup.policy={cleanup} and would lose states; run "parcels topics apply"'
            raise Misconfigured(message)
    return partitions


def _partition_counts(client: AdminClient, settings: KafkaSettings) -> dict[str, int]:
    """Partitions of each topic of the catalogue that exists, by its name in the catalogue."""
    try:
        found = client.list_topics(timeout=_ANSWER_SECONDS).topics
    except KafkaException as error:
        raise no_answer_error(settings, _ANSWER_SECONDS, error) from error
    names = {topic.name: settings.prefix + topic.name for topic in TOPICS}
    return {short: len(found[name].partitions) for short, name in names.items() if name in found}


def _require_copartitioned(settings: KafkaSettings, counts: Mapping[str, int]) -> int | None:
    """The number of partitions that all existing topics have, None when there are none."""
    if len(set(counts.values())) > 1:
        one, *others = counts.items()
        other = next(each for each in others if each[1] != one[1])
        message = (
            f"{settings.prefix}{one[0]} has {one[1]} partitions but {settings.prefix}{other[0]} has {other[1]}; they "
            f"must match. Delete the one that is wrong while no worker runs (a wrong {DEAD_LETTERS_TOPIC} or {PARCEL_STATE_TOPIC} is "
            f'written anew), then run "parcels topics apply"'
        )
        raise Misconfigured(message)
    return next(iter(counts.values()), None)


def _configs(client: AdminClient, topics: list[str]) -> dict[str, dict[str, str]]:
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


def _result(settings: KafkaSettings, doing: str, future: Any, fine: int | None = None) -> None:
    try:
        future.result()
    except KafkaException as error:
        if error.args[0].code() != fine:
            message = f"{doing} on {settings.bootstrap}: {error.args[0].str()}"
            raise StreamsError(message) from error


def _wait_until_usable(client: AdminClient, settings: KafkaSettings, changes: Sequence[TopicChange]) -> None:
    """Brokers learn of a change after the controller has accepted it: wait until they show it."""
    deadline = time.monotonic() + _ANSWER_SECONDS
    while waiting := _not_yet_as_planned(client, settings, changes):
        if time.monotonic() > deadline:
            raise StreamsError(f"{', '.join(waiting)}: not usable {_ANSWER_SECONDS:g} s after the change was accepted")
        time.sleep(0.05)


def _not_yet_as_planned(client: AdminClient, settings: KafkaSettings, changes: Sequence[TopicChange]) -> list[str]:
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
