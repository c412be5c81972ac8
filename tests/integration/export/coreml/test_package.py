"""Real packages of a small part: written, opened, compressed, damaged."""

import json
import math
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import coremltools
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgekd.errors import GateError, InputError
from edgekd.export.capture import Capture
from edgekd.export.coreml.exporter import CoreMlExporter
from edgekd.export.coreml.package import PackageRunner
from edgekd.export.coreml.precisions import PRECISIONS
from edgekd.export.parity import ComponentGate, check_component, open_component
from edgekd.export.protocol import Conversion, Floor
from edgekd.export.record import Recording
from edgekd.files import hash_tree
from edgekd.runtime.coreml_layout import LAYOUT_FILE

FLOOR = Floor(20.0, "a damaged package is far below, a 4-bit one above")


class SmallUnet(nn.Module):
    """Convolution, time embedding, cross-attention: what a U-Net is made of."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(4, 64, 3, padding=1)
        self.time = nn.Linear(16, 64)
        self.to_q = nn.Linear(64, 64, bias=False)
        self.to_kv = nn.Linear(32, 128, bias=False)
        self.conv = nn.Conv2d(64, 64, 3, padding=1)
        self.conv_out = nn.Conv2d(64, 4, 3, padding=1)

    def forward(self, sample: Tensor, timestep: Tensor, states: Tensor) -> Tensor:
        frequencies = torch.exp(-torch.arange(8) * math.log(10_000) / 8)
        angles = timestep.expand(sample.shape[0])[:, None] * frequencies[None]
        time = self.time(torch.cat([torch.sin(angles), torch.cos(angles)], dim=-1))
        hidden = self.conv_in(sample) + time[:, :, None, None]
        b, c, h, w = hidden.shape
        q = self.to_q(hidden.flatten(2).transpose(1, 2))
        k, v = self.to_kv(states).chunk(2, dim=-1)
        attended = torch.softmax(q @ k.transpose(1, 2) / 8, dim=-1) @ v
        hidden = hidden + attended.transpose(1, 2).reshape(b, c, h, w)
        return self.conv_out(nn.functional.silu(self.conv(hidden)))


class Wrapped(nn.Module):
    """As the capture of a U-Net is: the model under one attribute, a tuple out."""

    def __init__(self, unet: nn.Module) -> None:
        super().__init__()
        self.unet = unet

    def forward(self, *inputs: Tensor) -> tuple[Tensor]:
        return (self.unet(*inputs),)


@pytest.fixture(scope="module")
def captured() -> Capture:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = Wrapped(SmallUnet()).eval().requires_grad_(False)
    examples = {
        "sample": torch.zeros(2, 4, 8, 8),
        "timestep": torch.tensor(500.0),
        "encoder_hidden_states": torch.zeros(2, 5, 32),
    }
    return Capture("unet", module, examples, ("out_sample",), {}, {"sample_size": 8})


@pytest.fixture(scope="module")
def recordings(captured) -> list[Recording]:
    """Two guided calls, one without guidance, one of an odd batch; a timestep between integers."""
    generator = torch.Generator().manual_seed(1)
    made = []
    for batch, timestep in ((2, 951.0), (2, 1.0), (1, 500.5), (3, 998.75)):
        inputs = {
            "sample": torch.randn(batch, 4, 8, 8, generator=generator),
            "timestep": torch.tensor(timestep),
            "encoder_hidden_states": torch.randn(batch, 5, 32, generator=generator),
        }
        (output,) = captured.module(*inputs.values())
        arrays = {name: tensor.numpy() for name, tensor in inputs.items()}
        made.append(Recording(arrays, {"out_sample": output.numpy()}, timestep))
    return made


Export = Callable[[str], Path]


@pytest.fixture(scope="module")
def export(captured, recordings, tmp_path_factory) -> Export:
    """Folder of a precision's export, made once; all but the first start from the first."""
    made: dict[str, Path] = {}
    facts: dict[str, dict[str, Any]] = {}
    first = next(iter(PRECISIONS))

    def make(precision: str) -> Path:
        if precision not in made:
            base = make(first) / "unet" if precision != first else None
            folder = tmp_path_factory.mktemp(precision)
            facts[precision] = CoreMlExporter().convert(
                Conversion(captured, folder / "unet", recordings, base), precision
            )
            (folder / "facts.json").write_text(json.dumps(facts[precision]))
            made[precision] = folder
        return made[precision]

    return make


def snr(folder: Path, recordings: list[Recording], floor: float = -300.0) -> float:
    runner = open_component(CoreMlExporter(), folder, "unet")
    return check_component(ComponentGate("unet", "p", Floor(floor, "r")), runner, recordings).snr_db


def test_any_batch_runs_through_the_fixed_one(export, recordings):
    """Batches 2, 1 and 3, and timesteps near 1000 rad, where float16 has steps of half a rad."""
    assert snr(export("fp16"), recordings) > 55
    runner = PackageRunner(export("fp16") / "unet", "unet")
    assert runner.inputs == ("sample", "timestep", "encoder_hidden_states")
    assert runner.outputs == ("out_sample",)
    assert "not executed by Core ML" in runner.executed_by


