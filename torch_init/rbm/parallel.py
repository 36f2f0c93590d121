# SPDX-License-Identifier: Apache-2.0
"""Data-parallel training: which rows are a process's own, and sums over all of them."""

from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class Processes:
    """The processes that share each batch and the chains. One process needs no group."""

    rank: int = 0
    size: int = 1
    group: Any = None

    @classmethod
    def of(cls, group: Any) -> "Processes":
        """The processes of a group; None stands for this one alone."""
        if group is None:
            return cls()
        return cls(dist.get_rank(group), dist.get_world_size(group), group)

    def share(self, count: int) -> slice:
        """Which of count rows or chains are this process's own."""
        return slice(count * self.rank // self.size, count * (self.rank + 1) // self.size)

    def sum_(self, tensor: Tensor) -> Tensor:
        """Add up over the processes, in place."""
        if self.size > 1:
            dist.all_reduce(tensor, group=self.group)
        return tensor

    def from_first_(self, tensor: Tensor) -> Tensor:
        """Take over the first process's values, in place."""
        if self.size > 1:
            dist.broadcast(tensor, dist.get_global_rank(self.group, 0), group=self.group)
        return tensor

    def gather_rows(self, rows: Tensor, count: int) -> Tensor:
        """Return the rows of all processes, (count, ...), on each of them."""
        if self.size == 1:
            return rows
        whole = rows.new_zeros(count, *rows.shape[1:])
        whole[self.share(count)] = rows
        return self.sum_(whole)

    def offset(self, count: int, device: torch.device) -> tuple[int, int]:
        """Return (rows before this process's, all rows), of processes with count rows each."""
        counts = torch.zeros(self.size, dtype=torch.int64, device=device)
        counts[self.rank] = count
        counts = self.sum_(counts)
        return int(counts[: self.rank].sum()), int(counts.sum())
