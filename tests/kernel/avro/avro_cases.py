"""Schemas, their later versions and records for the tests of the Avro kernel, and a plain writer with all its freedom.

A type is a node: {"type": …} with the other nodes in it, or a list of nodes for a union. A named node may occur
several times; `render` writes its definition once and its name from then on. The value of a union is (position, value).
"""

import itertools
import math
import struct
from typing import Any

import numpy as np
from hypothesis import strategies as st

from streams.kernel.avro.layout import Layout

PRIMITIVES = ["boolean", "int", "long", "float", "double", "bytes", "string"]
NAMED = ("record", "enum", "fixed")
# Writer's type for each reader's type that it can be promoted to.
PROMOTED = {
    "long": ["long", "int"],
    "float": ["float", "int", "long"],
    "double": ["double", "float", "int", "long"],
    "string": ["string", "bytes"],
    "bytes": ["bytes", "string"],
}
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20) | st.text("abc0", max_size=40)


class World:
    """Names given so far, and named types that may be used again."""

    def __init__(self):
        self.count = 0
        self.named = []

    def name(self, prefix):
        self.count += 1
        return f"{prefix}{self.count}"


def kind(node):
    return "union" if isinstance(node, list) else node["type"]


def label(node):
    """What must differ between the types of one union."""
    return node["name"] if node["type"] in NAMED else node["type"]


def width(node):
    """Bytes of the shortest value."""
    if isinstance(node, list):
        return 1
    match node["type"]:
        case "null":
            return 0
        case "fixed":
            return node["size"]
        case "record":
            return sum(width(field["type"]) for field in node["fields"])
        case _:
            return 1


def render(node, seen):
    """The node as an Avro schema; `seen` are the names already defined in it."""
    if isinstance(node, list):
        return [render(branch, seen) for branch in node]
    if node["type"] in NAMED:
        if node["name"] in seen:
            return node["name"] if len(seen) % 2 else "hub." + node["name"]
        seen.add(node["name"])
    made = {key: value for key, value in node.items() if key not in ("fields", "items", "values")}
    if node["type"] == "record":
        made["fields"] = [{**field, "type": render(field["type"], seen)} for field in node["fields"]]
    elif node["type"] in ("array", "map"):
        key = "items" if node["type"] == "array" else "values"
        made[key] = render(node[key], seen)
    elif len(made) == 1:
        return node["type"]
    return made


def schema_of(node):
    return {"namespace": "hub", **render(node, set())}


def spelled_out(node, count=None):
    """The same without references, each definition in a namespace of its own: fastavro loses its way among references
    when it resolves. Resolution compares names without their namespace."""
    count = itertools.count() if count is None else count
    if isinstance(node, list):
        return [spelled_out(branch, count) for branch in node]
    made = dict(node)
    if node["type"] in NAMED:
        made["namespace"] = f"n{next(count)}"
    if node["type"] == "record":
        made["fields"] = [{**field, "type": spelled_out(field["type"], count)} for field in node["fields"]]
    elif node["type"] in ("array", "map"):
        key = "items" if node["type"] == "array" else "values"
        made[key] = spelled_out(node[key], count)
    return made if len(made) > 1 else node["type"]


@st.composite
def readers(draw, world, depth):
    """A type of the supported class, not a union and not null."""
    if world.named and draw(st.integers(0, 4)) == 0:
        return draw(st.sampled_from(world.named))
    choices = [*PRIMITIVES, "enum", "fixed"] + (["record", "array", "map"] if depth else [])
    return draw(definitions(world, draw(st.sampled_from(choices)), depth))


@st.composite
def definitions(draw, world, wanted, depth):
    if wanted == "enum":
        words = draw(st.lists(st.sampled_from("ABCDEFGH"), min_size=1, max_size=6, unique=True))
        node = {"type": "enum", "name": world.name("E"), "symbols": words}
        if draw(st.booleans()):
            node["default"] = draw(st.sampled_from(words))
    elif wanted == "fixed":
        node = {"type": "fixed", "name": world.name("F"), "size": draw(st.sampled_from([0, 1, 3, 8, 16]))}
    elif wanted == "record":
        return draw(records(world, depth))
    elif wanted in ("array", "map"):
        items = draw(fields(world, depth - 1))
        if width(items) == 0:
            items = {"type": "long"}
        return {"type": wanted, "items" if wanted == "array" else "values": items}
    else:
        return {"type": wanted}
    world.named.append(node)
    return node


