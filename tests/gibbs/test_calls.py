# SPDX-License-Identifier: Apache-2.0
"""How chains are called: parts, threads, continuation, empty sizes, wrong arguments."""

import numpy as np
import pytest
import torch

from torch_init import _ops, _ops_device, _ops_gibbs

SEED = {"seed": 1, "name": "rbm"}


def layer(visible=40, hidden=30):
    generator = torch.Generator().manual_seed(0)
    sizes = ((visible, hidden), (visible,), (hidden,))
    return _ops.quantize(*(0.5 * torch.randn(size, generator=generator) for size in sizes))


def states(chains, units):
    generator = torch.Generator().manual_seed(1)
    return torch.randint(2, (chains, units), generator=generator, dtype=torch.uint8)


@pytest.mark.parametrize("parts", [(1, 149), (75, 75), (16, 33, 101), tuple([1] * 10 + [140])])
def test_any_split_of_the_batch(isa, parts):
    weights, visible = layer(), states(150, 40)
    whole = _ops.gibbs(weights, visible.clone(), None, sweeps=3, **SEED)
    found, first = [], 0
    for part in parts:
        piece = visible[first : first + part].clone()
        found.append(_ops.gibbs(weights, piece, None, sweeps=3, first_chain=first, **SEED))
        first += part
    for side in (0, 1):
        assert torch.equal(torch.cat([f[side] for f in found]), whole[side])


@pytest.mark.parametrize("threads", [2, 3, 7])
def test_any_number_of_threads(isa, threads):
    weights, visible = layer(300, 200), states(300, 300)
    before = torch.get_num_threads()
    runs = []
    for n in (1, threads):
        torch.set_num_threads(n)
        runs.append(_ops.gibbs(weights, visible.clone(), None, sweeps=4, **SEED))
    torch.set_num_threads(before)
    assert torch.equal(runs[0][0], runs[1][0])
    assert torch.equal(runs[0][1], runs[1][1])


def test_chains_go_on(isa):
    weights, visible = layer(), states(20, 40)
    whole, _ = _ops.gibbs(weights, visible.clone(), None, sweeps=7, **SEED)
    part, _ = _ops.gibbs(weights, visible.clone(), None, sweeps=3, **SEED)
    part, _ = _ops.gibbs(weights, part, None, sweeps=4, first_step=3, **SEED)
    assert torch.equal(part, whole)


def test_a_sweep_is_two_half_steps(isa):
    weights, visible = layer(), states(20, 40)
    expected = _ops.gibbs(weights, visible.clone(), None, first_step=5, **SEED)
    hidden = _ops.sample_hidden(weights, visible, step=5, **SEED)
    assert torch.equal(hidden, expected[1])
    assert torch.equal(_ops.sample_visible(weights, hidden, step=5, **SEED), expected[0])


def test_states_differ_by_all_that_names_them():
    weights, visible = layer(), states(20, 40)

    def sample(**how):
        return _ops.sample_hidden(weights, visible, **{**SEED, **how})

    first = sample()
    others = [{"seed": 2}, {"name": "b"}, {"step": 1}, {"first_chain": 1}]
    for how in others:
        assert not torch.equal(sample(**how), first)
    assert torch.equal(sample(), first)
    key = _ops.stream_key(1, "rbm")
    assert _ops_gibbs.stream_key(1, "rbm") != key


@pytest.mark.parametrize(("visible", "hidden"), [(0, 0), (0, 5), (5, 0), (5, 4)])
@pytest.mark.parametrize("chains", [0, 20])
def test_empty(isa, visible, hidden, chains):
    weights = layer(visible, hidden)
    for start in ("visible", "hidden"):
        v, h = _ops.gibbs(
            weights, states(chains, visible), states(chains, hidden), sweeps=2, start=start, **SEED
        )
        assert v.shape == (chains, visible)
        assert h.shape == (chains, hidden)
    if visible == 0 and hidden and chains:
        assert h.unique().tolist() == [0, 1]


def test_no_sweeps_changes_nothing(isa):
    v, h = states(20, 40), states(20, 30)
    found = _ops.gibbs(layer(), v.clone(), h.clone(), sweeps=0, **SEED)
    assert torch.equal(found[0], v)
    assert torch.equal(found[1], h)


def test_in_place():
    v, h = states(20, 40), states(20, 30)
    found = _ops.gibbs(layer(), v, h, **SEED)
    assert found[0] is v
    assert found[1] is h


@pytest.mark.parametrize("bad", [np.nan, np.inf, 2.0**64])
@pytest.mark.parametrize("where", [0, 1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_numbers_that_have_no_fixed_point(bad, where, dtype):
    parameters = [torch.zeros(s, dtype=dtype) for s in ((70, 5), (70,), (5,))]
    parameters[where].view(-1)[3] = -bad
    for quantize in (_ops.quantize, _quantize_with_kernels):
        with pytest.raises(ValueError, match=r"fit: weights and biases: expected finite"):
            quantize(*parameters, function="fit")


def _quantize_with_kernels(*parameters, function):
    with _ops_device.cuda_bodies_on_host():
        _ops.quantize(*parameters, function=function)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"visible": states(20, 41)}, "visible: expected"),
        ({"visible": states(20, 40).float()}, "visible: expected"),
        ({"visible": states(40, 20).T}, "visible: expected"),
        ({"hidden": states(19, 30)}, "hidden: expected"),
        ({"beta": -0.1}, "beta: expected"),
        ({"beta": 16.1}, "beta: expected"),
        ({"beta": float("nan")}, "beta: expected"),
        ({"beta": torch.ones(19)}, "beta: expected"),
        ({"unit_beta": (torch.ones(39), None)}, "unit_beta of the visible side: expected"),
        ({"beta": 4.0, "unit_beta": (None, torch.full((30,), 4.1))}, "unit_beta of the hidden"),
        ({"first_chain": -1}, "first_chain: expected"),
        ({"first_chain": 2**32 - 19}, "first_chain: expected"),
        ({"first_step": -1}, "first_step: expected"),
        ({"sweeps": -1}, "sweeps: expected"),
        ({"units": ("bernoulli", "relu")}, "units of the hidden side"),
        ({"clamp": torch.zeros(39, dtype=torch.uint8)}, "clamp: expected"),
    ],
)
def test_wrong_arguments(change, text):
    how = {"visible": states(20, 40), "hidden": states(20, 30), **SEED, **change}
    before = how["hidden"].clone()
    with pytest.raises(ValueError, match=text):
        _ops.gibbs(
            layer(),
            how.pop("visible"),
            how["hidden"],
            **{k: x for k, x in how.items() if k != "hidden"},
        )
    assert torch.equal(how["hidden"], before)


def test_something_to_start_from():
    with pytest.raises(TypeError, match="visible: expected the states"):
        _ops.gibbs(layer(), None, states(20, 30), **SEED)


def test_something_to_clamp():
    clamp, hidden = torch.ones(40, dtype=torch.bool), states(20, 30)
    with pytest.raises(TypeError, match="gibbs: visible: expected the states that clamp keeps"):
        _ops.gibbs(layer(), None, hidden, start="hidden", clamp=clamp, **SEED)
    with pytest.raises(TypeError, match="out: expected the states that clamp keeps"):
        _ops.sample_visible(layer(), hidden, clamp=clamp, **SEED)
