# SPDX-License-Identifier: Apache-2.0
"""Distributions as values: what an initialiser fills a tensor with, whatever its shape."""

import math
from dataclasses import dataclass

Spec = tuple[str, tuple[float, ...]]
"""(kind, numbers): how the native module is told of a distribution."""


@dataclass(frozen=True, slots=True)
class Constant:
    """Every element equals value."""

    value: float

    def spec(self) -> Spec:
        return "constant", (self.value,)


@dataclass(frozen=True, slots=True)
class Uniform:
    """Uniform on [low, high), low < high."""

    low: float
    high: float

    def spec(self) -> Spec:
        return "uniform", (self.low, self.high)


@dataclass(frozen=True, slots=True)
class Normal:
    """Normal with the given mean and standard deviation > 0."""

    mean: float
    std: float

    def spec(self) -> Spec:
        inf = math.inf
        return "normal", (self.mean, self.std, -inf, inf, -inf, inf)


@dataclass(frozen=True, slots=True)
class TruncatedNormal:
    """Normal(mean, std) conditioned on [mean + lower * std, mean + upper * std].

    mean and std are those of the normal before truncation; lower < upper are in standard
    deviations and may be infinite. low and high are the same bounds in the values' own units.
    """

    mean: float
    std: float
    lower: float
    upper: float
    low: float
    high: float

    @classmethod
    def in_sigmas(cls, mean: float, std: float, lower: float, upper: float) -> "TruncatedNormal":
        """Bounds given in standard deviations from the mean."""
        return cls(mean, std, lower, upper, mean + lower * std, mean + upper * std)

    @classmethod
    def absolute(cls, mean: float, std: float, low: float, high: float) -> "TruncatedNormal":
        """Bounds given in the values' own units."""
        return cls(mean, std, (low - mean) / std, (high - mean) / std, low, high)

    def spec(self) -> Spec:
        return "truncated_normal", (
            self.mean,
            self.std,
            self.lower,
            self.upper,
            self.low,
            self.high,
        )


@dataclass(frozen=True, slots=True)
class TwoPoint:
    """high with the given probability (a multiple of 2**-32), else low."""

    probability: float
    low: float
    high: float

    def spec(self) -> Spec:
        return "two_point", (self.probability, self.low, self.high)


@dataclass(frozen=True, slots=True)
class Logistic:
    """Logistic: location + scale * log(u / (1 - u)), scale > 0."""

    location: float
    scale: float

    def spec(self) -> Spec:
        return "logistic", (self.location, self.scale)


@dataclass(frozen=True, slots=True)
class Bits:
    """The stream's 32-bit words themselves, for int32 and uint32 tensors."""

    def spec(self) -> Spec:
        return "bits", ()


Distribution = Constant | Uniform | Normal | TruncatedNormal | TwoPoint | Logistic | Bits
