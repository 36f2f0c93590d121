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
    check_flow(x, totals, features, row, scale, gate)
    x, numbers = readable(x), (row, low, high, order)
    run(_accumulation(x, totals, features, *numbers, scale, gate), x.device)


def run(accumulation: "_C.Accumulation | _C.AccumulationBatch", device: torch.device) -> None:
    if device.type != "cuda":
        accumulation.run_on_host(torch.get_num_threads())
        return
    with torch.cuda.device(device):
        # From PyTorch's own pool, as its reductions have it: nothing waits, and a graph may.
        size = accumulation.scratch_size()
        scratch = torch.empty(size, dtype=torch.uint8, device=device)
        stream = torch.cuda.current_stream().cuda_stream
        accumulation.run_on_cuda(device.index, stream, scratch.data_ptr())


class FlowRow:
    """A row of totals, and features, that many tensors are added to: checked once, not each time.

    Args: as of accumulate_moments_(); features are of some width.
    """

    def __init__(
        self, totals: Tensor, features: Tensor | None, row: int, low: float, high: float
    ) -> None:
        width = 1 if features is None else features.shape[-1]
        x = torch.empty(0, width, device=totals.device)
        check_flow(x, totals, features, row, None, None)
        self.features = features
        self._totals, self._device = totals, totals.device
        self._row, self._low, self._high = row, low, high

    def add(
        self,
        x: Tensor,
        order: int,
        scale: Tensor | None = None,
        gate: Tensor | None = None,
        *,
        with_features: bool = False,
    ) -> None:
        """Do as accumulate_moments_(); x has one of FLOW_DTYPES and, if need be, the width."""
        features = self.features if with_features else None
        if must_dispatch(x) or x.device != self._device:
            totals, row, low, high = self._totals, self._row, self._low, self._high
            accumulate_moments_(x, totals, features, row, low, high, order, scale, gate)
            return
        x, numbers = readable(x), (self._row, self._low, self._high, order)
        run(_accumulation(x, self._totals, features, *numbers, scale, gate), self._device)


def address(tensor: Tensor | None) -> int:
    return 0 if tensor is None else tensor.data_ptr()


def accumulate_with_cuda_body_on_host(
    x: Tensor,
    totals: Tensor,
    features: Tensor | None,
    row: int,
    *arguments: Any,
    blocks: int = 3,
) -> None:
    """Do as accumulate_moments_ with the CUDA kernels' own code, for tests without a GPU."""
    check_flow(x, totals, features, row, *arguments[3:])
    x = readable(x)
    _accumulation(x, totals, features, row, *arguments).run_cuda_body_on_host(blocks)


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
) -> "_C.Accumulation":
    """The native call, for as long as these tensors live."""
    columns = totals.shape[1]
    return _C.Accumulation(
        x.data_ptr(),
        DTYPE_CODES[x.dtype],
        x.shape,
        x.stride(),
        totals.data_ptr() + row * columns * totals.element_size(),
        columns > FLOW_COLUMNS,
        address(features),
        low,
        high,
        order,
        address(scale),
        address(gate),
    )


def check_flow(
    x: Tensor,
    totals: Tensor,
    features: Tensor | None,
    row: int,
    scale: Tensor | None = None,
    gate: Tensor | None = None,
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
