# SPDX-License-Identifier: Apache-2.0
"""The CUDA kernels' bodies, run by the host, against the host's own tiers."""

import pytest
import torch

from torch_init import _ops, _ops_gibbs_cuda, _ops_gibbs_weights

UNITS = [(a, b) for a in ("bernoulli", "spin") for b in ("bernoulli", "spin")]
KEY = 0x123456789ABCDEF
# A launch for each half-step; or clusters of 2^bits blocks and so many chains.
PATHS = {
    "tiles": {"blocks": 3},
    "split": {"split": True},
    "a block": {"clusters": (0, 8)},
    "small clusters": {"clusters": (1, 16)},
    "large clusters": {"clusters": (4, 32)},
}


def layer(visible, hidden):
    generator = torch.Generator().manual_seed(0)
    sizes = ((visible, hidden), (visible,), (hidden,))
    return _ops.quantize(*(0.5 * torch.randn(size, generator=generator) for size in sizes))


def states(chains, units, levels=1):
    generator = torch.Generator().manual_seed(1)
    return torch.randint(levels + 1, (chains, units), generator=generator, dtype=torch.uint8)


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
@pytest.mark.parametrize("units", UNITS, ids="-".join)
@pytest.mark.parametrize("first_side", [0, 1])
@pytest.mark.parametrize("half_steps", [0, 1, 2, 5])
@pytest.mark.parametrize(
    ("chains", "visible", "hidden"), [(0, 3, 3), (1, 1, 1), (13, 30, 70), (40, 65, 17)]
)
def test_half_steps(monkeypatch, path, units, first_side, half_steps, chains, visible, hidden):
    monkeypatch.setattr("torch_init._ops_gibbs.stream_key", lambda seed, name: KEY)
    weights = layer(visible, hidden)
    how = {"first_chain": 5, "beta": torch.linspace(0, 2, chains), "units": units}
    how["unit_beta"] = (torch.linspace(0, 8, visible), torch.linspace(1, 2, hidden))
    how["clamp"] = (torch.arange(visible) % 4 == 0).to(torch.uint8)
    v, h = states(chains, visible), states(chains, hidden)
    found = v.clone(), h.clone()
    _ops_gibbs_cuda.gibbs_with_cuda_body_on_host(
        weights,
        *found,
        key=KEY,
        half_steps=half_steps,
        first_step=9,
        first_side=first_side,
        **path,
        **how,
    )
    start = ("hidden", "visible")[first_side]
    sweeps = half_steps // 2
    _ops.gibbs(weights, v, h, seed=0, first_step=9, sweeps=sweeps, start=start, **how)
    if half_steps % 2:
        step = {"seed": 0, "step": 9 + sweeps}
        if first_side == 1:
            del how["clamp"]
            h = _ops.sample_hidden(weights, v, **step, **how)
        else:
            v = _ops.sample_visible(weights, h, out=v, **step, **how)
    assert torch.equal(found[0], v)
    assert torch.equal(found[1], h)


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
@pytest.mark.parametrize(
    ("chains", "visible", "hidden"), [(5, 700, 2), (300, 3, 130), (1, 0, 5), (2, 5, 0)]
)
def test_many_steps_and_tiles(monkeypatch, path, chains, visible, hidden):
    """More sources than are on their way at a time, more chains and units than a tile has."""
    monkeypatch.setattr("torch_init._ops_gibbs.stream_key", lambda seed, name: KEY)
    weights, v, h = layer(visible, hidden), states(chains, visible), states(chains, hidden)
    found = v.clone(), h.clone()
    _ops_gibbs_cuda.gibbs_with_cuda_body_on_host(weights, *found, key=KEY, half_steps=4, **path)
    _ops.gibbs(weights, v, h, seed=0, sweeps=2)
    assert torch.equal(found[0], v)
    assert torch.equal(found[1], h)


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
@pytest.mark.parametrize("units", UNITS, ids="-".join)
@pytest.mark.parametrize(
    ("chains", "visible", "hidden"),
    [(1, 1, 1), (7, 31, 129), (127, 33, 1), (129, 129, 33), (64, 16, 17), (257, 49, 47)],
)
def test_fields_compared_with_thresholds_alone(monkeypatch, path, units, chains, visible, hidden):
    """No inverse temperature, clamp or mean: the shortest way, at and around the tiles' edges."""
    monkeypatch.setattr("torch_init._ops_gibbs.stream_key", lambda seed, name: KEY)
    weights, v, h = layer(visible, hidden), states(chains, visible), states(chains, hidden)
    found = v.clone(), h.clone()
    how = {"units": units, "first_chain": 2**32 - 300}
    _ops_gibbs_cuda.gibbs_with_cuda_body_on_host(
        weights, *found, key=KEY, half_steps=4, **path, **how
    )
    _ops.gibbs(weights, v, h, seed=0, sweeps=2, **how)
    assert torch.equal(found[0], v)
    assert torch.equal(found[1], h)


