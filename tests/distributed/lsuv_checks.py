# SPDX-License-Identifier: Apache-2.0
"""What every rank checks of LSUV: the batches of all ranks count as one."""

from collections import OrderedDict
from copy import deepcopy

import torch
from ranks import only_on
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

import torch_init
from torch_init import rule

SEED = 5


def check_lsuv(rank, ranks):
    """As one process would, whether a layer is sharded alone, in a block, or by columns."""

    def make():
        layers = [nn.Linear(8, 24), nn.ReLU(), nn.Linear(24, 12), nn.ReLU(), nn.Linear(12, 12)]
        return nn.Sequential(*layers)

    def shard(model):
        fully_shard(model[2])
        fully_shard(model)
        with torch.no_grad():
            model(batch)  # what this leaves whole is not to be rescaled

    def cut(model):
        plan = {"0": ColwiseParallel(), "2": RowwiseParallel(), "4": ColwiseParallel()}
        parallelize_module(model, init_device_mesh("cpu", (ranks,)), plan)

    batch = torch_init.normal_(torch.empty(64, 8), seed=1)
    expected = make()
    torch_init.lsuv_(expected, batch, seed=SEED, tolerance=1e-3)
    for way in (shard, cut):
        model = make()
        way(model)
        report = torch_init.lsuv_(model, batch, seed=SEED, tolerance=1e-3)
        assert all(abs(row.std - 1) <= 1e-3 for row in report.rows)
        for mine, whole in zip(model.parameters(), expected.parameters(), strict=True):
            assert torch.allclose(mine.full_tensor(), whole, rtol=1e-5, atol=1e-6), way.__name__


def check_lsuv_of_batches_that_differ(rank, ranks):
    """The spread is that of all ranks' outputs together, about a mean far from 0."""

    def part(r):
        return r + torch_init.normal_(torch.empty(40 + 25 * r, 8), seed=r)

    def make():
        layer = nn.Linear(8, 8)
        torch_init.init_(layer, [rule("weight", torch_init.orthogonal_), far], seed=SEED)
        return layer

    far = rule("bias", torch_init.constant_, val=1e4)
    everywhere = rule("*", torch_init.keep)
    expected, model = make(), make()
    report = torch_init.lsuv_(model, part(rank), everywhere, tolerance=1e-3)
    with torch.no_grad():
        whole = torch.cat([part(r) for r in range(ranks)]).double() @ expected.weight.double().T
    scale = 1 / whole.std(correction=0).item()
    assert abs(report.rows[0].scale - scale) <= 1e-3 * scale
    assert torch.allclose(model.weight, expected.weight * report.rows[0].scale)


class Paths(nn.Module):
    """Calls its layers in the order that it is told, which a router would choose by the batch."""

    def __init__(self, path):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(8, 8) for _ in range(3)])
        self.path = path

    def forward(self, x):
        for i in self.path:
            x = self.layers[i](x)
        return x


@only_on(2, 3)
def check_lsuv_of_ranks_that_differ(rank, ranks):
    """All ranks raise one error, none waits for another, and all can go on together."""
    batch = torch_init.normal_(torch.empty(64, 8), seed=rank)
    stage = nn.ModuleDict({f"{rank}": nn.Linear(8, 8)})
    scale_others = "group: expected ranks that scale the same layers, got "
    reach_others = "got layers.1.weight on rank 0 of the group and "
    last = ranks - 1
    for model, text in [
        (stage, f"{scale_others}0.weight of shape (8, 8) on rank 0 of the group and 1.weight"),
        (nn.Linear(8, 4 + rank), f"{scale_others}weight of shape (4, 8) on rank 0"),
        (nn.Identity() if rank == last else nn.Linear(8, 8), f"no more on rank {last}"),
        (Paths([0, 2] if rank == last else [0, 1, 2]), f"{reach_others}layers.2.weight on"),
        (Paths([0] if rank == last else [0, 1]), f"{reach_others}the end of the pass on"),
        (Paths([0, 2, 1] if rank == last else [0, 1, 2]), f"{reach_others}layers.2.weight on"),
    ]:
        before = [p.detach().clone() for p in model.parameters()]
        try:
            torch_init.lsuv_(model, batch)
        except ValueError as error:
            assert text in str(error), str(error)
        else:
            raise AssertionError(f"not refused: {text}")
        assert all(map(torch.equal, before, model.parameters())), text
    report = torch_init.lsuv_(Paths([0, 1, 2]), 9 * batch)
    everybody = [None] * ranks
    torch.distributed.all_gather_object(everybody, report)
    assert all(other == report for other in everybody)


@only_on(3)
def check_lsuv_in_groups(rank, ranks):
    """Two ranks share a stage, and the third has one to itself."""
    groups = [torch.distributed.new_group(members) for members in ([0, 2], [1])]
    model = nn.Sequential(OrderedDict({f"stage{rank % 2}": nn.Linear(8, 8)}))

    def part(r):
        return (r + 1) * torch_init.normal_(torch.empty(64, 8), seed=r)

    torch_init.lsuv_(model, part(rank), group=groups[rank % 2], tolerance=1e-4)
    seen = torch.cat([part(r) for r in range(ranks) if r % 2 == rank % 2])
    with torch.no_grad():
        assert abs(model(seen).std(correction=0).item() - 1) < 1e-3
    try:
        torch_init.lsuv_(model, part(rank), group=groups[1 - rank % 2])
    except ValueError as error:
        assert "group: expected a process group that this rank is in" in str(error)
    else:
        raise AssertionError("a group of other ranks was not refused")


def check_lsuv_of_replicas(rank, ranks):
    batch = torch_init.normal_(torch.empty(64, 8), seed=rank)
    layers = [nn.Linear(8, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 8)]
    bare, wrapped = nn.Sequential(*layers), deepcopy(nn.Sequential(*layers))
    wrapped = nn.parallel.DistributedDataParallel(wrapped)
    report = torch_init.lsuv_(wrapped, 9 * batch, seed=SEED)
    assert report == torch_init.lsuv_(bare, 9 * batch, seed=SEED)
    assert [row.name for row in report.rows] == ["0.weight", "3.weight"]
    for mine, plain in zip(wrapped.parameters(), bare.parameters(), strict=True):
        assert torch.equal(mine, plain)
