"""A plain Avro writer with all its freedom, and values rebuilt from columns, for the tests of the Avro kernel.

Nodes and values are those of `avro_cases`.
"""

import math
import struct
from typing import Any

import numpy as np

from streams.kernel.avro.layout import Layout


def number(value):
    """The shortest encoding of a long."""
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
    """The record in `row` of the columns, as fastavro would return it."""
    return {field["name"]: cell(field["type"], columns, layout, field["name"], row) for field in node["fields"]}


def cell(node, columns, layout, path, row) -> Any:
    nullable = isinstance(node, list)
    if nullable:
        has_null = any(branch["type"] == "null" for branch in node)
        node = next((branch for branch in node if branch["type"] != "null"), {"type": "null"})
    if node["type"] == "record":
        if nullable and has_null:
            assert cell_of(columns, layout, path, row)[1] in (0, -1)
            if cell_of(columns, layout, path, row)[1] == -1:
                for field in node["fields"]:
                    absent(field["type"], columns, layout, f"{path}.{field['name']}", row)
                return None
        return {
            field["name"]: cell(field["type"], columns, layout, f"{path}.{field['name']}", row)
            for field in node["fields"]
        }
    value, length = cell_of(columns, layout, path, row)
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
    """Check that everything below a null record is null."""
    if path in layout:
        assert cell_of(columns, layout, path, row) == (0, -1)
    if isinstance(node, list):
        node = next((branch for branch in node if branch["type"] != "null"), {"type": "null"})
    if node["type"] == "record":
        for field in node["fields"]:
            absent(field["type"], columns, layout, f"{path}.{field['name']}", row)


def cell_of(columns, layout, path, row):
    frame, column = layout.frame_and_column_index(path)
    table = columns.frames[frame]
    assert 0 <= row < table.rows
    return int(table.values[column, row]), int(table.lengths[column, row])


def settle(node, value):
    """fastavro's value in the reader's type: fastavro leaves defaults as they are in the JSON of the schema."""
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
    """Equal, where every NaN equals every other."""
    if isinstance(left, float) and isinstance(right, float):
        return struct.pack("<d", left) == struct.pack("<d", right) or (math.isnan(left) and math.isnan(right))
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    return type(left) is type(right) and left == right
