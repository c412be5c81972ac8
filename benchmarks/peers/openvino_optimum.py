"""edgekd's OpenVINO export against optimum-intel's own, of the same pipeline, in OpenVINO.

    python benchmarks/peers/openvino_optimum.py [--pipeline DIR] [--threads 1] [--out FILE.json]
    python benchmarks/peers/openvino_optimum.py --sd15      # random U-Net of SD 1.5's size

Per step of the U-Net with guidance (batch 2): float32, 16 bits and 8 bits; and whole pictures in
float32 and in 16 bits. All but float32 is computed in OpenVINO's default arithmetic, bf16 where the
CPU has it. optimum-intel's 16 bits are its export with `dtype="fp16"`, and its float32 export in
that arithmetic; its 8 bits are its `OVWeightQuantizationConfig(bits=8)`.

At SD 1.5's size one export of edgekd is timed against one peer at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from exports import export_own, made, pairs, picture, run
from runner import compare

from edgekd.export.openvino.graph import read_model
from edgekd.export.openvino.libraries import openvino, quiet
from edgekd.export.openvino.pipeline import deployed_arithmetic
from edgekd.export.unet_noise import unet_noise
from edgekd.runtime.openvino_backend import EXACT, properties

# Precision -> edgekd's exports, and the peers, that compute in it.
OWN = {"fp32": ("fp32",), "fp16": ("fp16",), "int8": ("int8", "int8_full", "hybrid")}
PEERS = {"fp32": ("fp32",), "fp16": ("fp16", "fp32"), "int8": ("int8",)}
SD15_OWN = {**OWN, "int8": ("int8", "int8_full")}


def export_with_optimum(out: Path, source: Path, dtype: str) -> None:
    from optimum.exporters.openvino import main_export
    from optimum.intel import OVConfig

    main_export(
        str(source),
        out,
        task="text-to-image",
        library_name="diffusers",
        ov_config=OVConfig(dtype=dtype),
    )


def compress_with_optimum(out: Path, exported: Path) -> None:
    from optimum.intel import OVDiffusionPipeline, OVWeightQuantizationConfig

    with quiet():
        config = OVWeightQuantizationConfig(bits=8)
        small = OVDiffusionPipeline.from_pretrained(
            exported, quantization_config=config, compile=False
        )
        small.save_pretrained(out)


def make_peer(exports: Path, name: str, how: Any) -> Path:
    folder = exports / "optimum" / name
    if name != "int8":
        return made(folder, export_with_optimum, how.source, name)
    return made(folder, compress_with_optimum, make_peer(exports, "fp32", how))


def make_own(exports: Path, name: str, how: Any) -> Path:
    return export_own(exports, "openvino", name, how, 8)


def unet_call(folder: Path, arithmetic: str, threads: int, source: Path) -> Callable[[], Any]:
    """The file as a client loads it: a whole timestep."""
    core = openvino.Core()
    compiled = core.compile_model(
        read_model(folder / "unet"), "CPU", properties(arithmetic, threads)
    )
    inputs = unet_noise(source, 2)
    inputs["timestep"] = np.array([500], np.int64)
    return lambda: compiled(inputs, share_inputs=True)


def picture_call(folder: Path, arithmetic: str, threads: int, steps: int) -> Callable[[], Any]:
    from optimum.intel import OVDiffusionPipeline

    pipeline = OVDiffusionPipeline.from_pretrained(
        folder, ov_config=properties(arithmetic, threads)
    )
    pipeline.set_progress_bar_config(disable=True)
    return picture(pipeline, steps)


def time_steps(
    precision: str, folders: dict[str, Path], arithmetic: str, how: Any
) -> dict[str, Any]:
    """`folders`: `<maker> <export>` -> exported folder."""
    subjects = {
        name: partial(unet_call, folder, arithmetic, how.threads, how.source)
        for name, folder in folders.items()
    }
    work = f"U-Net step, {precision}, {arithmetic}, batch 2"
    return compare(work, subjects, how.warmup, how.runs, how.openings)


def arithmetic_of(precision: str) -> str:
    return EXACT if precision == "fp32" else deployed_arithmetic()


def time_pipeline(exports: Path, how: Any) -> list[Any]:
    results = []
    for precision in how.precisions:
        arithmetic = arithmetic_of(precision)
        folders = {f"optimum {name}": make_peer(exports, name, how) for name in PEERS[precision]}
        folders |= {f"edgekd {name}": make_own(exports, name, how) for name in OWN[precision]}
        if how.make_only:
            continue
        results.append(time_steps(precision, folders, arithmetic, how))
        if precision != "int8":
            subjects = {
                name: partial(picture_call, folder, arithmetic, how.threads, how.steps)
                for name, folder in folders.items()
            }
            work = f"picture, {precision}, {arithmetic}, {how.steps} steps"
            results.append(compare(work, subjects, 1, max(how.runs // 2, 1), how.openings))
    return results


def time_sd15(exports: Path, how: Any) -> list[Any]:
    one, other = partial(make_own, exports, how=how), partial(make_peer, exports, how=how)
    return [
        time_steps(name, folders, arithmetic_of(precision), how)
        for precision, name, folders in pairs(how, SD15_OWN, PEERS, one, other)
    ]


if __name__ == "__main__":
    run(__doc__, tuple(OWN), time_pipeline, time_sd15)
