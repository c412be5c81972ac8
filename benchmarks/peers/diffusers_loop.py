"""edgekd's training step of the phase `kd` against a plain loop of diffusers, in turns.

    edgekd prepare --config starter --out runs/starter
    python benchmarks/peers/diffusers_loop.py --run runs/starter [--threads 1] [--out FILE.json]

The plain loop is written as diffusers' `examples/text_to_image/train_text_to_image.py` is, with a
teacher beside the student: images come from a `DataLoader`, VAE and text encoder run in the loop,
features are kept by forward hooks, and AdamW, EMA and clipping have their defaults. Without
`--mixed_precision` the example trains in fp32; `bf16` is what that option does: frozen models in
bf16, the student under autocast. `cached` has latents and text embeddings computed beforehand, as
edgekd has, and so leaves what edgekd's step itself is worth.

Student, first weights, teacher, batch size, losses and their weights are the same. Before anything
is timed, both compute the losses of one batch of edgekd's, which must agree, and the loop must
encode images and captions as edgekd's cache holds them.

Processor time is compared beside the clock: on one thread it is what an idle machine takes.
"""

from __future__ import annotations

import argparse
import copy
import io
import json
from argparse import RawDescriptionHelpFormatter as RawText
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
from diffusers.training_utils import EMAModel, compute_snr
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from edgekd.artifacts import TeacherCache
from edgekd.data.tars import iter_samples
from edgekd.diffusion.components import load_scheduler, load_tokenizer
from edgekd.diffusion.load import load_model
from edgekd.diffusion.noise_schedule import read_schedule
from edgekd.diffusion.resolve import resolve_pipeline
from edgekd.distill.batches import Batches
from edgekd.distill.folder import RunFolder
from edgekd.distill.lessons import kd_lesson
from edgekd.distill.loop import make_accelerator
from edgekd.distill.objective import total
from edgekd.distill.sources import CachedTeacher, Sources
from edgekd.distill.terms.feature import feature_distance
from edgekd.distill.trainer import Trainer
from edgekd.measure.clock import Latency, time_interleaved
from edgekd.measure.environment import environment
from edgekd.reading import read_object
from edgekd.recipe import load_recipe
from edgekd.recipe_distill import DistillSection
from edgekd.resources import find_yaml
from edgekd.student.arch import StudentArch
from edgekd.student.pairs import block_pairs
from edgekd.student.resolve import preset
from edgekd.training.cpu import training_cpu
from edgekd.training.draws import BatchPlan

# Losses of one batch, relative: sums in another order in fp32; in bf16 the frozen models' other
# weights, and another attention.
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 0.03}
# What edgekd's cache holds is in float16.
ENCODED_TOLERANCE = {torch.float32: 2e-3, torch.bfloat16: 0.03}
SAMPLES = 128  # each is decoded anew in every epoch, and encoded anew unless cached
BF16, FP32 = torch.bfloat16, torch.float32
Tensors = dict[str, torch.Tensor]


class Captioned(Dataset[Tensors]):
    """Images in [-1, 1] and their captions' tokens, decoded when they are asked for."""

    def __init__(self, shard: Path, tokenizer: Any) -> None:
        self._samples = [sample.parts for sample in islice(iter_samples(shard), SAMPLES)]
        self._tokenizer = tokenizer

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, i: int) -> Tensors:
        parts = self._samples[i]
        with Image.open(io.BytesIO(parts["png"] or b"")) as image:
            pixels = torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)
        tokens = self._tokenizer(
            json.loads(parts["json"] or b"{}")["caption"],
            max_length=self._tokenizer.model_max_length,
            padding="max_length",
            truncation=True,
            return_tensors="pt",
        )
        return {"pixel_values": pixels / 127.5 - 1, "input_ids": tokens.input_ids[0]}


