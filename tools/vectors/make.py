"""The vectors that tokenizer, noise and samplers of every language are held against.

`python -m tools.vectors.make` writes export_targets/testdata/vectors.json from transformers, torch
and diffusers; README.md beside it describes the file. Floats have nine significant digits, which
give back a float32 exactly.
"""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from edgekd import resources
from edgekd.diffusion.single_file.vocabulary import SPECIAL, write_tokenizer
from edgekd.distill.solver import (
    consistency_scheduler,
    deployed_scheduler,
    first_order_scheduler,
)
from edgekd.files import write_text
from edgekd.libraries import diffusers, transformers

OUT = Path(__file__).parents[2] / "export_targets" / "testdata" / "vectors.json"
# Whatever a user may type or paste, and what tokenizers are known to differ in.
PROMPTS = [
    "",
    " ",
    "red apple",
    "red apple, 3d style",
    "A Photo of a RED Apple,  on   a table",
    "tab\tnew\nline\rreturn\u00a0no-break\u2003em\u3000ideographic\u2028line\u200bzero",
    "control\x00\x07\x1b\x7f\x85\u200d\ufeff\ufffdcharacters",
    "caf\u00e9 na\u00efve \u00fcber \u0141\u00f3d\u017a \u00c5ngstr\u00f6m",
    "cafe\u0301 A\u030angstro\u0308m",
    "\u0130stanbul STRASSE \u00df \u212a \ufb01 \ufb06 \u01c5",
    "\u039f\u0394\u039f\u03a3 \u039f\u0394\u039f\u03a3. \u03a3",
    "\u6f22\u5b57\u3068\u304b\u306a \u30ab\u30bf\u30ab\u30ca",
    "\u7d05\u3044\u308a\u3093\u3054\u306e\u5199\u771f \U00020000\U0002a700",
    "\ud55c\uad6d\uc5b4 \u0440\u0443\u0441\u0441\u043a\u0438\u0439 \u05e2\u05d1\u05e8\u05d9\u05ea",
    "\u0627\u0644\u0639\u0631\u0628\u064a\u0629 \u0939\u093f\u0928\u094d\u0926\u0940",
    "\U0001f34e \U0001f680\U0001f31f",
    "\U0001f469\u200d\U0001f680 \U0001f3f3\ufe0f\u200d\U0001f308 \U0001f44d\U0001f3fd",
    "it's don't we'll I'm you've they're he'd",
    "IT'S DON'T WE'LL 'S 'LL '\u017f 'TWAS o'clock",
    "\u2019s \u2018quoted\u2019 \u201cdouble\u201d",
    "12 apples, 3.14159 and 1,000,000 at 50%",
    "\u0663 \u00bd \u2167 \u00b2 \uff11\uff12",
    "&amp; &lt;b&gt; &#39; &nbsp; <b>bold</b>",
    "hello!!! wait... what?! (a:1.2) [b] {c} a_b-c/d\\e @f #g $h ^i ~j |k",
    "<|startoftext|> <|endoftext|> <|ENDOFTEXT|>!!<|startoftext|>x",
    "\ue000 \U000e0001 \U0010ffff",
    "x" * 120,
    "word " * 100,
    "a photo of a small house beside a lake, evening light, highly detailed, 8k, " * 3,
    "1girl,solo,((masterpiece)),best quality,:d,^_^",
    "https://example.com/a?b=c&d=e mail@example.com",
    "\u00bfQu\u00e9 pas\u00f3? \u00a1Ol\u00e9! \u20ac5 \u00a35 \u00a9 \u2122 \u2014 \u2026",
]
SEEDS = (0, 1, 42, 2**32 - 1, 2**32 + 5)
SHAPES = ((1,), (2, 3), (15,), (16,), (17,), (3, 7, 5), (1, 4, 64, 64))
# The whole tensor is told up to so many values.
WHOLE = 64
ENDS = 16
LATENTS = (1, 2, 3, 3)  # of a trajectory: more than 16 values, no multiple of 16
STEPS = (1, 2, 4, 10)
STABLE_DIFFUSION: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "steps_offset": 1,
}


def make() -> dict[str, Any]:
    """All vectors."""
    return {"tokens": list(_tokens()), "noise": list(_noise()), "trajectories": [*_trajectories()]}


