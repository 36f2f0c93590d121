# SPDX-License-Identifier: Apache-2.0
"""What the processes of test_distributed.py do: a module, so that spawned processes find it."""

import os

import torch
import torch.distributed as dist
from torch import nn

import torch_init


def make_model():
    model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4))
    for name, parameter in model.named_parameters():
        if parameter.dim() == 2:
            torch_init.he_(parameter, seed=0, name=name)
        else:
            torch_init.zeros_(parameter)
    return model


def data():
    return torch.randn(16, 16, generator=torch.Generator().manual_seed(0))


def wrap(kind, model):
    if kind == "ddp":
        return nn.parallel.DistributedDataParallel(model)
    mesh = dist.init_device_mesh("cpu", (2,))
    if kind == "fsdp2":
        from torch.distributed.fsdp import fully_shard

        for layer in (model[0], model[2], model):
            fully_shard(layer, mesh=mesh)
        return model
    from torch.distributed.tensor.parallel import (
        ColwiseParallel,
        RowwiseParallel,
        parallelize_module,
    )

    return parallelize_module(model, mesh, {"0": ColwiseParallel(), "2": RowwiseParallel()})


def step(model, optimizer, x):
    optimizer.zero_grad()
    model(x).square().mean().backward()
    optimizer.step()


KINDS = ("ddp", "fsdp2", "tp")


def run(rank, folder):
    """Train a step of each kind of parallel model, and write down what both processes see."""
    store = dist.FileStore(os.path.join(folder, "store"), 2)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=2)
    try:
        results = {kind: measure(rank, kind) for kind in KINDS}
        results["order"] = measure_in_another_order(rank)
        results["dtensor"] = measure_dtensors(rank)
        results["plain shards"] = measure_plain_shards(rank)
        results["partial"] = [measure_partial_sums(compiled) for compiled in (False, True)]
        torch.save(results, os.path.join(folder, f"{rank}.pt"))
    finally:
        dist.destroy_process_group()


def measure(rank, kind):
    model = wrap(kind, make_model())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x = data()
    x = x if kind == "tp" else x.chunk(2)[rank]
    with torch_init.watch(model, optimizer) as flow:
        step(model, optimizer, x)
    together = flow.report(group=True)
    rows = {r.layer: (r.calls, r.rms, r.gradient_rms) for r in together.rows}
    parameters = {
        p.name: (p.weight_rms, p.gradient_rms, p.update_rms, p.gradient_norm)
        for p in together.parameters
    }
    return rows, parameters


class TwoWays(nn.Module):
    """Calls its layers in the order that it is told to, and some of them not at all."""

    def __init__(self, rank):
        super().__init__()
        self.small, self.large, self.rank = nn.Linear(8, 8), nn.Linear(8, 8), rank
        self.extra = nn.ModuleList(nn.Identity() for _ in range(60))
        self.only_second = nn.Tanh()
        with torch.no_grad():
            self.small.weight.fill_(1.0), self.large.weight.fill_(100.0)
            self.small.bias.zero_(), self.large.bias.zero_()

    def forward(self, x):
        for name in ("small", "large") if self.rank == 0 else ("large", "small"):
            getattr(self, name)(x)
        if self.rank == 1:
            self.only_second(x)
            for extra in self.extra:  # more rows than the first totals of this process have
                for _ in range(8):
                    extra(x)
        return x


def measure_in_another_order(rank):
    model, x = TwoWays(rank), torch.ones(4, 8)
    with torch_init.watch(model, include=["small", "large", "only", "extra"]) as flow:
        flow.recorder._rows = 64
        model(x)
    counts = {r.layer: (r.calls, r.rms) for r in flow.report(group=True).rows}
    return counts, len(flow.recorder.all_totals)


def measure_dtensors(rank):
    from torch.distributed.tensor import Shard
    from torch.distributed.tensor.parallel import (
        ColwiseParallel,
        RowwiseParallel,
        parallelize_module,
    )

    plan = {
        "0": ColwiseParallel(output_layouts=Shard(-1), use_local_output=False),
        "2": RowwiseParallel(input_layouts=Shard(-1)),
    }
    model = parallelize_module(make_model(), dist.init_device_mesh("cpu", (2,)), plan)
    with torch_init.watch(model) as flow:
        model(data()).square().mean().backward()
    alone, together = flow.report().rows[0], flow.report(group=True).rows[0]
    return (alone.samples, alone.dead, alone.batch_std), features(together)


def features(row):
    return row.samples, row.units, row.dead, row.batch_std, row.calls, row.gradient_norm


def measure_plain_shards(rank):
    """Tensor parallel layers that return their shards as plain tensors; what follows does too."""
    model = wrap("tp", make_model())
    with torch_init.watch(model) as flow:
        for _ in range(2):
            model(data()).square().mean().backward()
    alone, together = flow.report(), flow.report(group=True)
    return [features(row) for row in together.rows], alone.unsupported, together.unsupported


def measure_partial_sums(compiled):
    from torch.distributed.tensor import DTensor, Partial, Replicate

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = make_model()
            self.loss = Loss()

        def forward(self, x):
            return self.loss(self.net(x))

    class Loss(nn.Module):
        def forward(self, x):
            return DTensor.from_local(x, mesh, [Partial()], run_check=False)

    mesh = dist.init_device_mesh("cpu", (2,))
    model = Net()
    call = torch.compile(model, backend="aot_eager") if compiled else model
    with torch_init.watch(call, exclude="^$") as flow:
        call(data()).redistribute(placements=[Replicate()]).to_local().sum().backward()
    report = flow.report()
    return sorted(row.layer for row in report.rows), report.unsupported
