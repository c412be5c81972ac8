"""Draw with a Core ML export: diffusers' own pipeline over the packages.

On macOS Core ML runs them; elsewhere they are evaluated, which is exact about what is stored and
says nothing about speed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from edgekd.errors import InputError
from edgekd.export.coreml.package import PackageRunner
from edgekd.export.outline import PIPELINE_ATTRIBUTES
from edgekd.libraries import diffusers, transformers
from edgekd.reading import read_json
from edgekd.runtime.coreml_layout import LAYOUT_FILE


class _Packaged(nn.Module):
    """What diffusers' pipelines read of every model.

    Attributes:
        config: of the model that was exported.
        dtype, device: of what goes in and out.
    """

    dtype = torch.float32
    device = torch.device("cpu")

    def __init__(self, folder: Path) -> None:
        super().__init__()
        config = read_json(folder / "config.json")
        self.config = diffusers.configuration_utils.FrozenDict(config)

    @staticmethod
    def _call(runner: PackageRunner, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        outputs = runner({name: tensor.detach().numpy() for name, tensor in inputs.items()})
        return {name: torch.from_numpy(np.ascontiguousarray(a)) for name, a in outputs.items()}


class PackagedTextEncoder(_Packaged):
    """input_ids [B,L] -> a transformers output, as far as the package has it."""

    def __init__(self, folder: Path, component: str) -> None:
        super().__init__(folder)
        self._runner = PackageRunner(folder, component)

    def forward(self, input_ids: Tensor, **options: Any) -> Any:
        del options  # hidden states come if the package has them
        values = self._call(self._runner, {"input_ids": input_ids})
        hidden = [name for name in values if name.startswith("hidden_states.")]
        # diffusers reads the last but one; nothing reads the others.
        states = (values[hidden[0]], None) if hidden else None
        if "text_embeds" in values:
            return transformers.models.clip.modeling_clip.CLIPTextModelOutput(
                text_embeds=values["text_embeds"], hidden_states=states
            )
        return transformers.modeling_outputs.BaseModelOutputWithPooling(
            last_hidden_state=values[hidden[0] if hidden else "last_hidden_state"],
            pooler_output=values["pooler_output"],
            hidden_states=states,
        )


class PackagedUnet(_Packaged):
    """sample [B,c,h,w], timestep, encoder_hidden_states [B,L,D] -> noise prediction [B,c,h,w]."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._runner = PackageRunner(folder, "unet")
        if self.config.get("addition_embed_type") == "text_time":
            # diffusers checks the width of what it feeds there.
            width = self.config["projection_class_embeddings_input_dim"]
            self.add_embedding = nn.Module()
            self.add_embedding.linear_1 = nn.Linear(width, 1, device="meta")

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor | float,
        encoder_hidden_states: Tensor,
        timestep_cond: Tensor | None = None,
        added_cond_kwargs: dict[str, Tensor] | None = None,
        return_dict: bool = True,
        **options: Any,
    ) -> Any:
        del options  # cross-attention arguments: none were exported
        given = {
            "sample": sample,
            "timestep": torch.as_tensor(timestep, dtype=torch.float32),
            "encoder_hidden_states": encoder_hidden_states,
            "timestep_cond": timestep_cond,
            **(added_cond_kwargs or {}),
        }
        inputs = {name: given[name] for name in self._runner.inputs}
        result = self._call(self._runner, {n: t for n, t in inputs.items() if t is not None})
        (noise,) = result.values()
        if not return_dict:
            return (noise,)
        return diffusers.models.unets.unet_2d_condition.UNet2DConditionOutput(sample=noise)


class PackagedVae(_Packaged):
    """Decoder, and encoder where there is one."""

    def __init__(self, path: Path) -> None:
        super().__init__(path / "vae_decoder")
        self._decoder = PackageRunner(path / "vae_decoder", "vae_decoder")
        encoder = path / "vae_encoder"
        self._encoder = PackageRunner(encoder, "vae_encoder") if encoder.is_dir() else None

    def decode(self, z: Tensor, return_dict: bool = True, **options: Any) -> Any:
        """Unscaled latents [B,c,h,w] -> pictures [B,3,H,W] in [-1,1]."""
        del options
        picture = self._call(self._decoder, {"latent_sample": z})["sample"]
        if not return_dict:
            return (picture,)
        return diffusers.models.autoencoders.vae.DecoderOutput(sample=picture)


def load_coreml_pipeline(path: Path, threads: int = 0) -> Any:
    """Load an exported folder as the diffusers pipeline that it was made from.

    Pictures have the size of the export; batches of any size are drawn in turns.

    Args:
        threads: CPU threads of the evaluation; 0: as they are. Core ML chooses its own.

    Raises:
        InputError: the folder is no Core ML export.
    """
    wanted = ("model_index.json", *(f"{part}/{LAYOUT_FILE}" for part in ("unet", "vae_decoder")))
    missing = [name for name in wanted if not (path / name).is_file()]
    if missing:
        raise InputError(
            "the folder must be an exported Core ML pipeline", f"{path} without {missing[0]}"
        )
    if threads:
        torch.set_num_threads(threads)
    index = read_json(path / "model_index.json")
    pipeline_class = getattr(diffusers, index["_class_name"])
    parts: dict[str, Any] = dict.fromkeys(pipeline_class._get_signature_keys(pipeline_class)[0])
    parts |= {"unet": PackagedUnet(path / "unet"), "vae": PackagedVae(path)}
    for name in parts:
        if name in PIPELINE_ATTRIBUTES and name.startswith("text_encoder"):
            parts[name] = PackagedTextEncoder(path / name, name)
        if name.startswith("tokenizer") and (path / name).is_dir():
            parts[name] = transformers.CLIPTokenizer.from_pretrained(
                str(path / name), local_files_only=True
            )
    scheduler = getattr(diffusers, index["scheduler"][1])
    parts["scheduler"] = scheduler.from_pretrained(path / "scheduler")
    verbosity = diffusers.utils.logging.get_verbosity()
    diffusers.utils.logging.set_verbosity_error()  # there is no safety checker, as in the source
    try:
        pipeline = pipeline_class(**parts)
    finally:
        diffusers.utils.logging.set_verbosity(verbosity)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
