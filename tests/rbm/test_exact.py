# SPDX-License-Identifier: Apache-2.0
"""Machines of binary units: statistics in integers, rows of grey levels, half precision."""

import math

import numpy as np
import pytest
import torch
from machines import machine

from torch_init import rbm
from torch_init.rbm.exact import Difference, Phase, exact_rows
from torch_init.rbm.gradient import Offsets, likelihood_gradient, statistics
from torch_init.rbm.negative import FastPersistent
from torch_init.rbm.options import Options
from torch_init.rbm.parallel import Processes
from torch_init.rbm.sampling import Noise

ONE = Processes()
UNITS = {
    "bernoulli": (12, 7),
    "spin": (rbm.Spin(12), rbm.Spin(7)),
    "bernoulli-spin": (rbm.Bernoulli(12), rbm.Spin(7)),
    "spin-bernoulli": (rbm.Spin(12), rbm.Bernoulli(7)),
}


def bits(count, seed=0, columns=12):
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(count, columns, generator=generator) < 0.4).float()


def grey(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 12), generator=generator).float() / 255


def states_of(made, rows):
    return 2 * rows - 1 if isinstance(made.visible, rbm.Spin) else rows


@pytest.mark.parametrize("units", UNITS.values(), ids=UNITS)
@pytest.mark.parametrize("means", [True, False])
def test_differences_are_those_of_the_states(units, means):
    """Of 30 rows of data, grey ones if they can be, and 40 of the model."""
    made = machine(units)
    integers = made.integers()
    of_data = grey(30) if units == UNITS["bernoulli"] else states_of(made, bits(30))
    phases, parts = [], []
    for rows in (of_data, states_of(made, bits(40, seed=1))):
        found = exact_rows(made, rows.double(), ONE, are_states=False)
        assert found is not None
        drawn, of_means = integers.hidden(found[0], Noise(1, "h"), 0, found[1], means=True)
        phases.append(Phase(found[0], of_means if means else drawn, found[1]))
        hidden = integers.states("h", drawn)
        if means:
            hidden = made.hidden_mean(rows.double()).detach()
        parts.append(statistics(made, rows.double(), hidden, len(rows), ONE))
    difference = Difference(made, tuple(phases), (30, 40), ONE, None)
    offsets = Offsets(made)
    offsets.follow_(*difference.data)
    found = likelihood_gradient(*difference.statistics(), offsets)
    want = likelihood_gradient(*parts, offsets)
    most = 4 * 2**-16 if means else 1e-7  # a spin's mean is two of a probability, less one
    for name in ("weight", "visible_bias", "hidden_bias"):
        scale = 1 if name == "weight" else 1 + 12
        assert (getattr(found, name) - getattr(want, name)).abs().max() < most * scale, name


def test_sums_beyond_32_bits():
    """300 grey rows of saturated units."""
    made = rbm.RBM(12, 7, std=0.0)
    with torch.no_grad():
        made.hidden_bias.fill_(30.0)
    data = Phase(
        torch.full((300, 12), 255, dtype=torch.uint8),
        torch.full((300, 7), 32767, dtype=torch.int16),
        255,
    )
    model = Phase(torch.zeros(300, 12, dtype=torch.uint8), data.hidden, 1)
    difference = Difference(made, (data, model), (300, 300), ONE, None)
    assert torch.allclose(difference.pairs * difference.scale, torch.ones(12, 7))
    assert difference.pairs.dtype == torch.int64


@pytest.mark.parametrize("beta", [1.0, 0.5, 1.5, "chains"])
@pytest.mark.parametrize("clamp", [None, torch.arange(12) < 3])
def test_a_chain_depends_on_its_own_row_alone(beta, clamp):
    """Rows of states, of levels u / 255 and of other means, together and one by one."""
    made = machine(UNITS["bernoulli"], dtype=torch.float32)
    generator = torch.Generator().manual_seed(3)
    rows = torch.cat([bits(3), grey(3), torch.rand(3, 12, generator=generator)])[
        torch.randperm(9, generator=generator)
    ]
    betas = torch.linspace(0.3, 1.7, 9) if beta == "chains" else torch.full((9,), beta)
    noise = Noise(5, "rows")
    whole = made.run_chains(rows, noise, 2, 3, betas, clamp)
    for row in range(9):
        alone = made.run_chains(
            rows[row : row + 1], noise.from_chain(row), 2, 3, betas[row : row + 1], clamp
        )
        for found, want in zip(alone, whole, strict=True):
            assert torch.equal(found, want[row : row + 1]), row