def _tokens() -> Iterator[dict[str, Any]]:
    with TemporaryDirectory() as scratch:
        clip = Path(scratch) / "clip"
        write_tokenizer(clip, SPECIAL[1], 77)
        folders = {"starter": resources.STARTER / "teacher" / "tokenizer", "clip": clip}
        for name, folder in folders.items():
            tokenizer = transformers.CLIPTokenizer.from_pretrained(
                str(folder), local_files_only=True
            )
            if tokenizer.fix_text is not None:
                raise RuntimeError("ftfy must not be installed: it changes what the tokenizer does")
            for prompt in PROMPTS:
                ids = tokenizer(
                    prompt,
                    padding="max_length",
                    max_length=tokenizer.model_max_length,
                    truncation=True,
                ).input_ids
                yield {"tokenizer": name, "prompt": prompt, "input_ids": ids}


def _noise() -> Iterator[dict[str, Any]]:
    for seed in SEEDS:
        for shape in SHAPES:
            values = torch.randn(shape, generator=torch.Generator().manual_seed(seed)).flatten()
            told: dict[str, Any] = {"seed": seed, "shape": shape}
            if len(values) <= WHOLE:
                told["values"] = _floats(values)
            else:
                told["head"], told["tail"] = _floats(values[:ENDS]), _floats(values[-ENDS:])
                told["sum"] = _digits(float(values.double().sum()))
            yield told


def _schedulers() -> Iterator[Any]:
    """As clients meet them in an export's folder."""
    for prediction in ("epsilon", "v_prediction"):
        trained = {**STABLE_DIFFUSION, "prediction_type": prediction}
        ddim = diffusers.DDIMScheduler(**trained, clip_sample=False, set_alpha_to_one=False)
        yield ddim
        yield diffusers.EulerDiscreteScheduler(**trained, timestep_spacing="leading")
        yield consistency_scheduler(ddim)
        yield deployed_scheduler(ddim)  # of our few-step students
        yield first_order_scheduler(ddim)  # of the same, for clients without DDIM


def _rarer_schedulers() -> Iterator[Any]:
    """Fractional timesteps, and a last level that is noise alone."""
    yield diffusers.EulerDiscreteScheduler(**STABLE_DIFFUSION, timestep_spacing="linspace")
    yield diffusers.DDIMScheduler(
        **STABLE_DIFFUSION,
        clip_sample=False,
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
    )


def _trajectories() -> Iterator[dict[str, Any]]:
    asked = [(scheduler, steps) for scheduler in _schedulers() for steps in STEPS]
    asked += [(scheduler, 4) for scheduler in _rarer_schedulers()]
    for seed, (scheduler, steps) in enumerate(asked):
        yield _trajectory(scheduler, steps, seed)


def _trajectory(scheduler: Any, steps: int, seed: int) -> dict[str, Any]:
    scheduler.set_timesteps(steps)
    timesteps = scheduler.timesteps.tolist()
    generator = torch.Generator().manual_seed(seed)
    latents = torch.randn(LATENTS, generator=generator) * scheduler.init_noise_sigma
    # Where a scheduler adds noise, it goes on in the stream that the latents began.
    takes = "generator" in inspect.signature(scheduler.step).parameters
    extra = {"generator": generator} if takes else {}
    visited = []
    for timestep in scheduler.timesteps:
        prediction = toy_unet(scheduler.scale_model_input(latents, timestep), float(timestep))
        latents = scheduler.step(prediction, timestep, latents, **extra).prev_sample
        visited.append(_floats(latents.flatten()))
    return {
        "scheduler": _config(scheduler),
        "steps": steps,
        "timesteps": [_digits(timestep) for timestep in timesteps],
        "seed": seed,
        "shape": LATENTS,
        "latents": visited,
    }


def toy_unet(sample: torch.Tensor, timestep: float) -> torch.Tensor:
    """`0.5 tanh(sample) + 0.1 cos(timestep / 100)`, of the latents as the sampler scales them."""
    return 0.5 * torch.tanh(sample) + 0.1 * math.cos(timestep / 100)


def _config(scheduler: Any) -> dict[str, Any]:
    """As `save_pretrained` writes it, but for what JSON does not know, infinity, as a text."""
    config: dict[str, Any] = json.loads(scheduler.to_json_string(), parse_constant=str)
    del config["_diffusers_version"]
    return config


def _floats(values: torch.Tensor) -> list[float]:
    return [_digits(value) for value in values.tolist()]


def _digits(value: float) -> float:
    return value if value == int(value) else float(f"{value:.9g}")


def text(vectors: dict[str, Any]) -> str:
    """JSON with a line for each entry."""
    groups = []
    for name, entries in vectors.items():
        lines = (json.dumps(entry, separators=(",", ":")) for entry in entries)
        groups.append(f"{json.dumps(name)}:[\n" + ",\n".join(lines) + "\n]")
    return "{" + ",\n".join(groups) + "}\n"


if __name__ == "__main__":
    write_text(OUT, text(make()))
