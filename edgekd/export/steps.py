"""The steps of an export that hold weights: fuse, record, convert, check, draw.

Each takes an order of JSON values, the exporter, and a function that loads a pipeline; reads and
writes files; and returns JSON values. So a step does the same in this process and in a child.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from edgekd.export.bits.apply import storages
from edgekd.export.capture import capture
from edgekd.export.lora import fuse_lora
from edgekd.export.outline import PIPELINE_ATTRIBUTES
from edgekd.export.parity import (
    check_component,
    check_deployed,
    check_pictures,
    load_for_parity,
    open_component,
)
from edgekd.export.protocol import ConvertsFiles, Exporter, Floor, Generation
from edgekd.export.trajectory import record_for_parity
from edgekd.export.trajectory_files import load_trajectory, save_trajectory

Order = dict[str, Any]


class Load(Protocol):
    """`edgekd.diffusion.load.load_pipeline`, or what remembers its result."""

    def __call__(self, path: Path, only: Collection[str] | None = None) -> Any: ...


def fuse(order: Order, exporter: Exporter, load: Load) -> None:
    """`source` + the file `lora` -> a pipeline folder `out`."""
    del exporter
    fuse_lora(load(Path(order["source"])), Path(order["lora"]), Path(order["out"]))


def record(order: Order, exporter: Exporter, load: Load) -> None:
    """`source`, `prompts`, `generation` -> the folder `trajectory`."""
    recorded = record_for_parity(
        load(Path(order["source"])),
        order["prompts"],
        Generation(**order["generation"]),
        other_shapes=exporter.dynamic_shapes,
    )
    save_trajectory(recorded, Path(order["trajectory"]))


def convert(order: Order, exporter: Exporter, load: Load) -> dict[str, Any]:
    """`source`, `component`, `trajectory` -> the converted part in `folder`; returns its facts.

    Only the part's own model is read, if at all; the others come without weights.
    """
    component = order["component"]
    from_file = order["base"] is not None and is_made_of_files(exporter, order)
    only = () if from_file else (PIPELINE_ATTRIBUTES[component],)
    captured = capture(load(Path(order["source"]), only), component)
    folder = Path(order["folder"]) / component
    base = Path(order["base"]) / component if order["base"] is not None else None
    recordings = load_trajectory(Path(order["trajectory"])).recordings[component]
    if order["weights"] is not None:
        how = order["weights"]
        return storages(exporter).convert_bits(
            captured, folder, how["method"], how["bits"], recordings, base
        )
    return exporter.convert(captured, folder, order["precision"], recordings, base)


def is_made_of_files(exporter: Exporter, order: Order) -> bool:
    """Whether a conversion with a base needs none of torch's weights."""
    made = exporter.from_files if isinstance(exporter, ConvertsFiles) else ()
    return order["weights"] is None and order["precision"] in made


def check(order: Order, exporter: Exporter, load: Load) -> dict[str, Any]:
    """A converted `component` of `folder` on its recorded calls; returns a `ComponentParity`."""
    del load
    component, precision, folder = order["component"], order["precision"], Path(order["folder"])
    calls = load_trajectory(Path(order["trajectory"])).calls(component)
    runner = open_component(exporter, folder, component)
    parity = check_component(component, precision, runner, calls, Floor(**order["floor"]))
    del runner  # two sessions of a large model need twice its memory
    return asdict(check_deployed(parity, exporter, folder, calls, component, precision))


def draw(order: Order, exporter: Exporter, load: Load) -> dict[str, Any]:
    """Pictures of the export in `folder`; returns a `PictureParity`."""
    del load
    parity = check_pictures(
        load_for_parity(exporter, Path(order["folder"])),
        order["precision"],
        load_trajectory(Path(order["trajectory"])),
        Floor(**order["floor"]),
    )
    return asdict(parity)


STEPS: dict[str, Callable[[Order, Exporter, Load], Any]] = {
    "fuse": fuse,
    "record": record,
    "convert": convert,
    "check": check,
    "draw": draw,
}
