# SPDX-License-Identifier: Apache-2.0
"""The spread of a layer's output, of which every rank sees a part."""

import math
from collections.abc import Iterable, Sequence
from itertools import zip_longest
from typing import Any, NamedTuple

import torch
from torch import Tensor

from torch_init.errors import describe


class Moments(NamedTuple):
    """What tells the spread of some elements: moments about their own mean, which do not cancel."""

    n: int
    """How many elements they are."""
    mean: complex
    squares: float
    """The sum of \\|element - mean\\|^2."""

    @property
    def std(self) -> float:
        """The standard deviation (of all elements, not of a sample); NaN if there is none."""
        return math.sqrt(self.squares / self.n) if self.n else math.nan


def moments(output: Tensor) -> Moments:
    """Return the moments of what this rank holds of output, taken in float32 at least."""
    local = output.to_local() if hasattr(output, "to_local") else output
    n = local.numel()
    if n == 0:
        return Moments(0, 0.0, 0.0)
    wide = local.detach().to(torch.promote_types(local.dtype, torch.float32))
    variance, mean = torch.var_mean(wide, correction=0)
    return Moments(n, mean.item(), variance.item() * n)


def combine(parts: Iterable[Moments]) -> Moments:
    """Return the moments of all parts' elements together.

    Chan, Golub & LeVeque (1979), "Updating formulae and a pairwise algorithm for computing sample
    variances", equation 2.1.
    """
    whole = Moments(0, 0.0, 0.0)
    for part in parts:
        n = whole.n + part.n
        if n == 0:
            continue
        distance = part.mean - whole.mean
        share = part.n / n
        between = abs(distance) ** 2 * whole.n * share
        mean = whole.mean + distance * share
        whole = Moments(n, mean, whole.squares + part.squares + between)
    return whole


class Ranks:
    """The ranks whose batches count as one: those of a process group, or this process alone.

    A rank that goes another way than the others would wait for them forever, or take what they
    say of one layer for another. So each says where it is whenever they meet, at every layer and
    at the end of a pass, and where that differs all of them raise the same error.
    """

    def __init__(self, group: Any) -> None:
        import torch.distributed as dist

        self._group = group
        self._count = 1
        if dist.is_available() and dist.is_initialized():
            self._count = dist.get_world_size(group)
        if self._count < 1:
            expected = "a process group that this rank is in"
            raise ValueError(describe("lsuv_", "group", "another", expected))

    def check_same(self, layers: Sequence[str]) -> None:
        """Raise, on all ranks, unless all of them are to scale these layers."""
        everybody = self._gather(list(layers))
        for pair in zip_longest(*everybody, fillvalue="no more"):
            _check_alike(pair, "ranks that scale the same layers")

    def combined(self, layer: str, mine: Moments) -> Moments:
        """Return the moments of a layer's output on all ranks."""
        return combine(self._met(layer, mine))

    def end_pass(self) -> None:
        """Raise, on all ranks, unless all of them have come to the end of the pass."""
        self._met("the end of the pass", Moments(0, 0.0, 0.0))

    def _met(self, place: str, mine: Moments) -> list[Moments]:
        places, parts = zip(*self._gather((place, mine)), strict=True)
        _check_alike(places, "ranks whose forward passes reach the same layers in the same order")
        return list(parts)

    def _gather(self, mine: Any) -> list[Any]:
        if self._count == 1:
            return [mine]
        import torch.distributed as dist

        everybody: list[Any] = [None] * self._count
        dist.all_gather_object(everybody, mine, group=self._group)
        return everybody


def _check_alike(said: Sequence[str], expected: str) -> None:
    for rank, word in enumerate(said):
        if word != said[0]:
            got = f"{said[0]} on rank 0 of the group and {word} on rank {rank}"
            fix = "Give group=, of the ranks that share these layers, or leave some out by where="
            raise ValueError(describe("lsuv_", "group", got, expected, fix))
