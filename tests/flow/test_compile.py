# SPDX-License-Identifier: Apache-2.0
"""torch.compile: the hooks are part of the one graph, in both directions, or the report says so."""

import math
import warnings

import pytest
import torch
from flow_networks import Odd, Residual, batch, mlp, observe
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


def train(model, call, optimizer, steps):
    x, y = batch(model, 32)
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(call(x), y).backward()
        optimizer.step()


def sgd(model):
    return torch.optim.SGD(model.parameters(), lr=0.0)


@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_compiled_in_one_graph_measures_what_eager_does(backend):
    model = nn.Sequential(
        *mlp(2, 16, nn.ReLU, 2.0)[:4], Residual(nn.Linear(16, 16), nn.Tanh()), nn.Linear(16, 10)
    )
    # In one graph: fullgraph raises at a graph break.
    compiled = torch.compile(model, fullgraph=True, backend=backend)
    optimizer = sgd(model)
    with torch_init.watch(compiled, optimizer, every=2, histogram=True) as flow:
        train(model, compiled, optimizer, 4)
    report = flow.report()
    plain = observe(model, *batch(model, 32), histogram=True)
    assert [row.layer for row in report.rows] == [row.layer for row in plain.rows]
    for row, wanted in zip(report.rows, plain.rows, strict=True):
        assert (row.calls, row.backward_calls) == (2, 2)  # steps 0 and 2 of 4
        assert row.rms == pytest.approx(wanted.rms, rel=1e-5)
        assert row.batch_std == pytest.approx(wanted.batch_std, rel=1e-4)
        assert row.gradient_rms == pytest.approx(wanted.gradient_rms, rel=1e-4)
        assert sum(row.gradient_histogram) == 2 * sum(wanted.gradient_histogram)


def test_a_step_that_is_not_measured_compiles_nothing_anew():
    model = mlp(2, 16, nn.ReLU, 2.0)
    counter = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(model, fullgraph=True, backend=counter)
    optimizer = sgd(model)
    with torch_init.watch(compiled, optimizer, every=3):
        train(model, compiled, optimizer, 7)
    assert counter.frame_count == 1


def test_hooks_after_the_first_compiled_call_are_detected_and_explained():
    model = mlp(2, 16, nn.ReLU, 2.0)
    compiled = torch.compile(model, backend="aot_eager")
    optimizer = sgd(model)
    train(model, compiled, optimizer, 1)
    with torch_init.watch(compiled, optimizer) as flow, pytest.warns(UserWarning, match="first"):
        train(model, compiled, optimizer, 2)
    verdict = flow.report().verdict
    assert (verdict.kind, verdict.severity) == ("no_data", "error")
    assert "torch.compiler.reset()" in verdict.suggestion
    with pytest.raises(torch_init.flow.UnhealthyModelError, match="first compiled call"):
        flow.report().assert_healthy()


def test_the_advice_helps():
    model = mlp(2, 16, nn.ReLU, 2.0)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    optimizer = sgd(model)
    train(model, compiled, optimizer, 1)
    with torch_init.watch(compiled, optimizer) as flow:
        torch.compiler.reset()
        train(model, compiled, optimizer, 2)
    assert {row.calls for row in flow.report().rows} == {2}


def test_an_inner_model_compiled_before_is_detected_too():
    model = mlp(2, 16, nn.ReLU, 2.0)
    compiled = torch.compile(model, backend="aot_eager")
    x, _ = batch(model, 32)
    compiled(x)
    with torch_init.watch(model) as flow:
        compiled(x)
    assert flow.report().verdict.kind == "no_data"


def test_a_second_watch_of_a_compiled_model_measures():
    model = mlp(2, 16, nn.ReLU, 2.0)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    optimizer = sgd(model)
    reports = []
    for _ in range(2):
        with torch_init.watch(compiled, optimizer) as flow, warnings.catch_warnings():
            warnings.simplefilter("error")
            train(model, compiled, optimizer, 2)
        reports.append(flow.report())
    assert [r.calls for r in reports[0].rows] == [r.calls for r in reports[1].rows] == [2] * 5


def test_a_compiled_model_that_is_a_class_of_its_own():
    model = Residual(nn.Linear(8, 8), nn.Tanh())
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    with torch_init.watch(compiled) as flow:
        for _ in range(2):
            compiled(torch.randn(4, 8)).sum().backward()
    calls = [(row.layer, row.calls, row.backward_calls) for row in flow.report().rows]
    assert calls == [("branch.0", 2, 2), ("branch.1", 2, 2), ("(model)", 2, 2)]


def test_a_returned_parameter_of_a_compiled_model_keeps_no_hook():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.learned, self.fc = nn.ParameterList([torch.randn(1, 8)]), nn.Linear(8, 8)
            self.odd = Odd(lambda x: x)

        def forward(self, x):
            return self.fc(x + self.odd(self.learned[0]))

    model = Net()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    with torch_init.watch(compiled) as flow:
        for _ in range(3):
            compiled(torch.randn(4, 8)).sum().backward()
    assert not model.learned[0]._backward_hooks
    report = flow.report()
    rows = {row.layer: row for row in report.rows}
    assert (rows["fc"].backward_calls, rows["odd"].calls, rows["odd"].backward_calls) == (3, 3, 0)
    assert "Not measured: odd (the gradient of a leaf of a compiled graph)" in str(report)


