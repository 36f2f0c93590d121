# SPDX-License-Identifier: Apache-2.0
"""Optimizer steps: closures, several evaluations, scaled gradients, and reading many at once."""

import math

import pytest
import torch
from flow_networks import batch, mlp
from torch import nn

import torch_init
from torch_init import _ops


def observed(model):
    """The norms of the parameters' gradients as they are now, by name."""
    return {name: p.grad.norm().item() for name, p in model.named_parameters()}


def closure_of(model, optimizer, x, y, *, zero_first=True):
    def closure():
        if zero_first:
            optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        return loss

    return closure


@pytest.mark.parametrize("by_name", [False, True])
@pytest.mark.parametrize("make", [torch.optim.SGD, torch.optim.Adam])
def test_the_gradients_of_a_closure(make, by_name):
    model = mlp(2, 16, nn.ReLU, 2.0)
    optimizer = make(model.parameters(), lr=0.01)
    closure = closure_of(model, optimizer, *batch(model))
    with torch_init.watch(model, optimizer) as flow:
        for _ in range(3):
            before = [p.detach().clone() for p in model.parameters()]
            loss = optimizer.step(closure=closure) if by_name else optimizer.step(closure)
            assert loss.item() > 0
    report = flow.report()
    assert "no_grad" not in {verdict.kind for verdict in report.verdicts}
    assert all((p.steps, p.missing) == (3, 0) for p in report.parameters)
    assert all(p.gradient_norm > 0 and p.weight_rms > 0 for p in report.parameters[::2])
    pairs = zip(model.named_parameters(), before, strict=True)
    last = {name: (p - old).square().mean() for (name, p), old in pairs}
    assert all(last[p.name] > 0 and p.update_rms > 0 for p in report.parameters)


