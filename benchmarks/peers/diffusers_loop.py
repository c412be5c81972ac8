"""edgekd's training step of the phase `kd` against a plain loop of diffusers, in turns.

    edgekd prepare --config starter --out runs/starter
    python benchmarks/peers/diffusers_loop.py --run runs/starter [--threads 1] [--out FILE.json]

The loop is written as diffusers' `examples/text_to_image/train_text_to_image.py` is, with a teacher
beside the student: a `DataLoader` of images, VAE and text encoder in the loop, features by forward
hooks, AdamW and EMA with their defaults. The example trains in fp32; `bf16` is its
`--mixed_precision bf16`: frozen models in bf16, the student under autocast. `cached` has latents
and text embeddings computed beforehand, as edgekd has: what is left is the step itself.

Student, first weights, teacher, batch size and weighted losses are the same: before anything is
timed, both compute the losses of edgekd's first batch, which must agree. Ratios are of processor
time, which on one thread is the clock's on an idle machine.
"""

from __future__ import annotations

import argparse
import copy
import io
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import count, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch.utils.data import DataLoader

from edgekd.artifacts import TeacherCache
from edgekd.data.tars import iter_samples
from edgekd.diffusion.components import load_scheduler, load_tokenizer
from edgekd.diffusion.load import load_model
from edgekd.diffusion.resolve import resolve_pipeline
from edgekd.distill.folder import RunFolder
from edgekd.distill.lessons import kd_lesson
from edgekd.distill.loop import make_accelerator
from edgekd.distill.objective import total
from edgekd.distill.sources import CachedTeacher
from edgekd.distill.terms.feature import feature_distance
from edgekd.distill.trainer import Trainer
from edgekd.libraries import diffusers
from edgekd.measure.clock import time_interleaved
from edgekd.measure.environment import environment
from edgekd.reading import read_object
from edgekd.recipe import load_recipe
from edgekd.resources import find_yaml
from edgekd.student.arch import StudentArch
from edgekd.student.pairs import block_pairs
from edgekd.student.resolve import preset
from edgekd.training.cpu import training_cpu

BF16, FP32 = torch.bfloat16, torch.float32
# Relative. In bf16 the teacher's norms are rounded too, and the attention is another kernel.
TOLERANCE = {FP32: 1e-4, BF16: 0.01}
SAMPLES = 128  # each is decoded anew in every epoch, and encoded anew unless cached
STUDENT = "bk-sdm-small"
Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Own:
    """edgekd's training."""

    arch: StudentArch
    folder: Path
    trainer: Trainer

    @classmethod
    def of(cls, run: Path, precision: str) -> Own:
        recipe = load_recipe(
            find_yaml("configs", "starter", "config"), [f"distill.precision={precision}"]
        )
        folder = resolve_pipeline(recipe.teacher.path, "teacher")
        record = read_object(run / "cache" / "artifact.json")
        cache = TeacherCache(run / "cache", record["key"], record["teacher_key"])
        accelerator = make_accelerator()
        sources = CachedTeacher(folder, cache).load(accelerator.device)
        arch = preset(STUDENT, dict(sources.teacher.unet.config))
        lesson = kd_lesson(recipe.distill, arch, sources, accelerator)
        # Steps alone write nothing into a run's folder.
        trainer = Trainer(recipe.distill, lesson, RunFolder(Path(), ""), accelerator)
        return cls(arch, folder, trainer)


class PlainLoop:
    """A training loop as a user of diffusers writes it, in one type and with a cache or without."""

    def __init__(self, own: Own, shard: Path, dtype: torch.dtype, cached: bool) -> None:
        folder, section = own.folder, own.trainer.section
        self.section, self.dtype = section, dtype
        self.teacher, self.vae, self.text_encoder = (
            load_model(folder, name).to(dtype) for name in ("unet", "vae", "text_encoder")
        )
        self.scheduler = load_scheduler(folder / "scheduler")
        self.velocity = self.scheduler.config.prediction_type == "v_prediction"
        self.student = copy.deepcopy(own.trainer.student).train()
        weights = list(self.student.parameters())
        self.optimizer = torch.optim.AdamW(
            weights, lr=section.learning_rate, weight_decay=section.weight_decay
        )
        self.ema = diffusers.training_utils.EMAModel(weights, decay=section.ema_decay)
        self.kept: list[Tensors] = [{}, {}]
        self.pairs = block_pairs(own.arch, dict(self.teacher.config))
        for pair in self.pairs:
            keep(self.student.get_submodule(pair.student), self.kept[0], pair.student)
            keep(self.teacher.get_submodule(pair.teacher), self.kept[1], pair.student)
        data: Any = Captioned(shard, load_tokenizer(folder / "tokenizer"))
        if cached:
            encoded = [self.encode(batch) for batch in DataLoader(data)]
            data = [{name: value[0] for name, value in one.items()} for one in encoded]
        loader = DataLoader(data, section.batch_size, shuffle=True, drop_last=True)
        self.batches = (batch for _ in count() for batch in loader)

    @torch.no_grad()
    def encode(self, batch: Tensors) -> Tensors:
        moments = self.vae.encode(batch["pixel_values"].to(self.dtype)).latent_dist.parameters
        return {"moments": moments, "states": self.text_encoder(batch["input_ids"])[0]}

    def step(self) -> None:
        batch = next(self.batches)
        encoded = batch if "moments" in batch else self.encode(batch)
        mean, logvar = encoded["moments"].float().chunk(2, dim=1)
        latents = mean + torch.exp(0.5 * logvar) * torch.randn_like(mean)
        latents = latents * self.vae.config.scaling_factor
        noise = torch.randn_like(latents)
        timesteps = torch.randint(0, len(self.scheduler.alphas_cumprod), (len(latents),))
        noisy = self.scheduler.add_noise(latents, noise, timesteps)
        velocity = self.scheduler.get_velocity if self.velocity else None
        target = velocity(latents, noise, timesteps) if velocity else noise
        terms = self.losses(noisy, timesteps, encoded["states"], target)
        loss = total(terms, self.section.losses.weights)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.student.parameters(), self.section.max_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.ema.step(self.student.parameters())
        loss.item()  # the progress bar's

    def losses(self, noisy: Any, timesteps: Any, states: Any, target: Any) -> Tensors:
        with torch.autocast("cpu", BF16, enabled=self.dtype == BF16):
            prediction = self.student(noisy, timesteps, states).sample
        with torch.no_grad():
            taught = self.teacher(noisy.to(self.dtype), timesteps, states.to(self.dtype)).sample
        snr = diffusers.training_utils.compute_snr(self.scheduler, timesteps)
        weights = snr.clamp(max=self.section.losses.min_snr_gamma) / (snr + self.velocity)
        features = [feature_distance(*(kept[p.student] for kept in self.kept)) for p in self.pairs]
        return {
            "task": weighted(prediction, target, weights),
            "output": weighted(prediction, taught, weights),
            "feature": torch.stack(features).mean(),
        }


