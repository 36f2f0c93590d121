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


@dataclass(frozen=True, eq=False)
class Term:
    """States of some chains, whose statistics v^T h are multiplied by an integer weight.

    Attributes:
        visible: uint8 [chains, visible], 0 or 1; with levels=255 anything.
        hidden: uint8 [chains, hidden], 0 or 1, or int16, means as hidden_means gives them.
    """

    visible: Tensor
    hidden: Tensor
    levels: int = 1
    weight: int = 1

    def checked(self) -> Term:
        """Return the term as the native code reads it.

        Raises:
            ValueError: other tensors than those named.
        """
        chains, visible, hidden = len(self.visible), self.visible, self.hidden
        check_bytes("visible", visible, (chains, visible.shape[1]), visible.device)
        if hidden.dtype != torch.int16:
            check_bytes("hidden", hidden, (chains, hidden.shape[1]), visible.device)
            if self.levels == GREY_LEVELS:
                hidden = hidden.to(torch.int16)
        elif hidden.dim() != 2 or len(hidden) != chains or hidden.device != visible.device:
            got = f"{hidden.dtype} {tuple(hidden.shape)} on {hidden.device}"
            expected = f"int16 ({chains}, hidden) on {visible.device}"
            raise ValueError(describe("statistics", "hidden", got, expected))
        return Term(visible, hidden.contiguous(), self.levels, self.weight)


@dataclass(frozen=True, eq=False)
class Statistics:
    """Sums over chains: integers, the same in any order and for any split of the chains.

    Attributes:
        pairs: int32 or int64 [visible, hidden], of the terms' weight * v^T h.
        visible, hidden: of each term, int64 [visible] and [hidden]: of v and of h.
    """

    pairs: Tensor
    visible: list[Tensor]
    hidden: list[Tensor]


def statistics(*terms: Term, out: Tensor | None = None, accumulate: bool = True) -> Statistics:
    """Return the sums of one term, or of two, whose `pairs` are added up.

    Args:
        out: contiguous int32 or int64 [visible, hidden], to which they are added, and which is the
            result's `pairs`. It must be able to hold the sums.
        accumulate: False: they take the place of what is in `out`.
    """
    checked = [term.checked() for term in terms]
    first = checked[0]
    units = (first.visible.shape[1], first.hidden.shape[1])
    for term in checked[1:]:
        found = (term.visible.shape[1], term.hidden.shape[1])
        if found != units or term.visible.device != first.visible.device:
            got = f"{found} units on {term.visible.device}"
            expected = f"{units} on {first.visible.device}, as the first has"
            raise ValueError(describe("statistics", "terms", got, expected))
    if out is None:
        out = torch.empty(units, dtype=torch.int32, device=first.visible.device)
        accumulate = False
    check_memory("statistics", "out", out)
    fits = out.dtype in (torch.int32, torch.int64) and out.is_contiguous()
    if not fits or out.device != first.visible.device or out.shape != units:
        got = f"{out.dtype} {tuple(out.shape)}"
        raise ValueError(describe("statistics", "out", got, f"int32 or int64 {units}"))
    if not out.is_cpu:
        return _on_cuda(checked, out, accumulate)
    sums = [[torch.empty(n, dtype=torch.int64, device="cpu") for n in units] for _ in checked]
    _C.statistics(
        [
            (
                [x.data_ptr() for x in (term.visible, term.hidden, *of_term)],
                (
                    *(len(term.visible), term.weight),
                    *(term.hidden.dtype == torch.int16, term.levels == GREY_LEVELS),
                ),
            )
            for term, of_term in zip(checked, sums, strict=True)
        ],
        units,
        out.data_ptr(),
        out.dtype == torch.int64,
        accumulate,
        torch.get_num_threads(),
    )
    return Statistics(out, [of_v for of_v, _ in sums], [of_h for _, of_h in sums])


def _on_cuda(terms: list[Term], out: Tensor, accumulate: bool) -> Statistics:
    with torch.cuda.device(out.device):
        stream = torch.cuda.current_stream().cuda_stream
        for number, term in enumerate(terms):
            task = _product(term, out, accumulate or number > 0)
            _C.statistics_on_cuda(task, out.device.index, stream)
    visible = [term.visible.sum(0, dtype=torch.int64) for term in terms]
    return Statistics(out, visible, [term.hidden.sum(0, dtype=torch.int64) for term in terms])


def statistics_with_cuda_body_on_host(*terms: Term, out: Tensor, accumulate: bool = True) -> None:
    """Add up v^T h with the CUDA kernel's own code on CPU tensors, for tests without a GPU."""
    for number, term in enumerate(terms):
        _C.statistics_with_cuda_body_on_host(_product(term, out, accumulate or number > 0))


def _product(term: Term, out: Tensor, accumulate: bool) -> _C._ProductTask:
    addresses = (term.visible.data_ptr(), term.hidden.data_ptr(), out.data_ptr())
    means, wide = term.hidden.dtype == torch.int16, out.dtype == torch.int64
    return (*addresses, len(term.visible), *out.shape, means, wide, accumulate, term.weight)
