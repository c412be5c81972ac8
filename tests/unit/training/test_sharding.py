from types import SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate.commands.launch import launch_command_parser, prepare_multi_gpu_env

from edgekd.distill.loop import check_shared_students
from edgekd.errors import InputError
from edgekd.recipe_distill import DistillSection
from edgekd.training.sharding import (
    part_for,
    quiet_launch,
    sharded_launch,
)

V2 = ("--use_fsdp", "--fsdp_version", "2")


@pytest.fixture
def launch(monkeypatch):
    """What accelerate's launcher tells its processes."""

    def run(*options: str) -> None:
        command = [*options, "--num_processes", "2", "--num_machines", "1", "-m", "edgekd.cli"]
        args = launch_command_parser().parse_args(
            ["--mixed_precision", "no", "--dynamo_backend", "no", *command]
        )
        for name, value in prepare_multi_gpu_env(args).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("WORLD_SIZE", "2")

    return run


def test_the_launcher_is_understood(launch, monkeypatch):
    assert not sharded_launch()
    launch("--multi_gpu")
    assert not sharded_launch()
    launch(*V2)
    assert sharded_launch()
    check_shared_students(DistillSection())
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert not sharded_launch()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "FSDP_VERSION must be 2.*1.*--fsdp_version 2"),
        ((*V2, "--fsdp_offload_params", "true"), "OFFLOAD_PARAMS must be false"),
        ((*V2, "--fsdp_reshard_after_forward", "false"), "FORWARD must be true"),
        ((*V2, "--fsdp_activation_checkpointing", "true"), "CHECKPOINTING must be false"),
    ],
)
def test_another_fsdp_is_refused_in_one_line(launch, options, said):
    launch("--use_fsdp", *options)
    with pytest.raises(InputError, match=said) as error:
        check_shared_students(DistillSection())
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("asked", [{"compile": True}, {"few_step": {"optimizer": "adamw_8bit"}}])
def test_what_knows_no_parts_is_refused(launch, asked):
    launch(*V2)
    with pytest.raises(InputError, match=r"must be off, and `optimizer` adamw"):
        check_shared_students(DistillSection.model_validate(asked))


def test_accelerate_does_not_hear_of_it(launch):
    launch(*V2)
    with quiet_launch():
        assert not sharded_launch()
    assert sharded_launch()


@pytest.mark.parametrize("rows", [1, 3, 4, 7])
def test_parts_are_those_of_a_sharded_parameter(rows):
    """All of them are the whole, and as torch cuts it: processes may be left without any."""
    tensor = torch.arange(rows * 2.0).reshape(rows, 2)
    parts = []
    for rank in range(4):
        mesh = SimpleNamespace(size=lambda: 4, get_local_rank=lambda rank=rank: rank)
        parameter: Any = SimpleNamespace(device_mesh=mesh)
        parts.append(part_for(parameter, tensor))
        assert parts[-1].shape[1:] == tensor.shape[1:]
    assert torch.equal(torch.cat(parts), tensor)
    assert [len(part) for part in parts if len(part)] == [len(c) for c in tensor.chunk(4)]
