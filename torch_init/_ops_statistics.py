# SPDX-License-Identifier: Apache-2.0
"""Sufficient statistics of sampled states, exactly: a part of _ops.py."""

from __future__ import annotations

import torch
from torch import Tensor

from torch_init import _C
from torch_init._descriptors import check_memory
from torch_init._ops_gibbs import check_bytes
from torch_init.errors import describe


def statistics(
    visible: Tensor,
    hidden: Tensor,
    *,
    out: Tensor | None = None,
    sign: int = 1,
    accumulate: bool = True,
) -> Tensor:
    """Return the sum over chains of v^T h, int32 [visible, hidden]: exact, in any order.

    Sums over parts of a batch, or of a group of processes, add up to the same bits.

    Args:
        visible, hidden: uint8 [chains, units], 0 or 1.
        out: contiguous int32, to which sign * v^T h is added.
        sign: 1 or -1.
        accumulate: False: v^T h takes the place of what is in `out`.
    """
    chains, units = visible.shape
    check_bytes("visible", visible, (chains, units), visible.device)
    check_bytes("hidden", hidden, (chains, hidden.shape[1]), visible.device)
    if out is None:
        out = torch.empty(units, hidden.shape[1], dtype=torch.int32, device=visible.device)
        accumulate = False
    check_memory("statistics", "out", out)
    fits = out.dtype == torch.int32 and out.is_contiguous() and out.device == visible.device
    if not fits or out.shape != (units, hidden.shape[1]):
        got = f"{out.dtype} {tuple(out.shape)}"
        expected = f"int32 {(units, hidden.shape[1])}"
        raise ValueError(describe("statistics", "out", got, expected))
    if not accumulate:
        sign = 0
    if not visible.is_cpu:
        # Sums of 0 and 1 below 2**24 are exact in float32, in any order.
        for v, h in zip(visible.split(2**23), hidden.split(2**23), strict=True):
            counts = (v.T.float() @ h.float()).to(torch.int32)
            out.copy_(counts) if sign == 0 else out.add_(counts, alpha=sign)
            sign = sign or 1
        return out
    _C.statistics(
        visible.data_ptr(),
        hidden.data_ptr(),
        chains,
        units,
        hidden.shape[1],
        out.data_ptr(),
        sign,
        torch.get_num_threads(),
    )
    return out
