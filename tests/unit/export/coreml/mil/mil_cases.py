"""What the tests of the operations share: a program and the same in torch."""

from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from edgekd.export.coreml.mil.evaluator import PackageEvaluator
from edgekd.export.coreml.mil.registry import OPERATIONS


def draw(*shape: int, seed: int = 0, positive: bool = False) -> Tensor:
    values = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    return values.abs() + 0.1 if positive else values


def whole(*shape: int, high: int = 9, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, high, shape, generator=generator, dtype=torch.int32)


@dataclass(frozen=True)
class Case:
    """`build(mb, *inputs)` is one program, `reference(*inputs)` the same in torch."""

    kind: str
    build: Callable[..., Any]
    reference: Callable[..., Any]
    inputs: tuple[Tensor, ...] = field(default_factory=lambda: (draw(2, 3, 4),))
    target: str = "iOS17"
    label: str = ""


def with_x(
    kind: str,
    reference: Callable[[Tensor], Any],
    x: Tensor | None = None,
    target: str = "iOS17",
    **parameters: Any,
) -> Case:
    """One input and constant parameters."""
    label = "-".join(f"{key}={value}" for key, value in parameters.items())[:60]
    x = draw(2, 3, 4) if x is None else x
    build = lambda mb, x: getattr(mb, kind)(x=x, **parameters)  # noqa: E731
    return Case(kind, build, reference, (x,), target, label)


def binary(kind: str, reference: Callable[[Tensor, Tensor], Tensor], *inputs: Tensor) -> Case:
    inputs = inputs or (draw(2, 3, 4), draw(3, 1, seed=1))
    return Case(kind, lambda mb, x, y: getattr(mb, kind)(x=x, y=y), reference, inputs)


def case_id(case: Case) -> str:
    return f"{case.kind} {case.label}".strip()


def check(case: Case, save_package: Callable[..., Any]) -> None:
    """Save the program, evaluate the package, and compare with torch."""
    evaluator = PackageEvaluator(save_package(case.build, case.inputs, case.target))
    assert case.kind in {step.kind for step, _ in evaluator._steps}
    outputs = evaluator(
        {name: x.numpy() for name, x in zip(evaluator.inputs, case.inputs, strict=True)}
    )
    expected = case.reference(*case.inputs)
    expected = [expected] if isinstance(expected, Tensor) else list(expected)
    for name, reference in zip(evaluator.outputs, expected, strict=True):
        # torch's own tolerance for float32: both sum in float32, in different orders.
        torch.testing.assert_close(torch.from_numpy(outputs[name]), reference, equal_nan=True)


def run(save_package: Callable[..., Any], build: Callable[..., Any], *inputs: Tensor) -> Any:
    evaluator = PackageEvaluator(save_package(build, inputs))
    return evaluator({name: x.numpy() for name, x in zip(evaluator.inputs, inputs, strict=True)})


def kinds(family: ModuleType) -> set[str]:
    """Operations that a module of the evaluator registers."""
    return {
        kind for kind, entry in OPERATIONS.items() if entry.function.__module__ == family.__name__
    }
