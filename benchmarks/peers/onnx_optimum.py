"""edgekd's ONNX export against optimum's own, of the same pipeline, in onnxruntime.

    python benchmarks/peers/onnx_optimum.py --pipeline DIR [--threads 1] [--out FILE.json]
    python benchmarks/peers/onnx_optimum.py --sd15          # random U-Net of SD 1.5's size

Per step of the U-Net at batch 1 and 2, fp32 and int8, and whole pictures in fp32. optimum's int8 is
its `ORTQuantizer` with the dynamic AVX-512 VNNI configuration.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnxruntime
import torch
from runner import compare, report

from edgekd import resources
from edgekd.export.onnx import OnnxExporter
from edgekd.export.onnx_pipeline import MODEL_FILE, PROVIDER, load_onnx_pipeline, session_options
from edgekd.export.protocol import ExportOptions, Generation
from edgekd.export.unet_noise import unet_noise
from edgekd.libraries import diffusers
from edgekd.progress import Silent

SD15_UNET = {
    "sample_size": 64,
    "block_out_channels": (320, 640, 1280, 1280),
    "layers_per_block": 2,
    "attention_head_dim": 8,
    "cross_attention_dim": 768,
}
INT8 = ("int8", "int8-dynamic", "int8-static", "int8-mixed")


def make_sd15(folder: Path) -> Path:
    """The starter's pipeline with a random U-Net of SD 1.5's configuration."""
    from transformers import CLIPTextConfig, CLIPTextModel

    shutil.copytree(resources.STARTER / "teacher", folder)
    torch.manual_seed(0)
    shutil.rmtree(folder / "unet")
    diffusers.UNet2DConditionModel(**SD15_UNET).save_pretrained(folder / "unet")
    shutil.rmtree(folder / "text_encoder")
    config = CLIPTextConfig.from_pretrained(resources.STARTER / "teacher" / "text_encoder")
    config.hidden_size = 768
    CLIPTextModel(config).save_pretrained(folder / "text_encoder")
    return folder


def export_with_optimum(pipeline: Path, out: Path) -> Path:
    from optimum.exporters.onnx import main_export

    main_export(str(pipeline), out, task="text-to-image", library_name="diffusers")
    return out


def quantize_with_optimum(exported: Path, out: Path) -> Path:
    """The U-Net only: it is what the steps time."""
    from optimum.onnxruntime import ORTQuantizer
    from optimum.onnxruntime.configuration import AutoQuantizationConfig

    config = AutoQuantizationConfig.avx512_vnni(is_static=False, per_channel=True)
    quantizer = ORTQuantizer.from_pretrained(exported / "unet", file_name=MODEL_FILE)
    quantizer.quantize(config, save_dir=out / "unet", file_suffix="")
    return out


def unet_call(folder: Path, threads: int, batch: int, shapes: Path) -> Callable[[], Any]:
    session = onnxruntime.InferenceSession(
        str(folder / "unet" / MODEL_FILE), session_options(threads), providers=[PROVIDER]
    )
    types = {"tensor(float)": "float32", "tensor(int64)": "int64"}
    wanted = {item.name: item for item in session.get_inputs()}
    inputs = {
        name: value.astype(types[wanted[name].type]).reshape(
            value.shape if value.ndim else [1] * len(wanted[name].shape)
        )
        for name, value in unet_noise(shapes, batch).items()
    }
    return lambda: session.run(None, inputs)


def picture_call(folder: Path, threads: int, steps: int) -> Callable[[], Any]:
    pipeline = load_onnx_pipeline(folder, threads)
    return lambda: pipeline(
        "red apple",
        num_inference_steps=steps,
        guidance_scale=4.0,
        generator=torch.Generator().manual_seed(0),
        output_type="np",
    )


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
    threads, runs = arguments.threads, arguments.runs
    with tempfile.TemporaryDirectory() as temporary:
        scratch = Path(temporary)
        source = make_sd15(scratch / "sd15") if arguments.sd15 else arguments.pipeline
        options = ExportOptions(Generation(steps=2))
        own: dict[str, Path] = {}
        for precision in ("fp32", *INT8):
            exported = OnnxExporter().export(
                source, scratch / precision, precision, ["red apple"], Silent(), options
            )
            own[precision] = exported.path
        peer = {"fp32": export_with_optimum(source, scratch / "optimum")}
        peer["int8"] = quantize_with_optimum(peer["fp32"], scratch / "optimum-int8")
        results = []
        for precision, names in (("fp32", ("fp32",)), ("int8", INT8)):
            for batch in (1, 2):
                calls = {
                    f"optimum {precision}": unet_call(peer[precision], threads, batch, own["fp32"]),
                    **{
                        f"edgekd {name}": unet_call(own[name], threads, batch, own["fp32"])
                        for name in names
                    },
                }
                work = f"U-Net step, {precision}, batch {batch}"
                results.append(compare(work, calls, 3, runs))
        if not arguments.sd15:  # its decoder is the starter's
            calls = {
                "optimum fp32": picture_call(peer["fp32"], threads, arguments.steps),
                "edgekd fp32": picture_call(own["fp32"], threads, arguments.steps),
            }
            results.append(compare(f"picture, fp32, {arguments.steps} steps", calls, 1, runs // 2))
    report(
        results,
        {"pipeline": "SD 1.5 size" if arguments.sd15 else str(source), "threads": threads},
        arguments.out,
    )


if __name__ == "__main__":
    main()
