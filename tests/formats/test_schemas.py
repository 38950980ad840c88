"""The schema lock: ids never change, and every version can read every other version.

The tests make histories of their own in a temporary folder; they do not rely on the history of the repository.
"""

import io
import json
import shutil
from copy import deepcopy
from dataclasses import replace

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.errors import Misconfigured
from streams.formats.schema_compatibility import check_schemas, find_incompatibilities, lock_schemas
from streams.formats.schemas import load_schemas, read_lock_file, read_schemas, schemas_folder, write_lock_file

# Schemas that the tests edit, in the order of their ids: 1 to 4.
NAMES = ("Scan", "Advice", "Tick", "ThroughputDelta")


@pytest.fixture
def folder(tmp_path):
    """A schemas folder with a history of its own: the current texts of NAMES, each locked as version 1."""
    folder = tmp_path / "schemas"
    folder.mkdir()
    write_lock_file(folder, [])
    for name in NAMES:
        shutil.copyfile(schemas_folder() / f"{name}.avsc", folder / f"{name}.avsc")
        lock_schemas(folder)
    return folder


def edit(folder, name, change):
    path = folder / f"{name}.avsc"
    schema = json.loads(path.read_text())
    change(schema)
    path.write_text(json.dumps(schema))


def field(schema, name):
    return next(each for each in schema["fields"] if each["name"] == name)


def test_the_schemas_of_the_repository_keep_the_rules():
    assert check_schemas(schemas_folder()) == []


def test_the_ids_of_the_first_versions_never_change():
    first = {version.id: version.name for version in load_schemas().versions() if version.number == 1}
    assert [first.get(number) for number in range(1, 12)] == [
        "Scan", "Advice", "Tick", "ParcelState", "Milestone", "InputPosition", "Alert", "ThroughputDelta",
        "ContainerEvent", "ContainerState", "ContainerChild",
    ]  # fmt: skip


def test_an_edit_of_a_schema_of_the_repository_becomes_its_next_version(tmp_path):
    folder = shutil.copytree(schemas_folder(), tmp_path / "schemas")
    before = read_lock_file(folder)
    texts = {version.history_file: (folder / version.history_file).read_bytes() for version in before}
    edit(folder, "ParcelState", lambda schema: schema.update(doc="Another doc."))
    (added,) = lock_schemas(folder)
    number = max(version.number for version in before if version.name == "ParcelState") + 1
    assert (added.name, added.number, added.id) == ("ParcelState", number, len(before) + 1)
    assert read_schemas(folder).current("ParcelState")["doc"] == "Another doc."
    assert {file: (folder / file).read_bytes() for file in texts} == texts


def test_values_are_framed_as_by_the_clients_of_confluent():
    assert load_schemas().to_wire_format("Tick", b"body") == b"\0\0\0\0" + bytes([load_schemas().id("Tick")]) + b"body"


def test_writer_schemas_are_all_versions_of_the_named_schemas(folder):
    edit(folder, "Tick", lambda s: s["fields"].append({"name": "n", "type": "int", "default": 0, "doc": "Number."}))
    lock_schemas(folder)
    schemas = read_schemas(folder)
    assert {schema_id: name for schema_id, (name, _) in schemas.writer_schemas("Tick", "Scan").items()} == {
        1: "Scan",
        3: "Tick",
        len(read_lock_file(folder)): "Tick",
    }
    assert schemas.id("Tick") == len(read_lock_file(folder))
    assert schemas.current("Tick")["fields"][-1]["name"] == "n"


def test_an_unknown_schema_is_named():
    with pytest.raises(Misconfigured, match="no schema Scam"):
        load_schemas().id("Scam")