@st.composite
def fields(draw, world, depth):
    """A type as it may stand in a field of a reader: perhaps nullable, perhaps null."""
    inner = draw(readers(world, depth))
    match draw(st.integers(0, 11)):
        case 0 | 1 | 2:
            return [{"type": "null"}, inner]
        case 3 | 4:
            return [inner, {"type": "null"}]
        case 5:
            return [inner]
        case 6:
            return {"type": "null"}
        case _:
            return inner


@st.composite
def records(draw, world, depth, least=0):
    name = world.name("R")
    made = []
    for _ in range(draw(st.integers(least, 5))):
        field = {"name": world.name("f"), "type": draw(fields(world, depth - 1))}
        if draw(st.booleans()):
            field["default"] = draw(defaults(field["type"]))
        made.append(field)
    node = {"type": "record", "name": name, "fields": made}
    world.named.append(node)
    return node


@st.composite
def defaults(draw, node):
    """A value as it stands in a schema."""
    value = draw(values(node))
    return as_json(node, value)


def as_json(node, value):
    if isinstance(node, list):
        return as_json(node[value[0]], value[1])
    match node["type"]:
        case "bytes" | "fixed":
            return value.decode("latin-1")
        case "float" | "double":
            return value if math.isfinite(value) else 0.5
        case "array":
            return [as_json(node["items"], item) for item in value]
        case "map":
            return {key: as_json(node["values"], item) for key, item in value.items()}
        case "record":
            return {field["name"]: as_json(field["type"], value[field["name"]]) for field in node["fields"]}
        case _:
            return value


@st.composite
def values(draw, node):
    if isinstance(node, list):
        index = draw(st.integers(0, len(node) - 1))
        return index, draw(values(node[index]))
    match node["type"]:
        case "null":
            return None
        case "boolean":
            return draw(st.booleans())
        case "int":
            return draw(st.integers(-(2**31), 2**31 - 1) | st.integers(-70, 70))
        case "long":
            return draw(st.integers(-(2**63), 2**63 - 1) | st.integers(-70, 70))
        case "float":
            return draw(st.floats(width=32))
        case "double":
            return draw(st.floats())
        case "bytes":
            return draw(st.binary(max_size=20))
        case "string":
            return draw(TEXTS)
        case "fixed":
            return draw(st.binary(min_size=node["size"], max_size=node["size"]))
        case "enum":
            return draw(st.sampled_from(node["symbols"]))
        case "array":
            return draw(st.lists(values(node["items"]), max_size=3))
        case "map":
            return draw(st.dictionaries(TEXTS, values(node["values"]), max_size=3))
        case _:
            return {field["name"]: draw(values(field["type"])) for field in node["fields"]}