@pytest.mark.parametrize("blocks", [1, 2, 7, 100])
def test_tiles_dealt_out_among_blocks(monkeypatch, blocks):
    """A block goes from tile to tile: 12 and 6 of them here."""
    monkeypatch.setattr("torch_init._ops_gibbs.stream_key", lambda seed, name: KEY)
    weights, v, h = layer(95, 40), states(300, 95), states(300, 40)
    found = v.clone(), h.clone()
    _ops_gibbs_cuda.gibbs_with_cuda_body_on_host(
        weights, *found, key=KEY, half_steps=6, blocks=blocks
    )
    _ops.gibbs(weights, v, h, seed=0, sweeps=3)
    assert torch.equal(found[0], v)
    assert torch.equal(found[1], h)


@pytest.mark.parametrize(
    ("chains", "visible", "hidden"),
    [(0, 50, 37), (1, 50, 37), (6, 50, 37), (130, 200, 70), (7, 129, 1), (257, 33, 31)],
)
@pytest.mark.parametrize("hidden_units", ["bernoulli", "spin"])
@pytest.mark.parametrize("beta", [1.0, 0.7])
def test_grey_levels(monkeypatch, chains, visible, hidden, hidden_units, beta):
    monkeypatch.setattr("torch_init._ops_gibbs.stream_key", lambda seed, name: KEY)
    weights = layer(visible, hidden)
    grey = states(chains, visible, levels=255)
    how = {"levels": 255, "units": ("bernoulli", hidden_units), "beta": beta}
    found = torch.zeros(chains, hidden, dtype=torch.uint8)
    _ops_gibbs_cuda.gibbs_with_cuda_body_on_host(
        weights, grey, found, blocks=2, key=KEY, half_steps=1, first_step=3, **how
    )
    assert torch.equal(found, _ops.sample_hidden(weights, grey, seed=0, step=3, **how))


def test_sums_of_grey_levels_that_32_bits_do_not_hold(monkeypatch):
    """Of a limb: 70000 * 127 * 245 > 2^31. The bias puts the threshold at level 250."""
    monkeypatch.setattr("torch_init._ops_gibbs.stream_key", lambda seed, name: KEY)
    visible, scale = 70000, 1024
    weight = torch.full((visible, 2), 127.0 / scale)
    weight[0, 1] = 8e6 / scale  # so that the scale is this one
    bias = torch.tensor([-visible * 127.0 * 250 / 255 / scale, 0.0])
    weights = _ops.quantize(weight, torch.zeros(visible), bias)
    assert int(weights.by_visible[0, 0]) == 127
    grey = torch.arange(245, 256, dtype=torch.uint8)[:, None].repeat(1, visible)
    found = torch.zeros(len(grey), 2, dtype=torch.uint8)
    _ops_gibbs_cuda.gibbs_with_cuda_body_on_host(
        weights, grey, found, blocks=1, key=KEY, half_steps=1, levels=255
    )
    assert found[:5, 0].tolist() == [0] * 5
    assert found[6:, 0].tolist() == [1] * 5
    assert torch.equal(found, _ops.sample_hidden(weights, grey, seed=0, levels=255))


def test_limbs_are_where_the_specification_of_fragments_says():
    """csrc/gibbs/limbs.h, the long way: w = limb 0 + 2^8 limb 1 + 2^16 limb 2."""
    weights = _ops_gibbs_weights.with_limbs(layer(70, 40))
    for by_unit, limbs, units, sources in (
        (weights.by_visible, weights.limbs[0], 70, 40),
        (weights.by_hidden, weights.limbs[1], 40, 70),
    ):
        steps = -(-sources // 32)
        blocks = limbs.view(torch.int8).view(-1, steps, 2, 3, 32, 16).to(torch.int32)
        expected = torch.zeros(blocks.shape[0] * 32, steps * 32, dtype=torch.int32)
        expected[:units, :sources] = by_unit[:, :sources]
        whole = blocks[:, :, :, 0] + 256 * blocks[:, :, :, 1] + 65536 * blocks[:, :, :, 2]
        found = torch.zeros_like(expected)
        for half in range(2):
            for lane in range(32):
                for byte in range(16):
                    unit = 16 * half + 2 * (lane // 4) + byte // 4 % 2
                    source = 8 * (byte % 4) + 2 * (lane % 4) + byte // 8
                    found[unit::32, source::32] = whole[:, :, half, lane, byte]
        assert torch.equal(found, expected)


def test_limbs_of_an_exchanged_layer():
    weights = _ops_gibbs_weights.with_limbs(layer(70, 40))
    for layer_given in (weights, weights.exchanged()):
        again = _ops_gibbs_weights.with_limbs(layer_given)
        assert all(map(torch.equal, layer_given.limbs, again.limbs))


def test_far_blocks_do_nothing():
    """More blocks than work, as the launcher may ask for."""
    weights, v, h = layer(5, 5), states(2, 5), states(2, 5)
    few, many = [v.clone(), h.clone()], [v.clone(), h.clone()]
    _ops_gibbs_cuda.gibbs_with_cuda_body_on_host(weights, *few, blocks=1, key=KEY, half_steps=4)
    _ops_gibbs_cuda.gibbs_with_cuda_body_on_host(weights, *many, blocks=100, key=KEY, half_steps=4)
    assert torch.equal(few[0], many[0])
    assert torch.equal(few[1], many[1])
