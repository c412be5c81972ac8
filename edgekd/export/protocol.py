"""What an exporter is: code that takes a diffusers pipeline to one runtime.

An exporter brings `convert` and `open_component` for single parts, and its floors; the common
procedure (`edgekd.export.job`) records real inputs, converts part by part, checks parity and
writes the folder. `export` is that procedure bound to the exporter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from edgekd.artifacts import ExportedPipeline
    from edgekd.export.bits.recipe import QuantizationRecipe
    from edgekd.export.capture import Capture
    from edgekd.export.lora import Lora
    from edgekd.export.manifest import Tuning
    from edgekd.export.record import Arrays, Recording, Trajectory
    from edgekd.progress import Progress
    from edgekd.runtime.declared import Runtime


@dataclass(frozen=True)
class Generation:
    """How pictures are drawn with a pipeline, as its maker recommends."""

    steps: int = 25
    guidance_scale: float = 4.0


# What an exporter tells in its own words: JSON values for people, which edgekd does not read.
Facts = dict[str, object]


@dataclass(frozen=True)
class Floor:
    """The least parity that is accepted, in dB, and why it is this much."""

    db: float
    reason: str


@dataclass(frozen=True)
class Floors:
    """What one precision has to reach.

    Attributes:
        part: least SNR of a part against torch in float32.
        picture: least PSNR of whole pictures drawn from the same noise.
        own: parts with a floor of their own, by component.
        deployed: the same by component where the runtime computes in another precision in
            deployment and the floor is another one; see `OpensDeployed`.
    """

    part: Floor
    picture: Floor
    own: Mapping[str, Floor] = field(default_factory=dict)
    deployed: Mapping[str, Floor] = field(default_factory=dict)

    def component(self, name: str) -> Floor:
        return self.own.get(name, self.part)

    def deployed_component(self, name: str) -> Floor:
        return self.deployed.get(name, self.component(name))


@dataclass(frozen=True)
class ExportOptions:
    """What an export may be told beyond its source and precision.

    Attributes:
        prompts: what parity is measured on; at least one.
        generation: stored as the recommendation; parity follows its trajectory.
        schedulers: scheduler classes that the target's clients know; None: the exporter's own.
        key: content hash of everything that the export depends on; None: made from the source.
        trajectory: recordings of this very pipeline, when several precisions share them.
        base: a finished export of the same source in the exporter's first precision, to start
            from instead of tracing again. The result is the same.
        loras: fused into the pipeline before the export, in this order.
        memory_limit_bytes: bound of the resident memory of this process and its children
            together; see `edgekd.export.isolate`.
        quantization: bits of each weight; the precision is `mixed` then.
        min_psnr_db: least PSNR of whole pictures; None: the precision's own floor.
    """

    prompts: tuple[str, ...]
    generation: Generation = field(default_factory=Generation)
    schedulers: tuple[str, ...] | None = None
    key: str | None = None
    trajectory: Trajectory | None = None
    base: Path | None = None
    loras: tuple[Lora, ...] = ()
    memory_limit_bytes: int | None = None
    quantization: QuantizationRecipe | None = None
    min_psnr_db: float | None = None


@dataclass(frozen=True)
class Conversion:
    """One part on its way into an export.

    Attributes:
        folder: of the part, which need not exist.
        recordings: real calls, for calibration.
        base: folder of the same part in the first precision, where there is one.
    """

    capture: Capture
    folder: Path
    recordings: list[Recording] = field(default_factory=list)
    base: Path | None = None


class ComponentRunner(Protocol):
    """One converted part, opened in the runtime (or evaluated, if `executed_by` says so).

    Attributes:
        inputs, outputs: names in the part's own order.
        executed_by: runtime, version and device, for the manifest.
        partial: whether the runtime's clients read fewer outputs than torch gives, so that the part
            may lack some of them.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    executed_by: str
    partial: bool

    def __call__(self, inputs: Arrays) -> Arrays:
        """Run once; arrays by name."""


