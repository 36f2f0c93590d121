# SPDX-License-Identifier: Apache-2.0
"""Whole models on a GPU: the CPU's bits, one launch, no waiting, graphs, and what is read back."""

import pytest
import torch
from cases import same_bits
from torch import nn

import torch_init
from torch_init import rule

pytestmark = pytest.mark.cuda

RULES = [
    "torch-default",
    rule("0.weight", torch_init.trunc_normal_, std=0.02, bounds="sigma"),
    rule("*.in_proj_weight", torch_init.xavier_uniform_),
    rule("4.*", torch_init.rademacher_, scale=0.5),
]


def body():
    """Dtypes, a packed weight, a padding row and a layout that is not dense."""
    model = nn.Sequential(
        nn.Linear(300, 200),
        nn.TransformerEncoderLayer(64, 4, 128, batch_first=True).bfloat16(),
        nn.Embedding(50, 16, padding_idx=3).double(),
        nn.Conv2d(8, 16, 3, groups=2).to(memory_format=torch.channels_last),
        nn.LayerNorm(7).half(),
    )
    return model


@pytest.fixture(scope="module")
def wanted():
    model = body()
    return torch_init.init_(model, RULES, seed=5), model


def assert_same(model, wanted):
    for (name, found), (_, value) in zip(
        model.named_parameters(), wanted.named_parameters(), strict=True
    ):
        assert same_bits(found.detach().cpu(), value.detach()), name


def test_the_kernel_gives_the_cpus_bits(engine, wanted):
    """On the stand-in, the kernel's own code fills the entries that a GPU would be given."""
    _, model = wanted
    made = body().to(engine.device)
    prepared = torch_init.prepare(torch_init.plan(made, RULES, seed=5))
    if engine.device.type == "cpu":
        for native in prepared.native:
            native.run_cuda_body_on_host(5)
        with torch.no_grad():
            made[2].weight[3] = 0
    else:
        prepared.run()
    assert_same(made, model)


def test_report_and_fingerprint_agree_with_the_cpus(gpu, wanted):
    report, model = wanted
    made = body().to(gpu)
    found = torch_init.init_(made, RULES, seed=5)
    assert found.problems == []
    assert found.diff(report) == []
    assert found.fingerprint == report.fingerprint == torch_init.fingerprint(model)


def test_materialize(gpu, wanted):
    _, model = wanted
    with torch.device("meta"):
        made = body()
    before = torch.cuda.memory_allocated(gpu)
    report = torch_init.materialize_(made, RULES, seed=5, device=gpu)
    assert report.problems == []
    size = sum(p.numel() * p.element_size() for p in made.parameters())
    assert torch.cuda.memory_allocated(gpu) - before < size + 2**20
    assert_same(made, model)


def test_one_launch_without_waiting(gpu):
    """150 tensors: one kernel in the profile, and torch knows of no synchronisation."""
    model = nn.ModuleList([nn.Linear(32, 32) for _ in range(75)]).to(gpu)
    rules = [rule("*.weight", torch_init.normal_, std=0.02), rule("*.bias", torch_init.zeros_)]
    prepared = torch_init.prepare(torch_init.plan(model, rules))
    prepared.run()
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        prepared.run()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        prepared.run()
        torch.cuda.synchronize()
    kernels = [e for e in profile.events() if e.device_type == torch.autograd.DeviceType.CUDA]
    assert len([e for e in kernels if "fill_many" in e.name]) == 1
    assert len(kernels) == 1, [e.name for e in kernels]


def test_graph_capture(gpu, wanted):
    _, model = wanted
    made = body().to(gpu)
    prepared = torch_init.prepare(torch_init.plan(made, RULES, seed=5))
    prepared.run()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        prepared.run()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.zero_()
    graph.replay()
    torch.cuda.synchronize()
    assert_same(made, model)
