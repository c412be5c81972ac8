import pytest

from edgekd.export.bits.storage import LinearStorage
from edgekd.export.bits.weights import make_units, models, of_part, stored_bytes, weights

STORAGE = LinearStorage(dict.fromkeys(("conv", "linear", "embedding"), (8, 4)))


def test_every_matrix_and_kernel_is_a_weight(tiny_pipeline):
    found = weights(tiny_pipeline.unet)
    expected = {name for name, tensor in tiny_pipeline.unet.named_parameters() if tensor.ndim >= 2}
    assert set(found) == expected
    assert found["conv_in.weight"].kind == "conv"
    assert found["conv_in.weight"].shape == (32, 4, 3, 3)
    assert weights(tiny_pipeline.text_encoder)[
        "text_model.embeddings.token_embedding.weight"
    ].kind == ("embedding")


def test_units_hold_every_weight_once_at_any_limit(tiny_pipeline):
    unet = tiny_pipeline.unet
    able = {
        name for name, weight in weights(unet).items() if STORAGE.choices(weight.kind, weight.shape)
    }
    counts = []
    for limit in (1000, 100, 30, 1):
        units = make_units("unet", unet, STORAGE, limit)
        names = [weight.name for unit in units for weight in unit.weights]
        assert sorted(names) == sorted(able)
        assert len({unit.name for unit in units}) == len(units)
        counts.append(len(units))
    assert counts[0] == len(able)
    assert counts == sorted(counts, reverse=True)
    assert counts[1] <= 100
    assert counts[2] <= 30


def test_projections_of_an_attention_come_together_first(tiny_pipeline):
    units = make_units("unet", tiny_pipeline.unet, STORAGE, 150)
    name = "mid_block.attentions.0.transformer_blocks.0.attn1"
    (unit,) = [unit for unit in units if unit.name == name]
    assert {weight.name.removeprefix(f"{name}.") for weight in unit.weights} == {
        "to_q.weight",
        "to_k.weight",
        "to_v.weight",
        "to_out.0.weight",
    }


def test_weights_with_other_choices_make_their_own_units(tiny_pipeline):
    storage = LinearStorage({"conv": (8,), "linear": (8, 4)})
    for unit in make_units("unet", tiny_pipeline.unet, storage, 1):
        kinds = {weight.kind for weight in unit.weights}
        assert kinds == ({"conv"} if unit.choices == (8,) else {"linear"})


def test_encoder_of_a_vae_is_in_no_unit_but_in_its_part(tiny_pipeline):
    units = make_units("vae", tiny_pipeline.vae, STORAGE, 1000)
    names = {weight.name for unit in units for weight in unit.weights}
    assert names
    assert all(name.startswith(("decoder.", "post_quant_conv.")) for name in names)
    bits: dict[str, int | None] = dict.fromkeys(weights(tiny_pipeline.vae), 8)
    encoder, decoder = of_part(bits, "vae_encoder"), of_part(bits, "vae_decoder")
    assert encoder
    assert set(encoder) | set(decoder) == set(bits)
    assert not set(encoder) & set(decoder)


@pytest.mark.parametrize("component", ["unet", "vae", "text_encoder"])
def test_float_size_is_that_of_the_parameters(tiny_pipeline, component):
    model = models(tiny_pipeline)[component]
    parameters = sum(tensor.numel() for tensor in model.parameters())
    assert stored_bytes(model, {}, STORAGE) == 4 * parameters
