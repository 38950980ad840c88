"""Generates the reference page of the topics from the catalogue: `python -m streams.formats.topics_reference`."""

from pathlib import Path

from streams.formats.schemas import load_schemas
from streams.formats.topics import DEFAULT_PARTITIONS, TOPICS, Topic

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "topics.md"

_HEAD = f"""\
# Topics

<!-- Generated from streams/formats/topics.py by `python -m streams.formats.topics_reference`; change it there. -->

`parcels topics apply` creates the topics, each with {DEFAULT_PARTITIONS} partitions unless `--partitions` says
otherwise, and corrects their configuration where it differs; `parcels topics plan` only prints the differences. All
topics have the same number of partitions. Every producer must use the partitioner of Kafka's Java clients (murmur2 of
the key), so that a partition number means the same parcels in each topic. Each name begins with the prefix of the
installation (`--prefix`). Replication is the cluster's `default.replication.factor`.

| topic | what it holds | key | values | kept |
|---|---|---|---|---|
"""

_CONFIGURATION = """
## Configuration

The cluster decides the settings that are not listed here.

| topic | setting | value | why |
|---|---|---|---|
"""

_SCHEMAS = """
## Schemas

Every value but that of a dead letter has Confluent's wire format: byte 0, the schema id as four bytes big-endian, the
Avro body. Ids never change, and earlier versions stay readable (`parcels schemas check`).

| id | schema | version | what it is |
|---|---|---|---|
"""

_NO_VALUE = """
## Records without a value

In the two state topics they are tombstones. In `parcel.milestones`, `parcel.alerts` and `hub.throughput`, skip a record
without key and value. A worker writes it to end a hanging transaction: a broker that was stopped left an earlier
transaction without its end, and no reader of committed records gets past it
([recovery.md](../decisions/recovery.md)).
"""

_DEAD_LETTERS = """
## Headers of a dead letter

They follow the headers of the record itself, and all are UTF-8: those of Kafka Connect, `__connect.errors.topic`,
`.partition`, `.offset`, `.stage`, `.exception.class.name` and `.exception.message`, then `parcels.reason` (a name of
[streams/domain/reject_reasons.py](../../streams/domain/reject_reasons.py)).
"""


def render_page() -> str:
    """The page as Markdown."""
    schemas = load_schemas()
    names = {name for topic in TOPICS for name in topic.schemas}
    versions = [
        f"| {version.id} | [{version.name}](../../schemas/{version.name}.avsc) | {version.number} | "
        f"{schemas.writer_schemas(version.name)[version.id][1]['doc']} |\n"
        for version in schemas.versions()
        if version.name in names
    ]
    return "".join(
        [
            _HEAD,
            *map(_row, TOPICS),
            _CONFIGURATION,
            *(line for topic in TOPICS for line in _settings(topic)),
            _SCHEMAS,
            *versions,
            _NO_VALUE,
            _DEAD_LETTERS,
        ]
    )


def _row(topic: Topic) -> str:
    retention = "the newest of each key" if topic.retention_ms is None else f"{topic.retention_ms // 86_400_000} days"
    schemas = ", ".join(topic.schemas) or "as they came"
    return f"| `{topic.name}` | {topic.purpose} | {topic.key} | {schemas} | {retention} |\n"


def _settings(topic: Topic) -> list[str]:
    return [
        f"| `{topic.name}` | `{setting}` | `{value}` | {topic.config_reasons.get(setting, '')} |\n"
        for setting, value in topic.full_config().items()
    ]


if __name__ == "__main__":
    PAGE.write_text(render_page(), encoding="utf-8")
