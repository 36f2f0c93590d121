# SPDX-License-Identifier: Apache-2.0
"""Sufficient statistics of binary units, exactly: a part of _ops.py."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from torch_init import _C
from torch_init._descriptors import check_memory
from torch_init._ops_device import launch, takes_kernels
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
    sums = torch.empty((len(checked), sum(units)), dtype=torch.int64, device=out.device)
    result = Statistics(out, sums)
    if takes_kernels(out):
        _by_kernels(checked, result, accumulate)
        return result
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
    return result


def _by_kernels(terms: list[Term], result: Statistics, accumulate: bool) -> None:
    """Do as statistics does, in one launch for terms of the same kind."""
    out, kinds = result.pairs, [term.hidden.dtype for term in terms]
    if len(set(kinds)) > 1:
        for number, (term, sums) in enumerate(zip(terms, result.sums, strict=True)):
            _by_kernels([term], Statistics(out, sums), accumulate or number > 0)
        return
    launch(
        "statistics",
        out.device,
        [
            ((term.visible.data_ptr(), term.hidden.data_ptr()), (len(term.visible), term.weight))
            for term in terms
        ],
        out.shape,
        out.data_ptr(),
        result.sums.data_ptr(),
        kinds[0] == torch.int16,
        out.dtype == torch.int64,
        accumulate,
    )
