"""Muon against torch's own, and what torch's own does not do."""

import copy

import pytest
import torch
from torch import nn

from edgekd.teach.muon import Muon, matrix_shape, orthogonalized
from edgekd.teach.ranks import Ranks


@pytest.mark.parametrize("shape", [(16, 16), (16, 200), (64, 576)])
def test_directions_stay_and_lengths_become_one(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    u, s, v = torch.linalg.svd(matrix.double(), full_matrices=False)
    lengths = torch.diag(u.mT @ orthogonalized(matrix[None])[0].double() @ v.mT)
    assert s.max() / s.min() > 1.5  # what was to be evened out
    assert lengths.min() > 0.65
    assert lengths.max() < 1.25
    rest = u.mT @ orthogonalized(matrix[None])[0].double() @ v.mT - torch.diag(lengths)
    assert rest.abs().max() < 1e-4


def test_no_gradient_is_no_step():
    assert not orthogonalized(torch.zeros(1, 4, 8)).any()


def layers():
    torch.manual_seed(1)
    net = nn.Sequential(nn.Linear(12, 20, bias=False), nn.Linear(20, 20, bias=False))
    net.append(nn.Linear(20, 6, bias=False))
    return net.requires_grad_(True)


def give_gradients(parameters, number):
    generator = torch.Generator().manual_seed(number)
    for parameter in parameters:
        parameter.grad = torch.randn(parameter.shape, generator=generator)


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch before 2.9 has no Muon")
def test_steps_are_those_of_torch():
    ours, theirs = layers(), layers()
    start = copy.deepcopy(ours)
    optimizer = Muon([{"params": list(ours.parameters())}], weight_decay=0.1, ranks=Ranks())
    reference = torch.optim.Muon(
        theirs.parameters(), lr=0.01, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"
    )
    for number in range(3):
        for net in (ours, theirs):
            give_gradients(net.parameters(), number)
        optimizer.param_groups[0]["lr"] = 0.01
        optimizer.step()
        reference.step()
    for a, b, c in zip(ours.parameters(), theirs.parameters(), start.parameters(), strict=True):
        # Torch iterates in bfloat16: 8 bits of each update are its own.
        assert (a - b).norm() < 0.03 * (b - c).norm()


def test_a_convolution_is_the_matrix_of_its_filters():
    torch.manual_seed(0)
    kernel = nn.Parameter(torch.randn(8, 4, 3, 3))
    matrix = nn.Parameter(kernel.detach().flatten(1).clone())
    for parameter in (kernel, matrix):
        optimizer = Muon([{"params": [parameter]}], weight_decay=0.0, ranks=Ranks())
        parameter.grad = torch.randn(
            parameter.shape, generator=torch.Generator().manual_seed(2)
        ).view_as(parameter)
        optimizer.param_groups[0]["lr"] = 0.1
        optimizer.step()
    assert torch.equal(kernel.flatten(1), matrix)
    assert matrix_shape(kernel) == (8, 36)


class Meeting(Ranks):
    """Ranks that leave their sums in a list instead of exchanging them."""

    def average(self, flat):
        flat.div_(self.count)
        self.seen.append(flat.clone())


@pytest.mark.parametrize("count", [2, 3])
def test_ranks_share_the_matrices_of_one_process(count):
    single = layers()
    alone = Muon([{"params": list(single.parameters())}], weight_decay=0.0, ranks=Ranks())
    give_gradients(single.parameters(), 0)
    before = [p.detach().clone() for p in single.parameters()]
    alone.param_groups[0]["lr"] = 1.0
    alone.step()
    total = torch.cat([(b - p).flatten() for b, p in zip(before, single.parameters(), strict=True)])
    parts = []
    for rank in range(count):
        ranks = Meeting(rank, count)
        object.__setattr__(ranks, "seen", [])
        net = layers()
        give_gradients(net.parameters(), 0)
        Muon([{"params": list(net.parameters())}], weight_decay=0.0, ranks=ranks).step()
        parts.append(ranks.seen[0] * count)
    assert torch.allclose(sum(parts), total, atol=1e-6)
    assert all(part.any() for part in parts)
    assert (torch.stack(parts) != 0).sum(dim=0).max() == 1
