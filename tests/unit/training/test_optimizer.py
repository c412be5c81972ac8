import importlib.util
from typing import Any

import pytest
import torch
from torch import nn

from edgekd.errors import InputError
from edgekd.recipe_distill import DistillSection
from edgekd.schema import validate
from edgekd.training.checkpoint import Checkpoints, load_optimizers, load_weights, optimizer_tensors
from edgekd.training.optimizer import EIGHT_BIT, MOMENT_BYTES, check_optimizers, make_optimizer

CPU = torch.device("cpu")


def _section(**values: Any) -> DistillSection:
    return DistillSection.model_validate({"learning_rate": 0.01, **values})


def _model() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        # The first weight is large enough for 8 bits, its bias is not.
        return nn.Sequential(nn.Linear(64, 96), nn.Tanh(), nn.Linear(96, 1))


def _train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        inputs = torch.randn(8, 64, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        (model(inputs) - inputs[:, :1]).square().mean().backward()
        optimizer.step()


def _state(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    return optimizer_tensors(dict(model.named_parameters()), optimizer)


def test_the_default_is_torchs_in_one_kernel():
    (group,) = make_optimizer(_section(weight_decay=0.3), _model().parameters(), CPU).param_groups
    assert (group["fused"], group["lr"], group["weight_decay"]) == (True, 0.01, 0.3)
    assert group["betas"] == (0.9, 0.999)
    section = _section(adam_beta2=0.95)
    (group,) = make_optimizer(section, _model().parameters(), CPU).param_groups
    assert group["betas"] == (0.9, 0.95)
    meta = make_optimizer(_section(), _model().parameters(), torch.device("meta"))
    assert not meta.param_groups[0]["fused"]


def test_a_missing_package_is_refused_with_its_command(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    check_optimizers([_section()])
    with pytest.raises(InputError, match=r"pip install 'edgekd\[8bit\]'") as error:
        make_optimizer(_section(optimizer=EIGHT_BIT), _model().parameters(), CPU)
    assert "\n" not in str(error.value)


def test_unknown_names_are_refused():
    with pytest.raises(InputError, match="optimizer"):
        validate(DistillSection, {"few_step": {"optimizer": "sgd"}}, "recipe")


def test_8_bit_moments_train_as_fp32_ones_do():
    moved, first = [], _model()[0].weight
    for name in ("adamw", EIGHT_BIT):
        model = _model()
        optimizer = make_optimizer(_section(optimizer=name), model.parameters(), CPU)
        _train(model, optimizer, range(20))
        moved.append((model[0].weight - first).detach().flatten())
    # Eight bits hold a moment within some per cent.
    assert torch.cosine_similarity(*moved, dim=0) > 0.95
    moment = _state(model, optimizer)["AdamW8bit/0.weight/state1"]
    assert (moment.dtype, 2 * moment.element_size()) == (torch.uint8, MOMENT_BYTES[EIGHT_BIT])


def test_8_bit_moments_go_on_with_the_same_bits(tmp_path):
    section, model, other = _section(optimizer=EIGHT_BIT), _model(), _model()
    optimizer = make_optimizer(section, model.parameters(), CPU)
    _train(model, optimizer, range(3))
    parameters = dict(model.named_parameters())
    groups = {"model": parameters, "optimizer": _state(model, optimizer)}
    saved = Checkpoints(tmp_path / "checkpoints", "key").save(3, groups)
    _train(model, optimizer, range(3, 6))

    theirs = dict(other.named_parameters())
    load_weights(theirs, saved.load("model"))
    resumed = make_optimizer(section, other.parameters(), CPU)
    load_optimizers(theirs, saved.load("optimizer"), resumed)
    _train(other, resumed, range(3, 6))
    for name, parameter in parameters.items():
        assert torch.equal(parameter, theirs[name])