def test_coremltools_opens_a_package_and_leaves_it_as_it_was(export):
    """It writes the manifest anew whenever it opens a package: a folder's hashes must bear it."""
    (package,) = (export("fp16") / "unet").glob("*.mlpackage")
    before = hash_tree(package)
    coremltools.models.MLModel(str(package), skip_model_load=True)
    assert hash_tree(package) == before


# Least SNR, and bits per weight with scales and tables, of the tensors that are compressed.
@pytest.mark.parametrize(
    ("precision", "least_db", "bits"),
    [
        ("int8", 35, 8.3),
        ("palette8", 33, 8.8),
        ("palette6", 25, 6.4),
        ("mixed", 20, 6.8),
        ("palette4", 15, 4.3),
        ("pruned25", 12, 13.1),
        ("palette8-ios18", 33, 8.8),
        ("palette4-ios18", 17, 5.6),
        ("int4-ios18", 12, 4.8),
    ],
)
def test_compressed_weights_are_smaller_and_near(export, recordings, precision, least_db, bits):
    folder = export(precision)
    facts = json.loads((folder / "facts.json").read_text())["quantization"]
    assert {"to_q.weight", "to_kv.weight", "conv.weight"} <= set(facts["bits_by_tensor"])
    full, small = (
        (folder / "unet" / "Unet.mlpackage/Data/com.apple.CoreML/weights/weight.bin").stat().st_size
        for folder in (export("fp16-ios18" if "ios18" in precision else "fp16"), folder)
    )
    saved_bits = 8 * (full - small) / facts["elements"]
    assert 16 - saved_bits < bits
    value = snr(folder, recordings)
    assert least_db < value < 60


def test_w8a8_rounds_activations_in_the_program(export, recordings):
    folder = export("w8a8")
    facts = json.loads((folder / "facts.json").read_text())
    assert facts["activations"] == {"bits": 8, "layers": 4, "calls": 4}
    operations = [operation.type for operation in program(folder)]
    assert operations.count("quantize") == operations.count("dequantize") == 4
    assert 20 < snr(folder, recordings) < 45


def program(folder: Path) -> Any:
    from edgekd.export.coreml.library import coremltools

    model = coremltools.proto.Model_pb2.Model()
    path = folder / "unet/Unet.mlpackage/Data/com.apple.CoreML/model.mlmodel"
    model.ParseFromString(path.read_bytes())
    (block,) = model.mlProgram.functions["main"].block_specializations.values()
    return block.operations


def test_ios18_packages_use_its_operations(export):
    types = {o.type for name in ("palette4-ios18", "int4-ios18") for o in program(export(name))}
    assert {"constexpr_lut_to_dense", "constexpr_blockwise_shift_scale"} <= types


def test_equal_parts_give_equal_files(captured, recordings, export, tmp_path):
    again = tmp_path / "unet"
    CoreMlExporter().convert(
        Conversion(captured, again, recordings), "palette6"
    )  # traced, not from the base
    assert hash_tree(again) == hash_tree(export("palette6") / "unet")


def test_unknown_precision_is_refused(captured, tmp_path):
    with pytest.raises(InputError, match="fp3"):
        CoreMlExporter().convert(Conversion(captured, tmp_path / "unet"), "fp3")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("noise_pred", "noise", "noise_pred"),
        ('"sample": "sample"', '"sample": "latents"', "must name the inputs"),
        ('"outputs"', '"results"', "must name the inputs"),
    ],
)
def test_a_layout_of_other_names_is_refused(export, tmp_path, old, new, said):
    folder = shutil.copytree(export("fp16"), tmp_path / "copy")
    path = folder / "unet" / LAYOUT_FILE
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(InputError, match=said):
        PackageRunner(folder / "unet", "unet")


# --- damage: each of these must fail parity


def damaged(export: Export, precision: str, tmp_path: Path) -> tuple[Path, Path]:
    """A copy of an export, and its weight file."""
    folder = shutil.copytree(export(precision), tmp_path / "damaged")
    return folder, folder / "unet/Unet.mlpackage/Data/com.apple.CoreML/weights/weight.bin"


def refused(folder: Path, recordings: list[Recording]) -> str:
    with pytest.raises(GateError) as failure:
        snr(folder, recordings, FLOOR.db)
    return str(failure.value)


def test_undamaged_packages_pass(export, recordings):
    for precision in ("fp16", "palette6"):
        assert snr(export(precision), recordings, FLOOR.db) > FLOOR.db