def test_rows_of_bytes_are_exact():
    made = rbm.RBM(12, 7)
    as_bytes = (255 * grey(5)).to(torch.uint8)
    for rows in (as_bytes.float() / 255, as_bytes / 255, (as_bytes.double() / 255).float()):
        levels, exact = exact_rows(made, rows, ONE, False), 255
        assert levels is not None and levels[1] == exact and torch.equal(levels[0], as_bytes)
    assert exact_rows(made, bits(5), ONE, False)[1] == 1


def test_other_rows_are_rounded_to_fine_levels():
    made = rbm.RBM(12, 7)
    rows = torch.rand(5, 12, generator=torch.Generator().manual_seed(1))
    rows[0, :2] = torch.tensor([0.0, 1.0])
    fine, levels = exact_rows(made, rows, ONE, False)
    assert (fine.dtype, levels) == (torch.int16, 32767)
    assert (fine / 32767 - rows).abs().max() <= 2**-16 and fine[0, :2].tolist() == [0, 32767]
    spins = rbm.RBM(rbm.Spin(12), 7)
    assert exact_rows(spins, 2 * rows - 1, ONE, False) is None


def test_law_of_grey_starts():
    """Half-steps from the same levels by integers and by the float path: the same frequencies."""
    made = machine(UNITS["bernoulli"], dtype=torch.float32)
    rows = grey(1).expand(20_000, 12)
    exact = made.sample_hidden(rows, Noise(1, "a"), integers=made.integers()).mean(0)
    p = made.hidden_mean(rows[:1])[0].detach()
    assert ((exact - p).abs() < 4.5 * (p * (1 - p) / 20_000).sqrt()).all()


def means(count):
    return torch.rand(count, 12, generator=torch.Generator().manual_seed(4))


def test_law_of_fine_starts():
    """An update's hidden states given means: the float path's frequencies."""
    made = machine(UNITS["bernoulli"], dtype=torch.float32)
    fine, levels = exact_rows(made, means(1).expand(20_000, 12), ONE, False)
    drawn, of_fine = made.integers().hidden(fine, Noise(1, "a"), 0, levels, means=True)
    p = made.hidden_mean(means(1))[0].detach()
    assert ((drawn.double().mean(0) - p).abs() < 4.5 * (p * (1 - p) / 20_000).sqrt()).all()
    # A mean, and each of 12 visible units times a weight of at most 4, are rounded by 2^-16.
    assert (of_fine / 32767 - p).abs().max() < 2**-16 * (1 + 12)


@pytest.mark.parametrize("data", [bits(90), grey(90), means(90)], ids=["states", "grey", "means"])
@pytest.mark.parametrize("algorithm", ["cd", "pcd", "fpcd", "pt"])
def test_threads_and_instruction_sets_change_nothing(data, algorithm):
    from torch_init import _ops

    found = []
    before = _ops.cpu_isa(), torch.get_num_threads()
    for isa in _ops.cpu_isas():
        for threads in (1, 2):
            _ops.set_cpu_isa(isa)
            torch.set_num_threads(threads)
            made = rbm.RBM(12, 7)
            made.fit(data, epochs=2, batch_size=20, algorithm=algorithm, temperatures=2)
            found.append([p.detach() for p in made.parameters()])
    _ops.set_cpu_isa(before[0])
    torch.set_num_threads(before[1])
    assert all(map(torch.equal, found[0], other) for other in found[1:])
    for other in found[1:]:
        assert all(map(torch.equal, found[0], other))


def test_the_native_step_is_the_gradient_of_the_float_path():
    """One update of momentum 0 from float32 parameters, and from the same in float64."""
    made, wide = (machine((12, 7), dtype=dtype) for dtype in (torch.float32, torch.float64))
    wide.load_state_dict(made.state_dict())
    options = {"epochs": 1, "batch_size": 50, "momentum": 0.0, "sparsity_target": 0.1, "l1": 1e-3}
    for one in (made, wide):
        one.fit(bits(50), **options)
    for a, b in zip(made.parameters(), wide.parameters(), strict=True):
        torch.testing.assert_close(a.double(), b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    "units", [(12, 7), (rbm.Gaussian(12), rbm.Bernoulli(7))], ids=["bernoulli", "gaussian"]
)
def test_half_precision_learns_by_small_steps(dtype, units):
    """Steps of less than half of a weight's last place, which rounding would undo, add up."""
    options = {"epochs": 60, "batch_size": 30, "learning_rate": 3e-3, "momentum": 0.0}
    found = []
    for kind in (dtype, torch.float32):
        made = rbm.RBM(*units, dtype=kind)
        made.load_state_dict(rbm.RBM(*units, dtype=dtype, std=1.0).state_dict())
        before = made.weight.detach().float().clone()
        made.fit(bits(90), visible_bias="keep", weight_decay=0.0, **options)
        found.append(made.weight.detach().float() - before)
    assert (found[0] - found[1]).norm() < 0.5 * found[1].norm()


