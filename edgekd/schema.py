"""YAML files and `--set` assignments, held against pydantic schemas; problems go on one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from edgekd.errors import InputError
from edgekd.reading import read_text


class Section(BaseModel):
    """Base of all recipe sections: frozen, unknown names and infinite numbers refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


Model = TypeVar("Model", bound=BaseModel)
# PyYAML's constructors raise what they meet where a value is none: a thirteenth month, a number
# without digits, nesting without end.
YAML_FAULTS = (yaml.YAMLError, ValueError, LookupError, AttributeError, RecursionError)
MAX_SHOWN = 120  # letters of a value that a message quotes


def load_yaml(path: Path, quote: bool = True) -> dict[str, Any]:
    """Read a YAML mapping with the safe loader.

    Args:
        quote: whether messages may show what is in it; not where that may be a secret.

    Raises:
        InputError: unreadable, no file that ends soon, not YAML, or not a mapping.
    """
    text = read_text(path)
    try:
        value = yaml.safe_load(text)
    except YAML_FAULTS as error:
        problem = " ".join(str(error).split()) if quote else _place(error)
        raise InputError(f"`{path}` must be YAML", problem) from None
    if not isinstance(value, dict):
        raise InputError(f"`{path}` must hold a mapping", type(value).__name__)
    return value


def _place(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    return "a text that is none" + (f" from line {mark.line + 1} on" if mark else "")


def override(values: dict[str, Any], assignments: list[str]) -> dict[str, Any]:
    """Apply `a.b=c` assignments; the right side is read as YAML.

    Raises:
        InputError: an assignment without `=`, or one that goes through a non-mapping.
    """
    result: dict[str, Any] = {**values}
    for assignment in assignments:
        dotted, separator, text = assignment.partition("=")
        if not separator or not dotted:
            raise InputError("`--set` takes `section.field=value`", repr(assignment))
        node = result
        *parents, leaf = dotted.split(".")
        for parent in parents:
            child = node.get(parent)
            if child is not None and not isinstance(child, dict):
                raise InputError(
                    f"`{parent}` in `--set {assignment}` must be a section", repr(child)
                )
            node[parent] = {**(child or {})}
            node = node[parent]
        try:
            node[leaf] = yaml.safe_load(text)
        except YAML_FAULTS:
            raise InputError("the value of `--set` must be YAML", repr(text)) from None
    return result


def validate(model: type[Model], values: dict[str, Any], where: str, quote: bool = True) -> Model:
    """Validate a mapping against a schema; all problems go on one line.

    Args:
        quote: as `load_yaml`.

    Raises:
        InputError: with `field: problem` for each field, `; ` between them.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        problems = "; ".join(_problem(item, quote) for item in error.errors())
        raise InputError(f"{where} must follow its schema", problems) from None


def _problem(item: Any, quote: bool) -> str:
    field = ".".join(str(part) for part in item["loc"]) or "(top level)"
    if item["type"] == "extra_forbidden":
        return f"unknown key `{field}`"
    if item["type"] == "missing":
        return f"`{field}` is missing"
    if not quote or isinstance(item["input"], dict):
        return f"`{field}`: {item['msg']}"  # a mapping's rule is on fields, and names them
    found = repr(item["input"])
    if len(found) > MAX_SHOWN:
        found = f"{found[: MAX_SHOWN - 3]}..."
    return f"`{field}`: {item['msg']} (got {found})"
