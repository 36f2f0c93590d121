# SPDX-License-Identifier: Apache-2.0
"""rbm_pretrain: what it finds in a model, what it writes, and what it leaves alone."""

import copy
import itertools

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

import torch_init
from torch_init import rbm


def mlp(activation=nn.Sigmoid, sizes=(64, 20, 12, 10)):
    parts = [nn.Flatten()]
    for fan_in, fan_out in itertools.pairwise(sizes):
        parts += [nn.Linear(fan_in, fan_out), activation()]
    return nn.Sequential(*parts[:-1])


class Functional(nn.Module):
    """Activations as functions, reshaping by hand, layers not in the order of the attributes."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(12, 10)
        self.second = nn.Linear(20, 12)
        self.first = nn.Linear(64, 20)
        self.dropout = nn.Dropout(0.5)

    def forward(self, x):
        x = torch.sigmoid(self.first(x.reshape(len(x), -1)))
        x = functional.relu(self.second(self.dropout(x)))
        return functional.log_softmax(self.head(x), 1)


def images(count=200):
    return torch.rand(count, 64, generator=torch.Generator().manual_seed(0))


def values(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def unchanged(model, before):
    return all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("activation", "hidden", "visible"),
    [
        (nn.Sigmoid, rbm.Bernoulli, rbm.Bernoulli),
        (nn.Tanh, rbm.Spin, rbm.Spin),
        (nn.ReLU, rbm.NReLU, rbm.Gaussian),
    ],
)
def test_layers_are_the_machines(activation, hidden, visible):
    model, data = mlp(activation), images()
    report = torch_init.rbm_pretrain(model, data, epochs=2)
    assert [row.name for row in report.layers] == ["1", "3"] and report.head == "5"
    first, second = (row.machine for row in report.layers)
    assert isinstance(first.visible, rbm.Bernoulli) and isinstance(first.hidden, hidden)
    assert isinstance(second.visible, visible) and isinstance(second.hidden, hidden)
    torch.testing.assert_close(model[1](data), first.hidden_field(data), rtol=1e-5, atol=1e-6)
    features = model[:3](data)
    scale = 1.0
    if visible is rbm.Gaussian:  # trained on features of unit variance
        scale = (second.weight.flatten() @ model[3].weight.flatten()) / second.weight.norm() ** 2
        torch.testing.assert_close(1 / scale, features.std(), rtol=0.01, atol=0)
    want = second.hidden_field(features * scale)
    torch.testing.assert_close(model[3](features), want, rtol=1e-4, atol=1e-5)
    assert first.hidden_bias.abs().max() > 0 and torch.equal(model[1].bias, first.hidden_bias)


def test_first_layer_by_the_data():
    for data, name, kind in [
        (images(), None, rbm.Bernoulli),
        (4 * images() - 1, None, rbm.Gaussian),
        (images(), "gaussian", rbm.Gaussian),
        (2 * images() - 1, "spin", rbm.Spin),
    ]:
        report = torch_init.rbm_pretrain(mlp(), data, epochs=1, visible=name)
        assert isinstance(report.layers[0].visible, kind)
    with pytest.raises(ValueError, match=r"values in \[-0\.99"):
        torch_init.rbm_pretrain(mlp(), 2 * images() - 1, visible="bernoulli")


def test_module_with_a_forward_of_its_own():
    model = Functional()
    report = torch_init.rbm_pretrain(model, images().view(-1, 1, 8, 8), epochs=1)
    assert [row.name for row in report.layers] == ["first", "second"] and report.head == "head"
    assert [type(row.hidden).__name__ for row in report.layers] == ["Bernoulli", "NReLU"]


def test_same_layers_same_bits_however_they_are_written():
    class Written(nn.Module):
        def __init__(self, parts):
            super().__init__()
            for name, part in parts.named_children():
                self.add_module(name, part)

        def forward(self, x):
            for part in self.children():
                x = part(x)
            return x

    a, b = mlp(), mlp()
    torch_init.rbm_pretrain(a, images(), epochs=1)
    torch_init.rbm_pretrain(Written(b), images(), epochs=1)
    assert unchanged(a, values(b))
    c = mlp()
    torch_init.rbm_pretrain(c, images(), epochs=1, seed=1)
    assert not torch.equal(a[1].weight, c[1].weight)


def test_state_of_the_caller_is_restored():
    model = mlp().double()
    model[2].eval()
    model.register_buffer("counter", torch.arange(3))
    modes = [module.training for module in model.modules()]
    rng = torch.random.get_rng_state()
    torch_init.rbm_pretrain(model, images(), epochs=1)
    assert torch.equal(rng, torch.random.get_rng_state())
    assert [module.training for module in model.modules()] == modes
    assert all(p.dtype == torch.float64 and p.requires_grad for p in model.parameters())
    assert model.counter.dtype == torch.int64


def test_low_precision_models_hold_the_rounded_weights():
    wide, narrow = mlp(), mlp().bfloat16()
    torch_init.rbm_pretrain(wide, images(), epochs=1)
    torch_init.rbm_pretrain(narrow, images(), epochs=1)
    assert torch.equal(narrow[1].weight, wide[1].weight.bfloat16())


@pytest.mark.parametrize("head", ["xavier", "he", "keep"])
def test_head_is_initialised_as_asked(head):
    model = mlp()
    before = values(model)
    torch_init.rbm_pretrain(model, images(), epochs=1, head=head, seed=3)
    if head == "keep":
        assert torch.equal(model[5].weight, before["5.weight"])
        return
    other = mlp()
    torch_init.init_(other, head, seed=3)
    assert torch.equal(model[5].weight, other[5].weight)
    assert torch.equal(model[5].bias, other[5].bias)


def test_frozen_layers_are_skipped():
    model = mlp()
    model[1].requires_grad_(False)
    before = values(model)
    report = torch_init.rbm_pretrain(model, images(), epochs=1)
    assert torch.equal(model[1].weight, before["1.weight"])
    assert not torch.equal(model[3].weight, before["3.weight"])
    assert "frozen" in str(report.layers[0])


def test_layers_without_bias():
    model = nn.Sequential(nn.Linear(64, 20, bias=False), nn.Sigmoid(), nn.Linear(20, 10))
    report = torch_init.rbm_pretrain(model, images(), epochs=2)
    assert (report.layers[0].machine.hidden_bias == 0).all()


def test_forms_of_data_and_the_report():
    data = images(100)
    made = []
    dataset = TensorDataset(data, torch.zeros(100))
    for form in (data, data.numpy(), dataset, (255 * data).byte()):
        model = mlp()
        report = torch_init.rbm_pretrain(model, form, epochs=2)
        made.append(model[1].weight)
        assert len(report.layers) == 2 and "free-energy gap" in str(report)
        assert all(np.isfinite(row.free_energy_gap) for row in report.layers)
        assert report.layers[1].log_likelihood < 0  # 12 hidden units: enumerated
    assert torch.equal(made[0], made[1]) and torch.equal(made[0], made[2])
    torch.testing.assert_close(made[0], made[3], atol=0.01, rtol=0)
    report = torch_init.rbm_pretrain(mlp(), DataLoader(dataset, batch_size=25), epochs=2)
    assert report.layers[0].updates == 8


def test_bundled_digits_by_default():
    report = torch_init.rbm_pretrain(mlp(), epochs=1)
    assert "digits" in str(report)
    with pytest.raises(ValueError, match="Its first layer takes 784 numbers"):
        torch_init.rbm_pretrain(mlp(sizes=(784, 20, 10)))


class Shared(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.head = nn.Linear(64, 64), nn.Linear(64, 10)

    def forward(self, x):
        return self.head(torch.sigmoid(self.layer(torch.sigmoid(self.layer(x)))))


class Residual(Shared):
    def forward(self, x):
        return self.head(x + torch.sigmoid(self.layer(x)))


def tied():
    model = mlp(sizes=(64, 64, 64, 10))
    model[3].weight = model[1].weight
    return model


def with_between(module):
    return nn.Sequential(nn.Linear(64, 20), module, nn.Sigmoid(), nn.Linear(20, 10))


@pytest.mark.parametrize(
    ("model", "text"),
    [
        (Shared(), "layer, which the forward pass calls twice"),
        (Residual(), "something else between layer and head"),
        (tied(), "3, which shares its weight with 1"),
        (with_between(nn.BatchNorm1d(20)), "1, a BatchNorm1d, before 3"),
        (with_between(nn.LayerNorm(20)), "1, a LayerNorm, before 3"),
        (with_between(nn.GELU()), "1, a GELU"),
        (nn.Linear(64, 10), "two Linear or Conv2d layers or more"),
        (nn.Sequential(nn.LazyLinear(20), nn.Sigmoid(), nn.Linear(20, 10)), "no memory"),
        (
            nn.utils.parametrizations.weight_norm(nn.Linear(64, 10)),
            "weight is computed from others",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_models_that_are_no_chain_are_refused_by_name(model, text):
    with pytest.raises(ValueError, match=text):
        torch_init.rbm_pretrain(model, images())


@pytest.mark.parametrize(
    ("data", "error", "text"),
    [
        (torch.full((30, 64), torch.nan), ValueError, "not finite"),
        (torch.zeros(30, 63), ValueError, r"shape \(63,\)"),
        (torch.zeros(0, 64), ValueError, "no rows"),
        ([], ValueError, "no batches"),
        (7, TypeError, "int"),
        (torch.ones(30, 64, dtype=torch.uint8), ValueError, "pass bool or float"),
        ([torch.ones(30, 64, dtype=torch.uint8)] * 2, ValueError, "pass bool or float"),
        (torch.ones(30, 64, dtype=torch.complex64), TypeError, "complex64"),
        (torch.eye(64).to_sparse(), TypeError, "sparse_coo"),
        (iter([images()]), TypeError, "only once"),
    ],
    ids=[
        *("nan", "width", "rows", "batches", "int"),
        *("bytes", "batches of bytes", "complex", "sparse", "iterator"),
    ],
)
def test_bad_data_are_refused(data, error, text):
    model = mlp()
    before = values(model)
    with pytest.raises(error, match=text):
        torch_init.rbm_pretrain(model, data)
    assert unchanged(model, before)


def test_constant_pixels():
    data = images()
    data[:, :8] = 0
    model = mlp()
    torch_init.rbm_pretrain(model, data, epochs=2)
    torch_init.rbm_pretrain(model, 3 * data, epochs=2)
    assert all(parameter.isfinite().all() for parameter in model.parameters())
    with pytest.raises(ValueError, match="examples that differ"):
        torch_init.rbm_pretrain(model, torch.full((30, 64), 3.0))


@pytest.mark.parametrize("failure", ["second layer", "head"])
def test_nothing_is_written_when_it_fails_half_way(failure, monkeypatch):
    model = mlp()
    before = values(model)
    if failure == "head":
        with pytest.raises(ValueError):
            torch_init.rbm_pretrain(model, images(), epochs=1, head="no such recipe")
    else:
        fit = rbm.RBM.fit
        monkeypatch.setattr(
            rbm.RBM, "fit", lambda made, *a, **k: 1 / 0 if made.name == "3" else fit(made, *a, **k)
        )
        with pytest.raises(ZeroDivisionError):
            torch_init.rbm_pretrain(model, images(), epochs=1)
    assert unchanged(model, before)
    assert copy.deepcopy(model)(images()).shape == (200, 10)


def test_layers_of_more_than_a_thousand_units():
    model = mlp(sizes=(1100, 1030, 2))
    torch_init.rbm_pretrain(model, torch.rand(24, 1100), epochs=1)


class InPlace(nn.Module):
    def __init__(self, activation):
        super().__init__()
        self.first, self.head = nn.Linear(8, 6), nn.Linear(6, 2)
        self.activation = activation

    def forward(self, x):
        return self.head(self.activation(self.first(x)))


@pytest.mark.parametrize(
    ("activation", "kind"),
    [(torch.sigmoid_, rbm.Bernoulli), (torch.tanh_, rbm.Spin), (torch.relu_, rbm.NReLU)],
)
def test_activations_in_place(activation, kind):
    report = torch_init.rbm_pretrain(InPlace(activation), torch.rand(30, 8), epochs=1)
    assert isinstance(report.layers[0].hidden, kind)


@pytest.mark.parametrize("activation", [functional.relu6, functional.hardtanh])
def test_activations_that_differ_only_far_from_0_are_refused(activation):
    with pytest.raises(ValueError, match="something else between first and head"):
        torch_init.rbm_pretrain(InPlace(activation), torch.rand(30, 8), epochs=1)


@pytest.mark.parametrize(
    ("first", "shape", "fix"),
    [
        (nn.Linear(64, 8), (1, 8, 8), r"torch\.nn\.Flatten\(\), or give data\.flatten\(1\)"),
        (nn.Linear(64, 8), (8, 8), r"torch\.nn\.Flatten\(\), or give data\.flatten\(1\)"),
        (nn.Linear(64, 8), (50,), "first layer takes 64 numbers"),
        (nn.Conv2d(1, 8, 8), (8, 8), r"data\.unsqueeze\(1\)"),
        (nn.Conv2d(3, 8, 8), (64,), r"images of shape \(3, height, width\)"),
    ],
)
def test_examples_of_another_shape_are_told_how_to_fit(first, shape, fix):
    model = nn.Sequential(first, nn.Sigmoid(), nn.Flatten(), nn.Linear(8, 2))
    before = first.weight.clone()
    with pytest.raises(ValueError, match=f"rbm_pretrain: data: .*shape .*{fix}"):
        torch_init.rbm_pretrain(model, torch.rand(30, *shape), epochs=1)
    assert torch.equal(first.weight, before)