def test_half_precision_resumes_to_the_bit(tmp_path):
    whole, parts = rbm.RBM(12, 7, dtype=torch.bfloat16), rbm.RBM(12, 7, dtype=torch.bfloat16)
    options = {"batch_size": 30, "learning_rate": 1e-3}
    whole.fit(bits(90), epochs=4, **options)
    parts.fit(bits(90), epochs=2, checkpoint=tmp_path, **options)
    parts = rbm.RBM(12, 7, dtype=torch.bfloat16)
    parts.fit(bits(90), epochs=4, checkpoint=tmp_path, resume=True, **options)
    assert all(map(torch.equal, whole.parameters(), parts.parameters()))


@pytest.mark.parametrize("exact", [True, False])
def test_fast_weights_follow_the_likelihood_alone(monkeypatch, exact):
    """Tieleman & Hinton (2009): neither weight decay nor L1 nor a sparsity target moves them."""
    seen = []
    monkeypatch.setattr(
        FastPersistent,
        "after",
        lambda self, gradient: seen.append([gradient.weight.clone(), gradient.hidden_bias.clone()]),
    )
    penalties = {"weight_decay": 0.3, "l1": 0.2, "sparsity_target": 0.01, "sparsity_cost": 1.0}
    for options in (penalties, {"weight_decay": 0.0}):
        made = rbm.RBM(12, 7, exact=exact, std=0.5)
        made.fit(bits(20), epochs=1, batch_size=20, algorithm="fpcd", **options)
    assert len(seen) == 2 and seen[0][0].any()
    assert all(map(torch.equal, *seen))


def test_options_of_numpy_and_schedules_in_checkpoints(tmp_path):
    options = {"learning_rate": np.float32(0.1), "batch_size": 10}
    schedule = lambda done: 1 - done  # noqa: E731
    rbm.RBM(12, 7).fit(bits(20), epochs=2, checkpoint=tmp_path, schedule=schedule, **options)
    with pytest.raises(ValueError, match="schedule"):
        rbm.RBM(12, 7).fit(
            bits(20), epochs=2, checkpoint=tmp_path, resume=True, schedule=math.cos, **options
        )
    with pytest.raises(ValueError, match="schedule"):
        other = lambda done: 1 - done**2  # noqa: E731
        rbm.RBM(12, 7).fit(
            bits(20), epochs=2, checkpoint=tmp_path, resume=True, schedule=other, **options
        )
    rbm.RBM(12, 7).fit(
        bits(20), epochs=2, checkpoint=tmp_path, resume=True, schedule=schedule, **options
    )
    assert Options(momentum=np.float32(0.5)).as_json()["momentum"] == [0.5, 0.5]


def test_states_of_means_are_refused():
    with pytest.raises(ValueError, match="reconstruction: expected 'samples'"):
        rbm.RBM(12, 7).fit(bits(20), statistics="samples", reconstruction="means")


def test_beta_of_gaussian_units_is_checked_on_every_path():
    made = rbm.RBM(rbm.Gaussian(3), 2)
    with pytest.raises(ValueError, match="beta: expected numbers > 0"):
        made.run_chains(torch.zeros(2, 3), Noise(0, "a"), 0, 1, torch.tensor([1.0, 0.0]))


def test_numbers_of_rows_whose_sums_would_overflow_are_refused():
    made = rbm.RBM(1, 1, seed=0)
    one = torch.ones(1, 1, dtype=torch.uint8)
    phases = Phase(one, one.short(), 255), Phase(one, one.short())
    Difference(made, phases, (10_000_019, 10_000_019), ONE, None)
    with pytest.raises(ValueError, match="chains: expected numbers whose least common multiple"):
        Difference(made, phases, (10_000_019, 9_999_991), ONE, None)
