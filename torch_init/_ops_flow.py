# SPDX-License-Identifier: Apache-2.0
"""Statistics of activations and gradients: a part of _ops.py, which alone imports it."""

from typing import Any

import torch
from torch import Tensor

from torch_init import _C
from torch_init._descriptors import DTYPE_CODES, must_dispatch, readable
from torch_init.errors import describe

FLOW_DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
FLOW_ROW: dict[str, int] = _C.FLOW_ROW
"""The columns of a row of totals by name, as csrc/moments/flow_row.h numbers them.

calls; count: elements; sum, squares and absmax: sum, sum of squares and largest absolute value of
the finite ones; zeros; at_or_below and at_or_above: elements <= low and >= high; nonfinite:
elements that are not finite; first_nonfinite: the smallest order of a call that met one, 0 for
none; subnormal: elements other than 0 that are smaller than the dtype's tiny; from histogram on:
finite elements other than 0 in FLOW_BINS bins, of which bin i has
2**(i + FLOW_LOWEST_EXPONENT) <= abs(x) < twice that, and the ends what lies beyond.
"""
FLOW_COLUMNS = FLOW_ROW["histogram"]
FLOW_BINS: int = _C.FLOW_BINS
FLOW_LOWEST_EXPONENT: int = _C.FLOW_LOWEST_EXPONENT

FLOW_DEVICES = ("cpu", "cuda") if hasattr(_C.Accumulation, "run_on_cuda") else ("cpu",)
_SCHEMA = (
    "accumulate_moments_(Tensor x, Tensor(a!) totals, Tensor(b!)? features, int row, float low, "
    "float high, int order, Tensor? scale=None, Tensor? gate=None) -> ()"
)


def accumulate_moments_(
    x: Tensor,
    totals: Tensor,
    features: Tensor | None,
    row: int,
    low: float,
    high: float,
    order: int,
    scale: Tensor | None = None,
    gate: Tensor | None = None,
) -> None:
    """Add the statistics of x, which requires no gradient, to a row of totals, in one pass.

    Nothing is synchronised: a CUDA graph may capture it. The result depends on the values alone,
    not on the number of threads or blocks.

    Args:
        x: float32, float64, bfloat16 or float16, any layout.
        totals: float64 (rows, FLOW_COLUMNS), or (rows, FLOW_COLUMNS + FLOW_BINS) for a histogram
            too; FLOW_ROW has the columns.
        features: float64 (3, x.shape[-1]), for each feature in x's last dimension: the finite
            elements > 0, and the sum and sum of squares of the finite ones.
        row: which row.
        low, high: compared exactly, not rounded to x's dtype.
        order: a positive int, the stamp for first_nonfinite.
        scale: a float32 number; sum, squares and absmax become those of x / scale, and the
            histogram moves down by round(log2(scale)) bins.
        gate: a bool or uint8 number; 0 means that nothing is to be done.
    """
    if must_dispatch(x) or x.device.type not in FLOW_DEVICES:
        torch.ops.torch_init.accumulate_moments_(
            x, totals, features, row, low, high, order, scale, gate
        )
    else:
        _accumulate(x, totals, features, row, low, high, order, scale, gate)


def _accumulate(
    x: Tensor,
    totals: Tensor,
    features: Tensor | None,
    row: int,
    low: float,
    high: float,
    order: int,
    scale: Tensor | None = None,
    gate: Tensor | None = None,
) -> None:
    accumulation, x = _accumulation(x, totals, features, row, low, high, order, scale, gate)
    if x.device.type != "cuda":
        accumulation.run_on_host(torch.get_num_threads())
        return
    with torch.cuda.device(x.device):
        # From PyTorch's own pool, as its reductions have it: nothing waits, and a graph may.
        size = accumulation.scratch_size()
        scratch = torch.empty(size, dtype=torch.uint8, device=x.device)
        stream = torch.cuda.current_stream().cuda_stream
        accumulation.run_on_cuda(x.device.index, stream, scratch.data_ptr())


def accumulate_with_cuda_body_on_host(*arguments: Any, blocks: int = 3) -> None:
    """Do as accumulate_moments_ with the CUDA kernels' own code, for tests without a GPU."""
    accumulation, _ = _accumulation(*arguments)
    accumulation.run_cuda_body_on_host(blocks)


def _accumulation(
    x: Tensor,
    totals: Tensor,
    features: Tensor | None,
    row: int,
    low: float,
    high: float,
    order: int,
    scale: Tensor | None = None,
    gate: Tensor | None = None,
) -> tuple["_C.Accumulation", Tensor]:
    """The native call, and the tensor whose memory it reads."""
    _check_flow(x, totals, features, row, scale, gate)
    x = readable(x)
    columns = totals.shape[1]
    accumulation = _C.Accumulation(
        x.data_ptr(),
        DTYPE_CODES[x.dtype],
        x.shape,
        x.stride(),
        totals.data_ptr() + row * columns * totals.element_size(),
        columns > FLOW_COLUMNS,
        0 if features is None else features.data_ptr(),
        low,
        high,
        order,
        0 if scale is None else scale.data_ptr(),
        0 if gate is None else gate.data_ptr(),
    )
    return accumulation, x


def _check_flow(
    x: Tensor,
    totals: Tensor,
    features: Tensor | None,
    row: int,
    scale: Tensor | None,
    gate: Tensor | None,
) -> None:
    function, device = "accumulate_moments_", x.device
    if x.dtype not in FLOW_DTYPES:
        names = ", ".join(str(dtype).removeprefix("torch.") for dtype in FLOW_DTYPES)
        raise TypeError(describe(function, "x", f"dtype {x.dtype}", f"one of {names}"))
    width = x.shape[-1] if x.dim() else 1
    widths = (FLOW_COLUMNS, FLOW_COLUMNS + FLOW_BINS)
    if not (_is_table(totals, device) and totals.shape[1] in widths and 0 <= row < len(totals)):
        got = f"{totals.dtype} {tuple(totals.shape)} on {totals.device}, row {row}"
        sizes = f"(rows, {widths[0]} or {widths[1]})"
        expected = f"a contiguous float64 tensor {sizes} on {device} that has the row"
        raise ValueError(describe(function, "totals", got, expected))
    if features is not None and not (_is_table(features, device) and features.shape == (3, width)):
        got = f"{features.dtype} {tuple(features.shape)} on {features.device}"
        expected = f"a contiguous float64 tensor (3, {width}) on {device}"
        raise ValueError(describe(function, "features", got, expected))
    for name, number, dtypes in (
        ("scale", scale, (torch.float32,)),
        ("gate", gate, (torch.bool, torch.uint8)),
    ):
        if number is None or (
            number.numel() == 1 and number.dtype in dtypes and number.device == device
        ):
            continue
        got = f"{number.dtype} {tuple(number.shape)} on {number.device}"
        expected = f"one number of dtype {' or '.join(map(str, dtypes))} on {device}"
        raise ValueError(describe(function, name, got, expected))


def _is_table(tensor: Tensor, device: torch.device) -> bool:
    return (
        tensor.dtype == torch.float64
        and tensor.dim() == 2
        and tensor.is_contiguous()
        and tensor.device == device
    )


def register(library: torch.library.Library) -> None:
    """Define the operator in library."""
    library.define(_SCHEMA)
    for device in FLOW_DEVICES:
        library.impl("accumulate_moments_", _accumulate, device.upper())
    name = "torch_init::accumulate_moments_"
    torch.library.register_fake(name, lambda *_, **__: None, lib=library)
