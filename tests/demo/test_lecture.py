# SPDX-License-Identifier: Apache-2.0
"""What a lecture on weight initialisation claims, with thresholds from theory.

Scatter: over L hidden layers of n units the log of a ReLU network's gradient norm has a standard
deviation of about sqrt(5 (L - 1) / n) / 2, a smooth network's less; `finite_width_band` is three of
them. Seeds are fixed, so the tests cannot fail by chance.
"""

import math

import pytest
import torch

from torch_init.demo import data, measurement
from torch_init.demo.claims import Comparison, check_claims
from torch_init.demo.data import Digits
from torch_init.demo.models import ACTIVATIONS, MLP, STARTS
from torch_init.demo.training import Point, Run, Settings, probe, train

DEPTH, WIDTH = 10, 128


@pytest.fixture(scope="module")
def digits():
    return data.load(None, seed=0)


def gradients(digits, activation, start, seed=0):
    """Gradient sizes before training, input side first, in a network of the default size."""
    model = MLP(64, WIDTH, DEPTH, 10, ACTIVATIONS[activation], torch.device("cpu"))
    STARTS[start].initialise(model, seed)
    return measurement.read(model, *probe(digits)).gradient_rms


def run(digits, activation, start, **settings):
    return train(activation, start, digits, Settings(**settings), lambda updates: None)


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_zero_start_is_frozen(digits, activation):
    """f(0) = 0, so every activation is 0 and so is every back-propagated gradient: W = 0.

    What is left is the output bias. It learns the class frequencies, so the loss on a set may leave
    ln 10 but cannot fall below the entropy of that set's class frequencies.
    """
    result = run(digits, activation, "zero", epochs=3, depth=4, width=16, lr=0.1)
    assert all(rms == 0 for point in result.points for rms in point.gradient_rms)
    assert len(result.unchanged) == 9
    assert "layers.4.bias" not in result.unchanged
    assert result.unit_spread == 0
    # float32 rounding of one logarithm.
    assert result.points[0].train_loss == pytest.approx(math.log(10), abs=1e-6)
    entropy = measurement.class_entropy(probe(digits)[1], 10)
    assert entropy < math.log(10) - 1e-3
    assert min(point.train_loss for point in result.points) > entropy


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_zero_start_stays_at_ln_10_on_balanced_batches(digits, activation):
    """With every class equally frequent in each batch the output bias has no gradient either."""
    chosen = torch.cat([(digits.y_train == k).nonzero()[:20, 0] for k in range(10)])
    x, y = digits.x_train[chosen], digits.y_train[chosen]
    balanced = Digits("balanced", x, y, digits.x_test, digits.y_test, 10)
    result = run(balanced, activation, "zero", epochs=20, depth=3, width=16, batch_size=200, lr=0.1)
    # The gradient sums 200 float32 terms of size 1/2000 that cancel to about 1e-8; 20 updates.
    assert [p.train_loss for p in result.points] == pytest.approx([math.log(10)] * 21, abs=1e-6)


def test_zero_start_with_sigmoid_keeps_units_identical(digits):
    """f(0) = 1/2: weights do move, but the units of a layer move together."""
    settings = {"epochs": 4, "depth": 2, "width": 16, "lr": 0.1}
    zero = run(digits, "sigmoid", "zero", **settings)
    assert zero.unchanged == []
    # About 100 updates of float32 rounding error (1e-7 relative each, not always the same sign).
    assert zero.unit_spread < 1e-4
    assert run(digits, "sigmoid", "lecun", **settings).unit_spread > 0.1