def stored(folder: Path, operation_type: str, argument: str, name: str) -> int:
    """Offset in the weight file of the data of one argument of the operation that restores `name`.

    A blob's header: sentinel and type, 4 bytes each, then size and offset of its data, 8 each.
    """
    found = [
        operation
        for operation in program(folder)
        if operation.type == operation_type and name in operation.outputs[0].name
    ]
    (operation,) = found
    value = operation.attributes.get(argument)
    if value is None:
        bound = operation.inputs[argument].arguments[0]
        value = bound.value
        if bound.WhichOneof("binding") == "name":
            (value,) = (
                o.attributes["val"] for o in program(folder) if o.outputs[0].name == bound.name
            )
    weights = folder / "unet/Unet.mlpackage/Data/com.apple.CoreML/weights/weight.bin"
    header = value.blobFileValue.offset
    return int(struct.unpack_from("<Q", weights.read_bytes(), header + 16)[0])


def overwrite(path: Path, offset: int, data: bytes) -> None:
    content = bytearray(path.read_bytes())
    assert content[offset : offset + len(data)] != data
    content[offset : offset + len(data)] = data
    path.write_bytes(bytes(content))


def test_a_flipped_palette_fails(export, recordings, tmp_path):
    folder, weights = damaged(export, "palette6", tmp_path)
    offset = stored(folder, "constexpr_lut_to_dense", "lut", "conv_weight")
    table = np.frombuffer(weights.read_bytes()[offset : offset + 128], np.float16)
    assert (np.diff(table.astype(np.float32)) > 0).all()  # it is the table: 64 ascending values
    overwrite(weights, offset, (-table).tobytes())
    assert "snr_db" in refused(folder, recordings)


def test_a_single_wrong_palette_entry_fails(export, recordings, tmp_path):
    folder, weights = damaged(export, "palette6", tmp_path)
    offset = stored(folder, "constexpr_lut_to_dense", "lut", "conv_weight")
    # The middle entry, the commonest, with its exponent's top bit flipped.
    entry = bytearray(weights.read_bytes()[offset + 64 : offset + 66])
    entry[1] ^= 0x40
    overwrite(weights, offset + 64, bytes(entry))
    assert "snr_db" in refused(folder, recordings)


def test_a_nan_weight_fails(export, recordings, tmp_path):
    folder, weights = damaged(export, "fp16", tmp_path)
    offset = stored(folder, "const", "val", "conv_in_weight")
    overwrite(weights, offset + 20, np.array([np.nan], np.float16).tobytes())
    assert "finite" in refused(folder, recordings) or "NaN" in refused(folder, recordings)


def test_a_nan_in_torch_never_becomes_a_package(captured, recordings, export, tmp_path):
    part = Conversion(captured, tmp_path / "unet", recordings, export("fp16") / "unet")
    weight = captured.module.get_parameter("unet.conv.weight")
    kept = weight.clone()
    try:
        weight.view(-1)[7] = math.nan
        with pytest.raises(GateError, match=r"finite.*conv.weight"):
            CoreMlExporter().convert(part, "int8")
    finally:
        weight.copy_(kept)


def test_a_wrong_transpose_fails(export, recordings, tmp_path):
    """Width and height exchanged on the way back from attention: every shape still fits."""
    from edgekd.export.coreml.library import coremltools

    folder, _ = damaged(export, "fp16", tmp_path)
    path = folder / "unet/Unet.mlpackage/Data/com.apple.CoreML/model.mlmodel"
    model = coremltools.proto.Model_pb2.Model()
    model.ParseFromString(path.read_bytes())
    (block,) = model.mlProgram.functions["main"].block_specializations.values()
    output = next(o for o in block.operations if o.type == "conv" and "input" in o.outputs[0].name)
    at = next(i for i, o in enumerate(block.operations) if o is output)
    _exchange_sides(block, at)
    path.write_bytes(model.SerializeToString())
    assert "snr_db" in refused(folder, recordings)


def _exchange_sides(block: Any, at: int) -> None:
    """After the operation at `at`, a transpose of its output's last two axes."""
    from edgekd.export.coreml.library import coremltools

    name = block.operations[at].outputs[0].name
    rest = list(block.operations)[at + 1 :]
    del block.operations[at + 1 :]
    transpose = coremltools.proto.MIL_pb2.Operation()
    transpose.type = "transpose"
    transpose.inputs["x"].arguments.add().name = name
    perm = transpose.inputs["perm"].arguments.add().value
    perm.type.tensorType.dataType = coremltools.proto.MIL_pb2.INT32
    perm.type.tensorType.rank = 1
    perm.type.tensorType.dimensions.add().constant.size = 4
    perm.immediateValue.tensor.ints.values.extend([0, 1, 3, 2])
    made = transpose.outputs.add()
    made.CopyFrom(block.operations[at].outputs[0])
    made.name = f"{name}_exchanged"
    block.operations.append(transpose)
    for operation in rest:
        for argument in operation.inputs.values():
            for bound in argument.arguments:
                if bound.WhichOneof("binding") == "name" and bound.name == name:
                    bound.name = made.name
        block.operations.append(operation)
