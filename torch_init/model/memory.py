# SPDX-License-Identifier: Apache-2.0
"""Parameters' memory: whether the native module can reach it, and whether two share it."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from torch_init import _ops
from torch_init.errors import describe


class Extent(NamedTuple):
    """The memory of a part of a parameter."""

    name: str
    written: bool
    view: Tensor


def unreachable(view: Tensor) -> str:
    """Return why the native module cannot reach a detached tensor's memory; empty if it can."""
    if type(view).__torch_dispatch__ is not torch._C._disabled_torch_dispatch_impl:
        return f"a {type(view).__name__}, whose memory is not its own"
    if view.is_meta:
        return "on the meta device"
    if view.device.type not in _ops.FILLABLE_DEVICES:
        return f"on {view.device}, for which there are no kernels"
    if view.numel() > 0 and view.data_ptr() == 0:
        return "whose memory has been freed"
    return ""


def check_apart(function: str, extents: Sequence[Extent]) -> None:
    """Raise if a parameter that is to be written shares memory with another.

    What it holds would depend on which is written last.
    """
    spans = []
    for number, (_, _, view) in enumerate(extents):
        if view.numel() > 0 and not unreachable(view):
            begin = view.data_ptr()
            reach = sum((n - 1) * s for n, s in zip(view.shape, view.stride(), strict=True))
            end = begin + (reach + 1) * view.element_size()
            spans.append((view.device.index or 0, view.device.type, begin, end, number))
    spans.sort()
    last = None  # of the spans so far, the one that reaches furthest
    for span in spans:
        if last is not None and last[:2] == span[:2] and span[2] < last[3]:
            _check_pair(function, extents[last[4]], extents[span[4]])
        if last is None or last[:2] != span[:2] or span[3] > last[3]:
            last = span


def _check_pair(function: str, one: Extent, other: Extent) -> None:
    if not (one.written or other.written) or not _share(one.view, other.view):
        return
    got = f"{one.name} and {other.name}, which share memory"
    fix = f"Tie them by assigning the parameter itself, or give {other.name} a copy"
    raise ValueError(describe(function, "model", got, "parameters each in memory of its own", fix))


_FEW = 2**24


def _share(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors whose spans overlap have a byte in common."""
    if one.is_contiguous() and other.is_contiguous():
        return True
    if max(one.numel(), other.numel()) > _FEW:
        return False  # columns of one matrix, most likely
    base = min(one.data_ptr(), other.data_ptr())
    return bool(torch.isin(_bytes(one, base), _bytes(other, base)).any())


def _bytes(tensor: Tensor, base: int) -> Tensor:
    """Return the distance from base of every byte of tensor."""
    size = tensor.element_size()
    places = torch.full((1,), tensor.data_ptr() - base, device="cpu")
    for n, stride in zip(tensor.shape, tensor.stride(), strict=True):
        places = (places[:, None] + torch.arange(n, device="cpu") * stride * size).reshape(-1)
    return (places[:, None] + torch.arange(size, device="cpu")).reshape(-1)