class Captioned:
    """Images in [-1, 1] and their captions' tokens, decoded when they are asked for."""

    def __init__(self, shard: Path, tokenizer: Any) -> None:
        self._samples = [sample.parts for sample in islice(iter_samples(shard), SAMPLES)]
        self._tokenize = partial(
            tokenizer, padding="max_length", truncation=True, return_tensors="pt"
        )

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, i: int) -> Tensors:
        parts = self._samples[i]
        with Image.open(io.BytesIO(parts["png"] or b"")) as image:
            pixels = torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)
        tokens = self._tokenize(json.loads(parts["json"] or b"{}")["caption"]).input_ids[0]
        return {"pixel_values": pixels / 127.5 - 1, "input_ids": tokens}


def weighted(prediction: torch.Tensor, target: torch.Tensor, weights: torch.Tensor) -> Any:
    error = F.mse_loss(prediction.float(), target.float(), reduction="none")
    return (error.mean(dim=(1, 2, 3)) * weights).mean()


def keep(module: Any, kept: Tensors, name: str) -> None:
    def hook(module: Any, args: Any, output: Any) -> None:
        kept[name] = output[0] if isinstance(output, tuple) else output

    module.register_forward_hook(hook)


@torch.no_grad()
def check(own: Own, loop: PlainLoop) -> dict[str, float]:
    """How far a loop's losses of edgekd's first batch are from edgekd's."""
    with own.trainer.attached():
        lesson: Any = own.trainer.lesson
        seen: list[Any] = []
        hook = own.trainer.student.register_forward_pre_hook(lambda _, args: seen.extend(args))
        ours, batch = lesson.terms(0, 0, 0), lesson.batch(0, 0)
        hook.remove()
    theirs = loop.losses(*seen, batch.target)
    apart = {name: abs(float(theirs[name] / ours[name]) - 1) for name in ours}
    assert max(apart.values()) < TOLERANCE[loop.dtype], apart
    return apart


def several(step: Callable[[], Any], steps: int) -> Callable[[], None]:
    return lambda: [step() for _ in range(steps)] and None


def main(how: argparse.Namespace) -> None:
    torch.manual_seed(0)
    shard = sorted((how.run / "prepared" / "shards").glob("train-*.tar"))[0]
    own = {"bf16": Own.of(how.run, "bf16"), "fp32": Own.of(how.run, "fp32")}
    loops = {
        "diffusers fp32": PlainLoop(own["fp32"], shard, FP32, cached=False),
        "diffusers bf16": PlainLoop(own["bf16"], shard, BF16, cached=False),
        "diffusers bf16 cached": PlainLoop(own["bf16"], shard, BF16, cached=True),
    }
    for name, loop in loops.items():
        apart = check(own[name.split()[1]], loop)
        print(f"{name}: from edgekd's", ", ".join(f"{n} {v:.1e}" for n, v in apart.items()))
    with ExitStack() as stack, training_cpu(how.threads):
        calls: dict[str, Callable[[], Any]] = {}
        for name, one in own.items():
            stack.enter_context(one.trainer.attached())
            numbers: Iterator[Any] = map(one.trainer._step, count())
            calls[f"edgekd {name}"] = several(partial(next, numbers), how.steps)
        calls |= {name: several(loop.step, how.steps) for name, loop in loops.items()}
        found = time_interleaved(calls, 1, how.rounds)
    samples = how.steps * loop.section.batch_size
    head = f"{'loop':<24}{'samples/s':>10}{'of CPU time':>12}"
    print(f"{head}{'edgekd bf16 is':>18}{'quartiles':>14}")
    for name, latency in found.items():
        cpu = np.array(latency.cpu_ms)
        low, middle, high = np.percentile(cpu / found["edgekd bf16"].cpu_ms, (25, 50, 75))
        rates = [1e3 * samples / ms for ms in (latency.p50_ms, np.median(cpu))]
        print(f"{name:<24}{rates[0]:>10.2f}{rates[1]:>12.2f}", end="")
        print(f"{middle:>12.2f} times{low:>9.2f}-{high:.2f}")
    if how.out is not None:
        results = {name: latency.to_dict() for name, latency in found.items()}
        facts = {"threads": how.threads, "environment": environment(), "results": results}
        how.out.write_text(json.dumps(facts, indent=2, default=str) + "\n", encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--run", type=Path, required=True, help="folder of `edgekd prepare`")
    parser.add_argument("--steps", type=int, default=2, help="steps of a round")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path)
    main(parser.parse_args())
