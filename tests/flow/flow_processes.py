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
    parameters = {p.name: (p.weight_rms, p.gradient_rms, p.update_rms) for p in together.parameters}
    return rows, parameters
