# SPDX-License-Identifier: Apache-2.0
"""Where the first NaN or infinity came from, by the order stamps of all rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from torch_init.flow.rows import ParameterRow, Row


@dataclass(frozen=True)
class Origin:
    """The first tensor with a non-finite element.

    Attributes:
        layer: module whose output, or parameter whose gradient, it is.
        direction: forward, backward or parameter.
        count: non-finite elements of this tensor, over the window.
    """

    layer: str
    direction: str
    count: int
    sentence: str
    cause: str
    suggestion: str


def find_origin(rows: Sequence[Row], parameters: Sequence[ParameterRow]) -> Origin | None:
    """Return the first non-finite tensor in the order of events, or None.

    The stamps of a CUDA graph are constants: they tell the order within a pass, not that of
    passes. There the forward pass comes first, which a broken step before it may have broken.
    """
    is_captured = any(row.is_captured for row in rows)
    events: list[tuple[int, int, str, int]] = []
    for place, row in enumerate(rows):
        if row.nonfinite:
            events.append((0, row.nonfinite_order, "forward", place))
        if row.gradient_nonfinite:
            events.append((1, row.gradient_nonfinite_order, "backward", place))
    for place, parameter in enumerate(parameters):
        if parameter.gradient_nonfinite:
            events.append((2, parameter.nonfinite_order, "parameter", place))
    if not events:
        return None
    _, _, direction, place = min(events if is_captured else [(0, *event[1:]) for event in events])
    if direction == "forward":
        origin = _forward(rows, place)
        is_uncertain = is_captured and rows[place].calls > 1 and len({e[0] for e in events}) > 1
        return _without_order(origin) if is_uncertain else origin
    if direction == "backward":
        return _backward(rows, place)
    parameter = parameters[place]
    return Origin(
        parameter.name,
        direction,
        parameter.gradient_nonfinite,
        f"the gradient of `{parameter.name}` is the first non-finite tensor; the gradients with "
        "respect to activations came finite",
        "the product of activation and gradient overflows, or so does their sum over the batch",
        "clip the gradient (torch.nn.utils.clip_grad_norm_), or lower the loss scale",
    )


def _without_order(origin: Origin) -> Origin:
    return replace(
        origin,
        sentence=f"the output of `{origin.layer}` is not finite, and gradients are not either; in "
        "a CUDA graph the order of passes is not known, so that a step before may have "
        "broken the weights",
        cause="the forward pass, or a backward pass before it, made it",
        suggestion="watch one step at a time (reset() after each), or the model as it is "
        "without a CUDA graph; " + origin.suggestion,
    )


def _forward(rows: Sequence[Row], place: int) -> Origin:
    row = rows[place]
    where = (
        f"the output of `{row.layer}` ({row.type}) is the first non-finite tensor in the forward "
        "pass"
    )
    if place:
        before = rows[place - 1]
        limit = torch.finfo(getattr(torch, before.dtype)).max
        came = "came" if before.nonfinite else "is"  # a later pass need not be
        where += f"; before it, `{before.layer}` {came} finite, up to {before.absmax:.3g} in size"
        cause = f"`{row.layer}` or the operations before it made it"
        if before.absmax > 1e-3 * limit:
            share = f"{before.absmax / limit:.2g} of {before.dtype}'s largest number"
            cause = f"overflow: `{before.layer}` reaches {share}"
    else:
        cause = "its input or its weights are not finite"
    return Origin(
        row.layer,
        "forward",
        row.nonfinite,
        where,
        cause,
        "look for log(0), 0/0, sqrt of a negative number, overflowing exp, and a learning rate "
        "that is too large",
    )


def _backward(rows: Sequence[Row], place: int) -> Origin:
    row = rows[place]
    came = "came" if any(r.nonfinite for r in rows) else "is"
    after = next((r for r in rows[place + 1 :] if r.backward_calls), None)
    where = (
        f"the gradient with respect to the output of `{row.layer}` is the first non-finite tensor"
    )
    if after is None:
        cause = "the loss's own backward made it"
    else:
        where += f"; that with respect to the output of `{after.layer}`, after it, came finite"
        cause = f"the backward pass of `{after.layer}`, or of the operations between, made it"
    return Origin(
        row.layer,
        "backward",
        row.gradient_nonfinite,
        where + f", and the forward pass {came} finite",
        cause,
        "look for sqrt, norm, log, division or pow at 0 between them: the slope is infinite",
    )
