import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from edgekd.export.capture import Capture
from edgekd.export.coreml.compress import CompressionRules, Storage, _distinct, compress, palette
from edgekd.export.coreml.convert import to_coreml
from edgekd.export.coreml.layout import make_layout
from edgekd.export.coreml.package import PackageRunner, write_package
from edgekd.export.coreml.precisions import PRECISIONS

Halfs = npt.NDArray[np.float16]


def error(weight: Halfs, table: npt.NDArray[np.float64], indices: npt.NDArray[np.uint8]) -> float:
    restored = table.astype(np.float64)[indices.reshape(-1)]
    return float(np.sum((weight.reshape(-1).astype(np.float64) - restored) ** 2))


def gaussian(tails: float) -> Halfs:
    draws = np.random.default_rng(0).standard_t(tails, (32, 40, 3, 3))
    return (0.02 * draws).astype(np.float16)


@pytest.mark.parametrize("tails", [5, 1000])
@pytest.mark.parametrize("bits", [4, 6, 8])
def test_a_palette_is_nearly_as_good_as_exact_clustering(bits, tails):
    """coremltools' kmeans1d is optimal in one dimension, and the outside reference here."""
    from coremltools.models.neural_network.quantization_utils import (
        _get_kmeans_lookup_table_and_weight,
    )

    weight = gaussian(tails)
    table, indices = palette(weight, bits)
    best_table, best_indices = _get_kmeans_lookup_table_and_weight(bits, weight)
    best = error(weight, best_table.astype(np.float16), best_indices)
    # Lloyd's algorithm stops at a local optimum: within 0.8 dB of the global one.
    assert best * 0.99 <= error(weight, table, indices) <= best * 10**0.08


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(-8, 8, width=16), min_size=1, max_size=300), st.sampled_from([4, 6, 8]))
def test_every_weight_gets_its_nearest_level(values, bits):
    weight = np.array(values, np.float16)
    table, indices = palette(weight, bits)
    assert table.shape == (2**bits,)
    assert table.dtype == np.float16
    assert indices.dtype == np.uint8
    assert (np.diff(table.astype(np.float32)) >= 0).all()
    distance = np.abs(weight.astype(np.float64)[:, None] - table.astype(np.float64)[None])
    np.testing.assert_array_equal(distance[np.arange(len(weight)), indices], distance.min(axis=1))


@given(st.lists(st.floats(width=16, allow_nan=False), min_size=1, max_size=50))
def test_counted_bit_patterns_are_what_numpy_finds_by_sorting(values):
    weights = np.array([*values, 0.0, -0.0], np.float16)
    expected = np.unique(weights, return_inverse=True, return_counts=True)
    for found, of_numpy in zip(_distinct(weights), expected, strict=True):
        np.testing.assert_array_equal(found, of_numpy)


def test_few_values_are_kept_exactly():
    weight = np.array([[0.5, -1.0, 0.5], [2.0, 0.0, -1.0]], np.float16)
    table, indices = palette(weight, 4)
    np.testing.assert_array_equal(table[indices].reshape(2, 3), weight)


def test_the_first_rule_that_matches_counts():
    four, eight = Storage("palette", 4), Storage("palette", 8)
    recipe = CompressionRules((("conv_in.*", None), ("*attn?.to_q.*", four), ("*", eight)), 100)
    assert recipe.storage("conv_in.weight", 5000) is None
    assert recipe.storage("mid_block.attn2.to_q.weight", 5000) == four
    assert recipe.storage("mid_block.attn2.to_v.weight", 5000) == eight
    assert recipe.storage("mid_block.attn2.to_v.weight", 99) is None


def test_the_mixed_recipe_gives_bits_by_tensor():
    recipe = PRECISIONS["mixed"].recipe
    names = {
        "conv_in.weight": 8,
        "time_embedding.linear_1.weight": 8,
        "down_blocks.0.resnets.0.conv1.weight": 6,
        "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.weight": 4,
        "text_model.embeddings.token_embedding.weight": 8,
    }
    stored = {name: recipe.storage(name, 10_000) for name in names}
    assert {name: s.bits for name, s in stored.items() if s is not None} == names


class Wide(nn.Module):
    """One matrix of more weights than float16 can count."""

    def __init__(self) -> None:
        super().__init__()
        self.vae = nn.Linear(300, 300)

    def forward(self, latents: Tensor) -> tuple[Tensor]:
        return (self.vae(latents),)


def test_large_tensors_are_pruned_too(tmp_path):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = Wide().requires_grad_(False)
    sample = torch.ones(1, 1, 1, 300)
    captured = Capture("vae_decoder", module, {"latent_sample": sample}, ("sample",), {}, {})
    layout = make_layout("vae_decoder", ("latent_sample",), ("sample",))
    model = to_coreml(captured, layout, "iOS17", float32=False)
    recipe = CompressionRules((("*", Storage("sparse", 16, sparsity=0.25)),))
    pruned, facts = compress(model, module, recipe)
    write_package(pruned, tmp_path, layout, {})
    assert facts["bits_by_tensor"] == {"weight": 16}
    weights = tmp_path / "VAEDecoder.mlpackage/Data/com.apple.CoreML/weights/weight.bin"
    # Three quarters of 16 bits, and one bit for where they are; the bias and headers beside.
    assert 90_000 * 13 / 8 < weights.stat().st_size < 90_000 * 13 / 8 + 4096
    expected = module.vae.weight.numpy().astype(np.float16).astype(np.float32)
    limit = np.quantile(np.abs(expected), 0.25)
    expected[np.abs(expected) <= limit] = 0
    bias = module.vae.bias.numpy()
    outputs = PackageRunner(tmp_path, "vae_decoder")({"latent_sample": sample.numpy()})
    np.testing.assert_allclose(outputs["sample"][0, 0, 0], expected.sum(axis=1) + bias, atol=2e-3)


@pytest.mark.parametrize(
    ("precision", "bits"),
    [("fp16", 16), ("int8", 8), ("palette6", 6), ("int4-ios18", 4.5), ("pruned25", 13)],
)
def test_bits_of_a_weight_hold_what_it_shares_with_few(precision, bits):
    assert PRECISIONS[precision].bits_per_weight == bits
