"""The mistakes in a configuration file, in the words of its author rather than those of the validator."""

import difflib
import re
from collections.abc import Callable, Iterable
from typing import Any, Final

from pydantic import BaseModel, ValidationError

_MESSAGES: Final[dict[str, str]] = {
    "missing": "is needed, and is missing",
    "tuple_type": "must be a list, for example [A, B]",
    "too_short": "needs at least {min_length}",
    "too_long": "takes at most {max_length}, not {actual_length}",
    "literal_error": "must be {expected}",
    "enum": "must be {expected}",
    "string_type": "must be a text",
    "string_pattern_mismatch": "must match {pattern}",
    "string_too_short": "must not be empty",
    "string_too_long": "takes at most {max_length} characters",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
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
    error: ValidationError,
    models: Iterable[type[BaseModel]],
    document_name: str,
    describe_path: Callable[[str], str] = str,
) -> list[str]:
    """One line for each problem: the path, what would be right, and the value if it is a short one.

    Args:
        error: the problems that the validator found.
        models: the models of everything that the file may hold, for keys that are misspelt.
        document_name: name of the file as a whole.
        describe_path: adds to a path like `lanes[3].share`.
    """
    keys = sorted({field for model in models for field in model.model_fields})
    problems = error.errors(include_url=False)
    lines = []
    for problem in problems:
        path, value = _path(problem["loc"]), problem["input"]
        # The elements of the list that are wrong have lines of their own.
        if problem["type"] == "too_short" and any(_path(each["loc"]).startswith(f"{path}[") for each in problems):
            continue
        shown = f" (here: {value!r})" if isinstance(value, str | int | float | None) else ""
        text = _text(problem, keys)
        if not path and value is None:
            text, shown = "the file is empty", ""
        lines.append(f"  {describe_path(path) or document_name}: {text}{shown}")
    return lines


def _path(location: Iterable[int | str]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).lstrip(".")


def _text(problem: Any, keys: list[str]) -> str:
    if problem["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(problem["loc"][-1]), keys, 1)
        return f"there is no such key; did you mean {near[0]}?" if near else "there is no such key"
    message = _MESSAGES.get(problem["type"])
    if message is None:
        return str(problem["msg"].removeprefix("Value error, "))
    return re.sub(r"\{(\w+)\}", lambda found: str(problem["ctx"][found[1]]), message)