class PlainLoop:
    """A training loop as a user of diffusers writes it.

    Args:
        own: edgekd's, for the student's first weights and the recipe.
        dtype: of the frozen models, and of the student's autocast.
        cached: encode all samples beforehand.
    """

    def __init__(self, own: Own, shard: Path, dtype: torch.dtype, cached: bool) -> None:
        folder, section = own.teacher, own.section
        self.section, self.dtype = section, dtype
        self.teacher, self.vae, self.text_encoder = (
            load_model(folder, name).to(dtype) for name in ("unet", "vae", "text_encoder")
        )
        self.scheduler = load_scheduler(folder / "scheduler")
        self.student = copy.deepcopy(own.trainer.student).train()
        self.optimizer = torch.optim.AdamW(
            self.student.parameters(), lr=section.learning_rate, weight_decay=section.weight_decay
        )
        self.ema = EMAModel(self.student.parameters(), decay=section.ema_decay)
        self.pairs = block_pairs(own.arch, dict(self.teacher.config))
        self.ours, self.theirs = {}, {}
        for pair in self.pairs:
            keep(self.student.get_submodule(pair.student), self.ours, pair.student)
            keep(self.teacher.get_submodule(pair.teacher), self.theirs, pair.teacher)
        self.samples = Captioned(shard, load_tokenizer(folder / "tokenizer"))
        dataset: Any = self.samples
        if cached:
            encoded = [self.encode(batch) for batch in DataLoader(dataset, batch_size=1)]
            dataset = [{name: rows[0] for name, rows in row.items()} for row in encoded]
        loader = DataLoader(dataset, batch_size=section.batch_size, shuffle=True, drop_last=True)
        self.batches = endless(loader)

    @torch.no_grad()
    def encode(self, batch: Tensors) -> Tensors:
        """The VAE's moments and the text's embeddings."""
        moments = self.vae.encode(batch["pixel_values"].to(self.dtype)).latent_dist.parameters
        return {"moments": moments, "states": self.text_encoder(batch["input_ids"])[0]}

    def step(self) -> None:
        batch = next(self.batches)
        encoded = batch if "moments" in batch else self.encode(batch)
        mean, logvar = encoded["moments"].float().chunk(2, dim=1)
        latents = mean + torch.exp(0.5 * logvar) * torch.randn_like(mean)
        latents = latents * self.vae.config.scaling_factor
        noise = torch.randn_like(latents)
        count = self.scheduler.config.num_train_timesteps
        timesteps = torch.randint(0, count, (len(latents),))
        noisy = self.scheduler.add_noise(latents, noise, timesteps)
        target = noise
        if self.scheduler.config.prediction_type == "v_prediction":
            target = self.scheduler.get_velocity(latents, noise, timesteps)
        terms = self.losses(noisy, timesteps, encoded["states"], target)
        loss = total(terms, self.section.losses.weights)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.student.parameters(), self.section.max_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.ema.step(self.student.parameters())
        loss.item()  # the progress bar's

    def losses(self, noisy: Any, timesteps: Any, states: Any, target: Any) -> Tensors:
        """Each term of a batch; all but `timesteps` in fp32."""
        with torch.autocast("cpu", BF16, enabled=self.dtype == BF16):
            prediction = self.student(noisy, timesteps, states).sample
        with torch.no_grad():
            taught = self.teacher(noisy.to(self.dtype), timesteps, states.to(self.dtype)).sample
        snr = compute_snr(self.scheduler, timesteps)
        weights = snr.clamp(max=self.section.losses.min_snr_gamma)
        weights = weights / (snr + (self.scheduler.config.prediction_type == "v_prediction"))
        features = [
            feature_distance(self.ours[pair.student], self.theirs[pair.teacher])
            for pair in self.pairs
        ]
        return {
            "task": weighted(prediction, target, weights),
            "output": weighted(prediction, taught, weights),
            "feature": torch.stack(features).mean(),
        }


def weighted(prediction: torch.Tensor, target: torch.Tensor, weights: torch.Tensor) -> Any:
    error = F.mse_loss(prediction.float(), target.float(), reduction="none")
    return (error.mean(dim=(1, 2, 3)) * weights).mean()


def keep(module: Any, kept: Tensors, name: str) -> None:
    def hook(module: Any, args: Any, output: Any) -> None:
        kept[name] = output[0] if isinstance(output, tuple) else output

    module.register_forward_hook(hook)


def endless(loader: Any) -> Iterator[Tensors]:
    while True:
        yield from loader


@dataclass(frozen=True)
class Own:
    """edgekd's training of the phase `kd`."""

    section: DistillSection
    arch: StudentArch
    teacher: Path
    sources: Sources
    trainer: Trainer

    @classmethod
    def of(cls, how: argparse.Namespace, precision: str) -> Own:
        changes = [f"distill.precision={precision}", f"distill.batch_size={how.batch}", *how.set]
        recipe = load_recipe(find_yaml("configs", how.config, "config"), changes)
        section, teacher = recipe.distill, resolve_pipeline(recipe.teacher.path, "teacher")
        record = read_object(how.run / "cache" / "artifact.json")
        cache = TeacherCache(how.run / "cache", record["key"], record["teacher_key"])
        accelerator = make_accelerator()
        sources = CachedTeacher(teacher, cache).load(accelerator.device)
        arch = preset(how.student, dict(sources.teacher.unet.config))
        lesson = kd_lesson(section, arch, sources, accelerator)
        # Steps alone write nothing into a run's folder.
        trainer = Trainer(section, lesson, RunFolder(Path(), ""), accelerator)
        return cls(section, arch, teacher, sources, trainer)


