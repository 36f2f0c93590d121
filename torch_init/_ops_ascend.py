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
from torch_init.errors import describe

_PAIR_KINDS = {torch.int32: 0, torch.int64: 1, torch.float32: 2}


@dataclass(frozen=True, eq=False)
class Slope:
    """What the gradient of the log-likelihood in the weights is made of.

    Attributes:
        pairs: int32, int64 or float32 [visible, hidden], the phases' difference of v^T h, in units
            of 1 / scale.
        visible, hidden: [visible] and [hidden], the differences of the means.
        visible_offset, hidden_offset: what centring subtracts; zeros: nothing.
    """

    pairs: Tensor
    scale: float
    visible: Tensor
    hidden: Tensor
    visible_offset: Tensor
    hidden_offset: Tensor


@dataclass(frozen=True, eq=False)
class Pace:
    """How far a step goes, and what else than the gradient directs it.

    Attributes:
        decay, l1: of the weights' squares and magnitudes.
        pull, visible_mean: [hidden] and [visible]; their products are added to the gradient.
    """

    rate: float
    momentum: float
    decay: float
    l1: float
    pull: Tensor
    visible_mean: Tensor


def ascend(
    weight: Tensor,
    velocity: Tensor | None,
    slope: Slope,
    pace: Pace,
    gradient: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Move weight and velocity in place; return the biases' shifts due to centring.

    They are (gradient^T hidden_offset, gradient visible_offset), [visible] and [hidden].

    Args:
        weight, velocity: float32 [hidden, visible] on a CPU, contiguous; None stands
            for zeros.
        gradient: takes the gradient of the log-likelihood, before pull, decay and l1.
    """
    check_memory("ascend", "weight", weight)
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
        fits = tensor.is_cpu and tensor.is_contiguous() and tensor.dtype in dtypes
        if tensor.shape != shape or not fits:
            got = f"{tensor.dtype} {tuple(tensor.shape)} on {tensor.device}"
            expected = f"a contiguous tensor {shape} on the CPU of {' or '.join(map(str, dtypes))}"
            raise ValueError(describe("ascend", name, got, expected))
    shifts = slope.visible.new_empty(visible), slope.hidden.new_empty(hidden)
    given = (
        *(slope.pairs, slope.visible_offset, slope.hidden_offset, slope.visible, slope.hidden),
        *(pace.pull, pace.visible_mean, weight, velocity, gradient, *shifts),
    )
    _C.ascend(
        [0 if tensor is None else tensor.data_ptr() for tensor in given],
        (visible, hidden),
        _PAIR_KINDS[slope.pairs.dtype],
        (slope.scale, pace.decay, pace.l1, pace.momentum, pace.rate),
        torch.get_num_threads(),
    )
    return shifts
