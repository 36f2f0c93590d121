# SPDX-License-Identifier: Apache-2.0
"""A battery of statistical tests, whose samples may arrive in chunks of any number and size.

Every test ends in a p-value. The suite computes some 2500 of them, so by Bonferroni's
inequality a threshold of 4e-7 raises a false alarm in one of 1000 choices of the seeds at most;
the seeds are fixed, so what has passed passes for ever. test_battery.py shows what the battery
finds at that threshold.
"""

import functools
import math

import numpy as np
from scipy import special

THRESHOLD = 4e-7

# Of the histogram from which the tests of the distribution are computed. In 2^20 cells, 10^8
# float32 values show the lattice of float32 and the joints of the quantile table.
CELLS = 1 << 16
LAGS = (1, 2, 3, 4, 5, 7, 8, 16, 64, 256, 1024, 4096, 65536)
TAILS = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6)


def two_sided(lower, upper):
    """A fit that is too good is as unlikely as one that is too bad."""
    return min(1.0, 2 * float(min(lower, upper)))


def of_score(score):
    """p-value of a standard normal score."""
    return 2 * float(special.ndtr(-abs(score)))


def of_chi_square(observed, expected):
    return of_sum_of_squares(
        float(((observed - expected) ** 2 / expected).sum()), observed.size - 1
    )


def of_sum_of_squares(statistic, degrees):
    """Of so many independent standard normal scores."""
    return two_sided(special.chdtr(degrees, statistic), special.chdtrc(degrees, statistic))


def of_count(count, trials, probability):
    at_least = special.bdtrc(count - 1, trials, probability) if count > 0 else 1.0
    return two_sided(special.bdtr(count, trials, probability), at_least)


def of_kolmogorov_smirnov(cumulative, grid, size):
    statistic = math.sqrt(size) * float(np.abs(cumulative - grid).max())
    upper = special.kolmogorov(statistic)
    return two_sided(1 - upper, upper)


def of_anderson_darling(cumulative, grid, size):
    """Upper tail only, by its leading term: sqrt(3) P(chi^2 with 1 degree > 2 A^2).

    A^2 is asymptotically the sum of Z_j^2 / (j (j + 1)); the largest weight, 1/2, rules the tail.
    Right to 5 % below a p-value of 0.01.
    """
    integrand = (cumulative - grid) ** 2 / (grid * (1 - grid))
    statistic = size * float(integrand.sum()) / CELLS
    return min(1.0, math.sqrt(3) * math.erfc(math.sqrt(statistic)))


