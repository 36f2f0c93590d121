# SPDX-License-Identifier: Apache-2.0
"""Networks whose signal and gradient mean-field theory knows, measured and predicted.

The numbers are Gauss-Hermite quadratures of the theory's integrals, made outside of this package.
The tolerances are three standard deviations of a finite width (Hanin & Nica: the log of a squared
norm over L layers of n units has variance 5 L / n for ReLU, less for the others).
"""

import math

import pytest
import torch
from flow_networks import batch, mlp, observe
from torch import nn

import torch_init
from torch_init.flow.nonlinearity import gaussian_moments
from torch_init.flow.structure import Structure

# name, depth, width, activation, gain (variance times fan_in), distribution,
# factor per layer in the limit, ratio first over last layer, its relative tolerance
CASES = [
    ("sigmoid-normal", 20, 512, nn.Sigmoid, 1.0, "normal", 0.2361, 1.22e-12, 0.20),
    ("sigmoid-torch-default", 20, 512, nn.Sigmoid, 1 / 3, "uniform", 0.1414, 7.3e-17, 0.15),
    ("sigmoid-he", 20, 512, nn.Sigmoid, 2.0, "normal", 0.3178, 3.5e-10, 0.30),
    ("sigmoid-gain-4", 20, 512, nn.Sigmoid, 16.0, "normal", 0.6316, 1.6e-4, 0.60),
    ("tanh-xavier-20", 20, 512, nn.Tanh, 1.0, "normal", 0.97, 0.23, 0.40),
    ("tanh-gain-5/3", 20, 512, nn.Tanh, 25 / 9, "normal", 1.0999, 5.4, 0.45),
    ("tanh-gain-5/3-deep", 30, 512, nn.Tanh, 25 / 9, "normal", 1.0999, 11.87, 0.30),
    ("tanh-n01", 10, 256, nn.Tanh, 256.0, "normal", 2.955, 2.0e4, 0.65),
    ("relu-he", 30, 512, nn.ReLU, 2.0, "normal", 1.0, 1.0, 1.30),
    ("relu-xavier", 30, 512, nn.ReLU, 1.0, "normal", 0.7071, 4.3e-5, 1.30),
    ("relu-torch-default", 30, 512, nn.ReLU, 1 / 3, "uniform", 0.4082, 5.2e-12, 1.30),
]


@pytest.fixture(scope="module")
def reports():
    found = {}

    def report(name):
        if name not in found:
            _, depth, width, activation, gain, distribution, *_ = by_name(name)
            model = mlp(depth, width, activation, gain, distribution=distribution)
            found[name] = observe(model, *batch(model, 64)), torch_init.expected(model)
        return found[name]

    return report


def by_name(name):
    return next(case for case in CASES if case[0] == name)


NAMES = [case[0] for case in CASES]


@pytest.mark.parametrize("name", NAMES)
def test_measured_ratio_is_that_of_the_table(reports, name):
    *_, total, tolerance = by_name(name)
    slope = reports(name)[0].slope
    assert 1 / (1 + tolerance) < slope.total / total < 1 + tolerance


@pytest.mark.parametrize("name", NAMES)
def test_predicted_factor_is_that_of_the_table(reports, name):
    factor = by_name(name)[6]
    rows = reports(name)[1].rows
    # The last hidden layers, where the signal has come to its fixed point. The weights' actual
    # variance scatters by sqrt(2) / width: the factor by less than 1 %.
    assert rows[-3].gradient_factor == pytest.approx(factor, rel=0.01)


@pytest.mark.parametrize("name", NAMES)
def test_measured_agrees_with_predicted_layer_by_layer(reports, name):
    report, _ = reports(name)
    last = report.hidden[-1]
    for row in report.hidden:
        measured = row.gradient_norm / last.gradient_norm
        predicted = row.expected_gradient_norm / last.expected_gradient_norm
        tolerance = row.gradient_tolerance
        assert 1 / tolerance < measured / predicted < tolerance
        assert 1 / row.tolerance < row.rms / row.expected_rms < row.tolerance


def test_sigmoid_slope_mean_and_spread_of_units(reports):
    report, _ = reports("sigmoid-normal")
    assert report.slope.per_layer == pytest.approx(-0.627, abs=0.003)
    last = [row for row in report.rows if row.role == "activation"][-1]
    assert last.mean == pytest.approx(0.5, abs=0.02)
    assert last.std == pytest.approx(0.1212, rel=0.1)
    # The network computes a constant: rounding is all that differs between examples.
    assert last.batch_std < 1e-6


def test_sigmoid_with_torchs_variance_has_less_spread(reports):
    last = [row for row in reports("sigmoid-torch-default")[0].rows if row.role == "activation"][-1]
    assert last.std == pytest.approx(0.071, rel=0.1)


def test_five_tanh_layers_as_glorot_and_bengio_drew_them():
    """Their standard initialisation, n Var = 1/3: gradients vanish, weight gradients do not."""
    ratios = {}
    for gain in (1 / 3, 1.0):
        model = mlp(5, 1000, nn.Tanh, gain, distribution="uniform")
        report = observe(model, *batch(model, 64))
        ratios[gain] = report.slope.total
        if gain == 1 / 3:
            norms = [model[2 * i].weight.grad.norm().item() for i in range(1, 5)]
            assert report.hidden[-1].rms ** 2 == pytest.approx(0.0022, rel=0.15)
            # Figure 8. The first layer sees the data, not activations: it is left out.
            assert 0.7 < norms[0] / norms[-1] < 1.5
    assert ratios[1 / 3] == pytest.approx(0.0855, rel=0.06)
    assert ratios[1.0] == pytest.approx(0.42, rel=0.08)