def test_the_gradients_of_one_closure_to_the_digit():
    model = mlp(2, 16, nn.ReLU, 2.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    old = {name: p.detach().clone() for name, p in model.named_parameters()}
    with torch_init.watch(model, optimizer) as flow:
        optimizer.step(closure_of(model, optimizer, *batch(model)))
    norms = observed(model)
    for row in flow.report().parameters:
        assert row.gradient_norm == pytest.approx(norms[row.name], rel=1e-6)
        assert row.weight_rms == pytest.approx(old[row.name].square().mean().sqrt().item())
        step = 0.1 * norms[row.name] / math.sqrt(old[row.name].numel())
        assert row.update_rms == pytest.approx(step, rel=1e-4)


def test_a_first_step_by_closure_has_gradients_that_were_none_before():
    """The trap: before the step no gradient exists, and every layer looked cut off."""
    model = mlp(2, 16, nn.ReLU, 2.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    assert all(p.grad is None for p in model.parameters())
    with torch_init.watch(model, optimizer) as flow:
        optimizer.step(closure_of(model, optimizer, *batch(model), zero_first=False))
    assert all(p.missing == 0 and p.gradient_norm > 0 for p in flow.report().parameters)


def test_a_layer_that_a_closure_does_not_reach_is_still_found():
    model = mlp(3, 16, nn.ReLU, 2.0)
    model.unused = nn.Linear(4, 4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, y = batch(model)
    layers = [m for name, m in model.named_children() if name != "unused"]

    def closure():
        optimizer.zero_grad()
        out = x
        for layer in layers:
            out = layer(out)
        loss = nn.functional.cross_entropy(out, y)
        loss.backward()
        return loss

    with torch_init.watch(model, optimizer) as flow:
        for _ in range(3):
            optimizer.step(closure)
    missing = {p.name for p in flow.report().parameters if p.missing}
    assert missing == {"unused.weight", "unused.bias"}


def test_lbfgs_evaluates_several_times_in_a_step():
    model = mlp(2, 16, nn.Tanh, 1.0)
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=4)
    evaluations = 0
    inner = closure_of(model, optimizer, *batch(model))

    def closure():
        nonlocal evaluations
        evaluations += 1
        return inner()

    with torch_init.watch(model, optimizer) as flow:
        for _ in range(2):
            optimizer.step(closure)
    report = flow.report()
    assert evaluations > 2
    assert report.steps == 2
    assert {row.backward_calls for row in report.rows} == {evaluations}
    assert {(p.steps, p.missing) for p in report.parameters} == {(2, 0)}
    assert all(p.update_rms > 0 for p in report.parameters)


def test_every_other_step_by_closure():
    model = mlp(2, 16, nn.ReLU, 2.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    closure = closure_of(model, optimizer, *batch(model))
    with torch_init.watch(model, optimizer, every=2) as flow:
        for _ in range(5):
            optimizer.step(closure)
    report = flow.report()
    assert {p.steps for p in report.parameters} == {3}
    assert {(row.calls, row.backward_calls) for row in report.rows} == {(3, 3)}


@pytest.mark.parametrize("unscaled", [False, True])
def test_scaled_gradients_that_the_step_itself_unscales_or_the_user(unscaled):
    model = mlp(2, 16, nn.ReLU, 2.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    x, y = batch(model)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    with torch_init.watch(model, optimizer, scaler=scaler) as flow:
        for part in zip(x.chunk(2), y.chunk(2), strict=True):
            loss = nn.functional.cross_entropy(model(part[0]), part[1]) / 2
            scaler.scale(loss).backward()
        if unscaled:
            scaler.unscale_(optimizer)
        scaler.step(optimizer)
        scaler.update()
    optimizer.zero_grad()
    nn.functional.cross_entropy(model(x), y).backward()
    norms = observed(model)
    for row in flow.report().parameters:
        assert row.gradient_norm == pytest.approx(norms[row.name], rel=1e-4)
    assert {row.backward_calls for row in flow.report().rows} == {2}


def test_a_step_that_the_scaler_skips_has_no_update():
    model = mlp(2, 16, nn.ReLU, 2.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, y = batch(model)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    with torch_init.watch(model, optimizer, scaler=scaler) as flow:
        for factor in (1.0, math.inf, 1.0):
            optimizer.zero_grad()
            scaler.scale(nn.functional.cross_entropy(model(x), y) * factor).backward()
            scaler.step(optimizer)
            scaler.update()
    assert flow.report().steps == 2


def test_parameters_of_all_dtypes_layouts_and_sizes_in_one_batch():
    model = nn.ParameterDict(
        {
            "large": nn.Parameter(torch.randn(100, 120)),
            "transposed": nn.Parameter(torch.randn(40, 30).t()),
            "short": nn.Parameter(torch.randn(30, dtype=torch.bfloat16)),
            "wide": nn.Parameter(torch.randn(7, 7, dtype=torch.float64)),
            "number": nn.Parameter(torch.tensor(3.0)),
            "empty": nn.Parameter(torch.randn(0, 4)),
            "frozen": nn.Parameter(torch.randn(5), requires_grad=False),
        }
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    old = {name: p.detach().clone() for name, p in model.items()}
    for p in model.values():
        if p.requires_grad:
            p.grad = torch.randn(p.shape).to(p)
    model["large"].grad = torch.randn(120, 100).t()
    with torch_init.watch(model, optimizer) as flow:
        optimizer.step()
    rows = {row.name: row for row in flow.report().parameters}
    assert not flow.report().unsupported
    for name in ("large", "transposed", "short", "wide", "number"):
        p, row = model[name], rows[name]
        rel = 0.05 if name in ("large", "short") else 1e-5
        assert row.gradient_norm == pytest.approx(p.grad.double().norm().item(), rel=1e-3)
        assert row.weight_rms == pytest.approx(old[name].square().mean().sqrt().item(), rel=rel)
        change = (p.detach() - old[name]).square().mean().sqrt().item()
        assert row.update_rms == pytest.approx(change, rel=rel)
    assert rows["frozen"].missing == 1 and math.isnan(rows["frozen"].update_rms)


def test_a_batch_is_what_its_tensors_are_one_by_one():
    xs = [torch.randn(5, 7), torch.randn(6, 4).t(), torch.tensor(2.0).to(torch.bfloat16)]
    xs += [torch.full((3,), math.nan), torch.randn(200_000, dtype=torch.float64), torch.zeros(0)]
    together, alone = (torch.zeros(8, 76, dtype=torch.float64) for _ in range(2))
    rows, scale = [3, 0, 5, 1, 7, 2], torch.tensor(4.0)
    _ops.accumulate_batch_(xs, together, rows, 10, scale)
    for order, (x, row) in enumerate(zip(xs, rows, strict=True)):
        _ops.accumulate_moments_(x, alone, None, row, -math.inf, math.inf, 10 + order, scale)
    assert torch.equal(together[:, :9], alone[:, :9])
    assert torch.equal(together[:, 10:], alone[:, 10:])
    assert torch.equal(together[:, 9] > 0, alone[:, 9] > 0)  # one stamp; its value may differ
    with pytest.raises((TypeError, ValueError), match="totals"):
        _ops.accumulate_batch_([torch.zeros(2)], together.float(), [0], 1)
    with pytest.raises(TypeError, match="int32"):
        _ops.accumulate_batch_([torch.zeros(2, dtype=torch.int32)], together, [0], 1)


@pytest.mark.parametrize("is_given", [False, True])
def test_a_parameter_that_changes_its_shape_ends_no_training_run(is_given):
    model = nn.Linear(100, 100)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with torch_init.watch(model, optimizer if is_given else None) as flow:
        model.weight.data = torch.zeros(2, 100)
        model.weight.grad = torch.ones(2, 100)
        optimizer.step()
        flow.step()
    assert "parameters" in flow.report().unsupported
