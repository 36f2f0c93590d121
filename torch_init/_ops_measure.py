# SPDX-License-Identifier: Apache-2.0
"""Reading tensors back: a part of _ops.py, which alone imports it."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from torch_init import _C
from torch_init._descriptors import describe_region, readable
from torch_init.errors import describe

MEASUREMENT = np.dtype(
    [
        ("count", np.int64),
        ("sum", np.float64),
        ("sum_squares", np.float64),
        ("min", np.float64),
        ("max", np.float64),
        ("zeros", np.int64),
        ("nonfinite", np.int64),
        ("fingerprint", np.uint64),
    ]
)
"""What measure says of one entry. Sums and extremes are those of the finite elements."""

# Moments of csrc/moments/moments.h.
_MOMENTS = np.dtype(
    [
        ("count", np.int64),
        ("zeros", np.int64),
        ("nonfinite", np.int64),
        ("subnormals", np.int64),
        ("at_or_below", np.int64),
        ("at_or_above", np.int64),
        ("fingerprint", np.uint64),
        ("sum", np.float64),
        ("sum_squares", np.float64),
        ("lowest", np.int64),
        ("highest", np.int64),
    ]
)

_DEVICES = ("cpu", "cuda") if hasattr(_C.MeasurePlan, "run_on_cuda") else ("cpu",)

Part = tuple[Tensor] | tuple[Tensor, int, Sequence[int]]


def measure(entries: Sequence[Part]) -> np.ndarray:
    """Read every tensor once and return a structured array (MEASUREMENT), one row per entry.

    count, zeros and nonfinite are numbers of elements; sum and sum_squares add up the finite
    elements in float64, in an order that depends on the tensor's shape and layout alone; min and
    max are theirs, inf and -inf if there are none. fingerprint depends on the elements' logical
    indices and bits, adds up (modulo 2**64) over the parts of a tensor, and is specified in
    docs/fingerprint.md. A complex element counts once in count, and as two real ones elsewhere.

    On a GPU: two launches on the current stream and one synchronisation, whatever the number of
    entries.

    Args:
        entries: (tensor,) for each tensor of a fillable dtype, all on one device. A part of a
            larger tensor adds (first_index, index_strides), as in FillPlan: its element
            (i, j, ...) is element first_index + i * index_strides[0] + j * index_strides[1] + ...
            of the whole.
    """
    plan, tensors = _plan(entries)
    if not tensors or tensors[0].device.type != "cuda":
        moments = np.empty(len(tensors), _MOMENTS)
        plan.run_on_host(torch.get_num_threads(), moments.ctypes.data)
    else:
        moments = _measure_on_cuda(plan, len(tensors), tensors[0].device)
    return _measurements(entries, moments)


def measure_with_cuda_body_on_host(entries: Sequence[Part], blocks: int) -> np.ndarray:
    """Do as measure with the CUDA kernels' own code on CPU tensors, for tests without a GPU."""
    plan, tensors = _plan(entries)
    moments = np.empty(len(tensors), _MOMENTS)
    plan.run_cuda_body_on_host(blocks, moments.ctypes.data)
    return _measurements(entries, moments)


def _plan(entries: Sequence[Part]) -> tuple["_C.MeasurePlan", list[Tensor]]:
    """The plan, and the tensors whose memory it reads."""
    for entry in entries:
        if entry[0].device.type not in _DEVICES:
            got, expected = f"a tensor on {entry[0].device}", f"tensors on {' or '.join(_DEVICES)}"
            raise ValueError(describe("measure", "entries", got, expected))
    tensors = [readable(entry[0]) for entry in entries]
    parts = (entry[1:] for entry in entries)
    regions = [describe_region(t, *part) for t, part in zip(tensors, parts, strict=True)]
    return _C.MeasurePlan(regions), tensors


def _measure_on_cuda(plan: "_C.MeasurePlan", count: int, device: torch.device) -> np.ndarray:
    with torch.cuda.device(device):
        stream = torch.cuda.current_stream().cuda_stream
        blob = torch.frombuffer(bytearray(plan.blob()), dtype=torch.uint8).to(device)
        of_chunk = blob.new_empty(plan.chunks() * _MOMENTS.itemsize)
        moments = blob.new_empty(count * _MOMENTS.itemsize)
        plan.run_on_cuda(
            device.index, stream, blob.data_ptr(), of_chunk.data_ptr(), moments.data_ptr()
        )
        return moments.cpu().numpy().view(_MOMENTS)


def _measurements(entries: Sequence[Part], moments: np.ndarray) -> np.ndarray:
    found = np.empty(len(moments), MEASUREMENT)
    found["count"] = [entry[0].numel() for entry in entries]
    for name in ("sum", "sum_squares", "zeros", "nonfinite", "fingerprint"):
        found[name] = moments[name]
    none_finite = moments["count"] == moments["nonfinite"]
    found["min"] = np.where(none_finite, np.inf, _values(moments["lowest"]))
    found["max"] = np.where(none_finite, -np.inf, _values(moments["highest"]))
    return found


def _values(order_codes: np.ndarray) -> np.ndarray:
    """The inverse of order_code (csrc/moments/formats.h), of doubles."""
    flipped = order_codes ^ np.int64(0x7FFFFFFFFFFFFFFF)
    bits: np.ndarray = np.where(order_codes < 0, flipped, order_codes)
    return bits.view(np.float64)
