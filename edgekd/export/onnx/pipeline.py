"""Run an exported ONNX folder: optimum's pipeline, with session options chosen by measurement."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import onnxruntime

from edgekd.errors import InputError
from edgekd.export.record import Arrays
from edgekd.reading import Fields
from edgekd.runtime.options import RuntimeOptions, read_options

PROVIDER = "CPUExecutionProvider"
MODEL_FILE = "model.onnx"
ORT_FILE = "model.ort"  # onnxruntime's own format, for phones
PARTS = ("text_encoder", "text_encoder_2", "vae_encoder", "vae_decoder", "unet")


_LEVELS = {
    "basic": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "extended": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "all": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
}


def session_options(
    threads: int = 0, chosen: RuntimeOptions | None = None, thrifty: bool = False
) -> Any:
    """Options of every onnxruntime session that edgekd opens.

    Args:
        threads: threads inside an operator; 0: as chosen, else one per physical core.
        chosen: what a measurement chose; None: onnxruntime's defaults.
        thrifty: the same graph with less memory and speed: no weights packed for the kernels
            beside those of the file, which are mapped, and no memory kept from run to run.
    """
    chosen = chosen or RuntimeOptions()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or chosen.threads
    options.inter_op_num_threads = 1
    options.graph_optimization_level = _LEVELS[chosen.optimization]
    options.enable_mem_pattern = chosen.memory_pattern
    options.enable_cpu_mem_arena = chosen.arena and not thrifty
    options.log_severity_level = 3
    if thrifty:
        options.add_session_config_entry("session.disable_prepacking", "1")
    return options


def open_session(
    model: Path,
    threads: int = 0,
    chosen: RuntimeOptions | None = None,
    thrifty: bool = False,
    in_order: bool = False,
) -> Any:
    """A session of a model file on the CPU; see `session_options`.

    Args:
        in_order: run nodes in the order of the file wherever it can be kept.

    A thrifty one restores weights of few bits while it runs. To do it once, when it opens, takes
    the weights three times: as they are stored, without their scale, and in float32.
    """
    options = session_options(threads, chosen, thrifty)
    if in_order:
        options.execution_order = onnxruntime.ExecutionOrder.PRIORITY_BASED
    return onnxruntime.InferenceSession(
        str(model),
        options,
        providers=[PROVIDER],
        disabled_optimizers=["ConstantFolding"] if thrifty else None,
    )


def model_file(folder: Path) -> Path:
    """The model of one part: ONNX, or onnxruntime's own format."""
    return folder / ORT_FILE if (folder / ORT_FILE).is_file() else folder / MODEL_FILE


def stored_options(path: Path) -> RuntimeOptions:
    """What was chosen for an exported folder; the defaults where nothing was measured."""
    manifest_file = path / "manifest.json"
    return read_options(Fields.read(manifest_file)) if manifest_file.is_file() else RuntimeOptions()


def load_onnx_pipeline(path: Path, threads: int = 0) -> Any:
    """Load an exported folder as optimum's `ORTStableDiffusionPipeline` (or its XL or LCM form).

    Raises:
        InputError: the folder is no ONNX pipeline.
    """
    chosen = stored_options(path)
    return assemble_pipeline(path, chosen, lambda model: open_session(model, threads, chosen))


def assemble_pipeline(path: Path, chosen: RuntimeOptions, opened: Callable[[Path], Any]) -> Any:
    """optimum's pipeline of an exported folder, with the sessions that `opened` gives.

    Raises:
        InputError: the folder is no ONNX pipeline.
    """
    wanted = (path / "model_index.json", model_file(path / "unet"))
    missing = [str(item.relative_to(path)) for item in wanted if not item.is_file()]
    if missing:
        raise InputError(
            "the folder must be an exported ONNX pipeline", f"{path} without {', '.join(missing)}"
        )
    # Here, because parts are run without them; and first, see `edgekd.libraries`.
    from edgekd.libraries import diffusers

    # isort: split
    from optimum.onnxruntime import ORTDiffusionPipeline

    sessions = {
        f"{part}_session": opened(model_file(path / part))
        for part in PARTS
        if model_file(path / part).is_file()
    }
    with _quiet(diffusers.utils.logging):
        pipeline = ORTDiffusionPipeline.from_pretrained(
            path, export=False, provider=PROVIDER, **sessions
        )
    for encoder in (pipeline.text_encoder, getattr(pipeline, "text_encoder_2", None)):
        if encoder is not None:
            # optimum reads it through a deprecated way, with a warning.
            encoder.num_hidden_layers = encoder.config.num_hidden_layers
    if not chosen.fused_guidance:
        pipeline.unet.forward = _one_by_one(pipeline.unet.forward)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _one_by_one(forward: Any) -> Any:
    """A U-Net call that runs the two halves of guidance one after the other.

    Every tensor argument with the batch of the sample is cut in two; a batch that is odd, as
    without guidance, is left as it is.
    """
    import torch

    def halves(value: Any, batch: int) -> tuple[Any, Any]:
        if isinstance(value, dict):
            pairs = {name: halves(item, batch) for name, item in value.items()}
            return tuple({name: pair[i] for name, pair in pairs.items()} for i in (0, 1))  # type: ignore[return-value]
        if isinstance(value, torch.Tensor) and value.ndim and value.shape[0] == batch:
            first, second = value.chunk(2)
            return first, second
        return value, value

    def run(sample: Any, timestep: Any, *args: Any, **kwargs: Any) -> Any:
        batch = sample.shape[0]
        if batch % 2:
            return forward(sample, timestep, *args, **kwargs)
        samples, positional = halves(sample, batch), [halves(item, batch) for item in args]
        named = halves(kwargs, batch)
        outputs = [
            forward(samples[i], timestep, *(pair[i] for pair in positional), **named[i])
            for i in (0, 1)
        ]
        if isinstance(outputs[0], tuple):
            return (torch.cat([output[0] for output in outputs]),)
        return type(outputs[0])(sample=torch.cat([output.sample for output in outputs]))

    return run


@contextlib.contextmanager
def _quiet(logging: Any) -> Iterator[None]:
    """Hold back the notice that there is no safety checker: optimum's pipelines have none."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)


class OnnxRunner:
    """One `model.onnx` or `model.ort` in an onnxruntime session."""

    partial = False

    def __init__(
        self,
        model_path: Path,
        threads: int = 0,
        chosen: RuntimeOptions | None = None,
        thrifty: bool = False,
    ) -> None:
        self._session = open_session(model_path, threads, chosen, thrifty)
        self.inputs = tuple(item.name for item in self._session.get_inputs())
        self.outputs = tuple(item.name for item in self._session.get_outputs())
        self.executed_by = f"onnxruntime {onnxruntime.__version__} {PROVIDER}"

    def __call__(self, inputs: Arrays) -> Arrays:
        values = self._session.run(None, inputs)
        return dict(zip(self.outputs, values, strict=True))
