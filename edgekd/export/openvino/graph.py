"""A part of a pipeline as an OpenVINO model, and its files `openvino_model.xml` and `.bin`.

Names, types and dynamic shapes of inputs and outputs are those of optimum-intel's exports.

The timestep is int64 [1] in the file, because GenAI hands over nothing else. The graph turns it
into float32 first, and that one node is what `open_model` takes out again: Euler's timesteps are
fractions, and edgekd runs the model on what the scheduler asks for.
"""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgekd.export.capture import Capture
from edgekd.export.openvino.libraries import openvino

MODEL_FILE = "openvino_model.xml"
TIMESTEP = "timestep"
TEXT = "encoder_hidden_states"
TIMESTEP_CAST = "timestep/float32"
_PRECISION = ("edgekd", "precision")
# OpenVINO's own mark of what must not be computed in fewer bits.
_EXACT = "precise_0"
# Names that OpenVINO numbers through the whole process: `Constant_4711`.
_NUMBERED = re.compile(r"^[A-Za-z]\w*_\d+(\.\d+)?$")


def to_openvino(capture: Capture) -> Any:
    """Convert one part. The result shares the memory of the part's weights.

    The result depends on the part alone, not on what the process converted before.
    """
    examples = dict(capture.example_inputs)
    if TIMESTEP in examples:
        examples[TIMESTEP] = examples[TIMESTEP].reshape(1)
    with warnings.catch_warnings(), torch.inference_mode():
        # The tracer warns of every shape check in diffusers; the contract tests run other
        # batch and picture sizes.
        warnings.simplefilter("ignore")
        trace: Any = torch.jit.trace  # untyped
        traced = trace(capture.module, tuple(examples.values()), check_trace=False, strict=False)
        model = openvino.convert_model(
            traced,
            example_input=tuple(examples.values()),
            input=[_partial_shape(capture, name, value) for name, value in examples.items()],
        )
    for port, name in zip(model.inputs, examples, strict=True):
        port.get_tensor().set_names({name})
    for port, name in zip(model.outputs, capture.outputs, strict=True):
        port.get_tensor().set_names({name})
    if TIMESTEP in examples:
        _whole_timestep(model)
    return model


def _partial_shape(capture: Capture, name: str, value: torch.Tensor) -> Any:
    """Batch and picture sizes are free. The number of tokens is the tokenizer's, as in
    optimum-intel's exports: attention to a known number of them takes a fifth less time."""
    dynamic = {0} if name == TIMESTEP else set(capture.dynamic_axes.get(name, {}))
    if name == TEXT:
        dynamic = {0}
    shape = [-1 if axis in dynamic else size for axis, size in enumerate(value.shape)]
    return openvino.PartialShape(shape)


def _whole_timestep(model: Any) -> None:
    """Put an int64 input and its conversion in place of the float32 timestep."""
    opset = openvino.opset13
    old = model.input(TIMESTEP).get_node()
    new = opset.parameter(old.get_output_partial_shape(0), openvino.Type.i64, name=TIMESTEP)
    cast = opset.convert(new, openvino.Type.f32, name=TIMESTEP_CAST)
    _replace_parameter(model, old, new, cast.output(0))
    _angles_first(model, cast)
    model.validate_nodes_and_infer_types()


def _angles_first(model: Any, cast: Any) -> None:
    """Multiply timesteps [T] by the frequencies [1,N] of the sinusoids before anything else.

    Torch makes a column of them first. Where the processor computes in bfloat16, the runtime rounds
    that column to 8 bits, 751 to 752, and 10 dB of a U-Net are lost. These products [N,T] are
    float32. The sinusoids have as many rows as there are timesteps, one: what follows broadcasts.
    """
    opset = openvino.opset13
    angles: dict[str, Any] = {}
    for node in model.get_ordered_ops():
        if node.get_type_name() not in ("Sin", "Cos"):
            continue
        product = node.input_value(0).get_node()
        frequencies = _frequencies(product, cast)
        if frequencies is None:
            continue
        name = product.get_friendly_name()
        if name not in angles:
            column = opset.constant(np.ascontiguousarray(frequencies.reshape(-1, 1)))
            angles[name] = opset.multiply(column, cast, name=f"{name}/angles")
            angles[name].get_rt_info()[_EXACT] = ""
        wave = (opset.sin if node.get_type_name() == "Sin" else opset.cos)(angles[name])
        wave.get_rt_info()[_EXACT] = ""
        rows = opset.transpose(wave, opset.constant([1, 0]))
        for user in node.output(0).get_target_inputs():
            user.replace_source_output(rows.output(0))