class TestEdits:
    """Edits of a schema that are accepted, and edits that are refused."""

    def test_a_new_field_with_a_default_becomes_the_next_version(self, folder):
        new = {"name": "height_mm", "type": ["null", "int"], "default": None, "doc": "Height."}
        edit(folder, "Scan", lambda schema: schema["fields"].append(new))
        (added,) = lock_schemas(folder)
        assert (added.name, added.number, added.id) == ("Scan", 2, len(read_lock_file(folder)))
        assert check_schemas(folder) == []
        assert lock_schemas(folder) == []

    def test_an_edit_is_not_used_before_it_is_locked(self, folder):
        edit(folder, "Scan", lambda schema: schema.update(doc="Another doc."))
        with pytest.raises(Misconfigured, match="parcels schemas lock"):
            read_schemas(folder)
        assert any("was edited after version 1" in problem for problem in check_schemas(folder))

    def test_a_named_type_must_be_the_same_in_every_file(self, folder):
        edit(folder, "Advice", lambda schema: field(schema, "direction")["type"].update(doc="Other doc."))
        assert any("Direction is not the same in Advice.avsc and in" in problem for problem in check_schemas(folder))

    def test_a_new_symbol_at_the_end_of_an_enum_with_a_default_is_compatible_in_both_directions(self):
        old = load_schemas().current("Scan")
        new = deepcopy(old)
        field(new, "kind")["type"]["symbols"].append("LIFTED")
        assert find_incompatibilities(new, old) == find_incompatibilities(old, new) == []

    @pytest.mark.parametrize(
        ("change", "why"),
        [
            (lambda s: s["fields"].append({"name": "x", "type": "int", "doc": "X."}), "no default"),
            (lambda s: s["fields"].remove(field(s, "site")), "no default"),
            (lambda s: field(s, "device_seq").update(type="string", default=""), "is string"),
            (lambda s: field(s, "device_seq").update(type="int"), "is long"),
            (lambda s: field(s, "weight_g").update(type="int", default=0), "null"),
            (lambda s: field(s, "event_time").update(type="long"), "timestamp-millis"),
            (lambda s: field(s, "record_time")["type"].update(logicalType="timestamp-micros"), "takes it for"),
            (lambda s: field(s, "kind")["type"]["symbols"].insert(1, "LIFTED"), "positions are numbers"),
            (lambda s: field(s, "kind")["type"]["symbols"].append("LIFTED"), "kinds.py"),
            (lambda s: field(s, "kind")["type"].pop("default"), "no default"),
            (lambda s: field(s, "site").pop("doc"), "has no doc"),
            (lambda s: field(s, "site").update(aliases=["place"]), "aliases"),
            (lambda s: field(s, "device_id").update(default=5), "not an Avro schema"),
            (lambda s: s.update(name="Observation"), "must hold the record Scan"),
            (
                lambda s: s["fields"].append(
                    {"name": "next", "type": ["null", "Scan"], "default": None, "doc": "Another."}
                ),
                "holds itself",
            ),
        ],
    )
    def test_an_edit_that_breaks_a_rule_is_refused_and_nothing_is_written(self, folder, change, why):
        before = (folder / "ids.json").read_bytes()
        edit(folder, "Scan", change)
        assert any(why in problem for problem in check_schemas(folder)), check_schemas(folder)
        with pytest.raises(Misconfigured, match="nothing was locked"):
            lock_schemas(folder)
        assert (folder / "ids.json").read_bytes() == before
        assert not (folder / "history" / "Scan.v2.avsc").exists()

    def test_an_edit_is_compared_with_every_earlier_version(self, folder):
        """Version 3 is compatible with version 2, but it gives a field of version 1 another type."""
        number = {"name": "dock", "type": "int", "default": 0, "doc": "Dock."}
        edit(folder, "Tick", lambda schema: schema["fields"].append(number))
        lock_schemas(folder)
        edit(folder, "Tick", lambda schema: schema["fields"].pop())
        lock_schemas(folder)
        edit(folder, "Tick", lambda schema: schema["fields"].append(number | {"type": "string", "default": ""}))
        with pytest.raises(Misconfigured, match=r"dock is int"):
            lock_schemas(folder)


class TestLock:
    """A damaged ids.json is reported before it is used for reading or writing."""

    def relock(self, folder, change):
        path = folder / "ids.json"
        ids = json.loads(path.read_text())
        change(ids)
        path.write_text(json.dumps(ids))

    @pytest.mark.parametrize(
        ("change", "why"),
        [
            (lambda ids: ids["Scan"]["1"].update(id=7), "id 7 is not the id that Scan version 1 was locked with"),
            (lambda ids: ids["Scan"]["1"].update(id=2), "id 2 is not the id that Scan version 1 was locked with"),
            (lambda ids: ids["Scan"]["1"].update(id="1"), "not a positive number"),
            (lambda ids: ids["Scan"]["1"].update(id=0), "not a positive number"),
            (lambda ids: ids["Scan"]["1"].pop("sha256"), "not a lock of schema ids"),
            (lambda ids: ids["Scan"]["1"].update(sha256="0" * 64), "locked with"),
            (lambda ids: ids["Scan"].update({"3": ids["Scan"].pop("1")}), "locked with"),
            (lambda ids: ids.pop("Scan"), "has no id yet"),
            (lambda ids: ids.update(Scan=5), "not a lock of schema ids"),
        ],
    )
    def test_a_lock_edited_by_hand_is_refused(self, folder, change, why):
        self.relock(folder, change)
        with pytest.raises(Misconfigured, match=why):
            read_schemas(folder)

    def test_swapped_ids_are_refused(self, folder):
        def swap(ids):
            ids["Scan"]["1"]["id"], ids["Advice"]["1"]["id"] = 2, 1

        self.relock(folder, swap)
        with pytest.raises(Misconfigured, match="was locked with"):
            read_schemas(folder)

    def test_an_id_that_two_branches_locked_is_refused(self, folder):
        versions = read_lock_file(folder)
        tick = next(version for version in versions if version.name == "Tick")
        write_lock_file(folder, [*versions, replace(tick, number=2)])
        with pytest.raises(Misconfigured, match="gives id 3 to both Tick version 1 and Tick version 2"):
            read_schemas(folder)

    @pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff"])
    def test_a_file_that_is_not_a_lock_is_refused(self, folder, content):
        (folder / "ids.json").write_bytes(content)
        with pytest.raises(Misconfigured, match=r"ids\.json"):
            read_schemas(folder)

    def test_an_edited_history_is_refused(self, folder):
        path = folder / "history" / "Scan.v1.avsc"
        path.write_text(path.read_text().replace("One observation", "Any observation"))
        with pytest.raises(Misconfigured, match=r"Scan\.v1\.avsc is not the text"):
            read_schemas(folder)

    @pytest.mark.parametrize("name", ["Scan.avsc", "history/Scan.v1.avsc", "ids.json"])
    def test_a_missing_file_is_reported(self, folder, name):
        (folder / name).unlink()
        with pytest.raises(Misconfigured, match="restore it from git"):
            read_schemas(folder)


