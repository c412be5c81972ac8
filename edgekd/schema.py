"""YAML files and `--set` assignments, held against pydantic schemas; problems go on one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from edgekd.errors import InputError


class Section(BaseModel):
    """Base of all recipe sections: frozen, unknown names and infinite numbers refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


Model = TypeVar("Model", bound=BaseModel)
MAX_SHOWN = 120  # letters of a value that a message quotes


def load_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping with the safe loader.

    Raises:
        InputError: unreadable, not YAML, or not a mapping.
    """
    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError("the file must be readable text", f"{path} ({error})") from None
    except yaml.YAMLError as error:
        problem = " ".join(str(error).split())
        raise InputError(f"`{path}` must be YAML", problem) from None
    if not isinstance(value, dict):
        raise InputError(f"`{path}` must hold a mapping", type(value).__name__)
    return value


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
        except yaml.YAMLError:
            raise InputError("the value of `--set` must be YAML", repr(text)) from None
    return result


def validate(model: type[Model], values: dict[str, Any], where: str) -> Model:
    """Validate a mapping against a schema; all problems go on one line.

    Raises:
        InputError: with `field: problem` for each field, `; ` between them.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        problems = "; ".join(_problem(item) for item in error.errors())
        raise InputError(f"{where} must follow its schema", problems) from None


def _problem(item: Any) -> str:
    field = ".".join(str(part) for part in item["loc"]) or "(top level)"
    if item["type"] == "extra_forbidden":
        return f"unknown key `{field}`"
    if item["type"] == "missing":
        return f"`{field}` is missing"
    if isinstance(item["input"], dict):
        return f"`{field}`: {item['msg']}"  # the rule is on some of its fields, and names them
    found = repr(item["input"])
    if len(found) > MAX_SHOWN:
        found = f"{found[: MAX_SHOWN - 3]}..."
    return f"`{field}`: {item['msg']} (got {found})"
