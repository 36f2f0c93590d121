# SPDX-License-Identifier: Apache-2.0
"""What breaks other tools' hooks must not break these: one test for each pitfall."""

import dataclasses
import math

import pytest
import torch
from flow_networks import Odd, Structured, batch, mlp, observe
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.checkpoint import checkpoint

import torch_init
from torch_init.flow.tensors import is_measurable
from torch_init.model.sites import find_sites


def rows_of(report):
    return {row.layer: row for row in report.rows}


def gradients_by_hand(layers, x, loss):
    """rms of the gradient with respect to each layer's output, by torch.autograd alone."""
    outputs, here = [], x
    for layer in layers:
        here = layer(here)
        outputs.append(here)
    gradients = torch.autograd.grad(loss(here), outputs)
    return [g.double().square().mean().sqrt().item() for g in gradients]


def test_inplace_modules_see_both_sides_of_the_activation():
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(inplace=True), nn.Linear(16, 4))
    x = torch.randn(32, 8)
    plain = nn.Sequential(model[0], nn.ReLU(), model[2])
    wanted = gradients_by_hand(plain, x, lambda out: out.square().sum())
    with torch_init.watch(model) as flow:
        model(x).square().sum().backward()
    rows = flow.report().rows
    assert [row.gradient_rms for row in rows] == pytest.approx(wanted, rel=1e-6)
    # The pre-activation was measured before ReLU overwrote it.
    assert rows[0].rms == pytest.approx(plain[0](x).square().mean().sqrt().item(), rel=1e-6)
    assert rows[0].zeros < 0.01 < rows[1].zeros


def test_inplace_residual_sums():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(8, 8), nn.Linear(8, 8)

        def forward(self, x):
            h = self.a(x)
            h += self.b(torch.relu(h))
            return h.relu_()

    model, x = Net(), torch.randn(16, 8)
    with torch_init.watch(model) as flow:
        model(x).sum().backward()
    h = model.a(x)
    b = model.b(torch.relu(h))
    gradients = torch.autograd.grad(torch.relu(h + b).sum(), [h, b])
    rows = rows_of(flow.report())
    for name, gradient in zip("ab", gradients, strict=True):
        assert rows[name].gradient_rms == pytest.approx(gradient.square().mean().sqrt().item())


@pytest.mark.parametrize(
    ("kind", "paths"),
    [("dict", ["out['logits']", "out['aux'][0]"]), ("dataclass", ["out.logits", "out.hidden[0]"])],
)
def test_dict_and_dataclass_outputs(kind, paths):
    model = Structured(kind)
    with torch_init.watch(model) as flow:
        out = model(torch.randn(8, 8))
        (out["aux"][0] if kind == "dict" else out.hidden[0]).sum().backward()
    rows = rows_of(flow.report())
    for path in paths:
        assert f"(model):{path}" in rows
    assert rows[f"(model):{paths[1]}"].gradient_rms == 1.0


def test_huggingface_outputs():
    outputs = pytest.importorskip("transformers").modeling_outputs

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(8, 8)

        def forward(self, x):
            return outputs.BaseModelOutput(last_hidden_state=self.fc(x).tanh(), hidden_states=(x,))

    model = Net()
    with torch_init.watch(model) as flow:
        model(torch.randn(4, 8)).last_hidden_state.sum().backward()
    rows = rows_of(flow.report())
    assert rows["(model):out['last_hidden_state']"].backward_calls == 1


def test_lstm_outputs_are_tuples_of_tuples():
    model = nn.LSTM(4, 8, batch_first=True)
    with torch_init.watch(model) as flow:
        model(torch.randn(2, 5, 4))[0].sum().backward()
    rows = rows_of(flow.report())
    assert {"(model):out[0]", "(model):out[1][0]", "(model):out[1][1]"} == set(rows)
    assert rows["(model):out[0]"].gradient_rms == 1.0
    # The final states were not used: that is no fault.
    assert flow.report().verdict.kind == "ok"