def _frequencies(product: Any, cast: Any) -> Any:
    """The constant that a product multiplies the timestep by; None: it is another product."""
    if product.get_type_name() != "Multiply":
        return None
    constant, column = None, None
    for port in product.inputs():
        node = port.get_source_output().get_node()
        if node.get_type_name() == "Constant" and node.get_element_type() == openvino.Type.f32:
            constant = node.data.copy()
        else:
            column = node
    while column is not None and column.get_friendly_name() != cast.get_friendly_name():
        column = column.input_value(0).get_node() if column.get_input_size() else None
    return constant if column is not None else None


def _replace_parameter(model: Any, old: Any, new: Any, value: Any) -> None:
    """Exchange an input for another one at the same place; `value` feeds the old one's users."""
    for user in old.output(0).get_target_inputs():
        user.replace_source_output(value)
    names = [port.get_any_name() for port in model.inputs]
    parameters = [new if node == old else node for node in model.get_parameters()]
    for parameter in model.get_parameters():
        model.remove_parameter(parameter)
    model.add_parameters(parameters)
    for port, name in zip(model.inputs, names, strict=True):
        port.get_tensor().set_names({name})
    model.validate_nodes_and_infer_types()


def stable_names(model: Any, name: str) -> None:
    """Replace names that count what the process made before by ones that count within the model.

    Inner tensors lose their names: torch's tracer gives some of them the name of an input.
    """
    model.set_friendly_name(name)
    ports = [(port.get_tensor(), port.get_names()) for port in (*model.inputs, *model.outputs)]
    for index, node in enumerate(model.get_ordered_ops()):
        if _NUMBERED.match(node.get_friendly_name()):
            node.set_friendly_name(f"{node.get_type_name()}_{index}")
        for port in node.outputs():
            port.get_tensor().set_names(set())
    for index, (tensor, names) in enumerate(ports):
        tensor.set_names({f"port_{index}" if _NUMBERED.match(each) else each for each in names})


def save_model(model: Any, folder: Path, precision: str) -> None:
    """Write `openvino_model.xml` and `.bin`, with the precision in the file's own facts.

    For `fp16`, float32 constants are stored in half the bytes.
    """
    if precision == "fp16":
        keep_times_exact(model)
    stable_names(model, folder.name)
    model.set_rt_info(precision, list(_PRECISION))
    openvino.save_model(model, folder / MODEL_FILE, compress_to_fp16=precision == "fp16")


def keep_times_exact(model: Any) -> None:
    """Let the sinusoids of a time embedding survive a file in float16.

    Their frequencies are multiplied by timesteps up to 999: rounded to 11 bits, the angle is off by
    half a radian. So each such constant becomes a sum of two that float16 holds: 50 dB of a U-Net
    of random weights become 64.
    """
    sinusoids = [node for node in model.get_ordered_ops() if node.get_type_name() in ("Sin", "Cos")]
    waiting, seen = list(sinusoids), set()
    while waiting:
        node = waiting.pop()
        name, kind = node.get_friendly_name(), node.get_type_name()
        if name in seen or kind == "Parameter":
            continue
        seen.add(name)
        if kind == "Constant":
            if node.get_element_type() == openvino.Type.f32:
                _in_two(node)
            continue
        node.get_rt_info()[_EXACT] = ""
        waiting += [port.get_source_output().get_node() for port in node.inputs()]


# What is left of a small number is below the range of float16.
_REST = 4096.0


def _in_two(constant: Any) -> None:
    """Put the sum of two numbers of float16 in place of a float32 constant."""
    opset = openvino.opset13
    users = constant.output(0).get_target_inputs()
    value = constant.data.copy()
    first = value.astype(np.float16).astype(np.float32)
    rest = opset.constant(((value - first) * _REST).astype(np.float32))
    small = opset.multiply(rest, opset.constant(np.float32(1 / _REST)))
    both = opset.add(opset.constant(first), small, name=f"{constant.get_friendly_name()}/exact")
    for user in users:
        user.replace_source_output(both.output(0))


def saved_precision(model: Any) -> str:
    """The precision that `save_model` stored; `fp32` where a model is not edgekd's."""
    path = list(_PRECISION)
    return str(model.get_rt_info(path).value) if model.has_rt_info(path) else "fp32"


def read_model(folder: Path) -> Any:
    """Read a saved part as its clients do. Its weights stay in the file until they are used."""
    return openvino.Core().read_model(folder / MODEL_FILE)


def open_model(folder: Path) -> Any:
    """Read a saved part; its timestep, if it has one, takes fractions."""
    model = read_model(folder)
    cast = next((n for n in model.get_ops() if n.get_friendly_name() == TIMESTEP_CAST), None)
    if cast is not None:
        old = cast.input_value(0).get_node()
        new = openvino.opset13.parameter(
            old.get_output_partial_shape(0), openvino.Type.f32, name=TIMESTEP
        )
        for user in cast.output(0).get_target_inputs():
            user.replace_source_output(new.output(0))
        _replace_parameter(model, old, new, new.output(0))
    return model
