"""What the peer scripts time: exports of one pipeline by edgekd and by others, made once.

Each export is made in a process of its own, which gives its memory back, and kept under a folder
that `--exports` names: a second run times what the first one made.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import multiprocessing
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from runner import OWN, report

from edgekd import resources

# First: it makes a torchvision that does not fit torch harmless for all that comes after it.
from edgekd.libraries import diffusers
from edgekd.student.reference import ARCHITECTURES

PROMPT = "red apple"


def read_arguments(description: str, precisions: tuple[str, ...]) -> argparse.Namespace:
    """Options of a peer script."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--pipeline", type=Path, default=resources.STARTER / "teacher")
    parser.add_argument("--sd15", action="store_true", help="time a random SD 1.5-size U-Net")
    parser.add_argument("--precisions", nargs="+", choices=precisions, default=precisions)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--warmup", type=int, default=3, help="uncounted calls per opening")
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--openings", type=int, default=3, help="of each file, within the runs")
    parser.add_argument("--steps", type=int, default=8, help="of the whole pictures")
    parser.add_argument("--exports", type=Path, help="keep the exports there, and use them again")
    parser.add_argument("--make-only", action="store_true", help="export, and time nothing")
    parser.add_argument("--out", type=Path, help="file for the JSON report")
    return parser.parse_args()


@contextlib.contextmanager
def exports_folder(given: Path | None) -> Iterator[Path]:
    """The folder of `--exports`, or one that is deleted."""
    if given is not None:
        yield given.resolve()
        return
    with tempfile.TemporaryDirectory() as temporary:
        yield Path(temporary)


def made(folder: Path, make: Callable[..., None], *arguments: Any) -> Path:
    """A folder that `make(folder, *arguments)` writes, unless it is there.

    Raises:
        RuntimeError: the process that makes it failed.
    """
    if not folder.is_dir():
        unfinished = folder.with_name(f".{folder.name}")
        shutil.rmtree(unfinished, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        context = multiprocessing.get_context("spawn")
        process = context.Process(target=make, args=(unfinished, *arguments))
        process.start()
        process.join()
        if process.exitcode != 0:
            raise RuntimeError(f"`{folder.name}` could not be made (code {process.exitcode})")
        unfinished.rename(folder)
    return folder


def make_sd15(folder: Path) -> None:
    """The starter's pipeline, with its tokens, and a random U-Net of SD 1.5's configuration."""
    import torch
    from transformers import CLIPTextConfig, CLIPTextModel

    shutil.copytree(resources.STARTER / "teacher", folder)
    torch.manual_seed(0)
    shutil.rmtree(folder / "unet")
    diffusers.UNet2DConditionModel(**ARCHITECTURES["sd15"]["unet"]).save_pretrained(folder / "unet")
    shutil.rmtree(folder / "text_encoder")
    config = CLIPTextConfig.from_pretrained(resources.STARTER / "teacher" / "text_encoder")
    config.hidden_size = ARCHITECTURES["sd15"]["unet"]["cross_attention_dim"]
    CLIPTextModel(config).save_pretrained(folder / "text_encoder")


def export_with_edgekd(
    folder: Path, runtime: str, source: Path, precision: str, steps: int, base: Path | None
) -> None:
    """A whole export, parity checked."""
    from edgekd.export.protocol import ExportOptions, Generation
    from edgekd.export.registry import get_exporter
    from edgekd.progress import Silent

    options = ExportOptions(Generation(steps=steps), base=base)
    get_exporter(runtime).export(source, folder, precision, [PROMPT], Silent(), options)


def convert_unet(
    folder: Path, runtime: str, source: Path, precision: str, base: Path | None
) -> None:
    """The U-Net alone, as an export converts it. Its parity is what `edgekd benchmark
    export-sd15` checks; here a call on noise stands for the recorded ones."""
    from edgekd.diffusion.load import load_pipeline
    from edgekd.export.capture import capture
    from edgekd.export.record import Recording
    from edgekd.export.registry import get_exporter
    from edgekd.export.unet_noise import unet_noise

    captured = capture(load_pipeline(source, ("unet",) if base is None else ()), "unet")
    calls = [Recording(unet_noise(source, 2), {})]
    unet_base = None if base is None else base / "unet"
    get_exporter(runtime).convert(captured, folder / "unet", precision, calls, unet_base)


def export_own(exports: Path, runtime: str, name: str, how: argparse.Namespace, steps: int) -> Path:
    """edgekd's export in a precision, calibrated on `steps`; of SD 1.5's size the U-Net alone."""
    folder = exports / OWN / name
    base = None if name == "fp32" else export_own(exports, runtime, "fp32", how, steps)
    if how.sd15:
        return made(folder, convert_unet, runtime, how.source, name, base)
    return made(folder, export_with_edgekd, runtime, how.source, name, steps, base)


def pairs(
    how: argparse.Namespace,
    own: Mapping[str, tuple[str, ...]],
    peers: Mapping[str, tuple[str, ...]],
    make_one: Callable[[str], Path],
    make_other: Callable[[str], Path],
) -> Iterator[tuple[str, str, dict[str, Path]]]:
    """Precision, edgekd's export, and the folders to time together: it and one peer at a time.

    All are made; with `--make-only` that is all.
    """
    for precision in how.precisions:
        for name, peer in itertools.product(own[precision], peers[precision]):
            folders = {f"optimum {peer}": make_other(peer), f"{OWN} {name}": make_one(name)}
            if not how.make_only:
                yield precision, name, folders


def picture(pipeline: Any, steps: int) -> Callable[[], Any]:
    """A call that draws one picture."""
    import torch

    return lambda: pipeline(
        PROMPT,
        num_inference_steps=steps,
        guidance_scale=4.0,
        generator=torch.Generator().manual_seed(0),
        output_type="np",
    )


Timed = Callable[[Path, argparse.Namespace], list[Any]]


def run(description: str, precisions: tuple[str, ...], whole: Timed, sd15: Timed) -> None:
    """A peer script: `whole` times a pipeline, `sd15` a U-Net of that size, both by exports."""
    import torch

    how = read_arguments(description, precisions)
    torch.set_num_threads(how.threads)
    with exports_folder(how.exports) as exports:
        how.source = made(exports / "source", make_sd15) if how.sd15 else how.pipeline.resolve()
        results = (sd15 if how.sd15 else whole)(exports, how)
    name = "SD 1.5 size" if how.sd15 else str(how.pipeline)
    report(results, {"pipeline": name, "threads": how.threads}, how.out)
