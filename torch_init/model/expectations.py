# SPDX-License-Identifier: Apache-2.0
"""What a parameter's elements must add up to if it holds what it was to be filled with."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch

from torch_init.distributions import (
    Constant,
    Distribution,
    Logistic,
    Normal,
    TruncatedNormal,
    TwoPoint,
    Uniform,
)
from torch_init.structures import STRUCTURES, Sparse, Structure


class Expectation(NamedTuple):
    """Totals over a tensor's elements, and how far chance may take them."""

    numel: int
    sum: float
    """NaN if it says nothing."""
    sum_variance: float
    square_sum: float
    square_sum_variance: float
    low: float
    high: float
    sum_tail: float = 0.0
    """How far single rare elements may take the sum: by z**2 of these, for z standard deviations.
    Bernstein's inequality; of few elements the totals are not normally distributed."""
    square_sum_tail: float = 0.0

    @property
    def mean(self) -> float:
        return self.sum / self.numel

    @property
    def std(self) -> float:
        """Of all elements, about their mean, or about 0 where the mean is not known."""
        mean = 0.0 if math.isnan(self.sum) else self.mean
        return math.sqrt(max(self.square_sum / self.numel - mean * mean, 0.0))


class _Moments(NamedTuple):
    mean: float
    variance: float
    kurtosis: float
    low: float
    high: float
    tail: float
    square_tail: float


def expect(
    values: Distribution | Structure, shape: Sequence[int], dtype: torch.dtype
) -> Expectation:
    """Return what a tensor of the given shape adds up to."""
    count = math.prod(shape)
    if isinstance(values, Sparse):
        kept = count - values.zeros(shape) * shape[1]
        square = kept * values.std**2
        variance = 2 * kept * values.std**4
        return Expectation(
            count, 0.0, square, square, variance, *_REAL_LINE, square_sum_tail=values.std**2
        )
    if isinstance(values, STRUCTURES):
        total, square = values.moments(shape)
        return Expectation(
            count, math.nan if total is None else total, 0.0, square, 0.0, *_REAL_LINE
        )
    m = _moments(values)
    parts = 2 if dtype.is_complex and not isinstance(values, Constant) else 1
    # With x = mean + d: x^2 = mean^2 + 2 mean d + d^2, and the last two terms may be correlated.
    deviation = 2 * abs(m.mean) * math.sqrt(m.variance)
    deviation += math.sqrt(max(m.kurtosis - 1, 0.0)) * m.variance
    n = count * parts
    return Expectation(
        count,
        n * m.mean,
        n * m.variance,
        n * (m.variance + m.mean**2),
        n * deviation**2,
        m.low,
        m.high,
        m.tail,
        m.square_tail,
    )


def add(parts: Sequence[Expectation]) -> Expectation:
    """Return what the parts add up to together."""
    if len(parts) == 1:
        return parts[0]
    return Expectation(
        sum(part.numel for part in parts),
        math.fsum(part.sum for part in parts),
        math.fsum(part.sum_variance for part in parts),
        math.fsum(part.square_sum for part in parts),
        math.fsum(part.square_sum_variance for part in parts),
        min(part.low for part in parts),
        max(part.high for part in parts),
        max(part.sum_tail for part in parts),
        max(part.square_sum_tail for part in parts),
    )


_REAL_LINE = (-math.inf, math.inf)


