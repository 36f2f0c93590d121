# SPDX-License-Identifier: Apache-2.0
"""Sufficient statistics of binary units, exactly: a part of _ops.py."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from torch_init import _C
from torch_init._descriptors import check_memory
from torch_init._ops_gibbs import GREY_LEVELS, check_bytes
from torch_init.errors import describe


@dataclass(frozen=True)
class Statistics:
    """Sums over chains: integers, the same in any order and for any split of the chains.

    Attributes:
        pairs: int32 or int64 [visible, hidden], of v^T h.
        visible, hidden: int64 [visible] and [hidden], of v and of h.
    """

    pairs: Tensor
    visible: Tensor
    hidden: Tensor


def statistics(
    visible: Tensor,
    hidden: Tensor,
    *,
    levels: int = 1,
    out: Tensor | None = None,
    weight: int = 1,
    accumulate: bool = True,
) -> Statistics:
    """Return the sums over chains of v^T h, of v and of h, each exact.

    Args:
        visible: uint8 [chains, visible], 0 or 1; with levels=255 anything.
        hidden: uint8 [chains, hidden], 0 or 1, or int16, means as hidden_means gives them.
        out: contiguous int32 or int64 [visible, hidden], to which weight * v^T h is added, and
            which is the result's `pairs`. It must be able to hold the sums.
        accumulate: False: weight * v^T h takes the place of what is in `out`.
    """
    chains, units = visible.shape
    check_bytes("visible", visible, (chains, units), visible.device)
    means = hidden.dtype == torch.int16
    if not means:
        check_bytes("hidden", hidden, (chains, hidden.shape[1]), visible.device)
    grey = levels == GREY_LEVELS
    if grey and not means:
        hidden, means = hidden.to(torch.int16), True
    if out is None:
        out = torch.empty(units, hidden.shape[1], dtype=torch.int32, device=visible.device)
        accumulate = False
    check_memory("statistics", "out", out)
    fits = out.dtype in (torch.int32, torch.int64) and out.is_contiguous()
    if not fits or out.device != visible.device or out.shape != (units, hidden.shape[1]):
        got = f"{out.dtype} {tuple(out.shape)}"
        expected = f"int32 or int64 {(units, hidden.shape[1])}"
        raise ValueError(describe("statistics", "out", got, expected))
    if not visible.is_cpu:
        return _on_cuda(visible, hidden.contiguous(), out, weight, accumulate)
    of_visible, of_hidden = (torch.empty(n, dtype=torch.int64) for n in out.shape)
    tensors = (visible, hidden.contiguous(), out, of_visible, of_hidden)
    _C.statistics(
        [tensor.data_ptr() for tensor in tensors],
        chains,
        tuple(out.shape),
        means,
        grey,
        out.dtype == torch.int64,
        accumulate,
        weight,
        torch.get_num_threads(),
    )
    return Statistics(out, of_visible, of_hidden)


def _on_cuda(
    visible: Tensor, hidden: Tensor, out: Tensor, weight: int, accumulate: bool
) -> Statistics:
    with torch.cuda.device(visible.device):
        stream = torch.cuda.current_stream().cuda_stream
        task = _product(visible, hidden, out, weight, accumulate)
        _C.statistics_on_cuda(task, visible.device.index, stream)
    return Statistics(out, *(x.sum(0, dtype=torch.int64) for x in (visible, hidden)))


def statistics_with_cuda_body_on_host(
    visible: Tensor, hidden: Tensor, out: Tensor, weight: int, accumulate: bool
) -> None:
    """Add up v^T h with the CUDA kernel's own code on CPU tensors, for tests without a GPU."""
    task = _product(visible, hidden, out, weight, accumulate)
    _C.statistics_with_cuda_body_on_host(task)


def _product(
    visible: Tensor, hidden: Tensor, out: Tensor, weight: int, accumulate: bool
) -> _C._ProductTask:
    addresses = (visible.data_ptr(), hidden.data_ptr(), out.data_ptr())
    means, wide = hidden.dtype == torch.int16, out.dtype == torch.int64
    return (*addresses, len(visible), *out.shape, means, wide, accumulate, weight)
