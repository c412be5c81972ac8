import errno
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError
from torch import nn

from edgekd.errors import InputError
from edgekd.files import writing
from edgekd.progress import Silent
from edgekd.training.checkpoint import Checkpoints, load_optimizers, load_weights, optimizer_tensors


class Lines(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def info(self, message: str) -> None:
        self.lines.append(message)


def _model(seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))


def _optimizer(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=0.1, fused=True)


def _train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
    for step in range(steps):
        optimizer.zero_grad()
        model(torch.full((1, 3), float(step))).square().sum().backward()
        optimizer.step()


def _groups(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    parameters = dict(model.named_parameters())
    return {"model": parameters, "optimizer": optimizer_tensors(parameters, optimizer)}


@pytest.fixture
def checkpoints(tmp_path) -> Checkpoints:
    return Checkpoints(tmp_path / "checkpoints", "key")


@pytest.fixture
def save(checkpoints) -> Callable[[int], Any]:
    """Save the tensor `x` whose value is the step."""
    return lambda step: checkpoints.save(step, {"model": {"x": torch.tensor([float(step)])}})


def _restored(checkpoints: Checkpoints) -> float | None:
    latest = checkpoints.latest(Silent())
    return None if latest is None else latest.load("model")["x"].item()


def test_a_restored_optimiser_goes_on_with_the_same_bits(checkpoints):
    model, other = _model(0), _model(2)
    optimizer, other_optimizer = _optimizer(model), _optimizer(other)
    _train(model, optimizer, 3)
    saved = checkpoints.save(3, _groups(model, optimizer))
    load_weights(dict(other.named_parameters()), saved.load("model"))
    load_optimizers(dict(other.named_parameters()), saved.load("optimizer"), other_optimizer)
    _train(model, optimizer, 3)
    _train(other, other_optimizer, 3)
    for ours, theirs in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_an_optimiser_takes_only_what_is_its_own(checkpoints):
    """Parameters without a gradient have no state, and another optimiser's is not taken."""
    model = _model(0)
    parameters = dict(model.named_parameters())
    optimizer = _optimizer(model)
    model[0].requires_grad_(False)
    _train(model, optimizer, 1)
    saved = checkpoints.save(1, _groups(model, optimizer)).load("optimizer")
    same, other = _optimizer(model), torch.optim.SGD(model[1].parameters(), momentum=0.9)
    load_optimizers(parameters, saved, same, other)
    assert set(same.state) == set(model[1].parameters())
    assert not other.state


def test_any_tensor_is_read_by_safetensors_as_it_was(checkpoints):
    types = (torch.uint8, torch.int64, torch.float16, torch.bfloat16, torch.float32, torch.float64)
    tensors = {str(kind): (torch.arange(15) * 7).to(kind).reshape(5, 3) for kind in types}
    tensors |= {"step": torch.tensor(3.0), "none": torch.zeros(0, 3), "turned": torch.eye(3)[1:].T}
    found = checkpoints.save(1, {"model": tensors}).load("model")
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor), name


def test_the_last_two_are_kept(checkpoints, save, tmp_path):
    for step in (5, 10, 15):
        save(step)
    names = sorted(p.name for p in checkpoints.folder.iterdir())
    assert names == ["step-00000010", "step-00000015"]
    assert _restored(checkpoints) == 15
    assert _restored(Checkpoints(tmp_path / "missing", "key")) is None
    assert _restored(Checkpoints(checkpoints.folder, "other")) is None


def test_nothing_is_pickled_and_the_settings_come_back(checkpoints):
    saved = checkpoints.save(1, {"model": {"x": torch.ones(1)}}, settings="abc")
    assert {p.suffix for p in saved.path.iterdir()} == {".safetensors", ".json"}
    assert checkpoints.latest(Silent()) == saved
    assert saved.settings == "abc"


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _another_step(path: Path) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), "step": 9}))


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("damage", [_cut, _flip, _empty, _folder, Path.unlink])
@pytest.mark.parametrize("name", ["model.safetensors", "artifact.json"])
def test_a_damaged_one_is_passed_over_and_said(checkpoints, save, damage, name):
    save(5)
    damage(save(10).path / name)
    said = Lines()
    latest = checkpoints.latest(said)
    assert latest.step == 5
    assert len(said.lines) == 1
    assert "step-00000010; continuing from step 5" in said.lines[0]


@pytest.mark.parametrize("text", ["[]", '{"key": "key"}', "null", "\ud800"])
def test_an_odd_state_is_damage(checkpoints, save, text):
    save(5).path.joinpath("artifact.json").write_text(text, errors="surrogatepass")
    said = Lines()
    assert checkpoints.latest(said) is None
    assert "continuing from the start" in said.lines[0]


def test_a_state_of_another_step_is_damage(checkpoints, save):
    save(5)
    _another_step(save(10).path / "artifact.json")
    assert _restored(checkpoints) == 5
    # Whole, but under another's name.
    save(10).path.rename(checkpoints.folder / "step-00000011")
    assert _restored(checkpoints) == 5


def test_what_is_no_checkpoint_is_left_alone(checkpoints, save):
    save(5)
    (checkpoints.folder / ".step-00000015.1.tmp").mkdir()
    (checkpoints.folder / "step-00000020").write_text("a file")
    (checkpoints.folder / "step-00000030").symlink_to("nowhere")
    said = Lines()
    assert checkpoints.latest(said) is not None
    assert said.lines == []
    save(6)
    assert (checkpoints.folder / "step-00000020").is_file()


def test_a_damaged_later_one_does_not_outlive_the_steps_that_are_made_again(checkpoints, save):
    save(5)
    _cut(save(100).path / "model.safetensors")
    save(6)
    names = sorted(p.name for p in checkpoints.folder.iterdir())
    assert names == ["step-00000005", "step-00000006"]


def test_errors_of_the_disk_are_named(tmp_path):
    with pytest.raises(InputError, match="No space left"), writing(tmp_path):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_other_errors_keep_their_traceback(tmp_path):
    with pytest.raises(SafetensorError, match="header"), writing(tmp_path):
        raise SafetensorError("header too small")


def test_numbers_and_tables_that_parameters_share_come_back(checkpoints):
    """An 8-bit optimiser counts its steps in Python, and all parameters share its tables."""
    model = _model(0)
    parameters, table = dict(model.named_parameters()), torch.arange(4.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for parameter in parameters.values():
        optimizer.state[parameter].update(step=7, table=table)
    saved = checkpoints.save(1, _groups(model, optimizer)).load("optimizer")
    other = torch.optim.SGD(model.parameters(), lr=0.1)
    load_optimizers(parameters, saved, other)
    for parameter in parameters.values():
        assert other.state[parameter]["step"] == 7
        assert isinstance(other.state[parameter]["step"], int)
        assert torch.equal(other.state[parameter]["table"], table)
