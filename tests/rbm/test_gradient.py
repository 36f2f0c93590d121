# SPDX-License-Identifier: Apache-2.0
"""Gradients against autograd of the enumerated likelihood, in float64."""

import math

import pytest
import torch
from machines import DISCRETE, machine, visible_law

from torch_init import rbm
from torch_init.rbm.gradient import Offsets, likelihood_gradient, statistics
from torch_init.rbm.negative import ContrastiveDivergence
from torch_init.rbm.options import Options
from torch_init.rbm.parallel import Processes
from torch_init.rbm.sampling import Noise, to_bytes

ONE = Processes()
discrete = pytest.mark.parametrize("units", DISCRETE.values(), ids=DISCRETE)


def data_of(made, count=7):
    return made.sample(count, steps=1, seed=3)


def enumerated(made):
    """Statistics of the model's exact law: each state once, weighted."""
    states, law = made.visible.states(), visible_law(made)
    hidden = made.hidden_mean(states).detach()
    weighted = statistics(made, states * law[:, None].sqrt(), hidden * law[:, None].sqrt(), 1, ONE)
    visible, hidden = (law[:, None] * states).sum(0), (law[:, None] * hidden).sum(0)
    return type(weighted)(weighted.pairs, visible, hidden, None, 1)


def gradient_by_autograd(made, data):
    log_z = torch.logsumexp(-made.free_energy(made.visible.states()), 0)
    log_p = (-made.free_energy(data)).mean() - log_z
    names = ("weight", "visible_bias", "hidden_bias")
    return torch.autograd.grad(log_p, [getattr(made, name) for name in names]), log_p


