"""Compressed Core ML packages, evaluated, against torch with the compressed weights."""

import copy
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgekd.export.coreml.mil.evaluator import PackageEvaluator
from edgekd.export.parity import snr_db

Inputs = dict[str, Tensor]
Convert = Callable[..., Any]


class Net(nn.Module):
    """Convolutions and a linear layer, each weight of a shape of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(4, 24, 3, padding=1)
        self.second = nn.Conv2d(24, 16, 3, padding=1)
        self.last = nn.Linear(16, 32)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.nn.functional.silu(self.first(x))
        x = self.second(x).mean((2, 3))
        return self.last(x)


def net() -> tuple[nn.Module, Inputs]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Net(), {"sample": torch.randn(2, 4, 8, 8)}


def reference(module: nn.Module, inputs: Inputs) -> np.ndarray:
    with torch.no_grad():
        return module(*inputs.values()).numpy()


@pytest.fixture(scope="module")
def nets(convert) -> dict[str, Any]:
    return {target: convert(*net(), target, "FLOAT32") for target in ("iOS17", "iOS18")}


def linear(cto: Any, **settings: Any) -> Callable[[Any], Any]:
    config = cto.OpLinearQuantizerConfig(weight_threshold=16, **settings)
    return lambda model: cto.linear_quantize_weights(model, cto.OptimizationConfig(config))


def palettes(cto: Any, **settings: Any) -> Callable[[Any], Any]:
    config = cto.OpPalettizerConfig(mode="kmeans", weight_threshold=16, **settings)
    return lambda model: cto.palettize_weights(model, cto.OptimizationConfig(config))


def pruned(cto: Any) -> Callable[[Any], Any]:
    config = cto.OpMagnitudePrunerConfig(target_sparsity=0.5, weight_threshold=16)
    return lambda model: cto.prune_weights(model, cto.OptimizationConfig(config))


def pruned_palettes(cto: Any) -> Callable[[Any], Any]:
    config = cto.OpPalettizerConfig(mode="kmeans", nbits=4, weight_threshold=16)
    return lambda model: cto.palettize_weights(
        pruned(cto)(model), cto.OptimizationConfig(config), joint_compression=True
    )


def pruned_linear(cto: Any) -> Callable[[Any], Any]:
    config = cto.OpLinearQuantizerConfig(mode="linear_symmetric", weight_threshold=16)
    return lambda model: cto.linear_quantize_weights(
        pruned(cto)(model), cto.OptimizationConfig(config), joint_compression=True
    )


def quantized_palettes(cto: Any) -> Callable[[Any], Any]:
    config = cto.OpLinearQuantizerConfig(
        mode="linear_symmetric", granularity="per_tensor", weight_threshold=16
    )
    return lambda model: cto.linear_quantize_weights(
        palettes(cto, nbits=4)(model), cto.OptimizationConfig(config), joint_compression=True
    )


COMPRESSIONS: dict[str, tuple[str, str, Callable[[Any], Callable[[Any], Any]]]] = {
    # name -> target, the operation that it must store, how
    "int8 symmetric, iOS 17": (
        "iOS17",
        "constexpr_affine_dequantize",
        lambda cto: linear(cto, mode="linear_symmetric"),
    ),
    "int8 affine, iOS 17": (
        "iOS17",
        "constexpr_affine_dequantize",
        lambda cto: linear(cto, mode="linear", dtype="uint8"),
    ),
    "palette 8, iOS 17": ("iOS17", "constexpr_lut_to_dense", lambda cto: palettes(cto, nbits=8)),
    "palette 6, iOS 17": ("iOS17", "constexpr_lut_to_dense", lambda cto: palettes(cto, nbits=6)),
    "palette 4, iOS 17": ("iOS17", "constexpr_lut_to_dense", lambda cto: palettes(cto, nbits=4)),
    "pruned, iOS 17": ("iOS17", "constexpr_sparse_to_dense", pruned),
    "int8 per channel, iOS 18": (
        "iOS18",
        "constexpr_blockwise_shift_scale",
        lambda cto: linear(cto, mode="linear"),
    ),
    "int4 per block, iOS 18": (
        "iOS18",
        "constexpr_blockwise_shift_scale",
        lambda cto: linear(
            cto, mode="linear_symmetric", dtype="int4", granularity="per_block", block_size=4
        ),
    ),
    "palette 4 per group, iOS 18": (
        "iOS18",
        "constexpr_lut_to_dense",
        lambda cto: palettes(cto, nbits=4, granularity="per_grouped_channel", group_size=8),
    ),
    "palette 3, iOS 18": ("iOS18", "constexpr_lut_to_dense", lambda cto: palettes(cto, nbits=3)),
    "palette 2 of vectors, iOS 18": (
        "iOS18",
        "constexpr_lut_to_dense",
        lambda cto: palettes(cto, nbits=2, cluster_dim=2),
    ),
    "pruned, iOS 18": ("iOS18", "constexpr_sparse_to_dense", pruned),
    "pruned palette, iOS 18": ("iOS18", "constexpr_lut_to_sparse", pruned_palettes),
    "pruned int8, iOS 18": ("iOS18", "constexpr_sparse_blockwise_shift_scale", pruned_linear),
    "palette of int8, iOS 18": ("iOS18", "constexpr_blockwise_shift_scale", quantized_palettes),
}


def dense_weights(model: Any) -> dict[tuple[int, ...], np.ndarray]:
    """What coremltools takes the compressed weights for, by shape."""
    import coremltools as ct
    import coremltools.optimize.coreml as cto

    dense = cto.decompress_weights(model)
    assert isinstance(dense, ct.models.MLModel)
    weights = cto.get_weights_metadata(dense, weight_threshold=16)
    return {item.val.shape: item.val for item in weights.values()}


@pytest.mark.parametrize("name", COMPRESSIONS)
def test_compressed_package_equals_torch_with_its_weights(name, nets, tmp_path):
    import coremltools.optimize.coreml as cto

    target, kind, compress = COMPRESSIONS[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = compress(cto)(nets[target])
        weights = dense_weights(model)
    package = tmp_path / "net.mlpackage"
    model.save(str(package))
    module, inputs = net()
    original = reference(module, inputs)
    changed = copy.deepcopy(module)
    with torch.no_grad():
        for parameter in changed.parameters():
            if parameter.dim() > 1:
                parameter.copy_(torch.from_numpy(weights[tuple(parameter.shape)]))
    evaluator = PackageEvaluator(package)
    assert kind in {item[0].kind for item in evaluator._constants._decoded.values()}
    (output,) = evaluator({name: x.numpy() for name, x in inputs.items()}).values()
    expected = reference(changed, inputs)
    assert snr_db(expected, output) >= 100
    # The weights did change: this compares with the compressed net, not with the one before.
    assert snr_db(original, output) < 80


def test_quantized_activations_equal_torch(convert, tmp_path):
    """W8A8: quantizers trained into the torch model become operations of the package."""
    from coremltools.optimize.torch.quantization import (
        LinearQuantizer,
        LinearQuantizerConfig,
        ModuleLinearQuantizerConfig,
    )

    module, inputs = net()
    config = LinearQuantizerConfig(
        global_config=ModuleLinearQuantizerConfig(quantization_scheme="symmetric")
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantizer = LinearQuantizer(module, config)
        prepared = quantizer.prepare(example_inputs=(inputs["sample"],), inplace=False)
        for _ in range(3):
            prepared(inputs["sample"])
            quantizer.step()
        finished = quantizer.finalize(inplace=False).eval()
        expected = reference(finished, inputs)
        package = tmp_path / "net.mlpackage"
        convert(finished, inputs, "iOS17", "FLOAT32").save(str(package))
    evaluator = PackageEvaluator(package)
    kinds = [operation.kind for operation, _ in evaluator._steps]
    assert {"quantize", "dequantize"} <= set(kinds)
    (output,) = evaluator({name: x.numpy() for name, x in inputs.items()}).values()
    # The output is quantized too. Where float32 sums differ in their last bit, a level tips, now
    # and then; by no more than one.
    level = float(finished.last_scale_0)
    tipped = np.abs(output - expected) / level
    assert tipped.max() < 1.01
    assert (tipped > 0.01).mean() < 0.1
