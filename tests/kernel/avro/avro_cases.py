"""Hypothesis strategies for schemas, their later versions and values, for the tests of the Avro kernel.

A type is a node: {"type": …} with the other nodes in it, or a list of nodes for a union. A named node may occur
several times; `render` writes its definition once and its name after that. The value of a union is (position, value).
"""

import itertools
import math

from hypothesis import strategies as st

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
    """The key that must differ between the types of one union."""
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
    schema = {key: value for key, value in node.items() if key not in ("fields", "items", "values")}
    if node["type"] == "record":
        schema["fields"] = [{**field, "type": render(field["type"], seen)} for field in node["fields"]]
    elif node["type"] in ("array", "map"):
        key = "items" if node["type"] == "array" else "values"
        schema[key] = render(node[key], seen)
    elif len(schema) == 1:
        return node["type"]
    return schema


def schema_of(node):
    return {"namespace": "hub", **render(node, set())}


def spelled_out(node, count=None):
    """The schema without references, each definition in a namespace of its own: fastavro confuses references when it
    resolves. Resolution compares names without their namespace."""
    count = itertools.count() if count is None else count
    if isinstance(node, list):
        return [spelled_out(branch, count) for branch in node]
    schema = dict(node)
    if node["type"] in NAMED:
        schema["namespace"] = f"n{next(count)}"
    if node["type"] == "record":
        schema["fields"] = [{**field, "type": spelled_out(field["type"], count)} for field in node["fields"]]
    elif node["type"] in ("array", "map"):
        key = "items" if node["type"] == "array" else "values"
        schema[key] = spelled_out(node[key], count)
    return schema if len(schema) > 1 else node["type"]


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
    drawn = []
    for _ in range(draw(st.integers(least, 5))):
        field = {"name": world.name("f"), "type": draw(fields(world, depth - 1))}
        if draw(st.booleans()):
            field["default"] = draw(defaults(field["type"]))
        drawn.append(field)
    node = {"type": "record", "name": name, "fields": drawn}
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
    """Makes the schema of an earlier or later writer from a reader's; every named type changes once."""

    def __init__(self, world):
        self.world = world
        self.named = {}

    def union(self, draw, inner, nullable):
        """A union of the writer around the reader's type, with types that the reader does not accept."""
        others = draw(st.lists(readers(self.world, 1), max_size=3))
        branches = [inner, *map(self.rename, others)]
        if nullable or draw(st.booleans()):
            branches.append({"type": "null"})
        once = list({label(branch): branch for branch in reversed(branches)}.values())
        return draw(st.permutations(once))

    def any(self, draw, node):
        if isinstance(node, list):
            inner = next((branch for branch in node if branch["type"] != "null"), {"type": "null"})
            evolved = self.plain(draw, inner)
            match draw(st.integers(0, 3)):
                case 0:
                    return evolved
                case 1 if evolved["type"] != "null":
                    return self.union(draw, evolved, nullable=True)
                case 2:
                    return (
                        draw(st.permutations([evolved, {"type": "null"}])) if evolved["type"] != "null" else [evolved]
                    )
                case _:
                    return [evolved if branch is inner else branch for branch in node]
        evolved = self.plain(draw, node)
        if evolved["type"] != "null" and draw(st.integers(0, 5)) == 0:
            return self.union(draw, evolved, nullable=False)
        return evolved

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
        evolved = []
        for field in node["fields"]:
            if "default" in field and draw(st.integers(0, 2)) == 0:
                continue
            name = field["name"]
            if draw(st.integers(0, 9)) == 0:
                # The reader knows it by an alias.
                name = self.world.name("old")
                field.setdefault("aliases", []).append(name)
            evolved.append({"name": name, "type": self.any(draw, field["type"])})
        for _ in range(draw(st.integers(0, 2))):
            extra = draw(readers(World(), 1)) if draw(st.booleans()) else draw(fields(self.world, 1))
            extra = self.rename(extra)
            evolved.append({"name": self.world.name("x"), "type": extra})
        return {"type": "record", "name": node["name"], "fields": draw(st.permutations(evolved))}

    def rename(self, node):
        """Types that only the writer has; a name that the reader has as well has the writer's meaning."""
        if isinstance(node, list):
            return [self.rename(branch) for branch in node]
        if node["type"] in NAMED:
            if node["name"] in self.named:
                return self.named[node["name"]]
            evolved = dict(node, name=self.world.name("W"))
            if evolved["type"] == "record":
                evolved["fields"] = [{"name": f["name"], "type": self.rename(f["type"])} for f in node["fields"]]
            return evolved
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