@pytest.mark.parametrize(("gain", "wanted"), [(1 / 3, 0.5), (1.0, 0.8)])
def test_mean_singular_value_of_a_layers_jacobian(gain, wanted):
    """Glorot & Bengio 2010, section 4.2.2: near 0.5 for the standard start, 0.8 for theirs.

    A matrix of independent elements of variance g / n has a mean singular value of
    8 / (3 pi) sqrt(g) (quarter-circle law), 0.49 and 0.85; tanh's slope takes the rest.
    """
    model = mlp(5, 400, nn.Tanh, gain, distribution="uniform")
    outputs, hook = [], lambda module, args, output: outputs.append(output.detach())
    for layer in model[1:10:2]:
        layer.register_forward_hook(hook)
    model(0.5 * batch(model, 1)[0])  # the size of pixels between 0 and 1
    means = [
        torch.linalg.svdvals((1 - output.T**2) * layer.weight.detach()).mean().item()
        for output, layer in zip(outputs, model[:10:2], strict=True)
    ]
    # They give one digit.
    assert sum(means) / 5 == pytest.approx(wanted, abs=0.05)


def test_tanh_variances(reports):
    assert reports("tanh-xavier-20")[0].hidden[-1].rms ** 2 == pytest.approx(0.0273, rel=0.15)
    last = [row for row in reports("tanh-gain-5/3")[0].rows if row.role == "activation"][-1]
    assert last.std == pytest.approx(0.651, rel=0.03)
    saturated = [row for row in reports("tanh-n01")[0].rows if row.role == "activation"][-1]
    assert saturated.saturated == pytest.approx(0.865, abs=0.02)


def test_tanh_with_a_gain_of_five_thirds_explodes_sixteenfold_over_thirty_layers():
    """Where the signal has its fixed point from the first layer on, 1.0999^29 = 15.8."""
    model = mlp(30, 512, nn.Tanh, 25 / 9)
    x, y = batch(model, 64)
    report = observe(model, 0.651 * x, y)  # as large as what a tanh layer returns, see above
    # Seeds of this width scatter by 3 %.
    assert report.slope.total == pytest.approx(15.8, rel=0.15)


def test_relu_zero_fractions_and_signal(reports):
    he = reports("relu-he")[0]
    zeros = [row.zeros for row in he.rows if row.role == "activation"]
    assert sum(zeros) / len(zeros) == pytest.approx(0.5, abs=0.02)
    steps = [
        a.gradient_norm / b.gradient_norm for a, b in zip(he.hidden, he.hidden[1:], strict=False)
    ]
    assert 0.9 < min(steps) <= max(steps) < 1.1
    # Pre-activation variance of layer 30 with Xavier's: 2^-29 times that of the first.
    xavier = reports("relu-xavier")[0].hidden
    ratio = (xavier[-1].rms / xavier[0].rms) ** 2 * 2.0**29
    assert 0.2 < ratio < 5


def test_the_weights_gradients_of_a_relu_network_that_stalls_are_level():
    model = mlp(30, 256, nn.ReLU, 1.0)
    report = observe(model, *batch(model, 64))
    norms = [layer.weight.grad.norm().item() for layer in model[:-1:2]]
    assert report.slope.total < 1e-3
    # 0.86 to 1.9 over seeds at width 512; three standard deviations at 256 are a factor of 3.2.
    assert 1 / 3.2 < norms[0] / norms[-1] < 3.2


@pytest.mark.parametrize(
    ("function", "square", "slope_square"),
    [
        (nn.functional.gelu, 0.4252, 0.4559),
        (nn.functional.silu, 0.3558, 0.3795),
        (torch.tanh, 0.3943, 0.4644),
        # In closed form: scale^2 (1/2 + alpha^2 e^2 Phi(-2)), scale 1.0507, alpha 1.6733.
        (nn.functional.selu, 1.000, 1.0716),
        (torch.sigmoid, 0.2934, 0.0448),
        (torch.relu, 0.5, 0.5),
        (lambda x: x, 1.0, 1.0),
    ],
    ids=["gelu", "silu", "tanh", "selu", "sigmoid", "relu", "linear"],
)
def test_constants_at_unit_variance(function, square, slope_square):
    moments = gaussian_moments(function, 0.0, 1.0)
    # The references have four digits.
    assert moments.square == pytest.approx(square, abs=1.5e-4)
    assert moments.slope_square == pytest.approx(slope_square, abs=1.5e-4)


@pytest.mark.parametrize(
    ("activation", "gain"),
    [(nn.GELU, 2.35), (nn.SiLU, 2.8), (nn.SELU, 1.0), (nn.LeakyReLU, 1.9), (nn.ELU, 1.5)],
)
def test_other_nonlinearities_agree_with_measurement(activation, gain):
    report = observe(mlp(8, 512, activation, gain))
    first, last = report.hidden[0], report.hidden[-1]
    assert last.rms / last.expected_rms == pytest.approx(1, rel=0.1)
    measured = first.gradient_norm / last.gradient_norm
    predicted = first.expected_gradient_norm / last.expected_gradient_norm
    # Eight layers of 512: three standard deviations are 1.5 sqrt(5 * 8 / 512) = 0.42 in the log.
    assert abs(math.log(measured / predicted)) < 0.2


def test_a_number_in_the_code_is_measured_as_it_is():
    """torch's mean of such a tensor without dimensions is, now and then, uninitialised memory."""
    structure = Structure()
    sizes = []
    for number in range(1, 200):
        product = torch.ones(3, requires_grad=True) * float(number)
        sizes.append(structure.measure(product.grad_fn._saved_other))
        torch.full((1,), math.nan, dtype=torch.float64)  # left behind in the memory
    structure.resolve()
    assert [size.mean for size in sizes] == list(range(1, 200))