def test_scaled_gradients_of_a_compiled_model():
    model = mlp(2, 16, nn.ReLU, 2.0)
    x, y = batch(model, 32)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**8)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    with torch_init.watch(compiled, scaler=scaler) as flow:
        scaler.scale(nn.functional.cross_entropy(compiled(x), y)).backward()
    for row, wanted in zip(flow.report().rows, observe(model, x, y).rows, strict=True):
        assert row.gradient_rms == pytest.approx(wanted.gradient_rms, rel=1e-5)


@pytest.mark.parametrize("strict", [False, True])
def test_an_exported_program_has_none_of_it(strict):
    model = mlp(2, 16, nn.ReLU, 2.0)
    x, _ = batch(model, 32)
    with torch_init.watch(model) as flow:
        program = torch.export.export(model, (x,), strict=strict)
    assert "torch_init" not in str(program.graph)
    assert not flow.report().rows


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_traced_program_has_none_of_it_and_scripting_says_what_to_do():
    model = mlp(2, 16, nn.ReLU, 2.0)
    x, _ = batch(model, 32)
    with torch_init.watch(model) as flow:
        assert "torch_init" not in str(torch.jit.trace(model, x, check_trace=False).inlined_graph)
        with pytest.raises(AttributeError, match="call remove"):
            torch.jit.script(model)
    assert not flow.report().rows
    torch.jit.script(model)


def test_a_loss_that_breaks_the_weights_is_blamed_on_the_loss_of_a_compiled_model():
    model = mlp(2, 16, nn.ReLU, 2.0)
    x, y = batch(model, 32)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with torch_init.watch(compiled, optimizer) as flow:
        for factor in (1.0, math.nan, 1.0):
            optimizer.zero_grad()
            (nn.functional.cross_entropy(compiled(x), y) * factor).backward()
            optimizer.step()
    origin = flow.report().nonfinite_origin
    assert (origin.layer, origin.direction) == ("4", "backward")
    assert origin.cause == "the loss's own backward made it"


def test_a_broken_backward_pass_of_a_compiled_model_comes_before_the_parameters_it_breaks():
    model = nn.Sequential(nn.Linear(8, 8), Odd(lambda x: (x * 0).abs().sqrt()), nn.Linear(8, 8))
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with torch_init.watch(compiled, optimizer) as flow:
        compiled(torch.randn(4, 8)).sum().backward()
        optimizer.step()
    origin = flow.report().nonfinite_origin
    assert (origin.layer, origin.direction) == ("0", "backward")


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.query, self.scores, self.head = nn.Linear(8, 8), Odd(None), nn.Linear(8, 4)
        self.scores.make = lambda x: torch.softmax(x, -1)

    def forward(self, x):
        return self.head(self.scores(self.query(x) @ x.transpose(1, 2)) @ x)


def test_a_last_dimension_that_varies_compiles_nothing_anew():
    model = Attention()
    counter = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(model, dynamic=True, fullgraph=True, backend=counter)
    counts = set()
    with torch_init.watch(compiled) as flow:
        for length in (5, 7, 9):
            compiled(torch.randn(2, length, 8)).sum().backward()
            counts.add(counter.frame_count)
    rows = {row.layer: row for row in flow.report().rows}
    assert len(counts) == 1
    assert {(row.calls, row.backward_calls) for row in rows.values()} == {(3, 3)}
    assert rows["scores"].samples == 10  # there are features of the first length only
    assert rows["query"].samples == 2 * (5 + 7 + 9)


def test_the_operator_is_what_torch_library_asks_of_one():
    totals = torch.zeros(4, 76, dtype=torch.float64)
    features = torch.zeros(3, 8, dtype=torch.float64)
    gate, scale = torch.tensor(True), torch.tensor(4.0)
    for x in (torch.randn(5, 8), torch.randn(8, 5, dtype=torch.bfloat16).T):
        torch.library.opcheck(
            torch.ops.torch_init.accumulate_moments_,
            (x, totals, features, 1, -1.0, 1.0, 7, scale, gate),
        )
        torch.library.opcheck(
            torch.ops.torch_init.accumulate_moments_, (x, totals, None, 1, -1.0, 1.0, 7)
        )


@pytest.mark.parametrize("name", ["observe_output", "observe_gradient"])
def test_the_operators_that_tell_a_recorder_are_what_torch_library_asks_of_one(name):
    operator = getattr(torch.ops.torch_init, name).default
    rest = (False, False) if name == "observe_output" else ()
    for x in (torch.randn(5, 8), torch.randn(8, 5, dtype=torch.bfloat16).T):
        torch.library.opcheck(operator, (x, "nobody", "layer", 0, "", *rest))


def test_what_a_captured_graph_launches_is_switched_by_memory(monkeypatch):
    """As a CUDA graph has it: Python does not run again, so that the kernel reads the switch."""
    model = mlp(1, 16, nn.ReLU, 2.0)
    x, _ = batch(model, 32)
    with torch_init.watch(model) as flow:
        model(x).sum().backward()
        monkeypatch.setattr(flow.recorder, "is_capturing", lambda: True)
        flow.pause()
        model(x).sum().backward()  # launched, and found switched off
        counts = [(row.calls, row.backward_calls) for row in flow.report().rows]
        flow.resume()
        model(x).sum().backward()
        flow.step()
        with torch.no_grad():
            model(x)  # validation: launched and switched off, too
    assert set(counts) == {(1, 1)}
    rows = flow.report().rows
    assert {(row.calls, row.backward_calls, row.is_captured) for row in rows} == {(2, 2, True)}
