# SPDX-License-Identifier: Apache-2.0
"""log Z exactly and by annealing from both sides; pseudo-likelihood."""

import math
import warnings

import pytest
import shared_data
import torch
from machines import DISCRETE, ENUMERABLE, all_pairs, machine, visible_law

from torch_init import rbm


def exact_samples(made, count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    rows = torch.multinomial(visible_law(made), count, True, generator=generator)
    return made.visible.states()[rows]


@pytest.mark.parametrize("units", DISCRETE.values(), ids=DISCRETE)
def test_log_partition_sums_all_pairs(units):
    made = machine(units)
    want = torch.logsumexp(-made.energy(*all_pairs(made)), 0).item()
    assert math.isclose(rbm.log_partition(made), want, rel_tol=1e-13)
    v_side = torch.logsumexp(-made.free_energy(made.visible.states()), 0).item()
    h_side = torch.logsumexp(-made.hidden_free_energy(made.hidden.states()), 0).item()
    assert math.isclose(v_side, h_side, rel_tol=1e-13)


@pytest.mark.parametrize("kind", [rbm.Bernoulli, rbm.Spin])
def test_log_partition_in_chunks(kind):
    """17 hidden units take four chunks; spins of 3 x 17 have a closed form too."""
    made = machine((rbm.Bernoulli(20), kind(17)), scale=0.3)
    v_side = machine((rbm.Bernoulli(17), kind(20)), scale=0.3)  # for the shape of its states only
    assert len(v_side.visible.states()) == 2**17
    h = kind(17).states()
    want = torch.logsumexp(-made.hidden_free_energy(h), 0).item()
    assert math.isclose(rbm.log_partition(made), want, rel_tol=1e-13)


def test_log_partition_refuses_what_would_take_ages():
    with pytest.raises(ValueError, match=r"log_partition: rbm: expected at most 2\*\*25"):
        rbm.log_partition(rbm.RBM(26, 26))


def test_likelihood_sums_to_one():
    made = machine(DISCRETE["bernoulli"], dtype=torch.float32)
    log_p = rbm.log_likelihood(made, made.visible.states().float())
    assert math.isclose(log_p.exp().sum().item(), 1, rel_tol=1e-12)


def test_toy_of_salakhutdinov_exactly():
    assert abs(rbm.log_partition(shared_data.toy_of_salakhutdinov()) - 215.138405525) < 1e-6


@pytest.mark.parametrize("seed", [0, 1])
def test_toy_of_salakhutdinov_by_annealing(seed):
    made = shared_data.toy_of_salakhutdinov()
    estimate = rbm.ais(made, shared_data.mnist(10_000), betas=1000, seed=seed)
    assert estimate.low < 215.138405525 < estimate.high
    assert estimate.high - estimate.low < 1.5
    assert estimate.effective_sample_size > 15


def test_toy_of_salakhutdinov_needs_the_base_rate():
    """The known pitfall: off by some 20 nats with a small upper error bar."""
    made = shared_data.toy_of_salakhutdinov()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        estimate = rbm.ais(made, None, betas=300)
    assert estimate.value < 205


@pytest.mark.parametrize("units", ENUMERABLE.values(), ids=ENUMERABLE)
def test_annealing_without_weights_is_exact(units):
    made = machine(units)
    with torch.no_grad():
        made.weight.zero_()
    data = made.sample(20, steps=1, seed=0)
    if isinstance(made.hidden, rbm.Gaussian):
        with torch.no_grad():
            made.hidden_bias.zero_()
    want = rbm.log_partition(made)
    for part in (data, None):
        estimate = rbm.ais(made, part, betas=500, chains=2000)
        tolerance = 4 * (estimate.high - estimate.low) / 6 + 1e-9
        assert abs(estimate.value - want) < tolerance


def test_annealing_of_the_base_machine_has_no_variance():
    made = rbm.RBM(6, 4, std=0.0, dtype=torch.float64)
    data = torch.ones(7, 6)
    with torch.no_grad():
        made.visible_bias.copy_(rbm.base_rate(made, data))
    estimate = rbm.ais(made, data, betas=5, chains=10)
    assert estimate.log_weights.std() < 1e-13
    assert math.isclose(estimate.value, rbm.log_partition(made), abs_tol=1e-5)
    assert math.isclose(estimate.effective_sample_size, 10)


@pytest.mark.parametrize("units", ENUMERABLE.values(), ids=ENUMERABLE)
def test_annealing_is_unbiased(units):
    """E exp(log weight) = Z: a z-test on 4,000 chains with few temperatures."""
    made = machine(units, seed=2)
    data = made.sample(50, steps=5, seed=0)
    estimate = rbm.ais(made, data, betas=30, chains=4000, seed=1)
    ratio = torch.exp(estimate.log_weights - rbm.log_partition(made))
    z = (ratio.mean() - 1) / (ratio.std() / math.sqrt(len(ratio)))
    assert abs(z) < 4


@pytest.mark.parametrize("units", DISCRETE.values(), ids=DISCRETE)
def test_annealing_from_both_sides_encloses_log_z(units):
    made = machine(units, seed=3, scale=1.2)
    want = rbm.log_partition(made)
    start = exact_samples(made, 2000)
    # Few temperatures, so that the gaps are many standard errors.
    below = rbm.ais(made, start, betas=5, chains=2000).log_weights
    above = rbm.reverse_ais(made, start, start, betas=5).log_weights
    assert below.mean() < want < above.mean()
    fine = rbm.reverse_ais(made, start, start, betas=60)
    assert fine.low <= want <= fine.high


def test_few_temperatures_warn():
    """From both sides, and in the name of the line that called."""
    made = machine((rbm.Bernoulli(30), rbm.Bernoulli(20)), scale=2.0)
    with pytest.warns(UserWarning, match="effective sample size .* underestimated") as warned:
        rbm.ais(made, None, betas=3, chains=100)
    assert warned[0].filename == __file__
    with pytest.warns(UserWarning, match="effective sample size .* overestimated") as warned:
        rbm.reverse_ais(made, made.sample(100, steps=100, seed=0), None, betas=3)
    assert warned[0].filename == __file__


def test_samples_of_another_law_make_no_bound():
    """Reverse AIS from one of two far modes alone is below log Z, with a small interval."""
    made = rbm.RBM(20, 1, std=0.0)
    with torch.no_grad():
        made.weight.fill_(4.0)
        made.visible_bias.fill_(-2.0)
        made.hidden_bias.fill_(-3.0)  # all ones are the deeper mode
    start = torch.zeros(200, 20)
    stuck = rbm.reverse_ais(made, start, None, betas=200)
    assert stuck.high < rbm.log_partition(made)


def test_an_estimate_is_shown_with_its_interval_and_efficiency():
    made = rbm.RBM(4, 3, std=0.0)
    text = "4.85 [4.85, 4.85], effective sample size 7 of 7"
    assert str(rbm.ais(made, None, betas=3, chains=7)) == text
    assert str(rbm.reverse_ais(made, torch.ones(7, 4), None, betas=3)) == text


@pytest.mark.parametrize("units", ENUMERABLE.values(), ids=ENUMERABLE)
def test_the_base_machine_has_the_means_of_the_data(units):
    """Up to the pseudo-counts, which vanish among many rows; labels sum to one."""
    made = machine(units, seed=4)
    data = made.sample(1000, steps=3, seed=0).repeat(1000, 1)
    bias = rbm.base_rate(made, data)
    torch.testing.assert_close(made.visible.mean(bias), data.mean(0), rtol=0, atol=1e-4)


def test_float32_and_float64_machines_agree():
    made = machine(DISCRETE["bernoulli"], dtype=torch.float32)
    wide = machine(DISCRETE["bernoulli"], dtype=torch.float64)
    wide.load_state_dict({k: v.double() for k, v in made.state_dict().items()})
    data = made.sample(10, steps=2, seed=0)
    a, b = (rbm.ais(one, data, betas=20).value for one in (made, wide))
    assert math.isclose(a, b, abs_tol=1e-5)  # both are rounded to fixed point


@pytest.mark.parametrize("units", ["bernoulli", "spin", "bernoulli-spin"])
def test_native_and_float_annealing_agree(units):
    """Each within four standard errors of log Z, from both sides."""
    data = machine(DISCRETE[units], seed=3).sample(50, steps=2, seed=0)
    for exact in (True, False):
        made = machine(DISCRETE[units], seed=3, exact=exact)
        want, start = rbm.log_partition(made), exact_samples(made, 3000)
        for estimate in (
            rbm.ais(made, data, betas=40, chains=3000),
            rbm.reverse_ais(made, start, data, betas=40),
        ):
            assert abs(estimate.value - want) < 4 * (estimate.high - estimate.low) / 6


@pytest.mark.parametrize(
    "units", [DISCRETE["bernoulli"], DISCRETE["spin"]], ids=["bernoulli", "spin"]
)
def test_pseudo_likelihood_by_enumeration(units):
    made = machine(units)
    states = made.visible.states()
    off = states.min()
    law = visible_law(made)
    want = torch.zeros(len(states), dtype=torch.float64)
    for unit in range(made.visible.size):
        flipped = torch.arange(len(states)) ^ (1 << unit)
        assert (states[flipped][:, unit] == 1 + off - states[:, unit]).all()
        want += torch.log(law / (law + law[flipped]))
    got = rbm.pseudo_likelihood(made, states)
    torch.testing.assert_close(got, want, rtol=1e-10, atol=0)
    # Sampled: the mean over many copies of a state is the exact sum.
    copies = states[[9]].expand(20_000, -1)
    sampled = rbm.pseudo_likelihood(made, copies, flips=1)
    assert abs(sampled.mean() - want[9]) < 4 * sampled.std() / math.sqrt(len(copies))
    torch.testing.assert_close(rbm.pseudo_likelihood(made, copies[:3], flips=99), want[[9, 9, 9]])


@pytest.mark.parametrize("units", ["bernoulli", "spin"])
def test_pseudo_likelihood_of_means(units):
    """A grey unit counts as its two states do, each as often as its mean says."""
    made = machine(DISCRETE[units])
    states = made.visible.states()[5:9]
    whole = rbm.pseudo_likelihood(made, states)
    grey = states.clone()
    low = states.min()
    grey[:, 2] = low + 0.3 * (1 - low)
    logits = []
    for unit in range(made.visible.size):
        on, off = grey.clone(), grey.clone()
        on[:, unit], off[:, unit] = 1, low
        logits.append(made.free_energy(off) - made.free_energy(on))
    mean = (grey - low) / (1 - low)
    loss = torch.nn.functional.binary_cross_entropy_with_logits(
        torch.stack(logits, 1), mean, reduction="none"
    )
    got = rbm.pseudo_likelihood(made, grey)
    torch.testing.assert_close(got, -loss.sum(1).detach(), rtol=1e-10, atol=0)
    assert not torch.isclose(got, whole).any()


def test_errors():
    made = rbm.RBM(rbm.Gaussian(3), 2)
    with pytest.raises(TypeError, match="Bernoulli or Spin"):
        rbm.pseudo_likelihood(made, torch.zeros(1, 3))
    with pytest.raises(TypeError, match="NReLU"):
        rbm.ais(rbm.RBM(rbm.Gaussian(3), rbm.NReLU(2)), None)
    with pytest.raises(ValueError, match="rising values from 0 to 1"):
        rbm.ais(made, None, betas=torch.tensor([0.0, 0.5]))
    with pytest.raises(ValueError, match="2 or more"):
        rbm.ais(made, None, betas=1)
    with pytest.raises(ValueError, match="samples: expected one sample of the machine or more"):
        rbm.reverse_ais(made, torch.empty(0, 3), None)
    with pytest.raises(ValueError, match="base_rate: data: expected at least one, got no rows"):
        rbm.ais(made, torch.empty(0, 3), betas=2)


def test_only_the_smaller_layer_has_to_be_enumerable():
    """2^2000 does not fit a float: the larger layer then has infinitely many states."""
    assert math.isfinite(rbm.log_partition(rbm.RBM(4, 2000)))
    assert rbm.Softmax(3000, categories=3).num_states == math.inf
