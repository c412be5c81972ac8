"""Graphs to measure, as plain data: what decides one fully, and nothing that does not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from pydantic import Field, JsonValue, model_validator

from edgekd.errors import InputError
from edgekd.files import hash_value
from edgekd.reading import read_object
from edgekd.schema import Section
from edgekd.search.blocks import Block
from edgekd.search.candidate import Candidate
from edgekd.student.config import to_unet_config
from edgekd.student.decoder import narrow_vae_config
from edgekd.student.text_depth import pruned_configs, read_text_configs

if TYPE_CHECKING:
    from edgekd.search.measurements import Measurement

Config = dict[str, JsonValue]  # of a diffusers or transformers model


# A block, or a component of a pipeline by its folder's name.
GraphKind = Literal["block", "unet", "vae_decoder", "text_encoder", "text_encoder_2"]


class Graph(Section):
    """A graph with random weights, and the shape that it is run at."""

    kind: GraphKind
    block: Block | None = Field(None, description="of a block; the others have a config")
    config: Config | None = Field(None, description="of the model")
    batch: int = Field(1, ge=1)
    latent_size: tuple[int, int] = Field((1, 1), description="height and width")
    tokens: int = Field(1, ge=1, description="of a prompt")
    xl: bool = Field(False, description="a part of an XL pipeline: it has more outputs")

    @model_validator(mode="after")
    def _one_content(self) -> Graph:
        if (self.block is None) != (self.config is not None):
            raise ValueError("exactly one of `block` and `config` must be given")
        return self

    def key(self) -> str:
        """Hash of its content."""
        return hash_value(self.model_dump(mode="json"))

    @property
    def component(self) -> str:
        """The name under which exporters and runtimes take it."""
        return "unet" if self.block is not None else self.kind

    @property
    def label(self) -> str:
        """For people."""
        if self.block is None:
            return f"{self.kind} at batch {self.batch}"
        sizes = f"{self.block.inputs}-{self.block.outputs} at {self.block.height}"
        return f"{self.block.kind} {sizes} at batch {self.batch}"


class Measure(Protocol):
    """Measures graphs on the device, in the setting that it was made for."""

    def __call__(self, graphs: Sequence[Graph]) -> list[Measurement]:
        """One measurement for each graph, in order."""


class TeacherConfigs(Section):
    """What decides the shapes of all students of one teacher."""

    unet: Config
    vae: Config
    text_encoders: tuple[Config, ...] = Field(..., min_length=1, max_length=2)
    latent_size: tuple[int, int] = Field(..., description="height and width")
    tokens: int = Field(..., ge=1, description="of a prompt")
    guided: bool = Field(False, description="every step calls the U-Net on both halves at once")
    decoder_layers: int | None = Field(
        None, description="residual blocks of a narrow decoder's stage; null: the teacher's"
    )

    text_depth: float = Field(1.0, description="share of the text encoders' layers that stays")
    extra_calls: int = Field(
        0, ge=0, description="of the U-Net in a picture beyond one a step, as PNDM and Heun make"
    )
    zero_negative: bool = Field(
        False, description="the empty prompt is zeros, which no text encoder makes (SDXL)"
    )

    @property
    def prompts(self) -> int:
        """That the text encoders take for a picture."""
        return 2 if self.guided and not self.zero_negative else 1

    @property
    def batch(self) -> int:
        """Of the U-Net's calls."""
        return 2 if self.guided else 1

    def block_graph(self, block: Block) -> Graph:
        """A block, at the batch of the U-Net's calls."""
        return Graph(kind="block", block=block, batch=self.batch)

    def unet_graph(self, candidate: Candidate) -> Graph:
        """A candidate's whole U-Net.

        Raises:
            InputError: see `edgekd.student.plan.plan_student`.
        """
        config = to_unet_config(candidate.arch, self.unet)
        return self._whole("unet", config, self.batch)

    def decoder_graph(self, width: float) -> Graph:
        """The teacher's decoder at width 1, else a narrow one.

        Raises:
            InputError: see `edgekd.student.decoder.narrow_vae_config`.
        """
        config: Mapping[str, Any] = self.vae
        if width < 1:
            config = narrow_vae_config(self.vae, width, self.decoder_layers)
        return self._whole("vae_decoder", config, 1)

    def text_graphs(self) -> tuple[Graph, ...]:
        """The text encoders; prompt and negative prompt are encoded one after the other."""
        configs: Sequence[Mapping[str, Any]] = self.text_encoders
        if self.text_depth < 1:
            configs = pruned_configs(configs, self.text_depth)
        kinds: tuple[GraphKind, ...] = ("text_encoder", "text_encoder_2")
        pairs = zip(kinds, configs, strict=False)
        return tuple(self._whole(kind, config, 1) for kind, config in pairs)

    def _whole(self, kind: GraphKind, config: Mapping[str, Any], batch: int) -> Graph:
        public = {key: value for key, value in config.items() if not key.startswith("_")}
        return Graph(
            kind=kind,
            config=public,
            batch=batch,
            latent_size=self.latent_size,
            tokens=self.tokens,
            xl=len(self.text_encoders) > 1,
        )


def read_teacher_configs(folder: Path, guided: bool) -> TeacherConfigs:
    """The configs of a pipeline's folder.

    Raises:
        InputError: a config is missing or damaged, or says no size of the latents.
    """
    unet = read_object(folder / "unet" / "config.json")
    side = unet.get("sample_size")
    if not isinstance(side, int):
        raise InputError("`sample_size` of the teacher's U-Net must be a number", repr(side))
    texts = read_text_configs(folder)
    return TeacherConfigs(
        unet=unet,
        vae=read_object(folder / "vae" / "config.json"),
        text_encoders=texts,
        latent_size=(side, side),
        tokens=int(texts[0].get("max_position_embeddings", 77)) if texts else 77,
        guided=guided,
    )


def reference_graph() -> Graph:
    """The graph that is timed beside all others, so that drift of the machine is seen.

    A small U-Net: what slows one kind of work more than another slows it as it does the others. It
    is one for all teachers: its time is the unit of a device, measured once.
    """
    config: Config = {
        "sample_size": 16,
        "block_out_channels": [64, 128],
        "down_block_types": ["CrossAttnDownBlock2D"] * 2,
        "up_block_types": ["CrossAttnUpBlock2D"] * 2,
        "layers_per_block": 1,
        "attention_head_dim": 4,
        "cross_attention_dim": 128,
    }
    return Graph(kind="unet", config=config, latent_size=(16, 16), tokens=32)
