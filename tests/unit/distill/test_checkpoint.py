from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from torch import nn

from edgekd.disk import writing
from edgekd.distill import checkpoint as checkpoints
from edgekd.errors import InputError


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


def test_a_restored_optimiser_goes_on_with_the_same_bits(tmp_path: Path) -> None:
    model, average = _model(0), _model(1)
    optimizer = _optimizer(model)
    _train(model, optimizer, 3)
    saved = checkpoints.save(tmp_path, "key", 3, model, average, optimizer)
    other, other_average = _model(2), _model(3)
    other_optimizer = _optimizer(other)
    checkpoints.restore(saved, other, other_average, other_optimizer)
    _train(model, optimizer, 3)
    _train(other, other_optimizer, 3)
    for a, b in ((model, other), (average, other_average)):
        for ours, theirs in zip(a.parameters(), b.parameters(), strict=True):
            assert torch.equal(ours, theirs)


def test_parameters_without_a_gradient_have_no_state(tmp_path: Path) -> None:
    model = _model(0)
    optimizer = _optimizer(model)
    model[0].requires_grad_(False)
    _train(model, optimizer, 1)
    saved = checkpoints.save(tmp_path, "key", 1, model, model, optimizer)
    fresh = _optimizer(model)
    checkpoints.restore(saved, model, model, fresh)
    assert set(fresh.state) == set(model[1].parameters())


def test_the_last_two_are_kept(tmp_path: Path) -> None:
    model = _model(0)
    for step in (5, 10, 15):
        checkpoints.save(tmp_path, "key", step, model, model, _optimizer(model))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000010", "step-00000015"]
    latest = checkpoints.latest(tmp_path, "key")
    assert latest is not None
    assert latest.step == 15


def test_other_keys_and_torn_checkpoints_are_passed_over(tmp_path: Path) -> None:
    model = _model(0)
    assert checkpoints.latest(tmp_path / "missing", "key") is None
    checkpoints.save(tmp_path, "key", 5, model, model, _optimizer(model))
    checkpoints.save(tmp_path, "key", 10, model, model, _optimizer(model))
    assert checkpoints.latest(tmp_path, "other") is None
    (tmp_path / "step-00000010" / "state.json").write_text('{"key"')
    (tmp_path / ".step-00000015.1.tmp").mkdir()
    latest = checkpoints.latest(tmp_path, "key")
    assert latest is not None
    assert latest.step == 5


def test_nothing_is_pickled(tmp_path: Path) -> None:
    model = _model(0)
    saved = checkpoints.save(tmp_path, "key", 1, model, model, _optimizer(model))
    assert {p.suffix for p in saved.path.iterdir()} == {".safetensors", ".json"}


_FULL_DISK = """
import resource, sys
from pathlib import Path
import torch
from edgekd.distill import checkpoint as checkpoints
from edgekd.errors import InputError
folder = Path(sys.argv[1])
model = torch.nn.Linear(300, 300)
optimizer = torch.optim.AdamW(model.parameters())
checkpoints.save(folder, "key", 1, model, model, optimizer)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    checkpoints.save(folder, "key", 2, model, model, optimizer)
except InputError as error:
    print(error)
    sys.exit(error.exit_code)
"""


def test_a_full_disk_is_one_line_and_keeps_the_last_checkpoint(tmp_path: Path) -> None:
    # A limit on the file size fails writes as a full disk does, in Rust's writer too.
    done = subprocess.run(
        [sys.executable, "-c", _FULL_DISK, str(tmp_path)], capture_output=True, text=True
    )
    assert done.returncode == 2, done.stderr
    assert len(done.stdout.splitlines()) == 1
    assert "step-00000002" in done.stdout
    assert [p.name for p in tmp_path.iterdir()] == ["step-00000001"]
    latest = checkpoints.latest(tmp_path, "key")
    assert latest is not None
    assert latest.step == 1


def test_errors_of_the_disk_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No space left"), writing(tmp_path):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_other_errors_keep_their_traceback(tmp_path: Path) -> None:
    with pytest.raises(SafetensorError, match="header"), writing(tmp_path):
        raise SafetensorError("header too small")
