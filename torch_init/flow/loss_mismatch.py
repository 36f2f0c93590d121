# SPDX-License-Identifier: Apache-2.0
"""A loss that takes probabilities for logits, read off its graph before the backward pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from torch_init.flow.structure import SHAPING, operation

_MOST_FUNCTIONS = 16
_LOSSES = {
    "LogSoftmax": "cross_entropy",
    "NllLoss": "nll_loss",
    "NllLoss2D": "nll_loss",
    "BinaryCrossEntropyWithLogits": "binary_cross_entropy_with_logits",
}
"""What computes the loss, and what applies the function that makes it one."""
_PROBABILITIES = ("Softmax", "Sigmoid")


@dataclass(frozen=True)
class LossMismatch:
    """What the model ends with, and the loss that cannot use it.

    Attributes:
        applied: "softmax" or "sigmoid", which the loss applies itself or takes the logarithm of.
        loss: "cross_entropy", "nll_loss" or "binary_cross_entropy_with_logits".
    """

    applied: str
    loss: str


def loss_mismatch(loss: Tensor) -> LossMismatch | None:
    """Return what is applied twice, or taken for its logarithm; None if nothing is.

    Only what feeds the loss directly is told, seen through operations that only reshape:
    probabilities that are scaled first are logits like others. A log_softmax that is applied twice
    changes nothing.
    """
    todo, seen = [loss.grad_fn], 0
    while todo and seen < _MOST_FUNCTIONS:
        function, seen = todo.pop(0), seen + 1
        if function is None:
            continue
        name = operation(function)
        if name in _LOSSES and (source := _source(function)) in _PROBABILITIES:
            return LossMismatch(source.lower(), _LOSSES[name])
        todo += [f for f, _ in function.next_functions]
    return None


def _source(function: Any) -> str:
    """The operation behind a function's first input."""
    name = ""
    while function.next_functions and function.next_functions[0][0] is not None:
        function = function.next_functions[0][0]
        name = operation(function)
        if name not in SHAPING:
            return name
    return name
