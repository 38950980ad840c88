"""The topic catalogue compared with a real cluster."""

import json
import time

import pytest
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewTopic, ResourceType

from streams.errors import Misconfigured
from streams.formats.topics import DEAD_LETTERS_TOPIC, PARCEL_STATE_TOPIC, SCANS_TOPIC, TOPICS
from streams.kafka.topic_admin import _configs, apply_topics, check_topics, plan_topics


def create(settings, name, partitions, **config):
    client = AdminClient({"bootstrap.servers": settings.bootstrap})
    topic = NewTopic(settings.prefix + name, num_partitions=partitions, replication_factor=1, config=config)
    for future in client.create_topics([topic], operation_timeout=10).values():
        future.result()
    while topic.topic not in client.list_topics(timeout=10).topics:
        time.sleep(0.02)


def set_config(settings, name, key, value):
    client = AdminClient({"bootstrap.servers": settings.bootstrap})
    entry = ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, settings.prefix + name, incremental_configs=[entry])
    for future in client.incremental_alter_configs([resource]).values():
        future.result()
    while _configs(client, [resource.name])[resource.name][key] != value:
        time.sleep(0.02)


def actions(changes):
    return {change.action for change in changes}


def test_apply_creates_every_topic_and_doing_it_again_changes_nothing(settings):
    changes = plan_topics(settings)
    assert actions(changes) == {"create"}
    assert [change.topic for change in changes] == [settings.prefix + topic.name for topic in TOPICS]
    apply_topics(settings, changes)
    assert check_topics(settings) == 4
    assert actions(plan_topics(settings)) == {"none"}
    apply_topics(settings, changes)
    assert actions(plan_topics(settings)) == {"none"}


def test_the_number_of_partitions_is_chosen_once(settings):
    apply_topics(settings, plan_topics(settings, partitions=3))
    assert check_topics(settings) == 3
    assert {change.partitions for change in plan_topics(settings)} == {3}
    with pytest.raises(Misconfigured, match="has 3 partitions, not 6"):
        plan_topics(settings, partitions=6)


def test_topics_that_are_missing_get_the_partitions_of_those_that_are_there(settings):
    create(settings, SCANS_TOPIC, 5)
    changes = plan_topics(settings)
    assert {change.partitions for change in changes} == {5}
    apply_topics(settings, changes)
    assert check_topics(settings) == 5


def test_a_configuration_that_differs_is_shown_and_corrected(settings):
    apply_topics(settings, plan_topics(settings))
    set_config(settings, SCANS_TOPIC, "retention.ms", "1000")
    set_config(settings, SCANS_TOPIC, "segment.ms", "1000000")
    (change,) = [change for change in plan_topics(settings) if change.action != "none"]
    assert (change.action, change.topic) == ("alter", settings.prefix + SCANS_TOPIC)
    assert change.config == {"retention.ms": ("1000", str(90 * 86_400_000))}, "segment.ms is the cluster's own affair"
    apply_topics(settings, [change])
    assert actions(plan_topics(settings)) == {"none"}


class TestAWorkerDoesNotStart:
    def test_without_topics(self, settings):
        with pytest.raises(Misconfigured, match=r'do not exist on .*: run "parcels topics apply"'):
            check_topics(settings)

    def test_without_one_topic(self, settings):
        for topic in TOPICS:
            if topic.name != DEAD_LETTERS_TOPIC:
                create(settings, topic.name, 2, **{"cleanup.policy": topic.cleanup_policy})
        with pytest.raises(Misconfigured, match=r"hub\.dlq does not exist"):
            check_topics(settings)

    def test_with_mismatched_partitions(self, settings):
        create(settings, SCANS_TOPIC, 4)
        create(settings, PARCEL_STATE_TOPIC, 6, **{"cleanup.policy": "compact"})
        for refused in (check_topics, plan_topics):
            with pytest.raises(Misconfigured, match=r"hub\.scans has 4 partitions but .*parcel\.state has 6"):
                refused(settings)

    def test_with_a_state_topic_that_deletes_records(self, settings):
        apply_topics(settings, plan_topics(settings))
        set_config(settings, PARCEL_STATE_TOPIC, "cleanup.policy", "delete")
        with pytest.raises(Misconfigured, match="would lose states"):
            check_topics(settings)
        apply_topics(settings, plan_topics(settings))
        assert check_topics(settings) == 4


def test_the_command_line(settings, parcels):
    first = parcels("topics", "plan", "--json")
    assert first.returncode == 0, first.stderr
    assert not json.loads(first.stdout)["applied"]
    applied = parcels("topics", "apply", "--partitions", "2")
    assert applied.returncode == 0, applied.stderr
    assert f"created {settings.prefix}hub.scans with 2 partitions" in applied.stdout
    refused = parcels("topics", "apply", "--partitions", "3")
    assert refused.returncode == 2
    assert refused.stderr.startswith("parcels: ")
    assert "has 2 partitions, not 3" in refused.stderr
    assert refused.stderr.count("\n") == 1
