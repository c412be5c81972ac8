"""What the command line changes in a suite: models, targets, devices, metrics, weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgekd.benchmark.suite import ExportSuite, Suite
from edgekd.errors import InputError
from edgekd.schema import validate


@dataclass(frozen=True)
class SuiteOptions:
    """As the user wrote them; empty: as the suite says.

    Attributes:
        models: `DIR` or `NAME=DIR`, beside the suite's own.
        targets: `TARGET` or `TARGET:p1,p2`, in place of the suite's.
        devices: in place of the suite's.
        skip: metrics, beside the suite's own.
        inception, dinov2, clip: files for metrics, in place of the suite's.
    """

    models: Sequence[str] = ()
    targets: Sequence[str] = ()
    devices: Sequence[str] = ()
    skip: Sequence[str] = ()
    inception: Path | None = None
    dinov2: Path | None = None
    clip: Path | None = None

    @property
    def weights(self) -> dict[str, Path]:
        given = {"inception": self.inception, "dinov2": self.dinov2, "clip": self.clip}
        return {name: path for name, path in given.items() if path is not None}


def parse_model(text: str) -> tuple[str, Path]:
    """Name and place of `DIR` or `NAME=DIR`; a folder without a name has its own, a file its stem.

    Raises:
        InputError: nothing behind the `=`.
    """
    name, equals, place = text.partition("=")
    # What stands before it is no name where the whole is a path.
    if not equals or "/" in name or Path(text).exists():
        path = Path(text).expanduser()
        own = path.resolve()
        return own.stem if own.is_file() else own.name, path
    if not place:
        raise InputError("`--models` takes DIR or NAME=DIR", repr(text))
    return name, Path(place).expanduser()


def parse_targets(texts: Sequence[str]) -> dict[str, list[str]]:
    """Target -> precisions, of `TARGET` and `TARGET:p1,p2`; empty: all that the target lists.

    Raises:
        InputError: a target twice, or a `:` without precisions.
    """
    found: dict[str, list[str]] = {}
    for text in texts:
        name, colon, listed = (text, "", "") if Path(text).exists() else text.partition(":")
        precisions = [one.strip() for one in listed.split(",")] if colon else []
        if not name or "" in precisions:
            raise InputError("`--targets` takes TARGET or TARGET:p1,p2", repr(text))
        if name in found:
            raise InputError("`--targets` takes each target once", f"`{name}` twice")
        found[name] = precisions
    return found


def with_options(suite: Suite, options: SuiteOptions) -> Suite:
    """The suite with what the user asked for besides.

    Raises:
        InputError: options that cannot be read, or that the schema of suites refuses.
    """
    models = dict(suite.models)
    given = [parse_model(text) for text in options.models]
    for name, path in given:
        if name == "teacher":
            raise InputError(
                "the name `teacher` must be left to the recipe's teacher, which is always measured",
                f"`{name}` for {path}",
                "Give the folder another name, NAME=DIR; --targets exports the teacher too.",
            )
        if [one for one, _ in given].count(name) > 1:
            raise InputError(
                "models of a benchmark must have different names",
                f"`{name}` twice",
                "Give them as NAME=DIR.",
            )
        models[name] = path
    changes = {
        "models": models,
        "targets": parse_targets(options.targets) or suite.targets,
        "devices": list(options.devices) or suite.devices,
        "skip": [*suite.skip, *options.skip],
        "weights": {**suite.weights.model_dump(), **options.weights},
    }
    asked = validate(Suite, {**suite.model_dump(), **changes}, f"suite `{suite.name}`, as asked,")
    for name, path in asked.weights:
        if path is not None and not path.exists():
            raise InputError(f"`--{name}` (`weights.{name}`) must exist", str(path))
    return asked


def exports_with_options(suite: ExportSuite, options: SuiteOptions) -> ExportSuite:
    """A suite of exports for the targets that the user asked for.

    Raises:
        InputError: any other option: it makes its own pipeline, and draws nothing.
    """
    if options != SuiteOptions(targets=options.targets):
        raise InputError(
            f"suite `{suite.name}` makes its own pipeline",
            "--models, --devices, --skip or weights of metrics",
            "Leave them out.",
        )
    return suite.model_copy(update={"targets": parse_targets(options.targets) or suite.targets})