def test_sigmoid_gradient_vanishes(digits):
    """Variance 1/n: a factor sqrt(0.05572) = 0.2361 per layer once the variance is at its fixed
    point (0.2647), which layer 2 has reached to 2 %. A draw scatters by 1.5 % per layer."""
    rms = gradients(digits, "sigmoid", "lecun")
    factor = measurement.per_layer(measurement.total_ratio(rms[1:]), DEPTH - 1)
    assert factor == pytest.approx(0.2361, rel=0.03)
    assert measurement.total_ratio(rms) < 0.25 ** (DEPTH - 1)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_relu_with_he_keeps_the_gradient(digits, seed):
    band = measurement.finite_width_band(WIDTH, DEPTH)
    ratio = measurement.total_ratio(gradients(digits, "relu", "he", seed))
    assert 1 / band < ratio < band
    assert band < 2.5


@pytest.mark.parametrize("start", ["lecun", "xavier"])
def test_relu_with_half_the_variance_loses_half(digits, start):
    band = measurement.finite_width_band(WIDTH, DEPTH)
    ratio = measurement.total_ratio(gradients(digits, "relu", start))
    expected = math.sqrt(1 / 2) ** (DEPTH - 1)
    assert expected / band < ratio < expected * band
    assert expected * band < 1 / band  # the test above would tell the two apart


def test_tanh_with_xavier_is_healthy(digits):
    """Mean-field theory, from the input's variance on, gives 0.32 over ten layers."""
    model = MLP(64, WIDTH, DEPTH, 10, ACTIVATIONS["tanh"], torch.device("cpu"))
    STARTS["xavier"].initialise(model, 0)
    x, y = probe(digits)
    expected = measurement.expected_total_ratio(model, x)
    assert 0.1 < expected < 1
    ratio = measurement.total_ratio(measurement.read(model, x, y).gradient_rms)
    assert ratio == pytest.approx(expected, rel=0.3)
    assert measurement.shut_share(model, x) < 0.05


def test_training_tells_he_from_vanishing_sigmoid(digits):
    """He and ReLU learn within two hundred updates; sigmoid stays at the loss of guessing."""
    settings = {"epochs": 8, "depth": 6, "width": 64}
    relu = run(digits, "relu", "he", **settings)
    sigmoid = run(digits, "sigmoid", "xavier", **settings)
    assert relu.test_accuracy > 0.85
    assert sigmoid.last.train_loss > 0.95 * math.log(10)


def test_divergence_is_reported_and_stops_the_run(digits):
    result = run(digits, "relu", "normal-1", epochs=2, depth=4, width=64, lr=1.0)
    assert result.diverged_at is not None
    assert result.last is None
    assert result.unit_spread is None
    assert result.test_accuracy is None
    assert all(math.isfinite(point.train_loss) for point in result.points)


def made_up_run(start, first, last, accuracy, loss):
    points = [Point(0, 2.5, first), Point(9, loss, last)]
    return Run("relu", start, points, None, 0.5, 1.0, accuracy, 1.0, [])


def test_claims_follow_the_numbers():
    """The same claim holds, does not hold, or is left out, as the runs have it."""

    def verdicts(*runs):
        claims = check_claims(Comparison(list(runs), 10, 2.3, depth=3, width=100))
        return {claim.name: claim.holds for claim in claims}

    healthy = made_up_run("he", [1.0, 1.1, 1.0], [1.0, 1.0, 1.0], accuracy=0.95, loss=0.1)
    unlearnt = made_up_run("he", [1.0, 1.1, 1.0], [1.0, 1.0, 1.0], accuracy=0.5, loss=1.0)
    vanishing = made_up_run("he", [0.01, 0.1, 1.0], [1.0, 1.0, 1.0], accuracy=0.95, loss=0.1)
    assert verdicts(healthy) == {"relu-he-keeps-gradient": True}
    assert verdicts(unlearnt) == {"relu-he-keeps-gradient": False}
    assert verdicts(vanishing) == {"relu-he-keeps-gradient": False}
    small = made_up_run("normal-0.01", [1e-6, 1e-3, 1.0], [1e-6, 1e-3, 1.0], 0.1, loss=2.3)
    assert verdicts(small) == {"small-normal-vanishes": True}
