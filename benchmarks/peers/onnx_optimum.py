"""edgekd's ONNX export against optimum's own, of the same pipeline, in onnxruntime.

    python benchmarks/peers/onnx_optimum.py --pipeline DIR [--threads 1] [--out FILE.json]
    python benchmarks/peers/onnx_optimum.py --sd15          # random U-Net of SD 1.5's size

Per step of the U-Net at batch 1 and 2, fp32, fp16 and int8, and whole pictures in fp32.

optimum's fp16 is its export with `dtype="fp16"`; beside it stands its fp32 export converted by
onnxruntime's own tool, `onnxruntime.transformers.float16`. Its int8 is its `ORTQuantizer` with the
dynamic AVX-512 VNNI configuration, for all operators that it names and for `MatMul` alone:
dynamically quantized convolutions are slow.

At SD 1.5's size batch 1 is timed, one export of edgekd against one peer, and they are opened in
turns: a session of such a U-Net takes up to 8 GB.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import onnxruntime
from exports import export_own, made, pairs, picture, run
from runner import compare

from edgekd.export.onnx.pipeline import MODEL_FILE, PROVIDER, load_onnx_pipeline, session_options
from edgekd.export.unet_noise import unet_noise

# Precision -> edgekd's exports, and the peers, that compute in it.
OWN = {
    "fp32": ("fp32",),
    "fp16": ("fp16",),
    "int8": ("int8", "int8-dynamic", "int8-static", "int8-mixed"),
}
PEERS = {
    "fp32": ("fp32",),
    "fp16": ("fp16", "fp16-converted"),
    "int8": ("int8", "int8-matmul"),
}
# Static ranges need real weights and inputs.
SD15_OWN = {"fp32": ("fp32",), "fp16": ("fp16",), "int8": ("int8", "int8-dynamic")}
SD15_PEERS = {"fp32": ("fp32",), "fp16": ("fp16-converted",), "int8": ("int8-matmul",)}


def export_with_optimum(out: Path, source: Path, dtype: str) -> None:
    from optimum.exporters.onnx import main_export

    main_export(
        str(source.resolve()),
        out,
        task="text-to-image",
        library_name="diffusers",
        dtype=dtype,
        do_validation=False,
    )


def convert_with_onnxruntime(out: Path, exported: Path) -> None:
    """The U-Net only: it is what the steps time."""
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    half = convert_float_to_float16(str(exported / "unet" / MODEL_FILE), keep_io_types=True)
    (out / "unet").mkdir(parents=True)
    onnx.save_model(half, out / "unet" / MODEL_FILE)


def quantize_with_optimum(out: Path, exported: Path, operators: list[str] | None) -> None:
    """The U-Net only."""
    from optimum.onnxruntime import ORTQuantizer
    from optimum.onnxruntime.configuration import AutoQuantizationConfig

    config = AutoQuantizationConfig.avx512_vnni(
        is_static=False, per_channel=True, operators_to_quantize=operators
    )
    quantizer = ORTQuantizer.from_pretrained(exported / "unet", file_name=MODEL_FILE)
    large = (exported / "unet" / f"{MODEL_FILE}_data").is_file()
    quantizer.quantize(
        config, save_dir=out / "unet", file_suffix="", use_external_data_format=large
    )


def make_peer(exports: Path, name: str, how: Any) -> Path:
    folder = exports / "optimum" / name
    if name in ("fp32", "fp16"):
        return made(folder, export_with_optimum, how.source, name)
    first = make_peer(exports, "fp32", how)
    if name == "fp16-converted":
        return made(folder, convert_with_onnxruntime, first)
    return made(folder, quantize_with_optimum, first, ["MatMul"] if name == "int8-matmul" else None)


def make_own(exports: Path, name: str, how: Any) -> Path:
    return export_own(exports, "onnx", name, how, 2)


def unet_call(folder: Path, threads: int, batch: int, source: Path) -> Callable[[], Any]:
    session = onnxruntime.InferenceSession(
        str(folder / "unet" / MODEL_FILE), session_options(threads), providers=[PROVIDER]
    )
    types = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(int64)": "int64"}
    wanted = {item.name: item for item in session.get_inputs()}
    inputs = {
        name: value.astype(types[wanted[name].type]).reshape(
            value.shape if value.ndim else [1] * len(wanted[name].shape)
        )
        for name, value in unet_noise(source, batch).items()
    }
    return lambda: session.run(None, inputs)


def picture_call(folder: Path, threads: int, steps: int) -> Callable[[], Any]:
    pipeline = load_onnx_pipeline(folder, threads)
    return picture(pipeline, steps)


def time_steps(work: str, folders: dict[str, Path], batch: int, how: Any) -> dict[str, Any]:
    """`folders`: `<maker> <export>` -> exported folder."""
    subjects = {
        name: partial(unet_call, folder, how.threads, batch, how.source)
        for name, folder in folders.items()
    }
    return compare(work, subjects, how.warmup, how.runs, how.openings, together=not how.sd15)


def time_pipeline(exports: Path, how: Any) -> list[Any]:
    results = []
    for precision in how.precisions:
        folders = {f"optimum {name}": make_peer(exports, name, how) for name in PEERS[precision]}
        folders |= {f"edgekd {name}": make_own(exports, name, how) for name in OWN[precision]}
        for batch in () if how.make_only else (1, 2):
            work = f"U-Net step, {precision}, batch {batch}"
            results.append(time_steps(work, folders, batch, how))
    if "fp32" in how.precisions and not how.make_only:
        subjects = {
            f"{maker} fp32": partial(picture_call, exports / maker / "fp32", how.threads, how.steps)
            for maker in ("optimum", "edgekd")
        }
        work = f"picture, fp32, {how.steps} steps"
        results.append(compare(work, subjects, 1, max(how.runs // 2, 1), how.openings))
    return results


def time_sd15(exports: Path, how: Any) -> list[Any]:
    one, other = partial(make_own, exports, how=how), partial(make_peer, exports, how=how)
    return [
        time_steps(f"U-Net step, {name}, batch 1", folders, 1, how)
        for _, name, folders in pairs(how, SD15_OWN, SD15_PEERS, one, other)
    ]


if __name__ == "__main__":
    run(__doc__, tuple(OWN), time_pipeline, time_sd15)