@discrete
def test_gradient_is_that_of_the_likelihood(units):
    made = machine(units)
    data = data_of(made)
    want, _ = gradient_by_autograd(made, data)
    phase = statistics(made, data, made.hidden_mean(data), len(data), ONE)
    got = likelihood_gradient(phase, enumerated(made))
    for a, b in zip((got.weight, got.visible_bias, got.hidden_bias), want, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


def test_gradient_by_finite_differences():
    made = machine(DISCRETE["bernoulli"])
    data = data_of(made)
    phase = statistics(made, data, made.hidden_mean(data), len(data), ONE)
    got = likelihood_gradient(phase, enumerated(made)).weight[2, 3].item()
    values = []
    for change in (1e-5, -1e-5):
        moved = machine(DISCRETE["bernoulli"])
        with torch.no_grad():
            moved.weight[2, 3] += change
        values.append(rbm.log_likelihood(moved, data).mean().item())
    assert math.isclose(got, (values[0] - values[1]) / 2e-5, rel_tol=1e-7, abs_tol=1e-9)


@pytest.mark.parametrize("learned", [False, True])
def test_gaussian_gradient(learned):
    """log Z = log sum_h exp(-F(h)), which autograd differentiates in every parameter.

    The model's statistics are Gaussian integrals: v given h has mean b + W'h and the variance.
    """
    made = machine((rbm.Gaussian(3, variance=0.7, learn_variance=learned), rbm.Bernoulli(4)))
    data = data_of(made)
    states = made.hidden.states()
    log_z = torch.logsumexp(-made.hidden_free_energy(states), 0)
    log_p = (-made.free_energy(data)).mean() - log_z
    want = dict(
        zip(
            dict(made.named_parameters()),
            torch.autograd.grad(log_p, list(made.parameters())),
            strict=True,
        )
    )
    phase = statistics(made, data, made.hidden_mean(data), len(data), ONE)
    law = torch.softmax(-made.hidden_free_energy(states).detach(), 0)
    variance = made.log_variance.detach().exp()
    with torch.no_grad():
        means = made.visible_mean(states)
        s = means / variance
        pairs = (law[:, None] * states).T @ s
        slopes = None
        if learned:
            squares = 0.5 * ((means - made.visible_bias) ** 2 + variance) / variance
            slopes = (law[:, None] * (squares - s * (states @ made.weight))).sum(0)
        model = type(phase)(
            pairs, (law[:, None] * s).sum(0), (law[:, None] * states).sum(0), slopes, 1
        )
    got = likelihood_gradient(phase, model)
    # The part of -E that is linear in b is b s(v) - b^2 / (2 variance): the same in both phases.
    for name, gradient in want.items():
        torch.testing.assert_close(getattr(got, name), gradient, rtol=1e-9, atol=1e-9)


@discrete
def test_centred_gradient_is_that_of_the_centred_parameters(units):
    """Gradient in (W, b', c') with b' = b + W'lambda, c' = c + W mu, taken back to (W, b, c)."""
    made = machine(units)
    data = data_of(made)
    offsets = Offsets(made)
    offsets.follow_(data.mean(0), made.hidden_mean(data).detach().mean(0))
    mu, lam = offsets.visible, offsets.hidden

    def log_p(weight, b, c):
        parameters = {
            "weight": weight,
            "visible_bias": b - weight.T @ lam,
            "hidden_bias": c - weight @ mu,
        }
        free = lambda v: torch.func.functional_call(made.free, parameters, (v,))  # noqa: E731
        return -free(data).mean() - torch.logsumexp(-free(made.visible.states()), 0)

    class Free(torch.nn.Module):
        def __init__(self):
            super().__init__()
            for name, parameter in made.named_parameters():
                self.register_parameter(name, torch.nn.Parameter(parameter.detach().clone()))

        def forward(self, v):
            field = torch.nn.functional.linear(v, self.weight, self.hidden_bias)
            return -(v @ self.visible_bias) - made.hidden.log_partition(field, field, None)

    made.free = Free()
    weight, b, c = (
        x.detach().clone().requires_grad_()
        for x in (
            made.weight,
            made.visible_bias + made.weight.T @ lam,
            made.hidden_bias + made.weight @ mu,
        )
    )
    d_weight, d_b, d_c = torch.autograd.grad(log_p(weight, b, c), (weight, b, c))
    phase = statistics(made, data, made.hidden_mean(data).detach(), len(data), ONE)
    got = likelihood_gradient(phase, enumerated(made), offsets)
    torch.testing.assert_close(got.weight, d_weight, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(got.visible_bias, d_b - d_weight.T @ lam, rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(got.hidden_bias, d_c - d_weight @ mu, rtol=1e-9, atol=1e-10)
    plain = likelihood_gradient(phase, enumerated(made))
    assert (got.weight * plain.weight).sum() + (got.visible_bias * plain.visible_bias).sum() + (
        got.hidden_bias * plain.hidden_bias
    ).sum() > 0


def test_centred_step_does_not_see_flipped_data():
    """Melchior et al. (2016), theorem 1: a step on 1 - v leads to the flipped machine."""
    made = machine(DISCRETE["bernoulli"])
    flipped = machine(DISCRETE["bernoulli"])
    with torch.no_grad():
        flipped.weight.neg_()
        flipped.visible_bias.neg_()
        flipped.hidden_bias.add_(made.weight.sum(1))
    data = data_of(made)
    after, free = [], made.free_energy(data).detach()
    for one, rows in ((made, data), (flipped, 1 - data)):
        torch.testing.assert_close(one.free_energy(rows).detach().diff(), free.diff())
        phase = statistics(one, rows, one.hidden_mean(rows).detach(), len(rows), ONE)
        offsets = Offsets(one)
        offsets.follow_(phase.visible / len(rows), phase.hidden / len(rows))
        step = likelihood_gradient(phase, enumerated(one), offsets)
        with torch.no_grad():
            for name, parameter in one.named_parameters():
                parameter.add_(getattr(step, name), alpha=0.3)
        after.append(rbm.log_likelihood(one, rows))
    torch.testing.assert_close(after[0], after[1], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("k", [1, 5])
@pytest.mark.parametrize("chosen", ["means", "samples", "float"])
def test_contrastive_divergence_is_unbiased_where_data_are_the_models(k, chosen):
    """From p(v) itself, CD-k has the mean gradient 0: |z| < 4 in every weight."""
    made = machine(DISCRETE["bernoulli"])
    law = visible_law(made)
    rows = torch.multinomial(law, 40_000, True, generator=torch.Generator().manual_seed(0))
    data = made.visible.states()[rows]
    options = Options(k=k, statistics="samples" if chosen == "samples" else "means")
    integers = made.integers()
    chains = ContrastiveDivergence(made, options, Noise(1, "chains"))
    states, means = integers.hidden(to_bytes(made.visible, data), Noise(1, "data"), 0, means=True)
    if chosen == "float":
        hidden = made.hidden_mean(data)
        start = made.sample_hidden(data, Noise(1, "data"), 0, integers=integers)
        visible, last = chains.states(start, 0, 0, None, integers)
    else:
        hidden = means if chosen == "means" else states
        phase = chains.phase(states, 0, 0, None, integers)
        one = 32767 if chosen == "means" else 1
        hidden, visible, last = hidden / one, phase.visible, phase.hidden / one
    pairs = hidden[:, :, None] * data[:, None] - last[:, :, None] * visible[:, None]
    z = pairs.mean(0) / (pairs.std(0) / len(pairs) ** 0.5)
    assert z.abs().max() < 4
