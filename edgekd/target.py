"""Schema of `export_targets/<target>/target.yaml`: one device and its runtime."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, model_validator

from edgekd.errors import InputError
from edgekd.recipe import Bounds
from edgekd.resources import data_root
from edgekd.schema import Section, load_yaml, validate


class Target(Section):
    name: str = Field(..., pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")
    description: str
    runtime: str = Field(..., description="name of an exporter in the group `edgekd.exporters`")
    precisions: list[str] = Field(..., min_length=1, description="what is exported, in this order")
    deploy: str = Field(..., description="the precision that the headline figures speak of")
    schedulers: list[str] = Field(..., min_length=1, description="schedulers its clients know")
    budgets: Bounds = Field(
        {}, description="bounds of the exported student by metric: `latency_ms`, `size_bytes`, ..."
    )

    @model_validator(mode="after")
    def _deploy_is_exported(self) -> Target:
        if self.deploy not in self.precisions:
            raise ValueError(f"`deploy` must be one of `precisions`, but got {self.deploy!r}")
        return self


def list_targets() -> list[Target]:
    """All shipped targets, by name."""
    files = sorted((data_root() / "export_targets").glob("*/target.yaml"))
    return [load_target_file(path) for path in files]


def load_target_file(path: Path) -> Target:
    return validate(Target, load_yaml(path), f"target `{path}`")


def load_target(name: str) -> Target:
    """A shipped target by name, or a target folder by path.

    Raises:
        InputError: there is none; the message lists the shipped ones.
    """
    path = Path(name)
    if (path / "target.yaml").is_file():
        return load_target_file(path / "target.yaml")
    targets = {target.name: target for target in list_targets()}
    if name not in targets:
        raise InputError(f"`--target` must be one of {', '.join(sorted(targets))}", repr(name))
    return targets[name]