@pytest.mark.parametrize(
    ("make", "is_unsupported"),
    [
        (lambda x: None, False),
        (lambda x: "text", False),
        (lambda x: x.long(), True),
        (lambda x: x > 0, True),
        (lambda x: x.to(torch.complex64), True),
        (lambda x: x.to_sparse(), True),
        (lambda x: x.to("meta"), True),
        (lambda x: torch.nested.nested_tensor([x[0], x[1]]), True),
        (lambda x: x[:0], False),
        (lambda x: x.sum(), False),
    ],
    ids=["none", "text", "int", "bool", "complex", "sparse", "meta", "nested", "empty", "scalar"],
)
def test_odd_outputs_are_left_alone_and_named(make, is_unsupported):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.odd = nn.Linear(4, 4), Odd(make)

        def forward(self, x):
            y = self.fc(x)
            self.odd(y.detach())
            return y

    model = Net()
    with torch_init.watch(model) as flow:
        model(torch.randn(3, 4)).sum().backward()
    report = flow.report()
    assert rows_of(report)["fc"].gradient_rms == 1.0
    assert ("odd" in report.unsupported) == is_unsupported
    str(report), report.to_json()


@dataclasses.dataclass
class HalfFilled:
    logits: torch.Tensor
    hidden: torch.Tensor = dataclasses.field(init=False)


def test_fields_that_nobody_has_set_are_passed_over():
    model = nn.Sequential(nn.Linear(4, 4), Odd(HalfFilled))
    with torch_init.watch(model) as flow:
        model(torch.randn(3, 4)).logits.sum().backward()
    report = flow.report()
    assert not report.unsupported and rows_of(report)["0"].gradient_rms == 1.0


class Unreadable(dict):
    def items(self):
        raise RuntimeError("not now")


def test_what_cannot_be_traversed_is_named_and_stops_nothing():
    model = nn.Sequential(nn.Linear(4, 4), Odd(lambda x: Unreadable(x=x)))
    with torch_init.watch(model) as flow:
        model(torch.randn(3, 4))["x"].sum().backward()
    report = flow.report()
    assert report.unsupported == {"1": "RuntimeError: not now"}
    assert rows_of(report)["0"].gradient_rms == 1.0


