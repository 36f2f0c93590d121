# SPDX-License-Identifier: Apache-2.0
"""Sufficient statistics of binary units, exactly: a part of _ops.py."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from torch_init import _C
from torch_init._descriptors import check_memory
from torch_init._ops_gibbs import GREY_LEVELS, MEAN_ONE
from torch_init._ops_gibbs_checks import check_bytes
from torch_init.errors import describe


@dataclass(frozen=True, eq=False)
class Term:
    """States of some chains, whose statistics v^T h are multiplied by an integer weight.

    Attributes:
        visible: uint8 [chains, visible], 0 or 1; with levels=255 anything. With levels=MEAN_ONE
            int16, 0 ... MEAN_ONE, on a CPU.
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
        visible, hidden = self.visible, self.hidden
        chains = visible.shape[0]
        if self.levels == MEAN_ONE:
            check_memory("statistics", "visible", visible)
            if visible.dtype != torch.int16 or not (visible.is_cpu and visible.is_contiguous()):
                got = f"{visible.dtype} on {visible.device}"
                raise ValueError(describe("statistics", "visible", got, "int16 on a CPU"))
        else:
            check_bytes("visible", visible, (chains, visible.shape[1]), visible.device)
        if hidden.dtype != torch.int16:
            check_bytes("hidden", hidden, (chains, hidden.shape[1]), visible.device)
            if self.levels > 1:
                return replace(self, hidden=hidden.to(torch.int16))
        elif hidden.dim() != 2 or hidden.shape[0] != chains or hidden.device != visible.device:
            got = f"{hidden.dtype} {tuple(hidden.shape)} on {hidden.device}"
            expected = f"int16 ({chains}, hidden) on {visible.device}"
            raise ValueError(describe("statistics", "hidden", got, expected))
        return self if hidden.is_contiguous() else replace(self, hidden=hidden.contiguous())


@dataclass(frozen=True, eq=False)
class Statistics:
    """Sums over chains: integers, the same in any order and for any split of the chains.

    Attributes:
        pairs: int32 or int64 [visible, hidden], of the terms' weight * v^T h.
        sums: int64 [terms, visible + hidden], of each term's v and h.
    """

    pairs: Tensor
    sums: Tensor


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
    sums = torch.empty((len(checked), sum(units)), dtype=torch.int64, device="cpu")
    visible_sums, size = sums.data_ptr(), sums.element_size()
    addresses = []
    for term in checked:
        hidden_sums = visible_sums + units[0] * size
        addresses.append(
            (
                (term.visible.data_ptr(), term.hidden.data_ptr(), visible_sums, hidden_sums),
                (
                    *(term.visible.shape[0], term.weight),
                    term.hidden.dtype == torch.int16,
                    *(term.levels == GREY_LEVELS, term.levels == MEAN_ONE),
                ),
            )
        )
        visible_sums += sum(units) * size
    threads = torch.get_num_threads()
    wide = out.dtype == torch.int64
    _C.statistics(addresses, units, out.data_ptr(), wide, accumulate, threads)
    return Statistics(out, sums)


def _on_cuda(terms: list[Term], out: Tensor, accumulate: bool) -> Statistics:
    with torch.cuda.device(out.device):
        stream = torch.cuda.current_stream().cuda_stream
        for number, term in enumerate(terms):
            task = _product(term, out, accumulate or number > 0)
            _C.statistics_on_cuda(task, out.device.index, stream)
    sums = [
        torch.cat([side.sum(0, dtype=torch.int64) for side in (term.visible, term.hidden)])
        for term in terms
    ]
    return Statistics(out, torch.stack(sums))


def statistics_with_cuda_body_on_host(*terms: Term, out: Tensor, accumulate: bool = True) -> None:
    """Add up v^T h with the CUDA kernel's own code on CPU tensors, for tests without a GPU."""
    for number, term in enumerate(terms):
        _C.statistics_with_cuda_body_on_host(_product(term, out, accumulate or number > 0))


def _product(term: Term, out: Tensor, accumulate: bool) -> _C._ProductTask:
    addresses = (term.visible.data_ptr(), term.hidden.data_ptr(), out.data_ptr())
    means, wide = term.hidden.dtype == torch.int16, out.dtype == torch.int64
    return (*addresses, term.visible.shape[0], *out.shape, means, wide, accumulate, term.weight)