class Battery:
    """What the tests need to know of a sample.

    Args:
        law: a frozen distribution of scipy.stats, for its moments.
        cdf: its distribution function, of float64 arrays.
    """

    def __init__(self, law, cdf):
        self._law, self._cdf = law, cdf
        self._mean, self._sd = float(law.mean()), float(law.std())
        self._size = 0
        self._histogram = np.zeros(CELLS, np.int64)
        self._pairs = np.zeros(64**2, np.int64)
        self._triples = np.zeros(16**3, np.int64)
        self._powers = np.zeros(4)
        self._tails = np.zeros((2, len(TAILS)), np.int64)
        self._products = {(kind, lag): [0.0, 0] for kind in ("place", "size") for lag in LAGS}

    def add(self, values, uniforms=None):
        """Take the next chunk of the sample, float64.

        Args:
            uniforms: the chunk's probability integral transform, if not simply cdf(values).
        """
        uniforms = self._cdf(values) if uniforms is None else uniforms
        self._size += values.size
        cells = np.minimum((uniforms * CELLS).astype(np.int32), CELLS - 1)
        self._histogram += np.bincount(cells, minlength=CELLS)
        self._add_tuples(cells)
        scores = (values - self._mean) / self._sd
        power = scores.copy()
        for order in range(4):
            self._powers[order] += power.sum()
            power *= scores
        for index, probability in enumerate(TAILS):
            self._tails[0, index] += np.count_nonzero(uniforms < probability)
            self._tails[1, index] += np.count_nonzero(uniforms > 1 - probability)
        places = uniforms - 0.5  # variance 1/12
        sizes = np.abs(places) - 0.25  # variance 1/48
        for (kind, lag), total in self._products.items():
            series = places if kind == "place" else sizes
            if lag < series.size:
                # Not BLAS, whose threads wait for each other on a busy machine.
                total[0] += float(np.einsum("i,i", series[lag:], series[:-lag]))
                total[1] += series.size - lag

    def p_values(self):
        found = {**self._of_the_distribution(), **self._of_the_moments()}
        for side, counts in zip(("low", "high"), self._tails, strict=True):
            for probability, count in zip(TAILS, counts, strict=True):
                found[f"{side} tail {probability:g}"] = of_count(count, self._size, probability)
        for (kind, lag), (total, terms) in self._products.items():
            if terms:
                variance = 1 / 12 if kind == "place" else 1 / 48
                found[f"lag {lag} of {kind}s"] = of_score(total / variance / math.sqrt(terms))
        for name, counts in (("pairs", self._pairs), ("triples", self._triples)):
            found[name] = of_chi_square(counts, counts.sum() / counts.size)
        return found

    def _add_tuples(self, cells):
        """Neighbours that do not overlap: 64 x 64 cells of pairs, 16 x 16 x 16 of triples."""
        pairs = cells[: cells.size // 2 * 2].reshape(-1, 2) >> 10
        self._pairs += np.bincount(pairs[:, 0] * 64 + pairs[:, 1], minlength=64**2)
        triples = cells[: cells.size // 3 * 3].reshape(-1, 3) >> 12
        index = (triples[:, 0] * 16 + triples[:, 1]) * 16 + triples[:, 2]
        self._triples += np.bincount(index, minlength=16**3)

    def _of_the_distribution(self):
        cumulative = np.cumsum(self._histogram)[:-1] / self._size
        grid = np.arange(1, CELLS) / CELLS
        found = {
            "Kolmogorov-Smirnov": of_kolmogorov_smirnov(cumulative, grid, self._size),
            "Anderson-Darling": of_anderson_darling(cumulative, grid, self._size),
        }
        for bins in (64, 4096):
            counts = self._histogram.reshape(bins, -1).sum(1)
            found[f"chi-square of {bins}"] = of_chi_square(counts, self._size / bins)
        return found

    def _of_the_moments(self):
        """Means of powers of the standardised values; each is normal by the limit theorem."""

        expected = standardised_moments(self._law)
        found = {}
        for order in (1, 2, 3, 4):
            deviation = math.sqrt(max(0.0, expected[2 * order] - expected[order] ** 2))
            error = self._powers[order - 1] / self._size - expected[order]
            if deviation > 1e-9:  # the even powers of +-1 are constant
                found[f"moment {order}"] = of_score(error * math.sqrt(self._size) / deviation)
        return found


@functools.cache
def standardised_moments(law):
    mean, sd = float(law.mean()), float(law.std())
    return {
        order: float(law.expect(lambda x, order=order: ((x - mean) / sd) ** order))
        for order in (1, 2, 3, 4, 6, 8)
    }


def truncated_cdf(lower, upper):
    """Of the standard normal on [lower, upper], by differences of the smaller tails."""
    if lower >= 0:
        total = special.ndtr(-lower) - special.ndtr(-upper)
        return lambda z: (special.ndtr(-lower) - special.ndtr(-z)) / total
    total = special.ndtr(upper) - special.ndtr(lower)
    return lambda z: (special.ndtr(z) - special.ndtr(lower)) / total


def uniforms_of_rounded(values, neighbours, cdf, generator):
    """Uniform numbers from values that were rounded, if they have the distribution cdf.

    A value stands for all that lies between the midpoints to its neighbours, and one that has no
    neighbour on a side (an infinite one), for all that lies there; a point is drawn from that
    interval of probability (the randomised probability integral transform).

    Args:
        neighbours: (below, above), the values next to each value.
    """
    low, high = (np.clip(cdf((values + neighbour) / 2), 0, 1) for neighbour in neighbours)
    return low + (high - low) * generator.random(values.size)


def failures(p_values):
    return {name: p for name, p in p_values.items() if not p >= THRESHOLD}
