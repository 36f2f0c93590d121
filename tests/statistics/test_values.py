# SPDX-License-Identifier: Apache-2.0
"""Each distribution against its law, 10^6 values in CI and 10^8 before a release (-m slow).

Seeds are fixed; battery.py states the threshold and its reason.
"""

import math
from dataclasses import dataclass
from typing import Any

import battery
import numpy as np
import pytest
import torch
from scipy import special, stats

from torch_init import _ops
from torch_init.distributions import Logistic, Normal, TruncatedNormal, TwoPoint, Uniform

INF = math.inf
CHUNK = 1_000_000
ROUNDED = (torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class Law:
    """A distribution of torch_init's and what scipy knows of it."""

    distribution: Any
    law: Any
    cdf: Any
    low: float
    high: float  # excluded, if the distribution is uniform

    def __str__(self):
        return repr(self.distribution)

    def uniforms(self, tensor, values, generator):
        if isinstance(self.distribution, TwoPoint):
            is_high = values == self.distribution.high
            split = 1 - self.distribution.probability
            drawn = generator.random(values.size)
            return np.where(is_high, split + (1 - split) * drawn, split * drawn)
        if tensor.dtype not in ROUNDED:
            return None
        below, above = (
            torch.nextafter(tensor, torch.full_like(tensor, end)).double().numpy()
            for end in (-INF, INF)
        )
        outside = (
            above >= self.high if isinstance(self.distribution, Uniform) else above > self.high
        )
        neighbours = np.where(below < self.low, -INF, below), np.where(outside, INF, above)
        return battery.uniforms_of_rounded(values, neighbours, self.cdf, generator)


def normal(mean, std):
    standard = battery.truncated_cdf(-INF, INF)
    law = stats.norm(mean, std)
    return Law(Normal(mean, std), law, lambda x: standard((x - mean) / std), -INF, INF)


def uniform(low, high):
    law = stats.uniform(low, high - low)
    return Law(Uniform(low, high), law, lambda x: (x - low) / (high - low), low, high)


def truncated(lower, upper, mean=0.0, std=1.0):
    distribution = TruncatedNormal.in_sigmas(mean, std, lower, upper)
    standard = battery.truncated_cdf(lower, upper)
    law = stats.truncnorm(lower, upper, mean, std)
    return Law(
        distribution, law, lambda x: standard((x - mean) / std), distribution.low, distribution.high
    )


def logistic(location, scale):
    law = stats.logistic(location, scale)
    return Law(
        Logistic(location, scale), law, lambda x: special.expit((x - location) / scale), -INF, INF
    )


def two_point(probability, low, high):
    law = stats.bernoulli(probability)
    if (low, high) != (0.0, 1.0):
        law = stats.rv_discrete(values=([low, high], [1 - probability, probability]))
    return Law(TwoPoint(probability, low, high), law, None, low, high)


LAWS = [
    normal(0.0, 1.0),
    normal(0.1, 0.02),
    uniform(0.0, 1.0),
    uniform(-0.3, 0.7),
    truncated(-2.0, 2.0),
    truncated(-2.0, 2.0, 0.5, 0.02),
    truncated(0.0, INF),
    truncated(2.0, 3.0),
    truncated(-INF, -5.0),
    truncated(-0.1, 5.0),
    truncated(-0.01, 0.01),
    logistic(0.0, 1.0),
    logistic(-3.0, 0.25),
    two_point(0.3, 0.0, 1.0),
    two_point(0.5, -1.0, 1.0),
]
CASES = [
    *((law, torch.float32) for law in LAWS),
    *((LAWS[index], torch.float64) for index in (0, 2, 4, 7, 11, 14)),
    *((LAWS[index], torch.bfloat16) for index in (1, 3, 5, 8, 12, 13)),
    (LAWS[0], torch.float16),
    (LAWS[7], torch.float16),
]


def sample(law, dtype, size):
    """A battery that has seen elements 0 ... size - 1 of one stream."""
    seen = battery.Battery(law.law, law.cdf)
    key = _ops.stream_key(0, f"{law} {dtype}")
    generator = np.random.default_rng(0)  # for what rounding or two values leave open
    tensor = torch.empty(CHUNK, dtype=dtype)
    for first in range(0, size, CHUNK):
        _ops.FillPlan([(tensor, law.distribution.spec(), key, first, (1,))]).run()
        values = tensor.double().numpy()
        seen.add(values, law.uniforms(tensor, values, generator))
    return seen


@pytest.mark.parametrize(("law", "dtype"), CASES, ids=str)
def test_a_million_values(law, dtype):
    assert not battery.failures(sample(law, dtype, CHUNK).p_values())


SLOW = [
    (normal(0.0, 1.0), torch.float32),
    (normal(0.0, 1.0), torch.float64),
    (normal(0.0, 1.0), torch.bfloat16),
    (uniform(0.0, 1.0), torch.float32),
    (uniform(0.0, 1.0), torch.float64),
    (truncated(-2.0, 2.0), torch.float32),
    (truncated(2.0, 3.0), torch.float32),
    (truncated(-0.1, 5.0), torch.float64),
    (logistic(0.0, 1.0), torch.float32),
    (two_point(0.5, -1.0, 1.0), torch.float32),
]


@pytest.mark.slow
@pytest.mark.parametrize(("law", "dtype"), SLOW, ids=str)
def test_a_hundred_million_values(law, dtype):
    p_values = sample(law, dtype, 100 * CHUNK).p_values()
    least = sorted((float(p), name) for name, p in p_values.items())[:3]
    print(f"\n{law} {dtype}: {len(p_values)} p-values, least {least}")
    assert not battery.failures(p_values)
