# SPDX-License-Identifier: Apache-2.0
"""Compiled models of many kinds, against the same models watched without torch.compile."""

import copy

import pytest
import torch
from flow_compiled import assert_same, numbers, plain_mlp, watch_both, x_of
from flow_networks import Odd
from torch import nn
from torch.utils.checkpoint import checkpoint

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


def two_forwards(call, flow):
    for _ in range(2):
        (call(x_of(0)).sum() + call(x_of(1)).square().sum()).backward()


def test_checkpointing_within_the_graph():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 8))
            self.head = nn.Linear(8, 4)

        def forward(self, x):
            return self.head(checkpoint(self.body, x, use_reentrant=False))

    torch.manual_seed(0)
    assert_same(Net(), two_forwards, fullgraph=True)


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_checkpointing_around_compiled_blocks(use_reentrant):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = nn.Linear(8, 8)
            self.body = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 8))

        def forward(self, x):
            return checkpoint(self.body, self.stem(x), use_reentrant=use_reentrant)

    torch.manual_seed(0)
    plain = Net()
    compiled = copy.deepcopy(plain)
    reports = []
    for model in (plain, compiled):
        with torch_init.watch(model) as flow:
            if model is compiled:
                model.body.compile(backend="aot_eager")
            two_forwards(model, flow)
        reports.append(flow.report())
    assert numbers(reports[1]) == numbers(reports[0])


def test_what_a_compiled_model_itself_returns():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(8, 4)

        def forward(self, x):
            y = self.fc(x)
            return {"logits": y.sin(), "hidden": [y.cos()]}

    def train(call, flow):
        for _ in range(2):
            out = call(x_of())
            (out["logits"].sum() + out["hidden"][0].square().sum()).backward()

    plain, compiled = watch_both(Net(), train, fullgraph=True)
    assert numbers(compiled) == numbers(plain)
    assert "(model):out['hidden'][0]" in numbers(compiled)


def test_a_module_called_several_times_has_a_row_for_each_call():
    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell = nn.Linear(8, 8)

        def forward(self, x):
            for _ in range(3):
                x = torch.tanh(self.cell(x))
            return x

    torch.manual_seed(0)
    assert_same(Recurrent(), two_forwards, fullgraph=True)


class Gan(nn.Module):
    def __init__(self):
        super().__init__()
        self.g, self.d = plain_mlp(), nn.Sequential(nn.Linear(4, 8), nn.Tanh())

    def forward(self, x):
        fake = self.g(x)
        return self.d(fake), self.d(fake.detach())


def test_a_generator_and_its_discriminator_in_one_graph():
    def train(call, flow):
        for seed in range(2):
            first, second = call(x_of(seed)), call(x_of(seed + 7))
            (first[0].sum() + second[1].square().sum()).backward(retain_graph=True)
            (first[1].sum() + second[0].square().sum()).backward()

    _, compiled = watch_both(Gan(), train, fullgraph=True)
    # A compiled backward pass computes all gradients, those of outputs left out as zeros.
    assert {row.backward_calls for row in compiled.rows if row.layer.startswith("d")} == {8}

    def train_all(call, flow):
        for seed in range(2):
            first, second = call(x_of(seed))
            (first.sum() + second.square().sum()).backward()

    assert_same(Gan(), train_all, fullgraph=True)


def test_an_output_that_the_loss_leaves_out():
    compiled = torch.compile(Gan(), backend="aot_eager", fullgraph=True)
    with torch_init.watch(compiled) as flow:
        compiled(x_of())[0].sum().backward()
    report = flow.report()
    rows = {row.layer: row for row in report.rows}
    assert not report.unsupported
    assert (rows["g.3"].backward_calls, rows["(model):out[1]"].backward_calls) == (1, 0)


def test_an_in_place_operation_after_a_module():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.act, self.head = nn.Linear(8, 8), nn.ReLU(inplace=True), nn.Linear(8, 4)

        def forward(self, x):
            y = self.fc(x)
            y += x
            return self.head(self.act(y))

    torch.manual_seed(0)
    assert_same(Net(), two_forwards, fullgraph=True)


def test_compiled_models_in_half_precision():
    model = nn.Sequential(nn.Linear(8, 8), Odd(torch.tanh), nn.Linear(8, 4))

    def train(call, flow):
        for _ in range(2):
            with torch.autocast("cpu", torch.bfloat16):
                out = call(x_of())
            out.float().sum().backward()

    assert_same(model, train, fullgraph=True)


def test_an_ensemble_under_vmap():
    torch.manual_seed(0)
    x = x_of()
    models = [nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 4)) for _ in range(3)]
    parameters, buffers = torch.func.stack_module_state(models)

    def loss(parameters, buffers):
        return torch.func.functional_call(models[0], (parameters, buffers), x).square().mean()

    with torch_init.watch(models[0]) as flow:
        gradients = torch.compile(
            torch.vmap(torch.func.grad(loss)), backend="aot_eager", fullgraph=True
        )
        gradients(parameters, buffers)
    rows = {row.layer: row for row in flow.report().rows}
    with torch.no_grad():
        outputs = torch.cat([model(x) for model in models])
    assert not flow.report().unsupported
    assert rows["0"].backward_calls == 1
    assert rows["2"].rms == pytest.approx(outputs.square().mean().sqrt().item(), rel=1e-5)
