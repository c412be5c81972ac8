from typing import Any

import pytest

from edgekd.errors import InputError

ATTENTION = "down_blocks.0.attentions.0.transformer_blocks.0."


@pytest.fixture(scope="module")
def teacher(tiny_sd2_teacher) -> Any:
    from edgekd.diffusion.load import load_teacher

    return load_teacher(tiny_sd2_teacher)


@pytest.fixture(scope="module")
def inputs() -> tuple[Any, Any, Any]:
    import torch

    generator = torch.Generator().manual_seed(1)
    return (
        torch.randn(2, 4, 8, 8, generator=generator),
        torch.tensor([10, 700]),
        torch.randn(2, 24, 32, generator=generator),
    )


def hook_count(model: Any) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def test_points_are_named_by_module_path(teacher):
    from edgekd.diffusion.taps import list_points

    points = list_points(teacher.unet)
    for point in (
        "conv_in",
        "down_blocks.3",
        "down_blocks.3.resnets.1",
        "mid_block",
        "mid_block.attentions.0",
        "up_blocks.3.attentions.2.transformer_blocks.0.attn2",
        "prediction",
    ):
        assert point in points
    # 8 blocks, conv_in, mid_block, prediction; 22 resnets; 16 attentions with 2 each.
    assert len(points) == 8 + 3 + 22 + 16 * 3
    assert len(set(points)) == len(points)


def test_taps_do_not_change_the_output(teacher, inputs):
    import torch

    from edgekd.diffusion.taps import Taps, list_points

    with torch.no_grad():
        plain = teacher.unet(*inputs).sample
        with Taps(teacher.unet, list_points(teacher.unet)) as taps:
            tapped = teacher.unet(*inputs).sample
    assert torch.equal(plain, tapped)
    assert torch.equal(taps.features("prediction"), plain)
    assert hook_count(teacher.unet) == 0


def test_features_are_the_blocks_outputs(teacher, inputs):
    import torch

    from edgekd.diffusion.taps import Taps

    with torch.no_grad(), Taps(teacher.unet, ["conv_in", "down_blocks.1", "up_blocks.3"]) as taps:
        output = teacher.unet(*inputs, return_dict=False)[0]
        head = teacher.unet.conv_norm_out(taps.features("up_blocks.3"))
        rebuilt = teacher.unet.conv_out(teacher.unet.conv_act(head))
        stem = teacher.unet.conv_in(inputs[0])
    assert torch.equal(rebuilt, output)
    assert torch.equal(taps.features("conv_in"), stem)
    assert taps.features("down_blocks.1").shape == (2, 32, 2, 2)
    with pytest.raises(KeyError):
        taps["mid_block"]


@pytest.mark.parametrize(("leaf", "keys"), [("attn1", 64), ("attn2", 24)])
def test_maps_equal_the_models_own_attention(leaf, keys, teacher, inputs):
    import torch

    from edgekd.diffusion.taps import Taps

    point = ATTENTION + leaf
    attention = teacher.unet.get_submodule(point)
    entered: list[Any] = []
    handle = attention.register_forward_pre_hook(
        lambda module, args, kwargs: entered.append((args[0], kwargs)), with_kwargs=True
    )
    try:
        with torch.no_grad(), Taps(teacher.unet, [point]) as taps:
            teacher.unet(*inputs)
    finally:
        handle.remove()
    hidden_states, kwargs = entered[0]
    context = kwargs["encoder_hidden_states"]
    context = hidden_states if context is None else context
    with torch.no_grad():
        query = attention.head_to_batch_dim(attention.to_q(hidden_states))
        key = attention.head_to_batch_dim(attention.to_k(context))
        expected = attention.get_attention_scores(query, key).unflatten(0, (2, 2))
    maps = taps.attention(point).maps()
    assert maps.shape == (2, 2, 64, keys)
    torch.testing.assert_close(maps, expected)
    torch.testing.assert_close(maps.sum(-1), torch.ones(2, 2, 64))