class Evolution:
    """Makes the schema of an earlier or later writer out of a reader's; every named type changes once."""

    def __init__(self, world):
        self.world = world
        self.named = {}

    def union(self, draw, inner, nullable):
        """The writer may use a union around what the reader takes, with types that the reader does not take."""
        others = draw(st.lists(readers(self.world, 1), max_size=3))
        branches = [inner, *map(self.rename, others)]
        if nullable or draw(st.booleans()):
            branches.append({"type": "null"})
        once = list({label(branch): branch for branch in reversed(branches)}.values())
        return draw(st.permutations(once))

    def any(self, draw, node):
        if isinstance(node, list):
            inner = next((branch for branch in node if branch["type"] != "null"), {"type": "null"})
            made = self.plain(draw, inner)
            match draw(st.integers(0, 3)):
                case 0:
                    return made
                case 1 if made["type"] != "null":
                    return self.union(draw, made, nullable=True)
                case 2:
                    return draw(st.permutations([made, {"type": "null"}])) if made["type"] != "null" else [made]
                case _:
                    return [made if branch is inner else branch for branch in node]
        made = self.plain(draw, node)
        if made["type"] != "null" and draw(st.integers(0, 5)) == 0:
            return self.union(draw, made, nullable=False)
        return made

    def plain(self, draw, node):
        if node["type"] in NAMED:
            if node["name"] not in self.named:
                self.named[node["name"]] = self.definition(draw, node)
            return self.named[node["name"]]
        if node["type"] in ("array", "map"):
            key = "items" if node["type"] == "array" else "values"
            items = self.any(draw, node[key])
            return {"type": node["type"], key: items if width(items) else [items]}
        return {"type": draw(st.sampled_from(PROMOTED.get(node["type"], [node["type"]])))}

    def definition(self, draw, node):
        if node["type"] == "enum":
            words = draw(st.permutations(node["symbols"]))
            if draw(st.booleans()):
                words = draw(st.lists(st.sampled_from("ABCDEFGH"), min_size=1, max_size=6, unique=True))
            return {"type": "enum", "name": node["name"], "symbols": list(words)}
        if node["type"] == "fixed":
            return dict(node)
        made = []
        for field in node["fields"]:
            if "default" in field and draw(st.integers(0, 2)) == 0:
                continue
            name = field["name"]
            if draw(st.integers(0, 9)) == 0:
                # The reader knows it by an alias.
                name = self.world.name("old")
                field.setdefault("aliases", []).append(name)
            made.append({"name": name, "type": self.any(draw, field["type"])})
        for _ in range(draw(st.integers(0, 2))):
            extra = draw(readers(World(), 1)) if draw(st.booleans()) else draw(fields(self.world, 1))
            extra = self.rename(extra)
            made.append({"name": self.world.name("x"), "type": extra})
        return {"type": "record", "name": node["name"], "fields": draw(st.permutations(made))}

    def rename(self, node):
        """Types that only the writer has; where a name is the reader's too, it means what it means to the writer."""
        if isinstance(node, list):
            return [self.rename(branch) for branch in node]
        if node["type"] in NAMED:
            if node["name"] in self.named:
                return self.named[node["name"]]
            made = dict(node, name=self.world.name("W"))
            if made["type"] == "record":
                made["fields"] = [{"name": f["name"], "type": self.rename(f["type"])} for f in node["fields"]]
            return made
        if node["type"] in ("array", "map"):
            key = "items" if node["type"] == "array" else "values"
            return {"type": node["type"], key: self.rename(node[key])}
        return node


@st.composite
def reader_records(draw):
    """A reader's record type of the supported class."""
    return draw(records(World(), 3, least=1))


@st.composite
def pairs(draw):
    """(writer, reader): record types, where the reader can read at least some of the writer's records."""
    world = World()
    reader = draw(records(world, 3, least=1))
    writer = Evolution(world).plain(draw, reader)
    return writer, reader


def number(value):
    """A long as the shortest number that says it."""
    u = (value << 1) ^ (value >> 63)
    u &= 2**64 - 1
    out = bytearray()
    while u >= 0x80:
        out.append(u & 0x7F | 0x80)
        u >>= 7
    out.append(u)
    return bytes(out)


def write(node, value, style=None):
    """Avro bytes. `style`: a random.Random that decides how arrays and maps are cut into blocks; None: one block."""
    if isinstance(node, list):
        return number(value[0]) + write(node[value[0]], value[1], style)
    match node["type"]:
        case "null":
            return b""
        case "boolean":
            return bytes([value])
        case "int" | "long":
            return number(value)
        case "float":
            return struct.pack("<f", value)
        case "double":
            return struct.pack("<d", value)
        case "bytes":
            return number(len(value)) + value
        case "string":
            return number(len(value.encode())) + value.encode()
        case "fixed":
            return value
        case "enum":
            return number(node["symbols"].index(value))
        case "array":
            return blocks([write(node["items"], item, style) for item in value], style)
        case "map":
            items = [write({"type": "string"}, key) + write(node["values"], item, style) for key, item in value.items()]
            return blocks(items, style)
        case _:
            return b"".join(write(field["type"], value[field["name"]], style) for field in node["fields"])


