"""What is wrong with a file of configuration, in the words of whoever wrote it: no word of the validator's own."""

import difflib
import re
from collections.abc import Callable, Iterable
from typing import Any, Final

from pydantic import BaseModel, ValidationError

_SAYS: Final[dict[str, str]] = {
    "missing": "is needed, and is not there",
    "tuple_type": "must be a list, for example [A, B]",
    "too_short": "needs at least {min_length}",
    "too_long": "takes at most {max_length}, not {actual_length}",
    "literal_error": "there is {expected}",
    "enum": "there is {expected}",
    "string_type": "must be a text",
    "string_pattern_mismatch": "must match {pattern}",
    "string_too_short": "must not be empty",
    "string_too_long": "has at most {max_length} characters",
    "bool_type": "is true or false",
    "bool_parsing": "is true or false",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a number",
    "greater_than": "must be greater than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "dict_type": "must have keys with values, as in key: value",
    "model_type": "must have keys with values, as in key: value",
    "model_attributes_type": "must have keys with values, as in key: value",
}


def describe_config_errors(
    error: ValidationError, models: Iterable[type[BaseModel]], document_name: str, named: Callable[[str], str] = str
) -> list[str]:
    """One line a problem: where, what would be right, and the value where it is a short one.

    Args:
        error: what the validator found.
        models: of everything that the file may hold, for keys that are misspelt.
        whole: what to call the file itself.
        named: makes a path like `lanes[3].share` say more.
    """
    keys = sorted({field for model in models for field in model.model_fields})
    problems = error.errors(include_url=False)
    lines = []
    for problem in problems:
        where, value = _path(problem["loc"]), problem["input"]
        # Elements that are wrong are told of themselves.
        if problem["type"] == "too_short" and any(_path(each["loc"]).startswith(f"{where}[") for each in problems):
            continue
        shown = f" (here: {value!r})" if isinstance(value, str | int | float | None) else ""
        text = _text(problem, keys)
        if not where and value is None:
            text, shown = "nothing is said", ""
        lines.append(f"  {named(where) or document_name}: {text}{shown}")
    return lines


def _path(place: Iterable[int | str]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).lstrip(".")


def _text(problem: Any, keys: list[str]) -> str:
    if problem["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(problem["loc"][-1]), keys, 1)
        return f"there is no such key; did you mean {near[0]}?" if near else "there is no such key"
    said = _SAYS.get(problem["type"])
    if said is None:
        return str(problem["msg"].removeprefix("Value error, "))
    return re.sub(r"\{(\w+)\}", lambda found: str(problem["ctx"][found[1]]), said)
