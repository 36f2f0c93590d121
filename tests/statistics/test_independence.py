# SPDX-License-Identifier: Apache-2.0
"""Streams against streams, and the places of a tensor against each other.

The threshold and its reason are battery.py's.
"""

import math

import battery
import numpy as np
import pytest
import torch
from scipy import stats

import torch_init
from torch_init import _ops
from torch_init.distributions import Bits, Normal

STREAMS = 60_000

# Seeds and names as people choose them: what differs between neighbours is small.
KEYS = {
    "seeds in order": lambda i: (i, "layer.weight"),
    "seeds by their high half": lambda i: (i << 32, "layer.weight"),
    "negative seeds": lambda i: (-i - 1, "layer.weight"),
    "even seeds": lambda i: (2 * i, "layer.weight"),
    "numbered layers": lambda i: (0, f"model.layers.{i}.mlp.weight"),
    "numbered at the end": lambda i: (0, f"expert{i}"),
    "seed and name together": lambda i: (i, f"layers.{i}.weight"),
}


def scores_of_streams(key, count, length, first=0):
    """Standard normal values, one stream a row, from element `first` on."""
    values = torch.empty(count, length)
    spec = Normal(0.0, 1.0).spec()
    entries = [(values[i], spec, _ops.stream_key(*key(i)), first, (1,)) for i in range(count)]
    _ops.FillPlan(entries).run()
    return values.double().numpy()


def of_correlations(matrix):
    """p-values of the correlations between the rows of a matrix of standard normal values.

    The products of different rows are uncorrelated, with mean 0 and, over n columns, variance n.
    """
    return of_gram(matrix @ matrix.T, matrix.shape[1])


def of_gram(gram, length):
    scores = gram[np.triu_indices(len(gram), 1)] / math.sqrt(length)
    return {
        "all pairs": battery.of_sum_of_squares(float((scores**2).sum()), scores.size),
        "largest": min(1.0, scores.size * battery.of_score(np.abs(scores).max())),
        "mean": battery.of_score(scores.sum() / math.sqrt(scores.size)),
    }


@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS.keys())
def test_one_element_of_many_streams_is_a_sample(key):
    """Streams side by side: their values at one place pass every test of a single stream."""
    values = scores_of_streams(key, STREAMS, 4)
    for place in (0, 3):
        seen = battery.Battery(stats.norm(), battery.truncated_cdf(-math.inf, math.inf))
        seen.add(np.ascontiguousarray(values[:, place]))
        assert not battery.failures(seen.p_values()), place


@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS.keys())
def test_streams_are_uncorrelated(key):
    values = scores_of_streams(key, 300, 4096)
    p_values = of_correlations(values)
    for lag in (1, 2, 3, 4, 8, 64):  # a stream against a neighbour moved along
        products = (values[1:, lag:] * values[:-1, :-lag]).sum()
        terms = values[1:, lag:].size
        p_values[f"lag {lag}"] = battery.of_score(products / math.sqrt(terms))
    assert not battery.failures(p_values)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["seeds in order", "numbered layers"])
def test_two_thousand_streams_of_fifty_thousand(name):
    """10^8 values, 2 million pairs of streams."""
    count, chunk, chunks = 2000, 5000, 10
    gram = np.zeros((count, count))
    for first in range(0, chunk * chunks, chunk):
        values = scores_of_streams(KEYS[name], count, chunk, first)
        gram += values @ values.T
    p_values = of_gram(gram, chunk * chunks)
    print(f"\n{name}: {p_values}")
    assert not battery.failures(p_values)


def test_every_bit_of_a_seed_flips_half_of_its_key():
    """64 x 64 pairs of a bit in and a bit out, each over 1000 seeds."""
    seeds = [int(word) for word in np.random.default_rng(0).integers(0, 2**63, 1000)]
    flips = np.zeros((64, 64))
    for bit in range(64):
        for seed in seeds:
            difference = _ops.stream_key(seed) ^ _ops.stream_key(seed ^ (1 << bit))
            flips[bit] += np.unpackbits(
                np.array([difference], np.uint64).view(np.uint8), bitorder="little"
            )
    scores = (flips - 500) / math.sqrt(250)
    p_values = {
        "all": battery.of_sum_of_squares(float((scores**2).sum()), scores.size),
        "largest": scores.size * battery.of_score(np.abs(scores).max()),
    }
    assert not battery.failures(p_values)


def test_bits_of_words():
    """Each of the 32 bits is fair, and no two of them go together."""
    count = 1 << 18
    words = torch.empty(count, dtype=torch.int32)
    _ops.FillPlan([(words, Bits().spec(), _ops.stream_key(0, "bits"))]).run()
    bits = np.unpackbits(words.numpy().view(np.uint8).reshape(count, 4), axis=1)
    signs = 1.0 - 2.0 * bits.T
    p_values = of_correlations(signs)
    for bit, total in enumerate(signs.sum(1)):
        p_values[f"bit {bit}"] = battery.of_score(total / math.sqrt(count))
    assert not battery.failures(p_values)


SHAPE = (96, 64, 3, 3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_channels_and_kernel_places_are_uncorrelated(dtype):
    """Every unfolding of a convolution's weight has uncorrelated rows, also among neighbours."""
    weight = torch_init.normal_(torch.empty(SHAPE, dtype=dtype), seed=0, name="conv.weight")
    values = weight.double().numpy()
    p_values = {}
    for axis in range(4):
        unfolded = np.moveaxis(values, axis, 0).reshape(SHAPE[axis], -1)
        for name, p_value in of_correlations(unfolded).items():
            p_values[f"axis {axis}, {name}"] = p_value
        neighbours = (unfolded[1:] * unfolded[:-1]).sum() / math.sqrt(unfolded[1:].size)
        p_values[f"axis {axis}, neighbours"] = battery.of_score(neighbours)
    assert not battery.failures(p_values)


def test_calls_in_a_row_are_a_sample():
    """Without seeds, each call draws one from torch's generator."""
    torch.manual_seed(0)
    firsts = torch.stack([torch_init.normal_(torch.empty(2)) for _ in range(20_000)])
    seen = battery.Battery(stats.norm(), battery.truncated_cdf(-math.inf, math.inf))
    seen.add(firsts[:, 0].double().numpy())
    assert not battery.failures(seen.p_values())


def test_singular_values_are_those_of_a_random_matrix():
    """Marchenko and Pastur's law, which dependence anywhere in the matrix would bend.

    The singular values of an m x n normal matrix lie between sqrt(n) -+ sqrt(m); the edges move
    and scatter by Tracy and Widom's law, here the upper by 0.4 % each and the lower by 0.9 % and
    0.7 %. The mean of their fourth powers over that of the squares is m + n, to 0.3 %. The
    tolerances leave five deviations.
    """
    rows, columns = 400, 1600
    matrix = torch_init.normal_(torch.empty(rows, columns), seed=0, name="w").double().numpy()
    squares = np.linalg.eigvalsh(matrix @ matrix.T)
    assert math.sqrt(squares[-1]) == pytest.approx(math.sqrt(columns) + math.sqrt(rows), rel=0.025)
    assert math.sqrt(squares[0]) == pytest.approx(math.sqrt(columns) - math.sqrt(rows), rel=0.045)
    assert (squares**2).sum() / squares.sum() == pytest.approx(columns + rows, rel=0.015)
