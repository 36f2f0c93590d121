# SPDX-License-Identifier: Apache-2.0
"""Compiled models in training loops: graph breaks, several passes, pauses, checkpointing, modes.

The oracle is the same model, watched without torch.compile: the backend aot_eager computes the
same bits, and so every statistic must be equal to the bit.
"""

import copy
import math

import pytest
import torch
from flow_networks import Odd, Residual, batch, mlp
from torch import nn
from torch.utils.checkpoint import checkpoint

import torch_init


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def numbers(report):
    """What was measured of each tensor; NaN as None, so that it equals itself."""
    found = {}
    for row in report.rows:
        counts = (row.calls, row.backward_calls, row.needs_grad)
        signal = (row.mean, row.rms, row.absmax, row.zeros, row.batch_std, row.dead)
        gradient = (row.gradient_norm, row.gradient_absmax, row.gradient_zeros)
        values = (None if v is None or math.isnan(v) else v for v in signal + gradient)
        found[row.layer] = (*counts, *values)
    return found


def watch_both(model, train, **options):
    """Watch train(call) of the model as it is and compiled; return both reports."""
    reports = []
    for compiled in (False, True):
        mine = copy.deepcopy(model)
        call = torch.compile(mine, backend="aot_eager", **options) if compiled else mine
        with torch_init.watch(call) as flow:
            train(call, flow)
        reports.append(flow.report())
    return reports


def assert_same(model, train, **options):
    plain, compiled = watch_both(model, train, **options)
    assert numbers(compiled) == numbers(plain)
    assert compiled.passes == plain.passes
    assert not compiled.unsupported


class Broken(nn.Module):
    """Blocks with a graph break in each."""

    class Block(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.first, self.act, self.second = nn.Linear(width, width), nn.Tanh(), nn.Linear(8, 8)

        def forward(self, x):
            y = self.act(self.first(x))
            torch._dynamo.graph_break()
            return x + self.second(y)

    def __init__(self, blocks=2):
        super().__init__()
        self.blocks = nn.ModuleList(self.Block(8) for _ in range(blocks))
        self.head = nn.Linear(8, 4)

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return self.head(x)


def plain_mlp():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 8), nn.Tanh(), Residual(nn.Linear(8, 8)), nn.Linear(8, 4))


def x_of(seed=0):
    return torch.randn(16, 8, generator=torch.Generator().manual_seed(seed))


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
            one_pass(model, flow)
        reports.append(flow.report())
    assert numbers(reports[1]) == numbers(reports[0])


def test_sizes_that_vary():
    def train(call, flow):
        for samples in (3, 16, 7):
            call(x_of()[:samples]).square().sum().backward()

    assert_same(plain_mlp(), train, dynamic=True, fullgraph=True)


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


def test_a_watch_that_is_gone_leaves_the_graph_running():
    model = plain_mlp()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    flow = torch_init.watch(compiled)
    output = compiled(x_of()).sum()
    flow.remove()
    output.backward()
    compiled(x_of()).sum().backward()
    assert all((row.calls, row.backward_calls) == (1, 0) for row in flow.report().rows)


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