def _moments(values: Distribution) -> _Moments:
    if isinstance(values, Constant):
        return _Moments(values.value, 0.0, 1.0, values.value, values.value, 0.0, 0.0)
    if isinstance(values, Uniform):
        width = values.high - values.low
        middle = values.low + width / 2
        return _bounded(middle, width * width / 12, 1.8, values.low, values.high)
    if isinstance(values, Normal):
        variance = values.std**2
        # Laurent & Massart 2000, lemma 1, of squares; a sum is normal itself.
        return _Moments(values.mean, variance, 3.0, *_REAL_LINE, 0.0, variance)
    if isinstance(values, TruncatedNormal):
        mean, variance = truncated_normal_moments(values.lower, values.upper)
        # Between a narrow interval's 1.8 and 9, that of the exponential, which a far tail is.
        like_exponential = _exponential_tailed(
            values.mean + values.std * mean,
            values.std**2 * variance,
            9.0,
            values.low,
            values.high,
        )
        cut = _bounded(*like_exponential[:5])
        return min(like_exponential, cut, key=lambda moments: moments.square_tail)
    if isinstance(values, TwoPoint):
        p, width = values.probability, values.high - values.low
        variance = p * (1 - p)
        kurtosis = 1 / variance - 3 if variance > 0 else 1.0
        low, high = sorted((values.low, values.high))
        return _bounded(values.low + p * width, width * width * variance, kurtosis, low, high)
    if isinstance(values, Logistic):
        variance = (values.scale * math.pi) ** 2 / 3
        return _exponential_tailed(values.location, variance, 4.2, *_REAL_LINE)
    raise TypeError(f"{type(values).__name__} has no moments")


def _bounded(mean: float, variance: float, kurtosis: float, low: float, high: float) -> _Moments:
    reach = max(high - mean, mean - low)
    largest = max(low * low, high * high)
    return _Moments(mean, variance, kurtosis, low, high, reach / 3, largest / 3)


def _exponential_tailed(
    mean: float, variance: float, kurtosis: float, low: float, high: float
) -> _Moments:
    """Return moments with the tails of the exponential distribution, which none here exceeds."""
    std = math.sqrt(variance)
    # z**4 / 4 variances are as rare, in its square, as z standard deviations of a normal one.
    return _Moments(mean, variance, kurtosis, low, high, std, 12.25 * variance + abs(mean) * std)


def truncated_normal_moments(lower: float, upper: float) -> tuple[float, float]:
    r"""Return mean and variance of the standard normal distribution restricted to [lower, upper].

    With :math:`Z = \\Phi(b) - \\Phi(a)`: mean :math:`m = (\\varphi(a) - \\varphi(b)) / Z`, variance
    :math:`1 + (a \\varphi(a) - b \\varphi(b)) / Z - m^2`.

    Example:
        >>> mean, variance = truncated_normal_moments(-2.0, 2.0)
        >>> mean == 0, round(variance**0.5, 12)
        (True, 0.879625661034)
    """
    if lower < 0 and (upper <= 0 or abs(lower) > abs(upper)):  # keep to the upper tail's formulas
        mean, variance = truncated_normal_moments(-upper, -lower)
        return -mean, variance
    if lower > _FAR:
        # An exponential of rate `lower`, cut at `upper`; accurate to 1 / lower^2.
        mean, variance = _exponential_moments(lower * (upper - lower))
        return lower + mean / lower, variance / lower**2
    if upper - lower < 1e-3:
        return (lower + upper) / 2, (upper - lower) ** 2 / 12
    z = (math.erfc(lower / math.sqrt(2)) - math.erfc(upper / math.sqrt(2))) / 2
    at_lower, at_upper = _density(lower), _density(upper)
    mean = (at_lower - at_upper) / z
    edges = (lower * at_lower if at_lower > 0 else 0.0) - (upper * at_upper if at_upper > 0 else 0)
    return mean, 1 + edges / z - mean * mean


_FAR = 30.0


def _exponential_moments(length: float) -> tuple[float, float]:
    """Return mean and variance of the exponential distribution of rate 1 on [0, length]."""
    if length > 700:
        return 1.0, 1.0
    if length < 1e-3:
        return length / 2, length * length / 12
    tail = length / math.expm1(length)
    return 1 - tail, 1 - length * tail / -math.expm1(-length)


def _density(x: float) -> float:
    return math.exp(-x * x / 2) / math.sqrt(2 * math.pi)
