"""The reference page of the topics, from the catalogue: `python -m streams.formats.topics_reference` writes it."""

from pathlib import Path

from streams.formats.schemas import load_schemas
from streams.formats.topics import DEFAULT_PARTITIONS, TOPICS, Topic

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "topics.md"

_HEAD = f"""\
# Topics

<!-- Made from streams/formats/topics.py by `python -m streams.formats.topics_reference`; change it there. -->

`parcels topics apply` creates them, each with {DEFAULT_PARTITIONS} partitions unless `--partitions` says otherwise, and
sets them right when they differ; `parcels topics plan` only tells. All have the same number of partitions, and every
producer must use the partitioner of Kafka's Java clients (murmur2 of the key), so that one partition number means the
same parcels in each. Before each name stands the prefix of the installation (`--prefix`). Replication is the cluster's
`default.replication.factor`.

| topic | what it holds | key | values | kept |
|---|---|---|---|---|
"""

_CONFIGURATION = """
## Configuration

What is not named here is the cluster's own affair.

| topic | setting | value | why |
|---|---|---|---|
"""

_SCHEMAS = """
## Schemas

Every value but a dead letter is framed: byte 0, the schema id as four bytes big-endian, the Avro body. Ids never
change; earlier versions stay readable (`parcels schemas check`).

| id | schema | version | what it is |
|---|---|---|---|
"""

_NO_VALUE = """
## Records without a value

In the two topics of states they are tombstones. In `parcel.milestones`, `parcel.alerts` and `hub.throughput` a record
without key and value says nothing and is to be skipped: a worker writes one where a broker that was stopped left an
earlier transaction without its end, which no reader of committed records gets past
([recovery.md](../decisions/recovery.md)).
"""

_DEAD_LETTERS = """
## Headers of a dead letter

After the headers of the record itself, all UTF-8: `parcels.reason` (a word of
[streams/domain/reject_reasons.py](../../streams/domain/reject_reasons.py)), and as Kafka Connect writes them
`__connect.errors.topic`, `.partition`, `.offset`, `.stage`, `.exception.class.name`, `.exception.message`.
"""


def page() -> str:
    """The page, as Markdown."""
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
    kept = "the newest of each key" if topic.retention_ms is None else f"{topic.retention_ms // 86_400_000} days"
    schemas = ", ".join(topic.schemas) or "as they came"
    return f"| `{topic.name}` | {topic.purpose} | {topic.key} | {schemas} | {kept} |\n"


def _settings(topic: Topic) -> list[str]:
    return [
        f"| `{topic.name}` | `{setting}` | `{value}` | {topic.reasons.get(setting, '')} |\n"
        for setting, value in topic.full_config().items()
    ]


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
