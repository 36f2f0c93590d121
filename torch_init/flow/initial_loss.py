# SPDX-License-Identifier: Apache-2.0
"""The cross-entropy that a model begins with, read off the loss's graph before the backward pass.

A model that knows nothing gives each of K classes 1 / K: a loss of ln K. Independent logits of
variance s^2 add E logsumexp - ln K <= s^2 / 2 (Jensen), one half for logits of size 1. A larger
start is confidence without knowledge, and the first steps do nothing but take it back.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

_MOST_FUNCTIONS = 16


@dataclass(frozen=True)
class InitialLoss:
    """The mean cross-entropy over a batch, whatever the loss multiplies it by or adds to it.

    Attributes:
        value: in nats.
        classes: K.
        logit_std: standard deviation of the logits over the classes, root mean square over the
            examples.
    """

    value: float
    classes: int
    logit_std: float

    @property
    def excess(self) -> float:
        """value - ln K, in nats."""
        return self.value - math.log(self.classes)


def initial_loss(loss: Tensor) -> InitialLoss | None:
    """Return the cross-entropy with class labels that a loss is made of; None if there is none.

    Recognised are torch.nn.functional.cross_entropy and nll_loss of log_softmax, of class labels,
    and what multiplies, divides, adds up or averages their result.
    """
    todo, seen = [loss.grad_fn], 0
    while todo and seen < _MOST_FUNCTIONS:
        function, seen = todo.pop(0), seen + 1
        if function is None:
            continue
        if function.name().startswith("NllLoss"):
            return _read(function)
        todo += [f for f, _ in function.next_functions]
    return None


def _read(function: Any) -> InitialLoss | None:
    with torch.no_grad():
        # Of (classes,) or (N, classes); the form with further dimensions is of (N, classes, H, W).
        axis = 1 if function.name().startswith("NllLoss2D") else -1
        logs = function._saved_self.detach().float().movedim(axis, -1)
        logs = logs.reshape(-1, logs.shape[-1])
        target = function._saved_target.flatten().long()  # uint8 is allowed, too
        kept = target != function._saved_ignore_index
        logs, target = logs[kept], target[kept]
        if len(logs) == 0 or logs.shape[-1] < 2:
            return None
        value = -logs.gather(-1, target[:, None]).mean()
        spread = logs.var(-1, correction=0).mean().sqrt()
        # Of what is no logarithm of a probability nothing is known.
        error = logs.logsumexp(-1).abs().max()
        found, logit_std, error = torch.stack([value, spread, error]).tolist()
    return InitialLoss(found, logs.shape[-1], logit_std) if error < 1e-2 else None
