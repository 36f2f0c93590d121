# SPDX-License-Identifier: Apache-2.0
"""The quantile tables against exact arithmetic.

The oracle shares nothing with the tables' own functions: a table's value is put into the exact
distribution function, computed by mpmath with 40 digits, and the excess probability divided by the
density is the error. The tables are the reference's; tests/fill shows that the engine's are equal.
docs/stream.md quotes the figures found here.
"""

import mpmath
import numpy as np
import pytest
import reference
import scipy.special
import scipy.stats
import torch
from cases import INF, TRUNCATIONS, Bits, TruncatedNormal, bits_tensor, entry

from torch_init import _ops
from torch_init.distributions import Logistic, Normal

# One bound out of reach, a very far tail, and either side of the border to narrow intervals.
MORE_TRUNCATIONS = (
    (-1.0, 30.0),
    (1000.0, INF),
    (0.9, 0.90009),
    (0.9, 0.9002),
    (-6e-5, 5e-5),
    (-1e-4, 1e-4),
)
TABLES = ("logistic", (-INF, INF), *TRUNCATIONS, *MORE_TRUNCATIONS)
# Positions in a segment, t - 1 over 0.25. Interpolation is worst at the ends of a segment.
POSITIONS = (0.0, 0.3, 0.99999)


def magnitudes(double):
    """Words without their top bit: at each of POSITIONS in each segment, and the two extremes."""
    bits, segments = (63, 257) if double else (31, 129)
    starts = [(2.0 ** (s // 4 - 1), s % 4) for s in range(segments)]
    x = [octave * (1 + (quarter + p) / 4) for octave, quarter in starts for p in POSITIONS]
    return sorted({0, 2**bits - 1} | {int(value) for value in x if value < 2**bits})


class Logistic0:
    def below(self, x):
        return 1 / (1 + mpmath.exp(-x))

    def above(self, x):
        return 1 / (1 + mpmath.exp(x))

    def density(self, x):
        return self.below(x) * self.above(x)


class NormalBetween:
    """The standard normal on [lower, upper]. Differences are taken of upper tail probabilities,
    or of lower ones if the interval is below 0, where those of the other kind are close to 1."""

    def __init__(self, lower, upper):
        self.sign = -1 if upper <= 0 else 1
        lower, upper = sorted((self.sign * lower, self.sign * upper))
        self.at_lower, self.at_upper = self.tail(lower), self.tail(upper)

    def tail(self, z):
        return mpmath.erfc(mpmath.mpf(z) / mpmath.sqrt(2)) / 2

    def from_lower(self, z):
        return (self.at_lower - self.tail(z)) / (self.at_lower - self.at_upper)

    def from_upper(self, z):
        return (self.tail(z) - self.at_upper) / (self.at_lower - self.at_upper)

    def below(self, x):
        return self.from_lower(x) if self.sign == 1 else self.from_upper(-x)

    def above(self, x):
        return self.from_upper(x) if self.sign == 1 else self.from_lower(-x)

    def density(self, x):
        return mpmath.npdf(x) / (self.at_lower - self.at_upper)


def worst_error(bounds, double):
    """Largest |value - exact quantile| over both halves of a table."""
    centre, _ = reference.table(bounds, double)
    quantile, bits = (reference.quantile64, 64) if double else (reference.quantile32, 32)
    exact = Logistic0() if bounds == "logistic" else NormalBetween(*bounds)
    worst = 0.0
    for half, fraction in enumerate((exact.above, exact.below)):
        words = [m + (half << (bits - 1)) for m in magnitudes(double)]
        values = quantile(np.array(words, np.uint64), bounds)
        for m, value in zip(magnitudes(double), values, strict=True):
            x = mpmath.mpf(centre) + mpmath.mpf(float(value))
            p = (m + mpmath.mpf(0.5)) / mpmath.mpf(2) ** bits
            worst = max(worst, abs(float((fraction(x) - p) / exact.density(x))))
    return worst


def spread(bounds):
    """The unit in which a table's error is worth stating: how far its distribution reaches."""
    if bounds == "logistic":
        return 1.0
    lower, upper = bounds
    return min(1.0, upper - lower, 1.0 / max(1.0, lower, -upper))


@pytest.fixture(autouse=True)
def forty_digits():
    with mpmath.workdps(40):
        yield


@pytest.mark.parametrize("bounds", TABLES, ids=str)
def test_float32_tables(bounds):
    """Where the quantile is like log(p), as in far tails, a cubic on a segment is 6e-6 off."""
    error = worst_error(bounds, double=False)
    assert error <= (7e-6 if bounds == "logistic" else 2.5e-6)
    assert error <= 7e-6 * spread(bounds)


@pytest.mark.parametrize("bounds", TABLES, ids=str)
def test_float64_tables(bounds):
    """Narrow intervals are given a linear density, which misses (width * bound)**2 or so."""
    narrow = bounds != "logistic" and (bounds[1] - bounds[0]) * max(1.0, *map(abs, bounds)) < 1e-4
    limit = 2e-10 if narrow else 2e-11
    assert worst_error(bounds, double=True) <= limit * spread(bounds)


def test_normal_in_float32_everywhere():
    """2,000 words of each segment against scipy's inverse, good to 1e-15."""
    edges = [2.0 ** (s // 4 - 1) * (1 + (s % 4) / 4) for s in range(129)]
    pairs = zip(edges, [*edges[1:], 2**31], strict=True)
    m = np.unique(np.concatenate([np.linspace(a, b, 2000, dtype=np.int64) for a, b in pairs]))
    m = m[m < 2**31]
    values = reference.quantile32(m.astype(np.uint64), (-INF, INF))
    exact = -scipy.special.ndtri((m + 0.5) / 2**32)
    assert np.abs(values - exact).max() <= 2.5e-6


def fractions_above(key, count):
    """(word's probability of a larger value), from the words that the engine itself returns."""
    words = bits_tensor(count)
    _ops.FillPlan([entry(words, Bits(), key)]).run()
    words = words.numpy().astype(np.int64)
    p = ((words & 0x7FFFFFFF) + 0.5) / 2**32
    return np.where(words >> 31, 1.0 - p, p)


@pytest.mark.parametrize(
    ("distribution", "exact", "limit"),
    [
        (Normal(0.0, 1.0), scipy.stats.norm(), 2.5e-6),
        (Logistic(0.0, 1.0), scipy.stats.logistic(), 7e-6),
        (TruncatedNormal.in_sigmas(0.0, 1.0, -2.0, 2.0), scipy.stats.truncnorm(-2, 2), 2.5e-6),
        (TruncatedNormal.in_sigmas(0.0, 1.0, 2.0, 3.0), scipy.stats.truncnorm(2, 3), 2.5e-6),
        (TruncatedNormal.in_sigmas(0.0, 1.0, -0.1, 5.0), scipy.stats.truncnorm(-0.1, 5), 2.5e-6),
    ],
    ids=["normal", "logistic", "[-2, 2]", "[2, 3]", "[-0.1, 5]"],
)
def test_fills_are_the_words_quantiles(distribution, exact, limit):
    values = torch.empty(100_000)
    _ops.FillPlan([entry(values, distribution, 99)]).run()
    error = np.abs(values.numpy() - exact.isf(fractions_above(99, 100_000)))
    assert error.max() <= limit
