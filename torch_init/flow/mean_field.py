# SPDX-License-Identifier: Apache-2.0
r"""What mean-field theory expects of signal and gradient, from the weights that the model has.

For a layer s = W x + b with independent zero-mean weights, v = sum(W^2) / outputs:

    E s^2 = v E x^2 + E b^2                       (forward)
    E |dL/dx|^2 = v E |dL/ds|^2                   (backward; |.| is the norm of the whole tensor)

and with x = f(s), s normal, the nonlinearity's Gaussian moments (nonlinearity.py):

    E x^2 = E f(s)^2,    E |dL/ds|^2 = E f'(s)^2 E |dL/dx|^2

so that chi = v E f'(s)^2 per layer (Poole et al. 2016, eq. 3; Schoenholz et al. 2017, eq. 9; He et
al. 2015, section 2.2). Sums add squares; a normalisation divides by the standard deviation. Exact
as the width grows; finite layers scatter (Hanin & Nica 2020): for ReLU with He's variance the
logarithm of the squared gradient norm has variance 5 sum(1 / fan_in).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from torch_init.flow.nonlinearity import from_autograd
from torch_init.flow.operations import Belief, Measured, Step, apply, batch_norm_gain, weight_gain
from torch_init.flow.structure import PARAMETER, SHAPING, Structure


@dataclass
class Expectation:
    """Of one node: its elements, its gradient's squared norm, and how far both may be off.

    Attributes:
        signal: mean and mean square expected; None where theory has nothing to say.
        gradient_square: of the norm; None likewise. Without a measured backward pass it is relative
            to that at the model's output.
        spread, gradient_spread: sums of 1 / fan_in from where the predictions begin.
        is_predicted: the signal follows from weights and input alone, nothing was measured between.
        nonlinearity: of a weighted layer or a norm, what its output goes through next; "linear" if
            that is another weight.
        weight_gain: v of a weighted layer.
    """

    signal: Belief | None = None
    gradient_square: float | None = None
    spread: float = 0.0
    gradient_spread: float = 0.0
    is_predicted: bool = False
    nonlinearity: str = ""
    weight_gain: float | None = None


def propagate(structure: Structure, measured: Mapping[int, Measured]) -> list[Expectation]:
    """Return what to expect of every node.

    Args:
        structure: with its numbers fetched.
        measured: by node; the prediction goes on from there where theory ends, as after attention.
    """
    nodes = structure.nodes
    expected = [Expectation() for _ in nodes]
    for node, expectation in zip(nodes, expected, strict=True):
        node.expectation = expectation
    beliefs: list[Belief | None] = []
    steps: list[Step] = []
    for place, node in enumerate(nodes):
        here = expected[place]
        inputs = [None if i is None else beliefs[i] for i in node.inputs]
        sources = [None if i is None else nodes[i] for i in node.inputs]
        step = apply(node, inputs, sources)
        if "BatchNorm" in node.op and node.factor is None:
            step.gains[0] = batch_norm_gain(node, sources, measured)
        steps.append(step)
        here.signal = step.signal
        if node.weight is not None:
            here.weight_gain = weight_gain(node, node.weight)
        before = [expected[i] for i in node.inputs if i is not None and nodes[i].op != PARAMETER]
        if step.signal is None and place in measured:
            beliefs.append(measured[place].signal)
            continue
        beliefs.append(step.signal)
        here.is_predicted = step.signal is not None and all(e.is_predicted for e in before)
        if not node.op.endswith("Norm"):  # a norm sets the size anew
            here.spread = step.spread + max((e.spread for e in before), default=0.0)
    _propagate_gradient(structure, expected, steps, measured)
    _name_nonlinearities(structure, expected)
    return expected


def _propagate_gradient(
    structure: Structure,
    expected: list[Expectation],
    steps: list[Step],
    measured: Mapping[int, Measured],
) -> None:
    nodes = structure.nodes
    # None: reached, but theory cannot say how large. What the loss does is not known either.
    known: dict[int, float | None] = dict.fromkeys(structure.outputs)
    if all(m.gradient_square is None for m in measured.values()):
        seen = [place for place in structure.outputs if math.prod(nodes[place].shape) > 1]
        known = {seen[0]: 1.0} if seen else {}
    for place in reversed(range(len(nodes))):
        if place not in known:
            continue
        here, gradient = expected[place], known[place]
        if gradient is None and place in measured:
            gradient, here.gradient_spread = measured[place].gradient_square, 0.0
            here.gradient_square = gradient if place in structure.outputs else None
        else:
            here.gradient_square = gradient
        for i, gain in zip(nodes[place].inputs, steps[place].gains, strict=False):
            if i is None or nodes[i].op == PARAMETER:
                continue
            there = expected[i]
            spread = here.gradient_spread + steps[place].spread
            there.gradient_spread = max(there.gradient_spread, spread)
            if gradient is None or gain is None:
                known[i] = None
            elif i not in known:
                known[i] = gradient * gain
            elif (so_far := known[i]) is not None:
                known[i] = so_far + gradient * gain


def _name_nonlinearities(structure: Structure, expected: list[Expectation]) -> None:
    """Say of each weighted layer and norm what its output goes through first."""
    following: dict[int, list[int]] = {}
    for place, node in enumerate(structure.nodes):
        for i in node.inputs:
            if i is not None:
                following.setdefault(i, []).append(place)
    for place, node in enumerate(structure.nodes):
        if node.weight is None and not node.op.endswith("Norm"):
            continue
        expected[place].nonlinearity = _next_function(structure, following, place)


def _next_function(structure: Structure, following: dict[int, list[int]], place: int) -> str:
    """Return a nonlinearity's name, "linear" before another weight, or the operation's name."""
    while True:
        after = following.get(place, [])
        if not after:
            return "output"
        if len(after) > 1:
            return "several"
        place = after[0]
        node = structure.nodes[place]
        found = from_autograd(node.op, node.attributes)
        if found is not None:
            return found[0]
        if node.weight is not None:
            return "linear"
        if node.op not in SHAPING and node.op not in ("Mul", "Div", "NativeDropout"):
            return _plain_name(node.op)


def _plain_name(op: str) -> str:
    """NativeLayerNorm becomes layer_norm; all kinds of attention become attention."""
    if op.startswith("ScaledDotProduct"):
        return "attention"
    op = op.removeprefix("Native").removeprefix("Cudnn")
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", op).lower()