def test_wrapped_models_have_the_same_points(teacher, inputs):
    import torch

    from edgekd.diffusion.taps import Taps, list_points

    class Wrapper(torch.nn.Module):
        def __init__(self, module):
            super().__init__()
            self.module = module

        def forward(self, *args):
            return self.module(*args)

    wrapped = Wrapper(Wrapper(teacher.unet))
    assert list_points(wrapped) == list_points(teacher.unet)
    with torch.no_grad(), Taps(wrapped, ["mid_block", "prediction"]) as taps:
        output = wrapped(*inputs).sample
    assert torch.equal(taps.features("prediction"), output)
    assert taps.features("mid_block").shape == (2, 64, 1, 1)


def test_gradients_with_and_without_checkpointing(tiny_sd2_teacher, inputs):
    """A loss on taps has the same value and gradients when activations are recomputed."""
    import torch

    from edgekd.diffusion.load import load_model
    from edgekd.diffusion.taps import Taps

    points = ["down_blocks.0", "down_blocks.0.resnets.0", "mid_block", "prediction"]
    results = []
    for checkpointing in (False, True):
        unet = load_model(tiny_sd2_teacher, "unet").requires_grad_(True).train()
        if checkpointing:
            unet.enable_gradient_checkpointing()
        with Taps(unet, [*points, ATTENTION + "attn2"]) as taps:
            unet(*inputs)
            before = [taps.features(point) for point in points]
            loss = sum(feature.square().mean() for feature in before)
            loss = loss + taps.attention(ATTENTION + "attn2").maps().square().sum()
            loss.backward()
            # Recomputation in the backward pass must not replace what the forward recorded.
            assert all(taps[p] is value for p, value in zip(points, before, strict=True))
        gradients = {name: p.grad for name, p in unet.named_parameters() if p.grad is not None}
        results.append((loss.detach(), gradients))
    (loss, gradients), (loss_again, gradients_again) = results
    assert torch.equal(loss, loss_again)
    assert gradients.keys() == gradients_again.keys()
    assert ATTENTION + "attn2.to_k.weight" in gradients
    for name, gradient in gradients.items():
        assert torch.equal(gradient, gradients_again[name]), name


def test_unknown_point_lists_close_names(teacher):
    from edgekd.diffusion.taps import Taps

    with pytest.raises(InputError) as caught:
        Taps(teacher.unet, ["down_block.1"])
    assert "down_blocks.1" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_hooks_go_when_the_model_fails(teacher, inputs):
    import torch

    from edgekd.diffusion.taps import Taps

    with pytest.raises(RuntimeError), Taps(teacher.unet, ["mid_block", "prediction"]):
        teacher.unet(inputs[0], inputs[1], torch.zeros(2, 24, 7))
    assert hook_count(teacher.unet) == 0


def test_record_embeddings_writes_what_it_returns(teacher, inputs, tmp_path):
    import torch
    from safetensors.torch import load_file

    from edgekd.diffusion.taps import record_embeddings

    path = tmp_path / "embeddings.safetensors"
    points = ["mid_block", ATTENTION + "attn2", "prediction"]
    embeddings = record_embeddings(teacher, *inputs, points=points, path=path)
    assert list(embeddings) == points
    assert embeddings[ATTENTION + "attn2"].shape == (2, 2, 64, 24)
    stored = load_file(path)
    assert all(torch.equal(stored[point], embeddings[point]) for point in points)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_sdxl_embeddings(tiny_sdxl_teacher):
    """Depth two gives two attention points; size conditions change the prediction."""
    import torch

    from edgekd.diffusion.encode import added_conditions, encode_prompts
    from edgekd.diffusion.load import load_teacher
    from edgekd.diffusion.taps import list_points, record_embeddings

    sdxl = load_teacher(tiny_sdxl_teacher)
    deep = "mid_block.attentions.0.transformer_blocks.1.attn1"
    assert deep in list_points(sdxl.unet)
    text = encode_prompts(sdxl, ["a red apple"])
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    predictions = []
    for size in (32.0, 16.0):
        time_ids = torch.tensor([[size, size, 0, 0, 32, 32]])
        embeddings = record_embeddings(
            sdxl,
            latents,
            torch.tensor([500]),
            text.encoder_hidden_states,
            [deep, "prediction"],
            added_conditions(sdxl, text.pooled, time_ids),
        )
        assert embeddings[deep].shape == (1, 8, 4, 4)
        predictions.append(embeddings["prediction"])
    assert not torch.equal(*predictions)
