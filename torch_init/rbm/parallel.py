# SPDX-License-Identifier: Apache-2.0
"""Data-parallel training: which rows are a process's own, and sums over all of them."""

from collections.abc import Iterable, Iterator
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

    def together(self, batches: Iterable[Tensor]) -> Iterator[tuple[Tensor, int, int]]:
        """Yield this process's rows of each batch, how many come before them, and all rows' number.

        Batches without rows are left out. A process whose batches end before those of others goes
        on with no rows, as all of them take part in the sums.
        """
        if self.size == 1:
            yield from ((rows, 0, len(rows)) for rows in batches if len(rows))
            return
        own = iter(batches)
        rows, has_ended = next(own), False
        while True:
            counts = torch.zeros(self.size, dtype=torch.int64, device=rows.device)
            counts[self.rank] = -1 if has_ended else len(rows)
            counts = self.sum_(counts)
            if bool((counts < 0).all()):
                return
            counts = counts.clamp(min=0)
            if counts.any():
                yield rows, int(counts[: self.rank].sum()), int(counts.sum())
            found = next(own, None)
            rows, has_ended = (rows[:0], True) if found is None else (found, False)
