# SPDX-License-Identifier: Apache-2.0
"""torch_init.demo.measurement: each quantity against an independent computation or closed form."""

import math

import pytest
import torch
from torch.nn import functional

from torch_init.demo import measurement
from torch_init.demo.models import ACTIVATIONS, MLP, STARTS

CPU = torch.device("cpu")


def network(activation, start, depth=3, width=16, inputs=8, seed=0):
    model = MLP(inputs, width, depth, 10, ACTIVATIONS[activation], CPU)
    STARTS[start].initialise(model, seed)
    return model


def examples(count, inputs=8):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(count, inputs, generator=generator)
    return x, torch.randint(10, (count,), generator=generator)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_gradient_of_a_pre_activation_is_that_of_its_bias(activation):
    """For one example d loss / d s_l = d loss / d b_l, which autograd gives by another way."""
    model = network(activation, "xavier")
    x, y = examples(1)
    reading = measurement.read(model, x, y)
    assert all(parameter.grad is None for parameter in model.parameters())
    loss = functional.cross_entropy(model(x), y)
    loss.backward()
    assert reading.loss == pytest.approx(float(loss.detach()), rel=1e-6)
    for layer, rms in zip(model.linears(), reading.gradient_rms, strict=False):
        assert rms == pytest.approx(float(layer.bias.grad.square().mean().sqrt()), rel=1e-5)


def test_gradient_is_per_example():
    """Repeating the examples changes nothing; dividing by the batch size would."""
    model = network("tanh", "lecun")
    x, y = examples(5)
    once = measurement.read(model, x, y)
    thrice = measurement.read(model, x.repeat(3, 1), y.repeat(3))
    assert thrice.gradient_rms == pytest.approx(once.gradient_rms, rel=1e-5)


def test_activation_slopes_are_derivatives():
    s = torch.linspace(-6, 6, 100, dtype=torch.float64, requires_grad=True)
    for name, activation in ACTIVATIONS.items():
        (slope,) = torch.autograd.grad(activation.function(s).sum(), s)
        assert torch.allclose(activation.slope(s), slope, atol=1e-12), name
        assert float(slope.max()) <= activation.largest_slope


@pytest.mark.parametrize(
    ("activation", "weight_variance", "input_square", "factor", "tolerance"),
    [
        # E f'(z)^2 = 1/2 for ReLU: a factor of sqrt(variance / 2), up to float32 weights.
        ("relu", 2.0, 1.0, 1.0, 1e-7),
        ("relu", 1.0, 1.0, math.sqrt(1 / 2), 1e-7),
        ("relu", 1 / 3, 1.0, math.sqrt(1 / 6), 1e-7),
        # Gauss-Hermite integration at the fixed point q* of the variance: 0.2647 for sigmoid with
        # variance 1/n (E f'^2 = 0.05572), 1.178 for tanh with gain 5/3. Given to 4 digits.
        ("sigmoid", 1.0, 0.2647, 0.2361, 1e-4),
        ("tanh", 25 / 9, 1.178 / (25 / 9), 1.0999, 1e-4),
    ],
)
def test_theory(activation, weight_variance, input_square, factor, tolerance):
    depth, width = 5, 32
    model = network(activation, "zero", depth, width, inputs=width)
    with torch.no_grad():
        for layer in model.linears():
            layer.weight.fill_(math.sqrt(weight_variance / width))
    x = torch.full((4, width), math.sqrt(input_square))
    expected = measurement.expected_total_ratio(model, x)
    assert measurement.per_layer(expected, depth) == pytest.approx(factor, abs=tolerance)


def test_unit_spread():
    model = network("tanh", "xavier")
    x, _ = examples(20)
    assert measurement.unit_spread(model, x) > 0.5
    with torch.no_grad():
        for layer in model.linears():
            layer.weight.fill_(0.1)
    # Sums of at most 16 equal terms in float32.
    assert measurement.unit_spread(model, x) < 1e-6
    STARTS["zero"].initialise(model, 0)
    assert measurement.unit_spread(model, x) == 0


def test_shut_share_of_tanh():
    """tanh'(s) = 1 - tanh(s)^2 falls to 0.02 at s = atanh(sqrt(0.98)) = 2.6467."""
    model = network("tanh", "zero", depth=1, width=1, inputs=1)
    with torch.no_grad():
        model.linears()[0].weight.fill_(1.0)
    x = torch.tensor([[-3.0], [-2.64], [0.0], [2.64], [2.65]])
    assert measurement.shut_share(model, x) == pytest.approx(2 / 5)


def test_class_entropy():
    balanced = torch.arange(10).repeat(3)
    assert measurement.class_entropy(balanced, 10) == pytest.approx(math.log(10), rel=1e-12)
    skewed = torch.tensor([0, 0, 0, 1])
    expected = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert measurement.class_entropy(skewed, 3) == pytest.approx(expected, rel=1e-12)


def test_ratio_without_gradient():
    assert measurement.total_ratio([0.0, 0.0]) is None
    assert measurement.per_layer(None, 3) is None
    assert measurement.per_layer(measurement.total_ratio([4.0, 2.0, 1.0]), 3) == pytest.approx(2)
