"""The instructions of the compiled decoder, and programs of them.

An instruction is a row (operation, column, a, b, c, d). The column is an index over all frames, -1 where the value is
skipped. The meaning of a, b, c and d is noted at each operation.
"""

from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

INSTRUCTION_WIDTH: Final = 6

(
    STRING,  # a: 0
    NULLABLE_STRING,  # a: position of null in the union
    LONG,
    NULLABLE_LONG,  # a: position of null in the union
    INT,
    NULLABLE_INT,  # a: position of null in the union
    ENUM,  # a: number of symbols, b: table of the reader's numbers in the pool (-1: the same numbers)
    FIXED,  # a: bytes
    BOOLEAN,
    FLOAT,
    DOUBLE,
    BYTES,
    LONG_AS_FLOAT,  # a: 1 if the writer's is an int
    LONG_AS_DOUBLE,  # a: 1 if the writer's is an int
    NULLABLE,  # a: position of null, b and c: columns to set to null (range of the pool), d: instruction after null
    SET_NULLS,  # b and c: columns to set to null (range of the pool)
    ARRAY,  # a: frame of the items (-1: skipped), b: depth, c: instruction after the last item
    NEXT_ITEM,  # a: frame, b: depth, c: first instruction of an item
    UNION,  # a: first instructions of the branches (in the pool), b: number of branches
    JUMP,  # a: next instruction
    SET_NUMBER,  # a: value
    SET_CONSTANT,  # a: position among the constants, b: bytes
    DEFAULT_ARRAY,  # a: frame, b: depth, c: items
    DEFAULT_ITEM,  # a: frame
    DEFAULT_END,  # b: depth
    FAIL,
    END,
    RAW_BEGIN,  # b: depth
    RAW_END,  # b: depth
) = range(29)


@dataclass
class DecoderProgram:
    """The instructions of all writer schemas, one after the other, and their operands."""

    code: list[tuple[int, ...]] = field(default_factory=list)
    operand_pool: list[int] = field(default_factory=list)
    constants: bytearray = field(default_factory=bytearray)
    # Deepest nesting of arrays and maps.
    max_depth: int = 0
    # Frame -> fewest bytes of an item, over all writers that have it.
    min_item_bytes: dict[int, int] = field(default_factory=dict)
    # (frame, frame of the array's record) -> most items that defaults add to each row of the latter.
    default_items: dict[tuple[int, int], int] = field(default_factory=dict)

    def code_array(self) -> Any:
        """The instructions as int64[instructions, INSTRUCTION_WIDTH]."""
        return np.array(self.code, np.int64).reshape(len(self.code), INSTRUCTION_WIDTH)
