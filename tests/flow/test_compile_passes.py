# SPDX-License-Identifier: Apache-2.0
"""Compiled models in training loops: graph breaks, several passes, pauses, validation.

The oracle is the same model, watched without torch.compile: the backend aot_eager computes the
same bits, and so every statistic must be equal to the bit.
"""

import copy

import pytest
import torch
from flow_compiled import Broken, assert_same, plain_mlp, watch_both, x_of
from flow_networks import batch, mlp
from torch import nn

import torch_init
from torch_init import _ops

pytestmark = pytest.mark.skipif(
    not _ops.graphs_can_tell(), reason="this torch cannot measure compiled models (2.13 can)"
)


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def one_pass(call, flow):
    for _ in range(3):
        call(x_of()).square().sum().backward()


def two_forwards(call, flow):
    for _ in range(2):
        (call(x_of(0)).sum() + call(x_of(1)).square().sum()).backward()


def three_forwards_in_another_order(call, flow):
    outputs = [call(x_of(seed)).square().sum() for seed in range(3)]
    for place in (2, 0, 1):
        outputs[place].backward()


def paused_between(call, flow):
    output = call(x_of()).sum()
    flow.pause()
    output.backward()
    output = call(x_of()).sum()
    flow.resume()
    (output + call(x_of(1)).square().sum()).backward()
    call(x_of(2)).sum().backward()


def retained(call, flow):
    output = call(x_of()).square().sum()
    output.backward(retain_graph=True)
    call(x_of(1)).sum().backward()
    output.backward()


PASSES = {
    "one": one_pass,
    "two": two_forwards,
    "three": three_forwards_in_another_order,
    "retained": retained,
}


@pytest.mark.parametrize("train", PASSES.values(), ids=PASSES)
def test_passes_in_one_graph(train):
    assert_same(plain_mlp(), train, fullgraph=True)


@pytest.mark.parametrize("train", PASSES.values(), ids=PASSES)
def test_passes_with_graph_breaks(train):
    torch.manual_seed(0)
    assert_same(Broken(), train)


def test_more_blocks_than_torch_compile_wants_to_compile():
    torch.manual_seed(0)
    with torch._dynamo.config.patch(recompile_limit=2):
        assert_same(Broken(4), two_forwards)


@pytest.mark.parametrize("make", [plain_mlp, Broken])
def test_paused_between_forward_and_backward(make):
    torch.manual_seed(0)
    _, report = watch_both(make(), paused_between)
    # Forward: 1, 3 and 4. Backward: a graph does not know that its forward pass was not measured.
    assert {(row.calls, row.backward_calls) for row in report.rows} == {(3, 3)}


@pytest.mark.parametrize("has_break", [False, True])
def test_inductor_with_two_forward_passes(has_break):
    model = Broken(1) if has_break else plain_mlp()
    compiled = torch.compile(copy.deepcopy(model), backend="inductor", fullgraph=not has_break)
    reports = []
    for call in (model, compiled):
        with torch_init.watch(call, histogram=True) as flow:
            two_forwards(call, flow)
        reports.append(flow.report())
    plain, measured = reports
    for row, wanted in zip(measured.rows, plain.rows, strict=True):
        assert (row.layer, row.calls, row.backward_calls) == (wanted.layer, 4, 4)
        assert row.rms == pytest.approx(wanted.rms, rel=1e-5)
        assert row.gradient_norm == pytest.approx(wanted.gradient_norm, rel=1e-5)


def test_sizes_that_vary():
    def train(call, flow):
        for samples in (3, 16, 7):
            call(x_of()[:samples]).square().sum().backward()

    assert_same(plain_mlp(), train, dynamic=True, fullgraph=True)


def test_validation_is_left_out_and_inner_no_grad_is_not():
    class Frozen(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder, self.head = nn.Linear(8, 8), nn.Linear(8, 4)

        def forward(self, x):
            with torch.no_grad():
                x = self.encoder(x)
            return self.head(x)

    def train(call, flow):
        for _ in range(2):
            call(x_of()).sum().backward()
            flow.step()
            with torch.no_grad():
                for _ in range(5):
                    call(x_of(1))

    torch.manual_seed(0)
    assert_same(Frozen(), train)
    _, compiled = watch_both(Frozen(), train)
    assert {row.calls for row in compiled.rows} == {2}


def test_passes_without_a_graph_before_the_first_step_are_measured():
    def look(call, flow):
        with torch.no_grad():
            call(x_of())

    assert_same(plain_mlp(), look)


def test_a_watch_that_is_gone_leaves_the_graph_running():
    model = plain_mlp()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    flow = torch_init.watch(compiled)
    output = compiled(x_of()).sum()
    flow.remove()
    output.backward()
    compiled(x_of()).sum().backward()
    assert all((row.calls, row.backward_calls) == (1, 0) for row in flow.report().rows)


def test_every_few_steps_with_an_optimizer_and_a_graph_break():
    torch.manual_seed(0)
    model = Broken()
    compiled = torch.compile(model, backend="aot_eager")
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    with torch_init.watch(compiled, optimizer, every=3) as flow:
        for step in range(7):
            optimizer.zero_grad()
            compiled(x_of(step)).square().sum().backward()
            optimizer.step()
    report = flow.report()
    assert {(row.calls, row.backward_calls) for row in report.rows} == {(3, 3)}
    assert {parameter.steps for parameter in report.parameters} == {3}


def test_training_compiled_is_the_same_with_and_without():
    losses = []
    for watched in (False, True):
        torch.compiler.reset()
        model = mlp(2, 16, nn.ReLU, 2.0)
        compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
        x, y = batch(model, 32)
        flow = torch_init.watch(compiled, optimizer) if watched else None
        for _ in range(4):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(compiled(x), y)
            loss.backward()
            optimizer.step()
        losses.append(loss.item())
        if flow:
            flow.remove()
    assert losses[0] == losses[1]
