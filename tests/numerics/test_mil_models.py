"""Core ML packages of whole parts, evaluated, against torch.

What converts, compresses and evaluates here is what an export does: torch's
tracer, coremltools, the saved package. Core ML itself does not run on Linux.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgekd.export.capture import TextEncoderModule, UNetModule, VaeDecoderModule, VaeEncoderModule
from edgekd.export.coreml.mil.evaluator import PackageEvaluator
from edgekd.export.parity import snr_db

Inputs = dict[str, Tensor]
Part = tuple[nn.Module, Inputs]
Convert = Callable[..., Any]


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
def test_package_equals_torch(make, target, precision, convert, tmp_path):
    module, inputs = make()
    package = tmp_path / "part.mlpackage"
    convert(module, inputs, target, precision).save(str(package))
    # Float32 sums in another order: 110 to 130 dB measured. Weights rounded to fp16, 11 bits
    # each: 53 to 64 dB measured.
    floor = 100 if precision == "FLOAT32" else 45
    assert worst_snr(reference(module, inputs), evaluate(package, inputs)) >= floor
