"""The steps of an export that hold weights: fuse, record, convert, check, draw.

Each takes an order, the exporter, and a function that loads a pipeline; reads and writes files; and
returns what can be pickled. So a step does the same in this process and in a child.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from edgekd.export.arithmetic import Arithmetic
from edgekd.export.bits.apply import storages
from edgekd.export.bits.storage import PartBits
from edgekd.export.capture import Capture, capture
from edgekd.export.large import is_large
from edgekd.export.lora import Lora, fuse_loras
from edgekd.export.outline import PIPELINE_ATTRIBUTES
from edgekd.export.parity import (
    ComponentGate,
    ComponentParity,
    check_component,
    check_deployed,
    load_for_parity,
    open_component,
)
from edgekd.export.picture_parity import PictureParity, check_pictures
from edgekd.export.protocol import Conversion, ConvertsFiles, Exporter, Facts, Floor, Generation
from edgekd.export.record import Arrays, Recording
from edgekd.export.simulate import Simulates, simulated, simulated_floor
from edgekd.export.trajectory import record_for_parity
from edgekd.export.trajectory_files import load_trajectory, save_trajectory


@dataclass(frozen=True)
class FuseOrder:
    """A pipeline folder and LoRAs -> a pipeline folder."""

    source: Path
    loras: tuple[Lora, ...]
    out: Path


@dataclass(frozen=True)
class RecordOrder:
    """A pipeline folder -> the folder `trajectory`."""

    source: Path
    trajectory: Path
    prompts: tuple[str, ...]
    generation: Generation


@dataclass(frozen=True)
class PartOrder:
    """One component to convert and to check.

    Attributes:
        trajectory: recordings of its calls.
        folder: of the export; the part gets a folder of its own in it.
        floor: of its parity.
        base: folder of an export in the first precision to start from.
        bits: of a recipe, instead of a precision.
    """

    source: Path
    trajectory: Path
    folder: Path
    precision: str
    component: str
    floor: Floor
    base: Path | None = None
    bits: PartBits | None = None


@dataclass(frozen=True)
class DrawOrder:
    """Pictures of the export in `folder` to draw and to compare."""

    trajectory: Path
    folder: Path
    precision: str
    floor: Floor


class Load(Protocol):
    """`edgekd.diffusion.load.load_pipeline`, or what remembers its result."""

    def __call__(self, path: Path, only: Collection[str] | None = None) -> Any: ...


def fuse(order: FuseOrder, exporter: Exporter, load: Load) -> None:
    del exporter
    fuse_loras(load(order.source), order.loras, order.out)


def record(order: RecordOrder, exporter: Exporter, load: Load) -> None:
    recorded = record_for_parity(
        load(order.source),
        order.prompts,
        order.generation,
        other_shapes=exporter.dynamic_shapes,
    )
    save_trajectory(recorded, order.trajectory)


def convert(order: PartOrder, exporter: Exporter, load: Load) -> Facts:
    """Returns the conversion's facts for the manifest.

    Only the part's own model is read, if at all; the others come without weights.
    """
    component = order.component
    from_file = order.base is not None and is_made_of_files(exporter, order)
    only = () if from_file else (PIPELINE_ATTRIBUTES[component],)
    captured = capture(load(order.source, only), component)
    part = Conversion(
        captured,
        order.folder / component,
        load_trajectory(order.trajectory).recordings[component],
        order.base / component if order.base is not None else None,
    )
    if order.bits is not None:
        return storages(exporter).convert_bits(part, order.bits)
    return exporter.convert(part, order.precision)


def is_made_of_files(exporter: Exporter, order: PartOrder) -> bool:
    """Whether a conversion with a base needs none of torch's weights."""
    made = exporter.from_files if isinstance(exporter, ConvertsFiles) else ()
    return order.bits is None and order.precision in made


def check(order: PartOrder, exporter: Exporter, load: Load) -> ComponentParity:
    """A converted part on its recorded calls."""
    component, precision, folder = order.component, order.precision, order.folder
    calls = load_trajectory(order.trajectory).calls(component)

    def own(deployed: bool) -> Callable[[Recording], Floor | None]:
        return lambda worst: own_floor(order, exporter, load, deployed, worst)

    same = repeated(order, exporter, load)
    near = stored_only(order, exporter)
    gate = ComponentGate(component, precision, order.floor, own(deployed=False), near, same)
    # Not kept here: two sessions of a large model, or one and torch's, need twice its memory.
    parity = check_component(gate, open_component(exporter, folder, component), calls)
    floor = exporter.floors(precision).deployed_component(component)
    second = ComponentGate(component, f"{precision} as deployed", floor, own(deployed=True))
    return check_deployed(second, parity, exporter, folder, calls)


def stored_only(order: PartOrder, exporter: Exporter) -> bool:
    """Whether torch computes a part as its precision does; see `Arithmetic.stored_only`."""
    arithmetic = _known(order, exporter)
    return arithmetic is not None and arithmetic.stored_only


def _known(order: PartOrder, exporter: Exporter, deployed: bool = False) -> Arithmetic | None:
    """How a part is computed; None: torch cannot do alike."""
    if not isinstance(exporter, Simulates) or order.bits is not None:
        return None
    ask = exporter.deployed_arithmetic if deployed else exporter.arithmetic
    return ask(order.precision, order.component)


def _captured(order: PartOrder, load: Load) -> Capture:
    return capture(load(order.source, (PIPELINE_ATTRIBUTES[order.component],)), order.component)


def repeated(
    order: PartOrder, exporter: Exporter, load: Load
) -> Callable[[list[Recording]], list[Arrays]] | None:
    """What torch computes code by code as a part does; None: it cannot, or not in little memory.

    Of a large part it is the first call alone.
    """
    arithmetic, large = _known(order, exporter), is_large(order.folder / order.component)
    if arithmetic is None or not isinstance(exporter, Simulates):
        return None
    if order.precision not in exporter.repeated or (large and arithmetic.calibrated):
        return None

    def run(calls: list[Recording]) -> list[Arrays]:
        calibration = load_trajectory(order.trajectory).recordings[order.component]
        with simulated(_captured(order, load), arithmetic, calibration, thrifty=large) as same:
            return [same(call.inputs) for call in (calls[:1] if large else calls)]

    return run


def own_floor(
    order: PartOrder, exporter: Exporter, load: Load, deployed: bool, worst: Recording
) -> Floor | None:
    """The floor of an honest export of this very part; None: its arithmetic cannot be simulated.

    Of a large part, torch computes the worst call alone.
    """
    arithmetic = _known(order, exporter, deployed)
    if arithmetic is None:
        return None
    recorded = load_trajectory(order.trajectory)
    large = is_large(order.folder / order.component)
    calls = [worst] if large else recorded.calls(order.component)
    calibration = recorded.recordings[order.component]
    return simulated_floor(_captured(order, load), calls, arithmetic, calibration, thrifty=large)


def draw(order: DrawOrder, exporter: Exporter, load: Load) -> PictureParity:
    del load
    return check_pictures(
        load_for_parity(exporter, order.folder),
        order.precision,
        load_trajectory(order.trajectory),
        order.floor,
    )
