"""edgekd's OpenVINO export against optimum-intel's own, of the same pipeline, in OpenVINO.

    python benchmarks/peers/openvino_optimum.py [--pipeline DIR] [--threads 1] [--out FILE.json]
    python benchmarks/peers/openvino_optimum.py --sd15      # random U-Net of SD 1.5's size

Per step of the U-Net with guidance (batch 2): float32, OpenVINO's default arithmetic (bf16 where
the CPU has it), and 8 bits; and whole pictures in float32 and in the default. optimum-intel's 8
bits are its `OVWeightQuantizationConfig(bits=8)`.
"""

from __future__ import annotations

import argparse
import gc
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from runner import compare, report

from edgekd import resources
from edgekd.export.openvino import OpenVinoExporter
from edgekd.export.openvino_graph import read_model
from edgekd.export.openvino_libraries import openvino, quiet
from edgekd.export.openvino_pipeline import deployed_arithmetic, properties
from edgekd.export.protocol import ExportOptions, Generation
from edgekd.export.unet_noise import unet_noise
from edgekd.progress import Silent

PROMPT = "red apple"
INT8 = ("int8", "int8_full", "hybrid")


def export_with_optimum(source: Path, out: Path) -> dict[str, Path]:
    from optimum.exporters.openvino import main_export
    from optimum.intel import OVDiffusionPipeline, OVWeightQuantizationConfig

    main_export(str(source.resolve()), out / "fp32", task="text-to-image", library_name="diffusers")
    with quiet():
        config = OVWeightQuantizationConfig(bits=8)
        small = OVDiffusionPipeline.from_pretrained(
            out / "fp32", quantization_config=config, compile=False
        )
        small.save_pretrained(out / "int8")
    return {name: out / name for name in ("fp32", "int8")}


def export_with_edgekd(source: Path, out: Path) -> dict[str, Path]:
    for precision in ("fp32", "fp16", *INT8):
        base = out / "fp32" if precision != "fp32" else None
        options = ExportOptions(Generation(steps=8), base=base)
        exporter = OpenVinoExporter()
        exporter.export(source, out / precision, precision, [PROMPT], Silent(), options)
    return {name: out / name for name in ("fp32", "fp16", *INT8)}


def unet_call(folder: Path, arithmetic: str, threads: int, shapes: Path) -> Callable[[], Any]:
    """The file as a client loads it: a whole timestep."""
    core = openvino.Core()
    compiled = core.compile_model(
        read_model(folder / "unet"), "CPU", properties(arithmetic, threads)
    )
    inputs = unet_noise(shapes, 2)
    inputs["timestep"] = np.array([500], np.int64)
    return lambda: compiled(inputs, share_inputs=True)


def picture_call(folder: Path, arithmetic: str, threads: int, steps: int) -> Callable[[], Any]:
    from optimum.intel import OVDiffusionPipeline

    pipeline = OVDiffusionPipeline.from_pretrained(
        folder, ov_config=properties(arithmetic, threads)
    )
    pipeline.set_progress_bar_config(disable=True)
    return lambda: pipeline(
        PROMPT,
        num_inference_steps=steps,
        guidance_scale=4.0,
        generator=torch.Generator().manual_seed(0),
        output_type="np",
    )


def steps_of(own: dict[str, Path], peer: dict[str, Path], threads: int, runs: int) -> list[Any]:
    default = deployed_arithmetic()
    works = (
        ("fp32, float32", "f32", "fp32", ("fp32",)),
        (f"fp16, {default}", default, "fp32", ("fp16",)),
        (f"int8, {default}", default, "int8", INT8),
    )
    results = []
    for work, arithmetic, theirs, ours in works:
        calls = {f"optimum {theirs}": unet_call(peer[theirs], arithmetic, threads, own["fp32"])}
        calls |= {
            f"edgekd {name}": unet_call(own[name], arithmetic, threads, own["fp32"])
            for name in ours
            if name in own
        }
        results.append(compare(f"U-Net step, {work}, batch 2", calls, 2, runs))
        del calls
        gc.collect()
    return results


def pictures_of(
    own: dict[str, Path], peer: dict[str, Path], threads: int, runs: int, steps: int
) -> list[Any]:
    results = []
    for ours, arithmetic in (("fp32", "f32"), ("fp16", deployed_arithmetic())):
        calls = {
            "optimum fp32": picture_call(peer["fp32"], arithmetic, threads, steps),
            f"edgekd {ours}": picture_call(own[ours], arithmetic, threads, steps),
        }
        results.append(compare(f"picture, {ours}, {arithmetic}, {steps} steps", calls, 1, runs))
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pipeline", type=Path, default=resources.STARTER / "teacher")
    parser.add_argument("--sd15", action="store_true", help="time a random SD 1.5-size U-Net")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--steps", type=int, default=8, help="of the whole pictures")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as temporary:
        scratch = Path(temporary)
        source = arguments.pipeline
        if arguments.sd15:
            from onnx_optimum import make_sd15

            source = make_sd15(scratch / "sd15")
        peer = export_with_optimum(source, scratch / "optimum")
        own = export_with_edgekd(source, scratch / "edgekd")
        results = steps_of(own, peer, arguments.threads, arguments.runs)
        if not arguments.sd15:  # its decoder is the starter's
            half = max(arguments.runs // 2, 1)
            results += pictures_of(own, peer, arguments.threads, half, arguments.steps)
    name = "SD 1.5 size" if arguments.sd15 else str(arguments.pipeline)
    report(results, {"pipeline": name, "threads": arguments.threads}, arguments.out)


if __name__ == "__main__":
    main()
