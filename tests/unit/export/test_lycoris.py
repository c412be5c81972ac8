"""LoHa, LoKr and DoRA against peft's layers and the equations, and in kohya's files."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from edgekd.diffusion.load import load_model
from edgekd.errors import InputError
from edgekd.export.lora import Lora, check_loras
from edgekd.export.lycoris import decomposed, difference, fuse_lycoris, is_lycoris
from edgekd.libraries import transformers

QUERY = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
CONV = "down_blocks.0.resnets.0.conv1"


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(12, 8)
        self.conv = nn.Conv2d(4, 6, 3)


@pytest.mark.parametrize("layer", ["linear", "conv"])
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("LoHaConfig", {"r": 2, "alpha": 6}),
        ("LoKrConfig", {"r": 1, "alpha": 3}),
        ("LoKrConfig", {"r": 1, "alpha": 3, "decompose_both": True}),
    ],
)
def test_differences_are_pefts(kind, options, layer):
    assert transformers is not None  # imported before peft: see `edgekd.libraries`
    import peft

    config = getattr(peft, kind)(init_weights=False, target_modules=["linear", "conv"], **options)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = peft.inject_adapter_in_model(config, Two())
    adapted = model.get_submodule(layer)
    own = {
        leaf: value
        for name, value in adapted.state_dict().items()
        for leaf in [name.split(".")[0]]
        if "_w" in leaf
    }
    own["alpha"] = torch.tensor(float(config.alpha))
    expected = adapted.get_delta_weight("default")
    torch.testing.assert_close(difference(own).reshape(expected.shape), expected)


def test_a_whole_kronecker_product_has_no_scale():
    first, second = torch.tensor([[1.0, 2.0]]), torch.tensor([[0.0, 3.0]])
    own = {"lokr_w1": first, "lokr_w2": second, "alpha": torch.tensor(9.0)}
    assert difference(own).tolist() == [[0, 3, 0, 6]]


def test_a_dora_sets_the_length_of_each_direction():
    summed = torch.tensor([[3.0, 4.0], [6.0, 8.0]])
    rows = decomposed(summed, torch.tensor([[10.0], [1.0]]))
    torch.testing.assert_close(rows, torch.tensor([[6.0, 8.0], [0.6, 0.8]]))
    columns = decomposed(summed, torch.tensor([[1.0, 1.0]]))
    torch.testing.assert_close(columns.norm(dim=0), torch.ones(2))
    kernel = decomposed(torch.ones(2, 1, 2, 2), torch.tensor([[3.0], [5.0]]))
    torch.testing.assert_close(kernel[:, 0, 0, 0], torch.tensor([1.5, 2.5]))


class Pipeline:
    """What of a pipeline is looked at."""

    def __init__(self, folder: Path) -> None:
        self.unet = load_model(folder, "unet")
        self.text_encoder = load_model(folder, "text_encoder")


def tensors(module: str, shape: tuple[int, ...], **extra: Tensor) -> dict[str, Tensor]:
    """A LoHa of rank 2 for a weight of this shape."""
    inputs = torch.Size(shape[1:]).numel()
    random = torch.Generator().manual_seed(1)
    own = {
        leaf: torch.randn(size, generator=random)
        for half in ("hada_w1", "hada_w2")
        for leaf, size in ((f"{half}_a", (shape[0], 2)), (f"{half}_b", (2, inputs)))
    }
    return {f"{module}.{leaf}": value for leaf, value in {**own, **extra}.items()}


@pytest.mark.parametrize(
    ("part", "name", "layer"),
    [
        ("unet", "lora_unet_" + QUERY.replace(".", "_"), QUERY),
        ("unet", "lora_unet_input_blocks_1_1_transformer_blocks_0_attn1_to_q", QUERY),
        ("unet", "lora_unet_" + CONV.replace(".", "_"), CONV),
        (
            "text_encoder",
            "lora_te_text_model_encoder_layers_0_self_attn_q_proj",
            "text_model.encoder.layers.0.self_attn.q_proj",
        ),
    ],
)
def test_a_file_changes_its_layer_and_no_other(part, name, layer, tiny_teacher, tmp_path):
    pipeline: Any = Pipeline(tiny_teacher)
    model = getattr(pipeline, part)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    weight = f"{layer}.weight"
    state = tensors(name, tuple(before[weight].shape), alpha=torch.tensor(1.0))
    file = tmp_path / "loha.safetensors"
    save_file(state, file)
    assert is_lycoris(state)
    check_loras([Lora(file)])
    fuse_lycoris(pipeline, file, 0.5)
    own = {key.removeprefix(f"{name}."): value for key, value in state.items()}
    after = model.state_dict()
    expected = before[weight] + 0.5 * difference(own).reshape(before[weight].shape)
    torch.testing.assert_close(after[weight], expected)
    assert all(torch.equal(after[key], before[key]) for key in before if key != weight)


NAME = "lora_unet_" + QUERY.replace(".", "_")


@pytest.mark.parametrize("strength", [0.0, 0.25, 1.0])
def test_the_weight_of_a_dora_scales_its_whole_change(strength, tiny_teacher, tmp_path):
    pipeline: Any = Pipeline(tiny_teacher)
    layer = pipeline.unet.get_submodule(QUERY)
    before, magnitude = layer.weight.detach().clone(), torch.full((32, 1), 2.0)
    state = tensors(NAME, (32, 32), dora_scale=magnitude, alpha=torch.tensor(1.0))
    save_file(state, tmp_path / "dora.safetensors")
    fuse_lycoris(pipeline, tmp_path / "dora.safetensors", strength)
    own = {key.removeprefix(f"{NAME}."): value for key, value in state.items()}
    whole = nn.functional.normalize(before + difference(own), dim=1) * magnitude
    torch.testing.assert_close(layer.weight, torch.lerp(before, whole, strength))


GOOD = tensors(NAME, (32, 32))


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ({**GOOD, f"{NAME}.hada_t1": torch.ones(2, 2)}, "hada_t1"),
        ({**GOOD, f"{NAME}.diff": torch.ones(2)}, "diff"),
        ({k: x for k, x in GOOD.items() if not k.endswith("w2_b")}, "hada_w1_a"),
        ({**GOOD, "unet.other": torch.ones(2)}, "must be named as kohya's, but got unet.other"),
        ({f"{NAME}.lokr_w1": torch.ones(2, 2)}, "lokr_w1 of"),
        ({f"{NAME}.dora_scale": torch.ones(2)}, "dora_scale of"),
        (tensors("lora_unet_down_blocks_9_to_q", (32, 32)), "no `lora_unet_down_blocks_9_to_q`"),
        (tensors("lora_te2_text_model", (32, 32)), "place in the pipeline"),
        (tensors(NAME, (32, 16)), "must fit the pipeline"),
        ({k: x * float("nan") for k, x in GOOD.items()}, "must be finite"),
    ],
)
def test_what_has_no_place_is_refused_and_nothing_dropped(state, said, tiny_teacher, tmp_path):
    file = tmp_path / "bad.safetensors"
    save_file(state, file)
    pipeline: Any = Pipeline(tiny_teacher)
    with pytest.raises(InputError) as error:
        fuse_lycoris(pipeline, file, 1.0)
    assert said in str(error.value)
    assert "\n" not in str(error.value)
