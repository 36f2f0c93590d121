# SPDX-License-Identifier: Apache-2.0
"""What kind of pass it is: without gradients, for validation, checkpointed; and steps that fail."""

import math

import pytest
import torch
from flow_networks import batch, mlp, observe
from torch import nn
from torch.utils.checkpoint import checkpoint

import torch_init


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_passes_without_gradients(context):
    model = mlp(3, 16, nn.ReLU, 2.0)
    x, y = batch(model)
    with torch_init.watch(model) as flow:
        with context():
            model(x)
        report = flow.report()
        assert all(row.calls == 1 and not row.backward_calls for row in report.rows)
        assert report.verdict.kind == "ok"
        model.eval()
        nn.functional.cross_entropy(model(x), y).backward()
    assert all(row.calls == 2 and row.backward_calls == 1 for row in flow.report().rows)


def test_validation_between_training_steps_is_not_measured():
    model = mlp(2, 16, nn.ReLU, 2.0)
    x, y = batch(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with torch_init.watch(model, optimizer) as flow:
        for _ in range(3):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x), y)
            with torch.no_grad():
                model(x)
            loss.backward()
            optimizer.step()
            with torch.no_grad():
                model(x)
    calls = {(row.calls, row.backward_calls) for row in flow.report().rows}
    assert calls == {(4, 3)}  # and the one of the first step, which might have been all there is


def test_watch_begun_in_inference_mode():
    model = mlp(2, 16, nn.ReLU, 2.0)
    x, y = batch(model)
    with torch.inference_mode():
        flow = torch_init.watch(model)
        model(x)
    nn.functional.cross_entropy(model(x), y).backward()
    flow.remove()
    assert flow.report().rows[0].calls == 2


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointing_counts_each_layer_once(reentrant):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = mlp(2, 16, nn.ReLU, 2.0)[:4]
            self.head = nn.Linear(16, 10)

        def forward(self, x):
            return self.head(checkpoint(self.inner, x, use_reentrant=reentrant))

    torch.manual_seed(0)
    model = Net()
    x, y = batch(model, 32)
    x.requires_grad_()
    report = observe(model, x, y)
    plain = observe(nn.Sequential(*model.inner, model.head), x, y)
    assert [(row.calls, row.backward_calls) for row in report.rows] == [(1, 1)] * 5
    for row, wanted in zip(report.rows, plain.rows, strict=True):
        assert row.rms == pytest.approx(wanted.rms, rel=1e-6)
        assert row.gradient_rms == pytest.approx(wanted.gradient_rms, rel=1e-5)


class Failing(torch.optim.SGD):
    fails = True

    def step(self, closure=None):
        if self.fails:
            raise RuntimeError("no step")
        return super().step(closure)


@pytest.mark.parametrize("end", ["remove", "reset"])
def test_a_step_that_raises_keeps_no_weights(end):
    model = nn.Linear(8, 8)
    optimizer = Failing(model.parameters(), lr=0.1)
    flow = torch_init.watch(model, optimizer)
    model(torch.randn(4, 8)).sum().backward()
    with pytest.raises(RuntimeError, match="no step"):
        optimizer.step()
    assert flow.parameters._before
    getattr(flow, end)()
    assert not flow.parameters._before
    flow.remove()


def test_a_step_that_raises_is_not_the_beginning_of_another():
    model = nn.Linear(8, 8)
    optimizer = Failing(model.parameters(), lr=0.1)
    with torch_init.watch(model, optimizer) as flow:
        model(torch.randn(4, 8)).sum().backward()
        with pytest.raises(RuntimeError, match="no step"):
            optimizer.step()
        optimizer.zero_grad()
        optimizer.fails = False
        with torch.no_grad():
            model.weight.add_(1.0)  # not this optimizer's update
        optimizer.step()
    assert all(math.isnan(parameter.update_rms) for parameter in flow.report().parameters)
