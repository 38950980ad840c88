"""The catalogue and a real cluster."""

import json
import time

import pytest
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewTopic, ResourceType

from streams.errors import Misconfigured
from streams.formats.topics import CATALOGUE, DEAD_LETTERS, SCANS, STATE
from streams.kafka.topic_admin import _configs, apply, check, plan


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
    changes = plan(settings)
    assert actions(changes) == {"create"}
    assert [change.topic for change in changes] == [settings.prefix + topic.name for topic in CATALOGUE]
    apply(settings, changes)
    assert check(settings) == 4
    assert actions(plan(settings)) == {"none"}
    apply(settings, changes)
    assert actions(plan(settings)) == {"none"}


def test_the_number_of_partitions_is_chosen_once(settings):
    apply(settings, plan(settings, partitions=3))
    assert check(settings) == 3
    assert {change.partitions for change in plan(settings)} == {3}
    with pytest.raises(Misconfigured, match="has 3 partitions, not 6"):
        plan(settings, partitions=6)


def test_topics_that_are_missing_get_the_partitions_of_those_that_are_there(settings):
    create(settings, SCANS, 5)
    changes = plan(settings)
    assert {change.partitions for change in changes} == {5}
    apply(settings, changes)
    assert check(settings) == 5


def test_a_configuration_that_differs_is_shown_and_set_right(settings):
    apply(settings, plan(settings))
    set_config(settings, SCANS, "retention.ms", "1000")
    set_config(settings, SCANS, "segment.ms", "1000000")
    (change,) = [change for change in plan(settings) if change.action != "none"]
    assert (change.action, change.topic) == ("alter", settings.prefix + SCANS)
    assert change.config == {"retention.ms": ("1000", str(90 * 86_400_000))}, "segment.ms is the cluster's own affair"
    apply(settings, [change])
    assert actions(plan(settings)) == {"none"}


class TestAWorkerDoesNotStart:
    def test_without_topics(self, settings):
        with pytest.raises(Misconfigured, match=r'do not exist on .*: run "parcels topics apply"'):
            check(settings)

    def test_without_one_topic(self, settings):
        for topic in CATALOGUE:
            if topic.name != DEAD_LETTERS:
                create(settings, topic.name, 2, **{"cleanup.policy": topic.cleanup})
        with pytest.raises(Misconfigured, match=r"hub\.scans\.dlq does not exist"):
            check(settings)

    def test_with_mismatched_partitions(self, settings):
        create(settings, SCANS, 4)
        create(settings, STATE, 6, **{"cleanup.policy": "compact"})
        for refused in (check, plan):
            with pytest.raises(Misconfigured, match=r"hub\.scans has 4 partitions but .*parcel\.state has 6"):
                refused(settings)

    def test_with_a_state_topic_that_forgets(self, settings):
        apply(settings, plan(settings))
        set_config(settings, STATE, "cleanup.policy", "delete")
        with pytest.raises(Misconfigured, match="would lose states"):
            check(settings)
        apply(settings, plan(settings))
        assert check(settings) == 4


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