def test_tensors_of_other_devices_are_named_and_left_alone(monkeypatch):
    with FakeTensorMode():
        assert not is_measurable(torch.empty(2, device="xpu"))
    monkeypatch.setattr(torch_init._ops, "FLOW_DEVICES", ())
    model = nn.Linear(4, 4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with torch_init.watch(model, optimizer) as flow:
        model(torch.randn(3, 4)).sum().backward()
        optimizer.step()
    report = flow.report()
    assert not report.rows and report.unsupported[""].endswith("cpu")
    assert all(parameter.unsupported for parameter in report.parameters)


def test_function_transforms_pass_by():
    model = nn.Linear(4, 4)
    with torch_init.watch(model) as flow:
        torch.func.vmap(model)(torch.randn(3, 4))
        torch.func.grad(lambda x: model(x).sum())(torch.randn(4))
    assert flow.report().verdict.kind == "no_data"


def test_reused_modules_are_told_apart_by_call():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell = nn.Linear(8, 8)

        def forward(self, x):
            for _ in range(12):
                x = torch.tanh(self.cell(x))
            return x

    model = Net()
    with torch_init.watch(model) as flow:
        for _ in range(2):
            model(torch.randn(4, 8)).sum().backward()
    rows = rows_of(flow.report())
    calls = [rows[f"cell#{i}" if i else "cell"].calls for i in range(8)]
    assert calls == [2] * 7 + [2 * 5]  # from the eighth call on they share a row
    assert "cell#8" not in rows


def test_names_are_those_of_a_plan():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.module, self.fc = nn.Sequential(nn.Linear(8, 8), nn.Tanh()), nn.Linear(8, 8)

        def forward(self, x):
            return self.fc(self.module(x))

    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with torch_init.watch(model, optimizer) as flow:
        model(torch.randn(4, 8)).sum().backward()
        optimizer.step()
    report = flow.report()
    assert [row.layer for row in report.rows] == ["module.0", "module.1", "fc"]
    assert {p.name for p in report.parameters} == {site.name for site in find_sites("", model)}


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


class Task(nn.Module):
    """Has a training step of its own, which calls parts of the model instead of the model."""

    def __init__(self):
        super().__init__()
        self.net = mlp(4, 16, nn.ReLU, 2.0)
        self.blocks = nn.ModuleList([nn.Sequential(nn.Sequential(nn.Linear(10, 10)))])

    def training_step(self, x, y):
        return nn.functional.cross_entropy(self.blocks[0](self.net(x)), y)


def test_a_part_of_the_model_that_is_called_instead_of_it_begins_a_pass():
    model = Task()
    x, y = batch(model)
    with torch_init.watch(model) as flow:
        for _ in range(3):
            model.training_step(x, y).backward()
    rows = flow.report().rows
    assert [row.calls for row in rows] == [3] * 10
    assert rows[0].expected_rms is not None  # the structure was read


def test_a_layer_deep_inside_that_is_called_by_itself_begins_a_pass_when_it_comes_again():
    model = Task()
    with torch_init.watch(model) as flow:
        for _ in range(3):
            model.net[2](model.net[0](torch.randn(4, 16))).sum().backward()
            model.blocks[0][0][0](torch.randn(4, 10))
    assert [(row.layer, row.calls) for row in flow.report().rows] == [
        ("net.0", 3),
        ("net.2", 3),
        ("blocks.0.0.0", 3),
    ]


class Learned(nn.Module):
    """Returns a parameter: learned positions, or the query of an attention pool."""

    def __init__(self):
        super().__init__()
        self.positions = nn.Parameter(torch.randn(1, 8))

    def forward(self):
        return self.positions


class Positions(nn.Module):
    def __init__(self):
        super().__init__()
        self.learned, self.fc = Learned(), nn.Linear(8, 8)

    def forward(self, x):
        return self.fc(x + self.learned())


def test_a_parameter_that_a_module_returns_has_one_hook_and_none_afterwards():
    model = Positions()
    with torch_init.watch(model) as flow:
        for _ in range(3):
            model(torch.randn(4, 8)).sum().backward()
        assert len(model.learned.positions._backward_hooks) == 1
    assert not model.learned.positions._backward_hooks
    row = rows_of(flow.report())["learned"]
    assert (row.calls, row.backward_calls) == (3, 3)


def test_an_input_that_requires_grad_and_passes_through_has_no_hook_afterwards():
    model, x = nn.Sequential(Odd(lambda x: x), nn.Linear(8, 8)), torch.randn(4, 8).requires_grad_()
    with torch_init.watch(model) as flow:
        for _ in range(3):
            model(x).sum().backward()
    assert not x._backward_hooks
    assert rows_of(flow.report())["0"].backward_calls == 3


def test_aliases_are_listed():
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    model.add_module("again", model[0])
    report = observe(nn.Sequential(model, nn.Linear(4, 10)), torch.randn(4, 4), torch.arange(4))
    assert report.aliases == {"0.0": ["0.again"]}
    assert rows_of(report)["0.0#1"].calls == 1


def test_tied_weights_are_one_parameter_with_two_names():
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8))
    model[2].weight = model[0].weight
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with torch_init.watch(model, optimizer) as flow:
        model(torch.randn(4, 8)).sum().backward()
        optimizer.step()
    names = [p.names for p in flow.report().parameters]
    assert ("0.weight", "2.weight") in names and len(names) == 3


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


def test_frozen_layers_are_no_fault_and_detached_ones_are():
    class Net(nn.Module):
        def __init__(self, cut):
            super().__init__()
            self.a, self.b, self.c = (nn.Linear(8, 8) for _ in range(3))
            self.cut = cut

        def forward(self, x):
            x = torch.tanh(self.a(x))
            x = torch.tanh(self.b(x))
            return self.c(x.detach() if self.cut else x)

    frozen = Net(cut=False)
    frozen.a.requires_grad_(False)
    assert observe(frozen, torch.randn(16, 8), torch.arange(16) % 8).verdict.kind == "ok"

    verdict = observe(Net(cut=True), torch.randn(16, 8), torch.arange(16) % 8).verdict
    assert (verdict.kind, verdict.layer) == ("no_grad", "b")


def test_parameters_that_no_loss_reaches_are_named():
    model = nn.ModuleDict({"used": nn.Linear(4, 4), "unused": nn.Linear(4, 4)})
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with torch_init.watch(model, optimizer) as flow:
        for _ in range(2):
            model["used"](torch.randn(4, 4)).sum().backward()
            optimizer.step()
            optimizer.zero_grad()
    report = flow.report()
    unused = next(p for p in report.parameters if p.name == "unused.weight")
    assert (unused.missing, unused.steps) == (2, 2)
    assert (report.verdict.kind, report.verdict.layer) == ("no_grad", "unused.weight")


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
