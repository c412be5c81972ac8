import copy
from collections.abc import Callable
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


def test_all_layers_are_the_teacher_bit_for_bit(encoder):
    student = keep_layers(encoder, range(DEPTH))
    assert type(student) is type(encoder)
    ours, theirs = student.state_dict(), encoder.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(ours[name].data_ptr() == theirs[name].data_ptr() for name in ours)
    for one, other in zip(outputs(student), outputs(encoder), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("kept", [(0, 3), (1, 2, 3), (2,)])
def test_kept_layers_against_a_teacher_whose_others_were_taken_out(encoder, kept):
    reference = copy.deepcopy(encoder)
    layers = reference.text_model.encoder.layers
    reference.text_model.encoder.layers = nn.ModuleList(layers[i] for i in kept)
    student = keep_layers(encoder, kept)
    assert student.config.num_hidden_layers == len(kept)
    assert encoder.config.num_hidden_layers == DEPTH
    for one, other in zip(outputs(student), outputs(reference), strict=True):
        assert torch.equal(one, other)


def missed(*worth: float, together: float = 0) -> Callable[[tuple[int, ...]], float]:
    """What layers are worth, and the first two together if one of them is left out."""

    def error(kept: tuple[int, ...]) -> float:
        pair = together if {0, 1} - {*kept} else 0
        return sum(value for i, value in enumerate(worth) if i not in kept) + pair

    return error


def test_the_layer_that_is_missed_least_leaves():
    assert choose_layers(4, 2, missed(4, 1, 2, 3)) == (0, 3)
    assert choose_layers(4, 4, missed(4, 1, 2, 3)) == (0, 1, 2, 3)
    # Once its partner is gone the other is worth little: layers are not judged on their own.
    assert choose_layers(4, 2, missed(1, 1, 6, 7, together=9)) == (0, 1)
    assert choose_layers(4, 2, missed(1, 1, 6, 7, together=9), fixed=(3,)) == (1, 3)
    assert choose_layers(4, 2, missed(4, 3, 2, 1), fixed=(3,)) == (0, 3)
