# SPDX-License-Identifier: Apache-2.0
"""Updates of machines of binary units whose statistics are integers: exact in any order.

The data and the model's phase are bytes and means in fixed point; the difference of their sums is
one matrix of integers, the same for any split of the rows and any number of processes.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from torch_init import _ops
from torch_init.errors import describe
from torch_init.rbm.gradient import Statistics, wide
from torch_init.rbm.machine import RBM
from torch_init.rbm.parallel import Processes
from torch_init.rbm.sampling import to_bytes, to_levels
from torch_init.rbm.units import Spin


@dataclass(frozen=True)
class Phase:
    """States of this process's rows of one phase, and what its statistics are made of.

    Attributes:
        visible: uint8 (N, visible), of so many levels: 1, or 255; or int16, of MEAN_ONE levels.
        hidden: uint8 (N, hidden), states, or int16, means.
    """

    visible: Tensor
    hidden: Tensor
    levels: int = 1


def exact_rows(
    machine: RBM, rows: Tensor, processes: Processes, are_states: bool
) -> tuple[Tensor, int] | None:
    """Return rows as (bytes, levels), or None unless all rows of all processes can be.

    Bernoulli rows that are neither states nor grey are rounded to fine levels, int16, on a CPU.

    Args:
        are_states: all of them are known to be states.
    """
    if not machine.exact:
        return None
    if are_states:
        return to_bytes(machine.visible, rows), 1
    levels, exact = to_levels(machine.visible, rows)
    is_spin = isinstance(machine.visible, Spin)
    kinds = [bool(exact.all()), is_spin or machine.visible.are_states(rows)]
    agreed = processes.sum_(torch.tensor(kinds, dtype=torch.int64, device=rows.device)).tolist()
    if agreed[0] < processes.size:
        if is_spin or _ops.takes_kernels(rows):
            return None
        fine = (rows.float() * _ops.MEAN_ONE).round_().to(torch.int16)
        return fine, _ops.MEAN_ONE
    if agreed[1] == processes.size:
        return to_bytes(machine.visible, rows), 1
    return levels, _ops.GREY_LEVELS


class Difference:
    """The data's statistics less the model's, both divided by their numbers of rows.

    Attributes:
        pairs: (visible, hidden) integers in units of 1 / scale.
        sums: int64 [data and model, visible + hidden], of bytes and fixed-point means, and counts:
            by which to divide those of the data's visible and hidden units, and the model's.
        units, spins: of the visible and the hidden side: how many, and whether they are spins.
    """

    def __init__(
        self,
        machine: RBM,
        phases: tuple[Phase, Phase],
        counts: tuple[int, int],
        processes: Processes,
        spent: "Difference | None",
    ) -> None:
        """Add up over this process's rows, then over all processes'.

        Args:
            counts: numbers of rows of all processes together.
            spent: one that is no longer needed, whose memory is used again.
        """
        one = _ops.MEAN_ONE if phases[0].hidden.dtype == torch.int16 else 1
        each = [count * phase.levels for count, phase in zip(counts, phases, strict=True)]
        total = math.lcm(*each)
        if 4 * total * one >= 2**63:  # 4: a pair of spins counts for so many of bytes
            got = f"{counts[1]} beside a batch of {counts[0]} rows"
            expected = "numbers whose least common multiple fits in integers of 64 bits"
            raise ValueError(describe("fit", "chains", got, expected, "Make them equal"))
        dtype = torch.int32 if total * one < 2**31 else torch.int64
        size, device = (machine.visible.size, machine.hidden.size), phases[0].visible.device
        room = None if spent is None else spent.room
        if room is None or room.dtype != dtype:
            room = torch.empty(size, dtype=dtype, device=device)
        terms = [
            _ops.Term(phase.visible, phase.hidden, phase.levels, sign * (total // count))
            for phase, count, sign in zip(phases, each, (1, -1), strict=True)
        ]
        found = _ops.statistics(*terms, out=room, accumulate=False)
        self.room: Tensor = room
        self.units, self._dtype = size, wide(machine.weight).dtype
        self.spins = isinstance(machine.visible, Spin), isinstance(machine.hidden, Spin)
        self.sums = processes.sum_(found.sums)
        self.counts = each[0], counts[0] * one, each[1], counts[1] * one
        self.pairs, self.scale = processes.sum_(room), 1 / (total * one)
        if any(self.spins):
            self._stand_for_spins([total // count for count in each], one)
        alike = spent is not None and spent.counts == self.counts
        self._divisors: Tensor | None = spent._divisors if alike and spent is not None else None

    @cached_property
    def data(self) -> tuple[Tensor, Tensor]:
        """The means of s(v) and of h in the data."""
        return self._sides(self._means[0])

    @cached_property
    def model(self) -> tuple[Tensor, Tensor]:
        """The means of s(v) and of h in the model's phase."""
        return self._sides(self._means[1])

    @cached_property
    def change(self) -> tuple[Tensor, Tensor]:
        """The data's means less the model's."""
        return self._sides(self._means[0] - self._means[1])

    @cached_property
    def _means(self) -> Tensor:
        """Of each phase, (2, visible + hidden)."""
        if self._divisors is None:
            counts = torch.tensor(self.counts, dtype=torch.float64, device=self.sums.device)
            units = torch.tensor(self.units, device=self.sums.device)
            self._divisors = counts.view(2, 2).repeat_interleave(units, 1)
        means = self.sums / self._divisors
        if any(self.spins):
            for side, of_spins in zip(means.split(self.units, 1), self.spins, strict=True):
                if of_spins:
                    side.mul_(2).sub_(1)
        return means.to(self._dtype)

    def _sides(self, tensor: Tensor) -> tuple[Tensor, Tensor]:
        visible, hidden = tensor.split_with_sizes(self.units)
        return visible, hidden

    def _stand_for_spins(self, weights: list[int], one: int) -> None:
        """(2 v - 1)^T (2 h - 1) and its like, from sums of v^T h, v and h."""
        of_v, of_h = self.spins
        sums = weights[0] * self.sums[0] - weights[1] * self.sums[1]
        visible, hidden = sums.split(self.units)
        pairs = self.pairs.long() * (2 if of_v else 1) * (2 if of_h else 1)
        if of_h:
            pairs -= (2 if of_v else 1) * one * visible[:, None]
        if of_v:
            pairs -= (2 if of_h else 1) * hidden
        self.pairs = pairs

    def statistics(self) -> tuple[Statistics, Statistics]:
        """Return means of the two phases, the pairs' difference with the data's."""
        pairs = (self.pairs.T.double() * self.scale).to(self._dtype)
        data = Statistics(pairs, *self.data, None, 1)
        return data, Statistics(torch.zeros_like(pairs), *self.model, None, 1)