def blocks(items, style):
    out = b""
    while items:
        count = style.randint(1, len(items)) if style else len(items)
        block = b"".join(items[:count])
        out += number(-count) + number(len(block)) if style and style.random() < 0.5 else number(count)
        out += block
        items = items[count:]
    return out + b"\0"


def rebuild(node, columns, layout: Layout, row):
    """The record of `row` as fastavro would give it, out of the columns."""
    return {field["name"]: cell(field["type"], columns, layout, field["name"], row) for field in node["fields"]}


def cell(node, columns, layout, path, row) -> Any:
    nullable = isinstance(node, list)
    if nullable:
        has_null = any(branch["type"] == "null" for branch in node)
        node = next((branch for branch in node if branch["type"] != "null"), {"type": "null"})
    if node["type"] == "record":
        if nullable and has_null:
            assert own(columns, layout, path, row)[1] in (0, -1)
            if own(columns, layout, path, row)[1] == -1:
                for field in node["fields"]:
                    absent(field["type"], columns, layout, f"{path}.{field['name']}", row)
                return None
        return {
            field["name"]: cell(field["type"], columns, layout, f"{path}.{field['name']}", row)
            for field in node["fields"]
        }
    value, length = own(columns, layout, path, row)
    if length == -1:
        assert value == 0
        assert node["type"] == "null" or (nullable and has_null)
        return None
    match node["type"]:
        case "boolean":
            return bool(value)
        case "int" | "long":
            return value
        case "float" | "double":
            return float(np.int64(value).view(np.float64))
        case "enum":
            return node["symbols"][value]
        case "string":
            return bytes(columns.buffer[value : value + length]).decode()
        case "bytes" | "fixed":
            return bytes(columns.buffer[value : value + length])
        case "array":
            return [cell(node["items"], columns, layout, path + "[]", value + k) for k in range(length)]
        case _:
            return {
                cell({"type": "string"}, columns, layout, path + "{key}", value + k): cell(
                    node["values"], columns, layout, path + "{}", value + k
                )
                for k in range(length)
            }


def absent(node, columns, layout, path, row):
    """Everything below a record that is not there is null."""
    if path in layout:
        assert own(columns, layout, path, row) == (0, -1)
    if isinstance(node, list):
        node = next((branch for branch in node if branch["type"] != "null"), {"type": "null"})
    if node["type"] == "record":
        for field in node["fields"]:
            absent(field["type"], columns, layout, f"{path}.{field['name']}", row)


def own(columns, layout, path, row):
    frame, column = layout.frame_and_column_index(path)
    table = columns.frames[frame]
    assert 0 <= row < table.rows
    return int(table.values[column, row]), int(table.lengths[column, row])


def settle(node, value):
    """fastavro's value as the reader's type says it: defaults stand in it as they stand in the schema's JSON."""
    if isinstance(node, list):
        if value is None:
            return None
        node = next((branch for branch in node if branch["type"] != "null"), {"type": "null"})
    match node["type"]:
        case "bytes" | "fixed" if isinstance(value, str):
            return value.encode("latin-1")
        case "float":
            with np.errstate(over="ignore"):
                return float(np.float32(value))
        case "double":
            return float(value)
        case "array":
            return [settle(node["items"], item) for item in value]
        case "map":
            return {key: settle(node["values"], item) for key, item in value.items()}
        case "record":
            return {
                field["name"]: settle(field["type"], value.get(field["name"], field.get("default")))
                for field in node["fields"]
            }
        case _:
            return value


def same(left, right):
    """Equal, where each NaN equals each other."""
    if isinstance(left, float) and isinstance(right, float):
        return struct.pack("<d", left) == struct.pack("<d", right) or (math.isnan(left) and math.isnan(right))
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    return type(left) is type(right) and left == right