def check(own: Own, loop: PlainLoop) -> dict[str, float]:
    """Hold a loop's losses of edgekd's first batch, and its encodings, against edgekd's."""
    teacher, plan = own.sources.teacher, BatchPlan(own.section.batch_size)
    schedule = read_schedule(teacher.scheduler)
    batches = Batches(own.sources.train, teacher.info, teacher.vae.config, schedule)
    positions = range(own.section.batch_size)
    batch = batches.training(own.section.seed, positions, plan, own.section.text_dropout)
    with torch.no_grad(), own.trainer.attached():
        ours = own.trainer.lesson.terms(0, 0, 0)
    with torch.no_grad():
        theirs = loop.losses(
            batch.noisy_latents, batch.timesteps, batch.encoder_hidden_states, batch.target
        )
    apart = {name: abs(float(theirs[name] / ours[name]) - 1) for name in ours}
    rows = own.sources.train.batch(torch.tensor([0]))
    encoded = loop.encode(next(iter(DataLoader(loop.samples, batch_size=1))))
    kept = {"moments": torch.cat([rows.mean, rows.logvar], dim=1)}
    kept["states"] = rows.encoder_hidden_states
    for name, value in kept.items():
        value, found = value.float(), encoded[name].float()
        error = float((found - value).norm() / value.norm())
        assert error < ENCODED_TOLERANCE[loop.dtype], f"{name}: {error}"
        apart[name] = error
    for name in ours:
        assert apart[name] < TOLERANCE[loop.dtype], f"{name}: {apart[name]}"
    return apart


def main(how: argparse.Namespace) -> None:
    torch.manual_seed(0)
    shard = sorted((how.run / "prepared" / "shards").glob("train-*.tar"))[0]
    own = {name: Own.of(how, name) for name in ("bf16", "fp32")}
    loops = {
        "diffusers fp32": PlainLoop(own["fp32"], shard, FP32, cached=False),
        "diffusers bf16": PlainLoop(own["bf16"], shard, BF16, cached=False),
        "diffusers fp32 cached": PlainLoop(own["fp32"], shard, FP32, cached=True),
        "diffusers bf16 cached": PlainLoop(own["bf16"], shard, BF16, cached=True),
    }
    apart = {name: check(own[name.split()[1]], loop) for name, loop in loops.items()}
    for name, values in apart.items():
        print(f"{name}: apart from edgekd by", {n: f"{v:.1e}" for n, v in values.items()})
    with ExitStack() as stack, training_cpu(how.threads):
        calls: dict[str, Callable[[], Any]] = {}
        for name, one in own.items():
            stack.enter_context(one.trainer.attached())
            calls[f"edgekd {name}"] = steps(partial(next, numbered(one.trainer)), how.steps)
        calls |= {name: steps(loop.step, how.steps) for name, loop in loops.items()}
        found = time_interleaved(calls, 1, how.rounds)
    samples = how.steps * how.batch
    heads = f"{'loop':<24}{'samples/s':>10}{'of CPU time':>12}"
    print(f"{heads}{'edgekd bf16 is':>18}{'quartiles':>15}")
    for name, latency in found.items():
        ratios = rounds(found["edgekd bf16"], latency)
        low, middle, high = (float(np.percentile(ratios, q)) for q in (25, 50, 75))
        cpu = float(np.median(latency.cpu_ms))
        print(
            f"{name:<24}{1e3 * samples / latency.p50_ms:>10.2f}{1e3 * samples / cpu:>12.2f}"
            f"{middle:>11.2f} times{low:>9.2f}-{high:.2f}"
        )
    if how.out is not None:
        results = {name: latency.to_dict() for name, latency in found.items()}
        facts = {**vars(how), "apart": apart, "environment": environment(), "results": results}
        how.out.write_text(json.dumps(facts, indent=2, default=str) + "\n", encoding="utf-8")


def numbered(trainer: Trainer) -> Iterator[Any]:
    return (trainer._step(number) for number in count(1))


def steps(step: Callable[[], Any], number: int) -> Callable[[], None]:
    def several() -> None:
        for _ in range(number):
            step()

    return several


def rounds(own: Latency, other: Latency) -> Any:
    """How many times a loop's processor time is edgekd's, in each round."""
    return np.array(other.cpu_ms) / np.array(own.cpu_ms)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=RawText)
    parser.add_argument("--run", type=Path, required=True, help="folder of `edgekd prepare`")
    parser.add_argument("--config", default="starter")
    parser.add_argument("--student", default="bk-sdm-small")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=2, help="steps of a round")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--set", action="append", default=[], help="as `edgekd distill --set`")
    parser.add_argument("--out", type=Path)
    main(parser.parse_args())