@runtime_checkable
class Exporter(Protocol):
    """Takes pipelines to one runtime; found through the entry points `edgekd.exporters`.

    Attributes:
        name: the `runtime` of a target.
        runtime: what it is made of; its packages' versions are part of every export's key.
        precisions: what `export` accepts.
        schedulers: diffusers scheduler classes that the runtime's clients know.
        dynamic_shapes: whether one export serves every batch and picture size. If so, parity is
            checked at a second size and batch too.
        varying: precisions whose files differ from one export of a source to the next, because
            the runtime's converter is not deterministic.
        accepts_tiny_decoder: whether the runtime's clients draw with an `AutoencoderTiny`, whose
            encoder gives `latent_sample` instead of `latent_parameters`. If not, a pipeline that
            has one is refused before any work.

    `convert` and `open_component` may be called in another process than `export`, on an exporter
    that was made there without arguments.
    """

    name: str
    runtime: Runtime
    precisions: tuple[str, ...]
    schedulers: tuple[str, ...]
    dynamic_shapes: bool
    accepts_tiny_decoder: bool
    varying: tuple[str, ...]

    def export(
        self,
        pipeline_path: Path,
        out: Path,
        precision: str,
        progress: Progress,
        options: ExportOptions,
    ) -> ExportedPipeline:
        """Write the pipeline in the runtime's format, whole and proven equal, or not at all.

        Raises:
            InputError: unknown precision, unusable source, no room on the disk.
            GateError: a part or the whole is below its parity floor.
        """

    def load(self, path: Path, threads: int = 0) -> Any:
        """The exported folder as an object that is called like a diffusers pipeline."""

    def convert(self, part: Conversion, precision: str) -> Facts:
        """Write one part into its folder; returns facts for the manifest (how it was quantized)."""

    def open_component(self, exported_path: Path, component: str) -> ComponentRunner:
        """Open one part of an exported folder for parity and measurement."""

    def floors(self, precision: str) -> Floors:
        """What the parts and the pictures of a precision have to reach."""

    def facts(self) -> Facts:
        """Runtime options, for the manifest."""


@runtime_checkable
class OpensDeployed(Protocol):
    """What an exporter has besides, whose runtime computes in another precision in deployment.

    `Exporter.open_component` then opens a part so that it computes as exactly as it can, which
    proves the graph and the weights; this opens it as `Exporter.load` does.
    """

    def open_deployed(self, exported_path: Path, component: str) -> ComponentRunner:
        """Open one part as it is deployed; `executed_by` names the precision."""


@runtime_checkable
class Tunes(Protocol):
    """What an exporter has besides, whose runtime has options to choose from."""

    def tune(self, path: Path, threads: int) -> Tuning:
        """Measure the options on this machine; store the choice in the manifest's `tuning`.

        What clients load, and the content hash, stay as they are. `load` obeys the choice.

        Args:
            threads: most threads that the runtime may have; 0: one per core.

        Returns:
            `chosen` options, figures of every candidate, and the machine.
        """


@runtime_checkable
class MayOnlyEvaluate(Protocol):
    """What an exporter has besides, whose runtime does not exist on every machine.

    `load` and `open_component` then evaluate the exported files themselves: graph and weights are
    proven, times and memory are not those of the runtime.
    """

    def not_executed_here(self) -> str:
        """Why this machine only evaluates; empty where the runtime executes."""

    def bits_per_weight(self, precision: str) -> float:
        """Of most weights in a precision's files: sizes follow from it where a search measures in
        another runtime."""


@runtime_checkable
class WritesClientFiles(Protocol):
    """What an exporter has besides, whose clients need more files than the converted parts."""

    def write_client_files(self, folder: Path) -> None:
        """Add them to a folder that has tokenizers, scheduler and index, but no parts yet."""


@runtime_checkable
class KnowsItsClients(Protocol):
    """What an exporter has besides, whose clients do not set schedulers as a pipeline's config."""

    def drawing_warning(self, scheduler: Mapping[str, Any], steps: int) -> str | None:
        """A sentence for the user where they draw otherwise than the config says.

        Args:
            scheduler: config of the pipeline's, with `_class_name`.
            steps: that are recommended.
        """


@runtime_checkable
class SaysHowToLoad(Protocol):
    """What an exporter has besides, whose folders another library opens too.

    Attributes:
        loading: Python code that draws a picture of `prompt` from `FOLDER` in `{steps}` steps at
            the guidance `{scale}`, for model cards.
    """

    loading: str


@runtime_checkable
class ConvertsFiles(Protocol):
    """What an exporter has besides, that makes precisions from the files of the first one.

    Attributes:
        from_files: precisions that `convert` makes of its `base`, without the capture's weights.
    """

    from_files: tuple[str, ...]


@runtime_checkable
class LoadsInTurns(Protocol):
    """What an exporter has besides, whose runtime keeps copies of the weights that it reads."""

    def load_in_turns(self, path: Path, threads: int = 0) -> Any:
        """As `Exporter.load`, but one part at a time is in memory: a part that is called while it
        is not there is opened, and the one before it closed."""
