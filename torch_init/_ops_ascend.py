# SPDX-License-Identifier: Apache-2.0
"""A step of a machine's weights along a gradient, in one pass: a part of _ops.py.

docs/gibbs.md, section 8, has the formula.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from torch_init import _C
from torch_init._descriptors import check_memory
from torch_init._ops_device import launch, takes_kernels
from torch_init.errors import describe

_PAIR_KINDS = {torch.int32: 0, torch.int64: 1, torch.float32: 2}


@dataclass(frozen=True, eq=False)
class Slope:
    """What the gradient of the log-likelihood in the weights is made of.

    Attributes:
        pairs: int32, int64 or float32 [visible, hidden], the phases' difference of v^T h, in units
            of 1 / scale.
        visible, hidden: [visible] and [hidden], the differences of the means.
        visible_offset, hidden_offset: what centring subtracts; both None: nothing.
    """

    pairs: Tensor
    scale: float
    visible: Tensor
    hidden: Tensor
    visible_offset: Tensor | None = None
    hidden_offset: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Pace:
    """How far a step goes, and what else than the gradient directs it.

    Attributes:
        decay, l1: of the weights' squares and magnitudes.
        pull, visible_mean: [hidden] and [visible]; their products are added to the gradient. No
            pull: 0.
    """

    rate: float
    momentum: float
    decay: float
    l1: float
    pull: Tensor | None
    visible_mean: Tensor


@dataclass(frozen=True, eq=False)
class Bias:
    """A side's biases that take part in a step, and their velocity: float32 [units]."""

    values: Tensor
    velocity: Tensor
    rate: float


def can_ascend(parameter: Tensor) -> bool:
    """Whether ascend moves a parameter: float32 and contiguous, on a CPU or a CUDA device."""
    fits = parameter.dtype == torch.float32 and parameter.is_contiguous()
    return fits and (parameter.is_cpu or parameter.is_cuda)


def ascend(
    weight: Tensor,
    velocity: Tensor | None,
    slope: Slope,
    pace: Pace,
    gradient: Tensor | None = None,
    biases: tuple[Bias | None, Bias | None] = (None, None),
) -> tuple[Tensor, Tensor]:
    """Move weight and velocity in place; return the biases' shifts due to centring.

    They are (gradient^T hidden_offset, gradient visible_offset), [visible] and [hidden].

    Args:
        weight, velocity: float32 [hidden, visible], contiguous; None stands for zeros.
        gradient: takes the gradient of the log-likelihood, before pull, decay and l1.
        biases: of the visible and the hidden side, moved in the same launch. On a GPU only.
    """
    check_memory("ascend", "weight", weight)
    _check(weight, velocity, slope, pace, gradient)
    hidden, visible = weight.shape
    shifts = slope.visible.new_empty(visible), slope.hidden.new_empty(hidden)
    by_kernels = takes_kernels(weight)
    offsets, pull = (slope.visible_offset, slope.hidden_offset), pace.pull
    if not by_kernels:
        zeros = (torch.zeros_like(x) for x in (slope.visible, slope.hidden))
        offsets = offsets if offsets[0] is not None else (next(zeros), next(zeros))
        pull = torch.zeros_like(slope.hidden) if pull is None else pull
    given = (
        *(slope.pairs, *offsets, slope.visible, slope.hidden),
        *(pull, pace.visible_mean, weight, velocity, gradient, *shifts),
    )
    addresses = [_address(tensor) for tensor in given]
    kind = _PAIR_KINDS[slope.pairs.dtype]
    numbers = (slope.scale, pace.decay, pace.l1, pace.momentum, pace.rate)
    if by_kernels:
        moved = [(None, None) if bias is None else (bias.values, bias.velocity) for bias in biases]
        rates = [0.0 if bias is None else bias.rate for bias in biases]
        moves = [_address(tensor) for of_side in moved for tensor in of_side], rates
        launch("ascend", weight.device, addresses, moves, (visible, hidden), kind, numbers)
    else:
        assert biases == (None, None)
        _C.ascend(addresses, (visible, hidden), kind, numbers, torch.get_num_threads())
    return shifts


def _address(tensor: Tensor | None) -> int:
    return 0 if tensor is None else tensor.data_ptr()


def _check(
    weight: Tensor, velocity: Tensor | None, slope: Slope, pace: Pace, gradient: Tensor | None
) -> None:
    hidden, visible = weight.shape
    shapes = {
        "pairs": (slope.pairs, (visible, hidden)),
        "visible": (slope.visible, (visible,)),
        "hidden": (slope.hidden, (hidden,)),
        "visible_offset": (slope.visible_offset, (visible,)),
        "hidden_offset": (slope.hidden_offset, (hidden,)),
        "pull": (pace.pull, (hidden,)),
        "visible_mean": (pace.visible_mean, (visible,)),
        "velocity": (velocity, (hidden, visible)),
        "gradient": (gradient, (hidden, visible)),
        "weight": (weight, (hidden, visible)),
    }
    for name, (tensor, shape) in shapes.items():
        if tensor is None:
            continue
        dtypes = tuple(_PAIR_KINDS) if name == "pairs" else (torch.float32,)
        fits = tensor.device == weight.device and tensor.dtype in dtypes
        if tensor.shape != shape or not fits or not tensor.is_contiguous():
            got = f"{tensor.dtype} {tuple(tensor.shape)} on {tensor.device}"
            expected = f"a contiguous tensor {shape} of {' or '.join(map(str, dtypes))}"
            expected += f" on {weight.device}"
            raise ValueError(describe("ascend", name, got, expected))


def differences(
    sums: Tensor,
    units: tuple[int, int],
    counts: tuple[float, float, float, float],
    spins: tuple[bool, bool],
    offsets: tuple[Tensor, Tensor] | None,
    rate: float,
) -> tuple[Tensor, Tensor]:
    """Return the data's means and those less the model's, float32 [visible + hidden], on a GPU.

    Args:
        sums: int64 [2, visible + hidden], as statistics adds them up of data and model.
        counts: by which to divide those of the data's visible and hidden units, and the model's.
        spins: of which sides a mean m stands for 2 m - 1.
        offsets: float32 [visible] and [hidden], which move by `rate` towards the data's means:
            offset = offset (1 - rate) + mean rate.
    """
    total = sum(units)
    means = torch.empty(2, total, dtype=torch.float32, device=sums.device)
    addresses = [x.data_ptr() for x in (sums, *means, *(offsets or ()))]
    addresses += [0, 0] if offsets is None else []
    launch("differences", sums.device, addresses, units, counts, spins, (1 - rate, rate))
    return means[0], means[1]
