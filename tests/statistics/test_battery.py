# SPDX-License-Identifier: Apache-2.0
"""The battery finds what is wrong with a sample, and nothing in one that is right."""

import math

import battery
import numpy as np
import pytest
import torch
from scipy import special, stats

SIZE = 1_000_000


def rng():
    return np.random.default_rng(7)


def p_values_of_normal(values):
    seen = battery.Battery(stats.norm(), battery.truncated_cdf(-math.inf, math.inf))
    seen.add(values)
    return seen.p_values()


def p_values_of_uniform(values):
    seen = battery.Battery(stats.uniform(), lambda x: x)
    seen.add(values)
    return seen.p_values()


def test_passes_the_generators_of_numpy():
    for generator in (np.random.PCG64, np.random.MT19937, np.random.SFC64):
        values = np.random.Generator(generator(7)).standard_normal(SIZE)
        assert not battery.failures(p_values_of_normal(values)), generator


def autoregressive(x):
    return np.append(x[0], math.sqrt(1 - 0.01**2) * x[1:] + 0.01 * x[:-1])


def volatile(x):
    return np.append(x[0], x[1:] * np.exp(0.02 * (np.abs(x[:-1]) - math.sqrt(2 / math.pi))))


def repeated(x):
    return np.tile(x[:65536], -(-SIZE // 65536))[:SIZE]


def sorted_pairs(x):
    return np.sort(x.reshape(-1, 2), axis=1).ravel()


def one_value_missing(x):
    """A table with a hole: what should fall into two cells of 4096 falls into the next."""
    edges = special.ndtri(np.array([1000, 1002]) / 4096)
    hit = (x > edges[0]) & (x < edges[1])
    return np.where(hit, x + (edges[1] - edges[0]), x)


NORMAL_FLAWS = {
    "moment 2": lambda x: 1.005 * x,
    "moment 1": lambda x: x + 0.007,
    "moment 3": lambda x: x + 0.01 * (x**2 - 1),
    "moment 4": lambda x: x + 0.004 * (x**3 - 3 * x),
    "Kolmogorov-Smirnov": lambda x: x + 0.007,
    "Anderson-Darling": lambda x: 1.01 * x,
    "high tail 0.0001": lambda x: np.minimum(x, 3.5),
    "low tail 1e-06": lambda x: np.where(x < -4, 1.2 * x, x),
    "chi-square of 4096": lambda x: np.round(x * 256) / 256,
    "lag 1 of places": autoregressive,
    "lag 1 of sizes": volatile,
    "lag 65536 of places": repeated,
    "lag 4 of places": lambda x: np.where(np.arange(SIZE) % 8 < 4, np.abs(x), -np.abs(x)),
    "pairs": sorted_pairs,
}


@pytest.mark.parametrize("test", NORMAL_FLAWS)
def test_finds_a_flaw_in_a_normal_sample(test):
    values = NORMAL_FLAWS[test](rng().standard_normal(SIZE))
    assert test in battery.failures(p_values_of_normal(values))


def test_finds_a_hole_in_a_table():
    values = one_value_missing(rng().standard_normal(SIZE))
    assert "chi-square of 4096" in battery.failures(p_values_of_normal(values))


def too_even(u):
    return rng().permutation((np.arange(SIZE) + u) / SIZE)


def sums_to_one(u):
    """Any two of three are independent; the third follows from both."""
    triples = u[: SIZE // 3 * 3].reshape(-1, 3).copy()
    triples[:, 2] = (triples[:, 0] + triples[:, 1]) % 1.0
    return triples.ravel()


UNIFORM_FLAWS = {
    "chi-square of 64": too_even,
    "triples": sums_to_one,
    "high tail 0.001": lambda u: u * 0.9995,
    "chi-square of 4096": lambda u: np.floor(u * 256) / 256,  # what bfloat16 from 8 bits has
}


@pytest.mark.parametrize("test", UNIFORM_FLAWS)
def test_finds_a_flaw_in_a_uniform_sample(test):
    values = UNIFORM_FLAWS[test](rng().random(SIZE))
    assert test in battery.failures(p_values_of_uniform(values))


def test_finds_wrong_rounding():
    """bfloat16 by cutting bits off, instead of rounding: half a step too near to zero."""
    exact = torch.from_numpy(rng().standard_normal(SIZE).astype(np.float32))
    cut = (exact.view(torch.int32) & ~0xFFFF).view(torch.float32).bfloat16()

    def p_values(rounded):
        ends = (torch.full_like(rounded, sign * math.inf) for sign in (-1, 1))
        neighbours = [torch.nextafter(rounded, end).double().numpy() for end in ends]
        values = rounded.double().numpy()
        uniforms = battery.uniforms_of_rounded(values, neighbours, special.ndtr, rng())
        seen = battery.Battery(stats.norm(), special.ndtr)
        seen.add(values, uniforms)
        return seen.p_values()

    assert battery.failures(p_values(cut))
    assert not battery.failures(p_values(exact.bfloat16()))


def test_p_values_are_fair():
    """Else a threshold would mean nothing: 200 samples of 20000, every test's 200 p-values.

    Counts are discrete and tails conservative, so only an excess of small ones matters. One below
    0.005 is expected, and 9 have a probability of 1e-6: 5e-5 for the 46 tests together.
    """
    generator = np.random.default_rng(11)
    law, cdf = stats.norm(), battery.truncated_cdf(-math.inf, math.inf)
    small = {}
    for _ in range(200):
        seen = battery.Battery(law, cdf)
        seen.add(generator.standard_normal(20_000))
        for name, p_value in seen.p_values().items():
            small[name] = small.get(name, 0) + (p_value < 0.005)
    assert max(small.values()) < 9, small


def test_chunks_add_up():
    values = rng().standard_normal(300_000)
    cdf = battery.truncated_cdf(-math.inf, math.inf)
    whole, parts = battery.Battery(stats.norm(), cdf), battery.Battery(stats.norm(), cdf)
    whole.add(values)
    for part in np.split(values, 3):
        parts.add(part)
    left, right = whole.p_values(), parts.p_values()
    for name in left:
        if "lag" not in name and name != "triples":  # these lose what spans two chunks
            assert left[name] == pytest.approx(right[name], rel=1e-6), name
