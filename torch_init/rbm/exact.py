# SPDX-License-Identifier: Apache-2.0
"""Updates of machines of binary units whose statistics are integers: exact in any order.

The data and the model's phase are bytes and means in fixed point; the difference of their sums is
one matrix of integers, the same for any split of the rows and any number of processes.
"""

import math
from dataclasses import dataclass

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
        if is_spin or not rows.is_cpu:
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
        data, model: the means of s(v) and of h in each phase.
        change: the data's less the model's.
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
        self.pairs, self.scale = processes.sum_(room), 1 / (total * one)
        sums = processes.sum_(found.sums)
        spins = [isinstance(units, Spin) for units in (machine.visible, machine.hidden)]
        if any(spins):
            self._stand_for_spins(spins, sums, [total // count for count in each], one)
        self._ones = [(n_v, n_h * one) for n_v, n_h in zip(each, counts, strict=True)]
        self._divisors = self._divisors_of(size, device, spent)
        means = sums / self._divisors
        if any(spins):
            for side, of_spins in zip(means.split(size, 1), spins, strict=True):
                if of_spins:
                    side.mul_(2).sub_(1)
        means = means.to(wide(machine.weight).dtype)
        data, model = means.unbind()
        self.data, self.model = _sides(data, size), _sides(model, size)
        self.change = _sides(data - model, size)

    def _divisors_of(
        self, size: tuple[int, int], device: torch.device, spent: "Difference | None"
    ) -> Tensor:
        """What a sum of each phase is divided by, (2, visible + hidden)."""
        if spent is not None and spent._ones == self._ones:
            return spent._divisors
        ones = torch.tensor(self._ones, dtype=torch.float64, device=device)
        return ones.repeat_interleave(torch.tensor(size, device=device), 1)

    def _stand_for_spins(
        self, spins: list[bool], sums: Tensor, weights: list[int], one: int
    ) -> None:
        """(2 v - 1)^T (2 h - 1) and its like, from sums of v^T h, v and h."""
        of_v, of_h = spins
        visible, hidden = (weights[0] * sums[0] - weights[1] * sums[1]).split(self.pairs.shape)
        pairs = self.pairs.long() * (2 if of_v else 1) * (2 if of_h else 1)
        if of_h:
            pairs -= (2 if of_v else 1) * one * visible[:, None]
        if of_v:
            pairs -= (2 if of_h else 1) * hidden
        self.pairs = pairs

    def statistics(self) -> tuple[Statistics, Statistics]:
        """Return means of the two phases, the pairs' difference with the data's."""
        dtype = self.data[0].dtype
        pairs = (self.pairs.T.double() * self.scale).to(dtype)
        data = Statistics(pairs, *self.data, None, 1)
        return data, Statistics(torch.zeros_like(pairs), *self.model, None, 1)


def _sides(tensor: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    visible, hidden = tensor.split_with_sizes(size)
    return visible, hidden
