# SPDX-License-Identifier: Apache-2.0
"""On a GPU: no synchronisation before the report, CUDA graphs, AMP, the numbers of a CPU."""

import copy

import pytest
import torch
from flow_networks import batch, mlp, observe
from torch import nn

import torch_init

pytestmark = pytest.mark.cuda


def train(model, optimizer, x, y, steps, scaler=None):
    for _ in range(steps):
        optimizer.zero_grad(set_to_none=True)
        loss = nn.functional.cross_entropy(model(x), y)
        (loss if scaler is None else scaler.scale(loss)).backward()
        optimizer.step()


def test_nothing_synchronises_before_the_report():
    model = mlp(4, 64, nn.ReLU, 2.0).cuda()
    x, y = (t.cuda() for t in batch(model))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        with torch_init.watch(model, optimizer, histogram=True) as flow:
            train(model, optimizer, x, y, 3)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    report = flow.report()
    assert {row.calls for row in report.rows} == {3}
    assert report.verdict.kind == "ok"


def test_numbers_are_those_of_the_cpu():
    model = mlp(4, 64, nn.ReLU, 2.0)
    x, y = batch(model)
    here = observe(model, x, y, histogram=True)
    there = observe(copy.deepcopy(model).cuda(), x.cuda(), y.cuda(), histogram=True)
    for one, other in zip(here.rows, there.rows, strict=True):
        assert one.rms == pytest.approx(other.rms, rel=1e-4)
        assert one.gradient_rms == pytest.approx(other.gradient_rms, rel=1e-3)
        assert one.batch_std == pytest.approx(other.batch_std, rel=1e-4)


def test_scaled_gradients_without_synchronising():
    model = mlp(3, 64, nn.ReLU, 2.0).cuda()
    x, y = (t.cuda() for t in batch(model))
    scaler = torch.amp.GradScaler("cuda", init_scale=2.0**10)
    plain = observe(model, x, y)
    torch.cuda.set_sync_debug_mode("error")
    try:
        with torch_init.watch(model, scaler=scaler) as flow:
            scaler.scale(nn.functional.cross_entropy(model(x), y)).backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for row, wanted in zip(flow.report().rows, plain.rows, strict=True):
        assert row.gradient_rms == pytest.approx(wanted.gradient_rms, rel=1e-5)


@pytest.mark.parametrize("mode", ["default", "reduce-overhead"])
def test_compiled_models(mode):
    torch.compiler.reset()
    model = mlp(3, 64, nn.ReLU, 2.0).cuda()
    x, y = (t.cuda() for t in batch(model))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    compiled = torch.compile(model, fullgraph=True, mode=mode)
    with torch_init.watch(compiled, optimizer) as flow:
        train(compiled, optimizer, x, y, 5)
    assert {(row.calls, row.backward_calls) for row in flow.report().rows} == {(5, 5)}


def test_a_cuda_graph_of_the_training_step():
    model = mlp(3, 64, nn.ReLU, 2.0).cuda()
    x, y = (t.cuda() for t in batch(model))
    with torch_init.watch(model) as flow:
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            nn.functional.cross_entropy(model(x), y).backward()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            nn.functional.cross_entropy(model(x), y).backward()
        flow.reset()
        for _ in range(4):
            graph.replay()
    assert {(row.calls, row.backward_calls) for row in flow.report().rows} == {(4, 4)}


def test_a_loss_scale_on_one_device_and_gradients_on_another():
    model = mlp(2, 16, nn.ReLU, 2.0)
    x, y = batch(model)
    scaler = torch.amp.GradScaler("cuda", init_scale=256.0)
    scaler.scale(torch.zeros((), device="cuda"))
    with torch_init.watch(model, scaler=scaler) as flow:
        (nn.functional.cross_entropy(model(x), y) * 256).backward()
    for row, wanted in zip(flow.report().rows, observe(model, x, y).rows, strict=True):
        assert row.gradient_rms == pytest.approx(wanted.gradient_rms, rel=1e-5)
