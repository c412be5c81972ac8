"""Prompts to pictures with an exported folder.

N pictures; latents [N,c,h,w]; pictures [N,H,W,3].
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgekd.errors import GateError, InputError
from edgekd.runtime.backend import Backend, taken
from edgekd.runtime.backends import open_backend
from edgekd.runtime.conditions import (
    Conditions,
    TextEncoder,
    encode_negative,
    encode_prompts,
    guidance_conditions,
    open_encoders,
    size_conditions,
)
from edgekd.runtime.folder import ExportedFolder, read_folder
from edgekd.runtime.noise import TorchGenerator
from edgekd.runtime.prompt_cache import PromptCache
from edgekd.runtime.samplers import make_sampler

F32Array = npt.NDArray[np.float32]
Pictures = npt.NDArray[np.uint8]
# How many calls of the U-Net are done, how many there are, latents [N,c,h,w] as it is given them.
OnStep = Callable[[int, int, F32Array], None]


@dataclass(frozen=True)
class Pipeline:
    """An exported folder, ready to draw: `Pipeline.open(folder).generate(["red apple"])`."""

    folder: ExportedFolder
    backend: Backend
    encoders: tuple[TextEncoder, ...]
    prompts: PromptCache = field(default_factory=PromptCache)

    @classmethod
    def open(
        cls, path: Path | str, threads: int = 0, sampler: str | None = None, prompt_cache: int = 0
    ) -> Pipeline:
        """Open a folder that `edgekd export` wrote; its models are loaded when first used.

        Args:
            threads: threads inside an operator; 0: as measured when the folder was exported, else
                what the runtime chooses.
            sampler: another sampler than the folder's, by its class in diffusers or its alias.
            prompt_cache: of so many prompts, the last ones, the embeddings are kept; pictures are
                the same. 0: every picture is drawn whole, text encoder and all.

        Raises:
            InputError: the folder is no export, or its runtime is not installed.
        """
        folder = read_folder(Path(path), sampler)
        backend, kept = open_backend(folder, threads), PromptCache(prompt_cache)
        return cls(folder, backend, tuple(open_encoders(folder, backend)), kept)

    def load(self) -> None:
        """Load all models now.

        Raises:
            InputError: one is missing or cannot be opened.
        """
        for component in (*(one.component for one in self.encoders), "unet", "vae_decoder"):
            self.backend.load(component)

    def generate(
        self,
        prompts: Sequence[str],
        negative_prompt: str | Sequence[str] | None = None,
        steps: int | None = None,
        guidance_scale: float | None = None,
        seed: int | Sequence[int] = 0,
        height: int | None = None,
        width: int | None = None,
        fuse_guidance: bool | None = None,
        on_step: OnStep | None = None,
    ) -> Pictures:
        """Draw one picture for each prompt, uint8 [N,H,W,3].

        Picture i is the one that diffusers draws from `torch.Generator().manual_seed(seed + i)`, or
        from its own seed, whatever the other prompts are.

        Args:
            negative_prompt: what to lead away from; one for all or one for each.
            steps, guidance_scale: None: as recommended in the folder's manifest. Above 1, guidance
                runs the U-Net on two inputs for each picture, unless the U-Net was distilled with
                its guidance.
            seed: of the first picture, or one for each.
            height, width: in pixels; None: the student's own.
            fuse_guidance: both inputs in one call, else one after the other, which halves the
                memory of the U-Net's activations; None: as measured when the folder was exported.
            on_step: called after each call of the U-Net; `decode` makes previews of its latents.
                What it raises ends the drawing and comes out here.

        Raises:
            InputError: a value is out of range.
            GateError: the model's pictures are not finite.
        """
        request = self._checked(
            prompts, negative_prompt, steps, guidance_scale, seed, height, width
        )
        fused = self.folder.options.fused_guidance if fuse_guidance is None else fuse_guidance
        latents = self._denoise(request, fused, on_step)
        return np.stack([self.decode(one) for one in latents])

    def _checked(
        self,
        prompts: Sequence[str],
        negative: str | Sequence[str] | None,
        steps: int | None,
        guidance_scale: float | None,
        seed: int | Sequence[int],
        height: int | None,
        width: int | None,
    ) -> _Request:
        if isinstance(prompts, str) or not prompts:
            raise InputError("`prompts` must be a list of at least one prompt", repr(prompts))
        negatives = [negative] * len(prompts) if isinstance(negative, str) else negative
        if negatives is not None and len(negatives) != len(prompts):
            raise InputError(
                f"`negative_prompt` must be one, or {len(prompts)} as the prompts are",
                str(len(negatives)),
            )
        seeds = range(seed, seed + len(prompts)) if isinstance(seed, int) else seed
        if len(seeds) != len(prompts):
            raise InputError(
                f"`seed` must be one, or {len(prompts)} as the prompts are", f"{len(seeds)}"
            )
        if any(negatives or ()) and self.folder.guidance_width is not None:
            raise InputError(
                "a guidance-distilled pipeline takes no negative prompt", repr(negative)
            )
        scale = self.folder.guidance_scale if guidance_scale is None else float(guidance_scale)
        if not 0 <= scale < float("inf"):
            raise InputError("`0 <= guidance_scale < inf` must hold", str(scale))
        native = self.folder.shapes.native
        size = (native[0] if height is None else height, native[1] if width is None else width)
        self.folder.shapes.check(size)
        return _Request(
            prompts=list(prompts),
            negatives=None if negatives is None else list(negatives),
            steps=self.folder.steps if steps is None else steps,
            guidance_scale=scale,
            generators=[TorchGenerator(one) for one in seeds],
            size=size,
        )

    def _denoise(self, request: _Request, fuse_guidance: bool, on_step: OnStep | None) -> F32Array:
        """The latents of finished pictures [N,c,h,w]."""
        sampler = make_sampler(self.folder.scheduler, request.steps)
        branches = self._branches(request)
        if fuse_guidance and len(branches) > 1:
            branches = [
                {name: np.concatenate([one[name] for one in branches]) for name in branches[0]}
            ]
        scale = self.folder.latents.scale
        shape = (1, self.folder.latents.channels, *(side // scale for side in request.size))

        def draw() -> F32Array:
            return np.concatenate([one.randn(shape) for one in request.generators])

        latents: F32Array = draw() * np.float32(sampler.initial_scale)
        calls = len(sampler.timesteps)
        for index, timestep in enumerate(sampler.timesteps):
            sample = sampler.model_input(latents, index)
            output = self._predict(sample, timestep, branches, request.guidance_scale)
            latents = sampler.step(output, latents, index, draw)
            if on_step is not None:
                done = index + 1
                on_step(
                    done, calls, sampler.model_input(latents, done) if done < calls else latents
                )
        return latents

    def _branches(self, request: _Request) -> list[Conditions]:
        """Conditions of the U-Net's calls: away from the first, where there are two, to the last.

        Classifier-free guidance: Ho and Salimans (arXiv 2207.12598), equation 6.
        """
        folder, count = self.folder, len(request.prompts)
        positive = self._encode(request.prompts)
        branches = [positive]
        if request.guidance_scale > 1 and folder.guidance_width is None:
            negative = encode_negative(folder, self._encode, request.negatives, positive)
            branches = [negative, positive]
        shared: Conditions = {}
        if folder.is_sdxl:
            shared |= size_conditions(*request.size, count)
        if folder.guidance_width is not None:
            shared |= guidance_conditions(request.guidance_scale, folder.guidance_width, count)
        return [{**branch, **shared} for branch in branches]

    def _encode(self, prompts: Sequence[str]) -> Conditions:
        return self.prompts(prompts, partial(encode_prompts, self.folder, self.encoders))

    def _predict(
        self,
        sample: F32Array,
        timestep: np.float32,
        branches: list[Conditions],
        guidance_scale: float,
    ) -> F32Array:
        outputs = []
        for branch in branches:
            copies = len(branch["encoder_hidden_states"]) // len(sample)
            called = {"sample": np.concatenate([sample] * copies), "timestep": np.asarray(timestep)}
            found = self.backend.run("unet", {**called, **branch})
            outputs.append(taken(found, "out_sample", "unet", called["sample"].shape))
        output: F32Array = np.concatenate(outputs)
        if len(output) == len(sample):
            return output
        away, to = np.split(output, 2)
        return np.asarray(away + np.float32(guidance_scale) * (to - away), np.float32)

    def decode(self, latents: F32Array) -> Pictures:
        """Latents of one picture [c,h,w] -> uint8 [H,W,3]; one at a time, which bounds memory.

        Raises:
            GateError: the picture is not finite.
        """
        code = self.folder.latents
        scaled = latents[None] / np.float32(code.factor)
        if code.mean is not None and code.std is not None:
            mean, std = (np.array(row, np.float32)[:, None, None] for row in (code.mean, code.std))
            scaled = scaled * std + mean
        found = self.backend.run("vae_decoder", {"latent_sample": scaled})
        sides = (side * code.scale for side in latents.shape[1:])
        picture = taken(found, "sample", "vae_decoder", (1, 3, *sides))[0]
        if not np.isfinite(picture).all():
            raise GateError("pictures must be finite", "NaN or infinity from the model")
        unit = np.clip(picture.transpose(1, 2, 0) * np.float32(0.5) + np.float32(0.5), 0, 1)
        return np.asarray((unit * 255).round(), np.uint8)


@dataclass(frozen=True)
class _Request:
    """One call of `generate`, checked and with its defaults filled in."""

    prompts: list[str]
    negatives: list[str] | None
    steps: int
    guidance_scale: float
    generators: list[TorchGenerator]
    size: tuple[int, int]
