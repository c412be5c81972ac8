import copy
from typing import Any

import pytest
import torch
from fixtures.texts import DEPTH, deep_sdxl_teacher
from torch import nn

from edgekd.diffusion.load import load_model
from edgekd.student.text_depth import TEXT_ENCODERS
from edgekd.student.text_encoder import choose_layers, keep_layers

__all__ = ["deep_sdxl_teacher"]
TOKENS = torch.randint(0, 4000, (3, 24), generator=torch.Generator().manual_seed(0))


@pytest.fixture(params=TEXT_ENCODERS)
def encoder(request, deep_sdxl_teacher) -> Any:
    return load_model(deep_sdxl_teacher, request.param)


def outputs(encoder: Any) -> list[torch.Tensor]:
    with torch.no_grad():
        found = encoder(TOKENS, output_hidden_states=True)
    return [found[0], found.last_hidden_state, *found.hidden_states]


@pytest.mark.parametrize("kept", [range(DEPTH), (0, 3), (2,)])
def test_kept_layers_are_the_teacher_without_the_others_bit_for_bit(encoder, kept):
    reference = copy.deepcopy(encoder)
    layers = reference.text_model.encoder.layers
    reference.text_model.encoder.layers = nn.ModuleList(layers[i] for i in kept)
    student = keep_layers(encoder, kept)
    assert student.config.num_hidden_layers == len(kept)
    assert encoder.config.num_hidden_layers == DEPTH
    assert type(student) is type(encoder)
    for one, other in zip(outputs(student), outputs(reference), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("worth", "together", "fixed", "kept"),
    [
        ((4, 1, 2, 3), 0, (), (0, 3)),
        # Once its partner is gone the other is worth little: layers are not judged on their own.
        ((1, 1, 6, 7), 9, (), (0, 1)),
        ((1, 1, 6, 7), 9, (3,), (1, 3)),
    ],
)
def test_the_layer_that_is_missed_least_leaves(worth, together, fixed, kept):
    def error(left: tuple[int, ...]) -> float:
        pair = together if {0, 1} - {*left} else 0
        return sum(value for i, value in enumerate(worth) if i not in left) + pair

    assert choose_layers(4, 2, error, fixed) == kept
