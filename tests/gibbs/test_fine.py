# SPDX-License-Identifier: Apache-2.0
"""Half-steps and statistics from fine levels, multiples of 1 / 32767: docs/gibbs.md, 4 and 6."""

import gibbs_reference as reference
import numpy as np
import pytest
import torch

from torch_init import _ops

KEY = {"seed": 7, "name": "rbm"}
SIZES = [(1, 1, 1), (9, 30, 17), (33, 70, 100), (130, 5, 16)]


def layer(visible, hidden, scale=0.5):
    generator = torch.Generator().manual_seed(visible)
    sizes = ((visible, hidden), (visible,), (hidden,))
    return [scale * torch.randn(size, generator=generator) for size in sizes]


def fine(chains, units, seed=0):
    generator = torch.Generator().manual_seed(seed)
    levels = torch.randint(0, _ops.MEAN_ONE + 1, (chains, units), generator=generator)
    levels[:, :1] = _ops.MEAN_ONE
    return levels.to(torch.int16)


def check(found, want):
    np.testing.assert_array_equal(found.numpy(), want)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("unit", ["bernoulli", "spin"])
@pytest.mark.parametrize("scale", [0.1, 1e4])
def test_half_step(isa, size, unit, scale):
    chains, visible, hidden = size
    parameters, rows = layer(visible, hidden, scale), fine(chains, visible)
    weights, exact = _ops.quantize(*parameters), reference.quantize(*parameters)
    how = {"levels": _ops.MEAN_ONE, "units": ("bernoulli", unit)}
    spins = (0, int(unit == "spin"))
    field, _ = reference.fields(exact, rows.numpy(), 1, levels=_ops.MEAN_ONE, units=spins)
    words = reference.words(chain=5 + np.arange(chains), step=3, side=1, units=hidden, **KEY)
    on = field > _ops.MEAN_ONE * reference.thresholds(words, exact[3])
    want = reference.means(exact, rows.numpy(), levels=_ops.MEAN_ONE, units=spins)
    out = torch.empty(chains, hidden, dtype=torch.int16)
    place = {"first_chain": 5, "step": 3, **KEY}
    check(_ops.sample_hidden(weights, rows, means=out, **place, **how), on)
    check(out, want)
    check(_ops.sample_hidden(weights, rows, **place, **how), on)
    check(_ops.hidden_means(weights, rows, **how), want)


def test_states_in_levels_are_states(isa):
    weights = _ops.quantize(*layer(40, 30))
    states = (fine(50, 40) > 20_000).to(torch.uint8)
    as_levels = states.to(torch.int16) * _ops.MEAN_ONE
    want = _ops.sample_hidden(weights, states, step=2, **KEY)
    found = _ops.sample_hidden(weights, as_levels, step=2, levels=_ops.MEAN_ONE, **KEY)
    assert torch.equal(found, want)


def test_default_device():
    weights = _ops.quantize(*layer(4, 2))
    rows = fine(0, 4)
    with torch.device("meta"):
        found = _ops.sample_hidden(weights, rows, levels=_ops.MEAN_ONE, **KEY)
    assert found.is_cpu and found.shape == (0, 2)


@pytest.mark.parametrize("chains", [0, 1, 100, 300])
@pytest.mark.parametrize(("visible", "hidden"), [(1, 1), (70, 130), (129, 260)])
def test_statistics(isa, chains, visible, hidden):
    """Beside a term of states, as in an update."""
    rows, means = fine(chains, visible), fine(chains, hidden, 1)
    states, last = (fine(50, visible, 2) > 9_000).to(torch.uint8), fine(50, hidden, 3)
    out = torch.empty(visible, hidden, dtype=torch.int64)
    terms = (
        _ops.Term(rows, means, _ops.MEAN_ONE, 3),
        _ops.Term(states, last, 1, -_ops.MEAN_ONE),
    )
    found = _ops.statistics(*terms, out=out, accumulate=False)
    want = 3 * rows.T.double() @ means.double()
    want -= _ops.MEAN_ONE * states.T.double() @ last.double()
    assert torch.equal(out.double(), want)
    for sums, pair in zip(found.sums, ((rows, means), (states, last)), strict=True):
        assert torch.equal(sums, torch.cat([part.sum(0, dtype=torch.int64) for part in pair]))


@pytest.mark.parametrize(
    ("rows", "how", "argument"),
    [
        (torch.zeros(3, 4, dtype=torch.uint8), {}, "visible"),
        (fine(3, 5), {}, "visible"),
        (fine(4, 3).T, {}, "visible"),
        (fine(3, 4), {"beta": 0.5}, "beta"),
        (fine(3, 4), {"units": ("spin", "bernoulli")}, "levels"),
    ],
    ids=["bytes", "width", "strides", "beta", "spins"],
)
def test_bad_input(rows, how, argument):
    weights = _ops.quantize(*layer(4, 2))
    with pytest.raises(ValueError, match=argument):
        _ops.sample_hidden(weights, rows, levels=_ops.MEAN_ONE, **KEY, **how)
    if argument == "visible" and rows.shape[1] == 4:
        with pytest.raises(ValueError, match="visible"):
            _ops.statistics(_ops.Term(rows, fine(3, 2), _ops.MEAN_ONE))
