from typing import Any

import pytest
import torch

from edgekd.libraries import diffusers
from edgekd.training.precision import autocast_dtype, training_attention

CPU = torch.device("cpu")


def test_auto_precision_asks_the_hardware(monkeypatch):
    cpu = torch.device("cpu")
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    assert autocast_dtype("auto", cpu) is None
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    assert autocast_dtype("auto", cpu) is torch.bfloat16
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    assert autocast_dtype("auto", torch.device("cuda")) is None
    assert autocast_dtype("fp32", cpu) is None
    assert autocast_dtype("bf16", torch.device("cuda")) is torch.bfloat16


def _unet(**values: Any) -> Any:
    torch.manual_seed(0)
    config = {
        "sample_size": 8,
        "block_out_channels": (32,),
        "down_block_types": ("CrossAttnDownBlock2D",),
        "up_block_types": ("CrossAttnUpBlock2D",),
        "cross_attention_dim": 16,
        "attention_head_dim": 4,
        "norm_num_groups": 8,
    }
    return diffusers.UNet2DConditionModel(**{**config, **values})


def _uses_products(unet: Any) -> bool:
    names = {type(processor).__name__ for processor in unet.attn_processors.values()}
    assert len(names) == 1
    return names == {"AttnProcessor"}


@pytest.mark.parametrize(
    ("values", "device", "dtype", "expected"),
    [
        ({}, CPU, torch.bfloat16, True),
        ({"sample_size": (8, 16)}, CPU, torch.bfloat16, True),
        ({"sample_size": 64}, CPU, torch.bfloat16, False),
        ({}, CPU, None, False),
        ({}, torch.device("cuda"), torch.bfloat16, False),
    ],
)
def test_attention_by_hardware_and_size(values, device, dtype, expected):
    unet = _unet(**values)
    with training_attention(unet, device, dtype):
        assert _uses_products(unet) == expected
    assert not _uses_products(unet)


def test_both_attentions_are_one_function():
    unet = _unet()
    inputs = torch.randn(2, 4, 8, 8), torch.tensor([10, 500]), torch.randn(2, 5, 16)
    with torch.no_grad():
        fused = unet(*inputs).sample
        with training_attention(unet, CPU, torch.bfloat16):
            products = unet(*inputs).sample
    # float32 sums in another order.
    torch.testing.assert_close(products, fused, atol=1e-5, rtol=1e-5)
