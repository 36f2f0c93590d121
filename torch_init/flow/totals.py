# SPDX-License-Identifier: Apache-2.0
"""The running totals of everything that is watched on one device, in one piece of memory.

A row holds the statistics of one tensor of the model, added up over its firings; csrc/moments
fills it in one pass. One piece, so that a report costs one copy to the host.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from torch_init import _ops

CALLS, COUNT, SUM, SQUARES, ABSMAX, ZEROS, LOW, HIGH, NONFINITE, ORDER, SUBNORMAL, COLUMNS = (
    _ops.FLOW_ROW[name]
    for name in (
        "calls", "count", "sum", "squares", "absmax", "zeros", "at_or_below", "at_or_above",
        "nonfinite", "first_nonfinite", "subnormal", "histogram",
    )
)  # fmt: skip
BINS = _ops.FLOW_BINS
LOWEST_EXPONENT = _ops.FLOW_LOWEST_EXPONENT
"""Bin i of the histogram counts 2^e <= |x| < 2^(e+1), e = i - 40; the ends take the rest."""


class Totals:
    """Preallocated float64 rows and per-feature sums on one device.

    Args:
        device: where the watched tensors live.
        rows: how many tensors fit.
        features: how many features fit, of all tensors together.
        histogram: whether a row has the 64 bins.
    """

    def __init__(self, device: torch.device, rows: int, features: int, histogram: bool) -> None:
        self.columns = COLUMNS + (BINS if histogram else 0)
        size = rows * self.columns + 3 * features
        with torch.inference_mode(False):  # it must be writable outside of inference mode, too
            self.packed = torch.zeros(size, dtype=torch.float64, device=device)
        self.table = self.packed[: rows * self.columns].view(rows, self.columns)
        self.arena = self.packed[rows * self.columns :]
        self.rows_used = 0
        self.arena_used = 0

    @property
    def rows_free(self) -> int:
        return self.table.shape[0] - self.rows_used

    def take_rows(self, count: int) -> int:
        """Reserve rows that follow each other; return the first. There must be room."""
        self.rows_used += count
        return self.rows_used - count

    def take_features(self, width: int) -> int | None:
        """Reserve a (3, width) block; return where it begins in the arena, or None."""
        start = self.arena_used
        if width == 0 or start + 3 * width > self.arena.shape[0]:
            return None
        self.arena_used += 3 * width
        return start

    def features(self, start: int, width: int) -> Tensor:
        """The block that take_features(width) reserved: counts of x > 0, sums, squares."""
        return self.arena[start : start + 3 * width].view(3, width)

    def read(self) -> TotalsRead:
        """Copy everything to the host: the only synchronisation there is."""
        copied = self.packed.to("cpu", copy=True).numpy()
        size = self.table.numel()
        return TotalsRead(copied[:size].reshape(-1, self.columns), copied[size:])


@dataclass
class TotalsRead:
    """What Totals.read() copied."""

    table: np.ndarray
    arena: np.ndarray

    def features(self, start: int, width: int) -> np.ndarray:
        return self.arena[start : start + 3 * width].reshape(3, width)


class Moments:
    """The statistics in one row.

    Means are over finite elements; the shares are of all elements. A statistic of nothing is NaN.
    """

    def __init__(self, row: np.ndarray) -> None:
        self.row = row
        self.calls, self.count = int(row[CALLS]), int(row[COUNT])
        self.nonfinite = int(row[NONFINITE])
        self.finite = self.count - self.nonfinite
        self.order = int(row[ORDER])
        self.absmax = float(row[ABSMAX]) if self.finite else math.nan

    def _share(self, column: int) -> float:
        return float(self.row[column]) / self.count if self.count else math.nan

    @property
    def mean(self) -> float:
        return float(self.row[SUM]) / self.finite if self.finite else math.nan

    @property
    def mean_square(self) -> float:
        return float(self.row[SQUARES]) / self.finite if self.finite else math.nan

    @property
    def rms(self) -> float:
        return math.sqrt(self.mean_square)

    @property
    def std(self) -> float:
        return math.sqrt(max(0.0, self.mean_square - self.mean**2))

    @property
    def norm(self) -> float:
        """Root of the mean, over firings, of the tensor's squared L2 norm."""
        return math.sqrt(float(self.row[SQUARES]) / self.calls) if self.calls else math.nan

    @property
    def zeros(self) -> float:
        return self._share(ZEROS)

    @property
    def saturated_low(self) -> float:
        return self._share(LOW)

    @property
    def saturated_high(self) -> float:
        return self._share(HIGH)

    @property
    def subnormal(self) -> float:
        """Share of subnormal elements among those that are not zero."""
        nonzero = self.count - float(self.row[ZEROS])
        return float(self.row[SUBNORMAL]) / nonzero if nonzero > 0 else 0.0

    @property
    def histogram(self) -> np.ndarray | None:
        """Counts by floor(log2 |x|), or None if it was not asked for."""
        return self.row[COLUMNS:] if len(self.row) > COLUMNS else None
