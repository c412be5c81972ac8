"""A device, whatever is between it and this process.

`edgekd.devices.local.LocalDevice` is this machine, and what an agent measures with;
`edgekd.devices.client` is an agent's client. An Android device over `adb` and an iOS device would
be two more (docs/agents.md): neither was executed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from edgekd.devices.orders import CheckJob, ExportSettings, GraphSettings, PictureSettings
from edgekd.devices.results import CheckResult, ExportResult, GraphResults
from edgekd.devices.schema import Description

Component = Literal["unet", "vae_decoder", "text_encoder", "text_encoder_2"]


@dataclass(frozen=True)
class ExportFolder:
    """An exported folder on this machine, and what it draws."""

    folder: Path
    drawing: PictureSettings


@dataclass(frozen=True)
class ExportOrder:
    """Exported folders to measure, by the names of their rows."""

    rows: Mapping[str, ExportFolder]
    settings: ExportSettings


@dataclass(frozen=True)
class GraphFolder:
    """A converted graph on this machine; see `edgekd.devices.orders.GraphFiles`."""

    folder: Path
    component: Component
    whole: bool


@dataclass(frozen=True)
class GraphOrder:
    """Graphs to time by name, each in turns with the reference."""

    graphs: Mapping[str, GraphFolder]
    reference: Path
    settings: GraphSettings


class Device(Protocol):
    """Measures models; every call returns when all is measured.

    Calls raise `InputError` where the device refuses the order or cannot be reached, and
    `GateError` where a process there ran out of time or memory, or a model's pictures are not
    finite. What fails with one row, point or graph alone is in its result.
    """

    def describe(self) -> Description:
        """What it is and what it runs."""

    def measure_exports(self, order: ExportOrder) -> ExportResult:
        """Latency, memory and cold start of exported folders."""

    def measure_graphs(self, order: GraphOrder) -> GraphResults:
        """Times and memory of graphs."""

    def check(self, job: CheckJob) -> CheckResult:
        """A known sleep and a fixed piece of work."""
