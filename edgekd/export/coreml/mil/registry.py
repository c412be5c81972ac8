"""The table of operations, and how their functions see their arguments.

An operation's function registers itself with the names of its parameters. A
parameter that the table does not have is an error, never ignored. Where a
program leaves an optional parameter out, MIL's documented default holds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from edgekd.errors import GateError, InputError
from edgekd.export.coreml.mil.datatypes import BY_NAME, DataType, Value
from edgekd.export.coreml.mil.program import Operation

KNOWN = "every operation must be known to the evaluator"


class OperatorArguments:
    """Arguments of one operation, by parameter name, fetched when asked for."""

    def __init__(self, operation: Operation, fetch: Callable[[str], Value]) -> None:
        self.operation = operation
        self._fetch = fetch

    def has(self, name: str) -> bool:
        return name in self.operation.inputs

    def tensors(self, name: str) -> list[Tensor]:
        """All tensors of a parameter that takes a tuple."""
        values = [self._fetch(item) for item in self.operation.inputs[name]]
        return [value for value in values if isinstance(value, Tensor)]

    def tensor(self, name: str) -> Tensor:
        values = self.tensors(name)
        if len(values) != 1:
            raise InputError(f"{self.operation}: `{name}` must be a tensor", "another value")
        return values[0]

    def maybe_tensor(self, name: str) -> Tensor | None:
        return self.tensor(name) if self.has(name) else None

    def maybe_integers(self, name: str) -> list[int] | None:
        if not self.has(name):
            return None
        tensor = self.tensor(name)
        if tensor.is_floating_point():
            raise InputError(f"{self.operation}: `{name}` must be integers", "numbers")
        return [int(item) for item in tensor.reshape(-1).tolist()]

    def integers(self, name: str, default: list[int] | None = None) -> list[int]:
        found = self.maybe_integers(name)
        if found is None:
            if default is None:
                raise InputError(f"{self.operation} must have `{name}`", "none")
            return default
        return found

    def integer(self, name: str, default: int | None = None) -> int:
        found = self.integers(name, None if default is None else [default])
        if len(found) != 1:
            raise InputError(f"{self.operation}: `{name}` must be one integer", str(found))
        return found[0]

    def number(self, name: str, default: float | None = None) -> float:
        if not self.has(name) and default is not None:
            return default
        tensor = self.tensor(name)
        if tensor.numel() != 1:
            raise InputError(f"{self.operation}: `{name}` must be one number", str(tensor.shape))
        return float(tensor.item())

    def flag(self, name: str, default: bool | None = None) -> bool:
        return bool(self.integer(name, None if default is None else int(default)))

    def flags(self, name: str, count: int) -> list[bool]:
        """`count` booleans, all False where the program leaves them out."""
        return [bool(item) for item in self.integers(name, [0] * count)]

    def text(self, name: str, default: str | None = None) -> str:
        if not self.has(name) and default is not None:
            return default
        value = self._fetch(self.operation.inputs[name][0])
        if not isinstance(value, str):
            raise InputError(f"{self.operation}: `{name}` must be a string", "a tensor")
        return value

    def choice(self, name: str, allowed: tuple[str, ...], default: str | None = None) -> str:
        """A string of a set that the evaluator knows."""
        value = self.text(name, default)
        if value not in allowed:
            raise self.unknown(f"{name}={value!r}")
        return value

    def data_type(self, name: str, default: str | None = None) -> DataType:
        value = self.text(name, default)
        if value not in BY_NAME:
            raise self.unknown(f"{name}={value!r}")
        return BY_NAME[value]

    def unknown(self, found: str) -> GateError:
        """The error for a setting that the evaluator does not know."""
        return GateError(KNOWN, f"{self.operation}, {found}")


Function = Callable[[OperatorArguments], "Tensor | tuple[Tensor, ...]"]


@dataclass(frozen=True)
class KnownOperator:
    """An operation that the evaluator knows."""

    function: Function
    required: frozenset[str]
    optional: frozenset[str]


OPERATIONS: dict[str, KnownOperator] = {}


def operation(kind: str, required: str, optional: str = "") -> Callable[[Function], Function]:
    """Register a function under MIL's name, with its parameters' names, space-separated."""

    def register(function: Function) -> Function:
        if kind in OPERATIONS:
            raise ValueError(f"{kind} is registered already")
        OPERATIONS[kind] = KnownOperator(
            function, frozenset(required.split()), frozenset(optional.split())
        )
        return function

    return register


def find_function(item: Operation) -> Function:
    """The function of an operation.

    Raises:
        GateError: the evaluator does not know the operation, or one of its parameters.
        InputError: a required parameter is missing.
    """
    entry = OPERATIONS.get(item.kind)
    if entry is None:
        raise GateError(KNOWN, str(item))
    extra = sorted(set(item.inputs) - entry.required - entry.optional)
    if extra:
        raise GateError(KNOWN, f"{item}, parameters {extra}")
    missing = sorted(entry.required - set(item.inputs))
    if missing:
        raise InputError(f"{item} must have all required parameters", f"none of {missing}")
    return entry.function
