# SPDX-License-Identifier: Apache-2.0
"""What modules return: in place, in dicts, in dataclasses, in odd types and on odd devices."""

import dataclasses

import pytest
import torch
from flow_networks import Odd, Structured, rows_of
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

import torch_init
from torch_init.flow.tensors import is_measurable


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
    assert report.verdict.kind == "no_data" and "nothing could be measured" in str(report.verdict)
    assert all(parameter.unsupported for parameter in report.parameters)


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


def test_function_transforms_pass_by():
    model = nn.Linear(4, 4)
    with torch_init.watch(model) as flow:
        torch.func.vmap(model)(torch.randn(3, 4))
        torch.func.grad(lambda x: model(x).sum())(torch.randn(4))
    verdict = flow.report().verdict
    assert verdict.kind == "no_data" and "transform of torch.func" in verdict.measured
    flow.reset()
    assert "no forward pass was seen" in flow.report().verdict.measured
