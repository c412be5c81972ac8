import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import openvino
import pytest
from onnx import TensorProto, helper

from edgekd.errors import InputError
from edgekd.runtime.backend import Backend
from edgekd.runtime.backends import open_backend
from edgekd.runtime.folder import read_folder
from edgekd.runtime.onnx_backend import OnnxBackend
from edgekd.runtime.openvino_backend import OpenVinoBackend
from edgekd.runtime.options import RuntimeOptions

# Input types as parts have them: what the pipeline holds is cast.
CALL = {
    "sample": np.full((2, 3), 0.25, np.float32),
    "timestep": np.asarray(np.float32(2.5)),
    "unused": np.zeros(1, np.float32),
}


def write_part(folder: Path, runtime: str, element: int) -> None:
    """out_sample = sample * timestep."""
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Mul", ["sample", "timestep"], ["out_sample"])],
        "part",
        [value("sample", element, ["n", 3]), value("timestep", element, [])],
        [value("out_sample", element, ["n", 3])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, folder / "unet" / "model.onnx")
    if runtime == "openvino":
        converted = openvino.convert_model(folder / "unet" / "model.onnx")
        openvino.save_model(
            converted, folder / "unet" / "openvino_model.xml", compress_to_fp16=False
        )


def backend(folder: Path, runtime: str, threads: int = 1) -> Backend:
    return open_backend(replace(read_folder(folder), runtime=runtime), threads)


@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
@pytest.mark.parametrize("element", [TensorProto.FLOAT, TensorProto.FLOAT16])
def test_values_are_cast_both_ways(folder, runtime, element):
    write_part(folder, runtime, element)
    opened = backend(folder, runtime)
    first = opened.run("unet", CALL)["out_sample"]
    second = opened.run("unet", {**CALL, "timestep": np.asarray(np.float32(4))})["out_sample"]
    assert first.dtype == second.dtype == np.float32
    np.testing.assert_array_equal(first, np.full((2, 3), 0.625, np.float32))
    np.testing.assert_array_equal(second, np.full((2, 3), 1.0, np.float32))


@pytest.mark.parametrize("rank", [0, 1])
def test_openvino_takes_fractions_of_timesteps(folder, rank):
    """Exports for OpenVINO's own clients have an integer timestep, converted before its use."""
    opset = openvino.opset13
    sample = opset.parameter([-1, 3], openvino.Type.f32, name="sample")
    timestep = opset.parameter([1] * rank, openvino.Type.i64, name="timestep")
    product = opset.multiply(sample, opset.convert(timestep, openvino.Type.f32))
    model = openvino.Model([product], [timestep, sample], "part")
    for port, name in zip(model.inputs, ("timestep", "sample"), strict=True):
        port.get_tensor().set_names({name})
    model.outputs[0].get_tensor().set_names({"out_sample"})
    openvino.save_model(model, folder / "unet" / "openvino_model.xml", compress_to_fp16=False)
    found = backend(folder, "openvino").run("unet", CALL)["out_sample"]
    np.testing.assert_array_equal(found, np.full((2, 3), 0.625, np.float32))


def test_the_mobile_format_is_taken_where_it_is_alone(folder):
    import onnxruntime

    write_part(folder, "onnx", TensorProto.FLOAT)
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(folder / "unet" / "model.ort")
    options.add_session_config_entry("session.save_model_format", "ORT")
    onnxruntime.InferenceSession(
        str(folder / "unet" / "model.onnx"), options, providers=["CPUExecutionProvider"]
    )
    (folder / "unet" / "model.onnx").unlink()
    found = backend(folder, "onnx").run("unet", CALL)["out_sample"]
    np.testing.assert_array_equal(found, np.full((2, 3), 0.625, np.float32))


@pytest.mark.parametrize(
    ("runtime", "file"), [("onnx", "model.onnx"), ("openvino", "openvino_model.xml")]
)
def test_parts_that_cannot_be_opened(folder, runtime, file):
    with pytest.raises(InputError, match=f"must hold {file}"):
        backend(folder, runtime).run("unet", CALL)
    (folder / "unet" / file).write_text("no model", encoding="utf-8")
    with pytest.raises(InputError, match=r"must be a model that .* can open") as caught:
        backend(folder, runtime).run("unet", CALL)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
def test_parts_of_another_place_or_pipeline(folder, runtime):
    write_part(folder, runtime, TensorProto.FLOAT)
    (folder / "unet" / "config.json").rename(folder / "config.json")
    shutil.copytree(folder / "unet", folder / "vae_decoder", dirs_exist_ok=True)
    (folder / "config.json").rename(folder / "unet" / "config.json")
    opened = backend(folder, runtime)
    with pytest.raises(InputError, match=r"must be the model of a vae_decoder.*sample, timestep"):
        opened.run("vae_decoder", {"latent_sample": CALL["sample"]})
    with pytest.raises(InputError, match=r"must take only sample in this pipeline.*timestep"):
        opened.run("unet", {"sample": CALL["sample"]})
    with pytest.raises(InputError, match="the unet must run in"):
        opened.run("unet", {**CALL, "sample": np.zeros((2, 5), np.float32)})


def test_runtimes_without_a_backend(folder):
    with pytest.raises(InputError, match="must be one of onnx, openvino, coreml, but got tflite"):
        backend(folder, "tflite")


def test_core_ml_is_looked_for_when_a_folder_is_opened(folder, monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    with pytest.raises(InputError, match="must be run on macOS, but got linux"):
        backend(folder, "coreml")
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setitem(sys.modules, "coremltools", None)
    with pytest.raises(InputError, match="coremltools must be installed"):
        backend(folder, "coreml")


def test_measured_options_reach_the_session(folder):
    write_part(folder, "onnx", TensorProto.FLOAT)
    options = RuntimeOptions(threads=2, optimization="basic", memory_pattern=False, arena=False)
    opened = OnnxBackend(folder, options)
    opened.run("unet", CALL)
    found = opened._sessions["unet"].get_session_options()
    assert (found.intra_op_num_threads, found.enable_mem_pattern) == (2, False)
    assert not found.enable_cpu_mem_arena
    assert "BASIC" in str(found.graph_optimization_level)


def test_measured_options_reach_openvino(folder):
    write_part(folder, "openvino", TensorProto.FLOAT)
    opened = OpenVinoBackend(folder, RuntimeOptions(threads=1, arithmetic="f32"))
    opened.run("unet", CALL)
    model = opened._models["unet"]
    assert model.get_property("INFERENCE_NUM_THREADS") == 1
    assert model.get_property("INFERENCE_PRECISION_HINT").to_string() == "f32"
    assert model.get_property("DYNAMIC_QUANTIZATION_GROUP_SIZE") == 0
    assert model.get_property("ENABLE_CPU_PINNING") is False


@pytest.mark.parametrize(("own", "exact"), [("f32", True), ("bf16", False)])
def test_float32_rounds_no_inputs_where_openvino_chooses_it(own, exact, folder, monkeypatch):
    monkeypatch.setattr(OpenVinoBackend, "_own_arithmetic", lambda self: own)
    opened = OpenVinoBackend(folder, RuntimeOptions())
    assert ("DYNAMIC_QUANTIZATION_GROUP_SIZE" in opened._options) == exact


def test_threads(folder):
    with pytest.raises(InputError, match="threads >= 0"):
        backend(folder, "onnx", -1)
