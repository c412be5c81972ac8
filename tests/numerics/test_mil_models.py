"""Core ML packages of whole parts, evaluated, against torch.

What converts, compresses and evaluates here is what an export does: torch's
tracer, coremltools, the saved package. Core ML itself does not run on Linux.
"""

from __future__ import annotations

import copy
import gc
import logging
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgekd.export.capture import TextEncoderModule, UNetModule, VaeDecoderModule, VaeEncoderModule
from edgekd.export.mil.evaluator import PackageEvaluator
from edgekd.export.parity import snr_db

Inputs = dict[str, Tensor]
Part = tuple[nn.Module, Inputs]
Convert = Callable[..., Any]


@pytest.fixture(scope="module", autouse=True)
def quick_collections() -> Iterator[None]:
    """coremltools collects garbage in every conversion; what is there already need not be
    searched each time."""
    import coremltools

    logging.getLogger(coremltools.__name__).setLevel(logging.ERROR)
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def seeded(make: Callable[[], Any]) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make()


def draw(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def unet(inputs: dict[str, Tensor], **changes: Any) -> Part:
    from edgekd.libraries import diffusers

    config = {
        "sample_size": 8,
        "block_out_channels": (16, 32),
        "layers_per_block": 1,
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "attention_head_dim": 4,
        "norm_num_groups": 8,
        "cross_attention_dim": 24,
    }
    model = seeded(lambda: diffusers.UNet2DConditionModel(**{**config, **changes}))
    examples = {
        "sample": draw(2, 4, 8, 8),
        "timestep": torch.tensor([500.0]),
        "encoder_hidden_states": draw(2, 7, 24),
        **inputs,
    }
    return UNetModule(model, tuple(examples)), examples


def unet_sd1() -> Part:
    return unet({})


def unet_guided_sdxl() -> Part:
    """Two text encoders' conditions, an embedded guidance scale, deeper transformers."""
    inputs = {
        "timestep_cond": draw(2, 16),
        "text_embeds": draw(2, 10),
        "time_ids": torch.tensor([[64.0, 64.0, 0.0, 0.0, 64.0, 64.0]]).repeat(2, 1),
    }
    return unet(
        inputs,
        time_cond_proj_dim=16,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=6 * 8 + 10,
        use_linear_projection=True,
        transformer_layers_per_block=(2, 1),
        attention_head_dim=(2, 4),
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        mid_block_type=None,
    )


def autoencoder() -> Any:
    from edgekd.libraries import diffusers

    return seeded(
        lambda: diffusers.AutoencoderKL(
            block_out_channels=(8, 16),
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            layers_per_block=1,
            latent_channels=4,
            norm_num_groups=4,
            sample_size=16,
        )
    )


def decoder() -> Part:
    return VaeDecoderModule(autoencoder()), {"latent_sample": draw(1, 4, 8, 8)}


def encoder() -> Part:
    return VaeEncoderModule(autoencoder()), {"sample": draw(1, 3, 16, 16).clamp(-1, 1)}


def tiny_autoencoder() -> Any:
    from edgekd.libraries import diffusers

    return seeded(
        lambda: diffusers.AutoencoderTiny(
            encoder_block_out_channels=(8, 8),
            decoder_block_out_channels=(8, 8),
            num_encoder_blocks=(1, 1),
            num_decoder_blocks=(1, 1),
        )
    )


def tiny_decoder() -> Part:
    return VaeDecoderModule(tiny_autoencoder()), {"latent_sample": draw(1, 4, 8, 8)}


def tiny_encoder() -> Part:
    return tiny_autoencoder().encoder, {"sample": draw(1, 3, 16, 16).clamp(-1, 1)}


def text(kind: str, hidden_act: str, outputs: tuple[str, ...]) -> Part:
    from edgekd.libraries import transformers

    config = transformers.CLIPTextConfig(
        vocab_size=99,
        hidden_size=24,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=3,
        max_position_embeddings=9,
        hidden_act=hidden_act,
        projection_dim=10,
        bos_token_id=97,
        eos_token_id=98,
        pad_token_id=98,
    )
    model = seeded(lambda: getattr(transformers, kind)(config))
    ids = torch.tensor([[97, 5, 17, 98, 98, 98, 98, 98, 98], [97, 1, 2, 3, 4, 5, 6, 7, 98]])
    return TextEncoderModule(model, outputs), {"input_ids": ids.int()}


def text_sd1() -> Part:
    return text("CLIPTextModel", "quick_gelu", ("last_hidden_state", "pooler_output"))


def text_sdxl() -> Part:
    outputs = ("text_embeds", "last_hidden_state", "hidden_states.1")
    return text("CLIPTextModelWithProjection", "gelu", outputs)


def convert(part: Part, target: str, precision: str) -> Any:
    """Trace and convert; outputs are named `output_0` and so on."""
    import coremltools as ct

    module, inputs = part
    module.eval().requires_grad_(False)
    with torch.no_grad(), warnings.catch_warnings():
        # Traced shapes are constants by intention; coremltools leaves a folder to be collected.
        warnings.simplefilter("ignore")
        outputs = module(*inputs.values())
        traced = torch.jit.trace(module, tuple(inputs.values()), strict=False, check_trace=False)
        count = 1 if isinstance(outputs, Tensor) else len(outputs)
        return ct.convert(
            traced,
            convert_to="mlprogram",
            inputs=[
                ct.TensorType(
                    name=name,
                    shape=tuple(x.shape),
                    dtype=np.float32 if x.is_floating_point() else np.int32,
                )
                for name, x in inputs.items()
            ],
            outputs=[
                ct.TensorType(name=f"output_{index}", dtype=np.float32) for index in range(count)
            ],
            compute_precision=ct.precision[precision],
            minimum_deployment_target=ct.target[target],
            skip_model_load=True,
        )


def save(model: Any, path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        model.save(str(path))
    return path


def reference(module: nn.Module, inputs: Inputs) -> list[np.ndarray]:
    with torch.no_grad():
        outputs = module(*inputs.values())
    return [x.numpy() for x in ((outputs,) if isinstance(outputs, Tensor) else outputs)]


def evaluate(package: Path, inputs: Inputs) -> list[np.ndarray]:
    outputs = PackageEvaluator(package)({name: x.numpy() for name, x in inputs.items()})
    return [outputs[name] for name in sorted(outputs)]


def worst_snr(references: list[np.ndarray], outputs: list[np.ndarray]) -> float:
    assert len(references) == len(outputs)
    return min(snr_db(ref, out) for ref, out in zip(references, outputs, strict=True))


@pytest.mark.parametrize(
    ("make", "target", "precision"),
    [
        (unet_sd1, "iOS17", "FLOAT16"),
        (unet_guided_sdxl, "iOS18", "FLOAT32"),
        (decoder, "iOS17", "FLOAT32"),
        (decoder, "iOS18", "FLOAT16"),
        (encoder, "iOS18", "FLOAT32"),
        (tiny_decoder, "iOS17", "FLOAT32"),
        (tiny_decoder, "iOS18", "FLOAT16"),
        (tiny_encoder, "iOS18", "FLOAT32"),
        (text_sd1, "iOS17", "FLOAT32"),
        (text_sd1, "iOS17", "FLOAT16"),
        (text_sdxl, "iOS18", "FLOAT32"),
        (text_sdxl, "iOS18", "FLOAT16"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_package_equals_torch(
    make: Callable[[], Part], target: str, precision: str, tmp_path: Path
) -> None:
    module, inputs = make()
    package = save(convert((module, inputs), target, precision), tmp_path / "part.mlpackage")
    # Float32 sums in another order: 110 to 130 dB measured. Weights rounded to fp16, 11 bits
    # each: 53 to 64 dB measured.
    floor = 100 if precision == "FLOAT32" else 45
    assert worst_snr(reference(module, inputs), evaluate(package, inputs)) >= floor


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


def net() -> Part:
    return seeded(Net), {"sample": draw(2, 4, 8, 8)}


@pytest.fixture(scope="module")
def nets() -> dict[str, Any]:
    return {target: convert(net(), target, "FLOAT32") for target in ("iOS17", "iOS18")}


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
    "palette of int8, iOS 18": (
        "iOS18",
        "constexpr_blockwise_shift_scale",
        quantized_palettes,
    ),
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
def test_compressed_package_equals_torch_with_its_weights(
    name: str, nets: dict[str, Any], tmp_path: Path
) -> None:
    import coremltools.optimize.coreml as cto

    target, kind, compress = COMPRESSIONS[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = compress(cto)(nets[target])
        weights = dense_weights(model)
    package = save(model, tmp_path / "net.mlpackage")
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
    (expected,) = reference(changed, inputs)
    assert snr_db(expected, output) >= 100
    # The weights did change: this compares with the compressed net, not with the one before.
    assert snr_db(original[0], output) < 80


def test_quantized_activations_equal_torch(tmp_path: Path) -> None:
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
        (expected,) = reference(finished, inputs)
        package = save(convert((finished, inputs), "iOS17", "FLOAT32"), tmp_path / "a.mlpackage")
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
