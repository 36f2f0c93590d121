# SPDX-License-Identifier: Apache-2.0
"""Statistics of many tensors in one native call: a part of _ops.py, which alone imports it."""

import itertools
import math
from collections.abc import Sequence

from torch import Tensor

from torch_init import _C
from torch_init._descriptors import DTYPE_CODES, must_dispatch
from torch_init._ops_flow import FLOW_COLUMNS, accumulate_moments_, address, check_flow, run


def accumulate_batch_(
    xs: Sequence[Tensor],
    totals: Tensor,
    rows: Sequence[int],
    order: int,
    scale: Tensor | None = None,
    gate: Tensor | None = None,
) -> None:
    """Do as accumulate_moments_() for many tensors, without bounds, in one native call.

    Args:
        xs: each with one of FLOW_DTYPES.
        rows: which row each goes to.
        order: of the first; the others follow.
        totals, scale, gate: as of accumulate_moments_().
    """
    device = totals.device
    if any(must_dispatch(x) or x.device != device or not _is_dense(x) for x in xs):
        for place, (x, row) in enumerate(zip(xs, rows, strict=True)):
            low, high = -math.inf, math.inf
            accumulate_moments_(x, totals, None, row, low, high, order + place, scale, gate)
    elif xs:
        check_flow(xs[0], totals, None, max(rows), scale, gate)
        addresses = [x.data_ptr() for x in xs]
        dtypes, counts = [DTYPE_CODES[x.dtype] for x in xs], [x.numel() for x in xs]
        _run_batch(addresses, dtypes, counts, totals, rows, order, scale, gate)


def accumulate_parts_(
    x: Tensor,
    sizes: Sequence[int],
    totals: Tensor,
    rows: Sequence[int],
    order: int,
    gate: Tensor | None = None,
) -> None:
    """Do as accumulate_batch_() for x.split(sizes) of a tensor with one dimension."""
    if must_dispatch(x) or not _is_dense(x):
        accumulate_batch_(x.split(list(sizes)), totals, rows, order, None, gate)
        return
    check_flow(x, totals, None, max(rows), None, gate)
    ends = list(itertools.accumulate(sizes))
    addresses = [
        x.data_ptr() + (e - n) * x.element_size() for e, n in zip(ends, sizes, strict=True)
    ]
    dtypes = [DTYPE_CODES[x.dtype]] * len(sizes)
    _run_batch(addresses, dtypes, sizes, totals, rows, order, None, gate)


def _run_batch(
    addresses: Sequence[int],
    dtypes: Sequence[int],
    counts: Sequence[int],
    totals: Tensor,
    rows: Sequence[int],
    order: int,
    scale: Tensor | None,
    gate: Tensor | None,
) -> None:
    columns, begin = totals.shape[1], totals.data_ptr()
    rowaddresses = [begin + row * columns * totals.element_size() for row in rows]
    numbers = (columns > FLOW_COLUMNS, order, address(scale), address(gate))
    batch = _C.AccumulationBatch(addresses, dtypes, counts, rowaddresses, *numbers)
    run(batch, totals.device)


def _is_dense(x: Tensor) -> bool:
    return x.is_contiguous() and not x.is_conj() and not x.is_neg()