# Small random schemas. Every type has a strategy for its values.
plain = st.sampled_from(["int", "long", "string", "bytes", "boolean", "double"])
enums = st.lists(st.sampled_from("ABCDE"), min_size=1, max_size=4, unique=True).map(
    lambda words: {"type": "enum", "name": "E", "symbols": words, "default": words[0]}
)
types = st.one_of(
    plain,
    enums,
    plain.map(lambda item: {"type": "array", "items": item}),
    plain.map(lambda item: {"type": "map", "values": item}),
    st.lists(plain, min_size=1, max_size=2, unique=True).map(lambda branches: ["null", *branches]),
    st.integers(1, 3).map(lambda size: {"type": "fixed", "name": "F", "size": size}),
)
DEFAULTS = {"int": 0, "long": 0, "string": "", "bytes": "", "boolean": False, "double": 0.0}


def default_of(type_):
    return None if isinstance(type_, list) else DEFAULTS.get(type_ if isinstance(type_, str) else "")


@st.composite
def records(draw):
    fields = []
    for name in draw(st.lists(st.sampled_from("abc"), unique=True, max_size=3)):
        type_ = draw(types)
        # A name cannot be defined twice, so each named type gets the name of its field.
        if isinstance(type_, dict) and "name" in type_:
            type_ = type_ | {"name": type_["name"] + name}
        has_default = isinstance(type_, list) or (isinstance(type_, str) and draw(st.booleans()))
        fields.append({"name": name, "type": type_} | ({"default": default_of(type_)} if has_default else {}))
    return {"type": "record", "name": "R", "fields": fields}


VALUES = {
    "null": st.none(),
    "int": st.integers(-(1 << 31), (1 << 31) - 1),
    "long": st.integers(-(1 << 63), (1 << 63) - 1),
    "string": st.text(max_size=3),
    "bytes": st.binary(max_size=3),
    "boolean": st.booleans(),
    "double": st.floats(allow_nan=False),
}


def values(type_):
    if isinstance(type_, str):
        return VALUES[type_]
    if isinstance(type_, list):
        return st.one_of(map(values, type_))
    return {
        "record": lambda: st.fixed_dictionaries({each["name"]: values(each["type"]) for each in type_["fields"]}),
        "enum": lambda: st.sampled_from(type_["symbols"]),
        "fixed": lambda: st.binary(min_size=type_["size"], max_size=type_["size"]),
        "array": lambda: st.lists(values(type_["items"]), max_size=2),
        "map": lambda: st.dictionaries(st.text(max_size=2), values(type_["values"]), max_size=2),
    }[type_["type"]]()


@given(reader=records(), writer=records(), drawn=st.data())
def test_fastavro_can_read_everything_that_the_rules_allow(reader, writer, drawn):
    if find_incompatibilities(reader, writer):
        return
    value = drawn.draw(values(writer))
    body = io.BytesIO()
    fastavro.schemaless_writer(body, writer, value)
    body.seek(0)
    read = fastavro.schemaless_reader(body, writer, reader)
    for each in reader["fields"]:
        written = next((other for other in writer["fields"] if other["name"] == each["name"]), None)
        if written is not None and not (isinstance(each["type"], dict) and each["type"]["type"] == "enum"):
            assert read[each["name"]] == value[each["name"]]


@given(schema=records())
def test_every_schema_can_read_itself(schema):
    assert find_incompatibilities(schema, schema) == []
