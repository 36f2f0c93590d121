# SPDX-License-Identifier: Apache-2.0
"""Tensors as the native module knows them: an address, a dtype, sizes and strides."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from torch_init.errors import describe

DTYPE_CODES = {
    torch.float32: 0,
    torch.float64: 1,
    torch.bfloat16: 2,
    torch.float16: 3,
    torch.float8_e4m3fn: 4,
    torch.float8_e5m2: 5,
    torch.int32: 6,
    torch.uint32: 6,
}
REAL_OF_COMPLEX = {torch.complex64: torch.float32, torch.complex128: torch.float64}
"""complex32 is left out: half-precision complex tensors have almost no operators."""

MAX_DIMS = 8  # kMaxDims of csrc/region/region.h

Descriptor = tuple[int, int, Sequence[int], Sequence[int], Sequence[int], int]


def describe_region(
    tensor: Tensor, first_index: int = 0, index_strides: Sequence[int] | None = None
) -> Descriptor:
    """Return (address, dtype, sizes, strides, index strides, first index) of a tensor.

    Without index_strides the tensor is a whole one, whose logical indices are row-major. The real
    and imaginary parts of a complex one are one dimension more.
    """
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor.detach())
        first_index *= 2
        if index_strides is not None:
            index_strides = (*(2 * stride for stride in index_strides), 1)
    code = DTYPE_CODES[tensor.dtype]
    address = tensor.data_ptr()
    if address == 0 and tensor.numel() > 0:  # freed: to use it would end the process
        got = f"one of shape {tuple(tensor.shape)} whose memory has been freed"
        raise ValueError(describe("fill", "tensor", got, "a tensor that holds memory"))
    sizes: Sequence[int] = (tensor.numel(),)
    strides: Sequence[int] = (1,)
    if index_strides is None and tensor.is_contiguous():
        index_strides = strides
    else:
        sizes, strides = tensor.shape, tensor.stride()
        if index_strides is None:
            index_strides = row_major_strides(sizes)
    return (address, code, sizes, strides, index_strides, first_index)


def row_major_strides(sizes: Sequence[int]) -> tuple[int, ...]:
    return tuple(math.prod(sizes[d + 1 :]) for d in range(len(sizes)))


def is_indirect(tensor: Tensor) -> bool:
    """Whether the native module cannot use tensor's memory as it lies."""
    lazy = tensor.is_conj() or tensor.is_neg()
    return lazy or (tensor.dim() >= MAX_DIMS and not tensor.is_contiguous())


def readable(tensor: Tensor) -> Tensor:
    """Return tensor, or a copy of it if its memory is indirect."""
    if not is_indirect(tensor):
        return tensor
    return tensor.detach().clone(memory_format=torch.contiguous_format).resolve_conj().resolve_neg()


def check_memory(function: str, argument: str, tensor: Tensor) -> None:
    """Raise unless tensor has memory of its own on a CPU or a CUDA device."""
    own = type(tensor).__torch_dispatch__ is torch._C._disabled_torch_dispatch_impl
    reachable = own and tensor.device.type in ("cpu", "cuda")
    if reachable and (tensor.numel() == 0 or tensor.data_ptr() != 0):
        return
    got = f"a {type(tensor).__name__} on {tensor.device}"
    expected = "a tensor that holds memory on a CPU or a CUDA device"
    raise ValueError(describe(function, argument, got, expected))


def must_dispatch(tensor: Tensor) -> bool:
    """Whether a call on tensor is traced or intercepted, and must go through an operator."""
    return (
        torch.compiler.is_compiling()
        or torch._C._get_tracing_state() is not None
        or torch._C._len_torch_dispatch_stack() > 0
        or type(tensor).__torch_dispatch__ is not torch._C._disabled_torch_dispatch_impl
    )
