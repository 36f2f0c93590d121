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
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from torch_init.flow.nonlinearity import from_autograd, gaussian_moments
from torch_init.flow.structure import INPUT, PARAMETER, SHAPING, Node, Size, Structure


class Belief(NamedTuple):
    """Mean and mean square of a tensor's elements."""

    mean: float
    square: float

    @property
    def variance(self) -> float:
        return max(0.0, self.square - self.mean**2)


class Measured(NamedTuple):
    """What was measured of a node: its elements, and the mean inverse variance of its features."""

    signal: Belief
    precision: float | None


@dataclass
class Expectation:
    """Of one node: its elements, its gradient's squared norm, and how far both may be off.

    Attributes:
        signal: mean and mean square expected; None where theory has nothing to say.
        gradient_square: of the norm, relative to that at the model's output; None likewise.
        spread: sum of 1 / fan_in from where the prediction of the signal begins.
        is_predicted: the signal follows from weights and input alone, nothing was measured between.
        nonlinearity: of a weighted layer, what its output goes through next ("linear": nothing).
        weight_gain: v of a weighted layer.
    """

    signal: Belief | None = None
    gradient_square: float | None = None
    spread: float = 0.0
    gradient_spread: float = 0.0
    is_predicted: bool = False
    nonlinearity: str = ""
    weight_gain: float | None = None


class _Step(NamedTuple):
    signal: Belief | None
    gains: list[float | None]
    spread: float = 0.0


_Rule = Callable[[Node, list[Belief | None], list[Node | None]], _Step]


def propagate(structure: Structure, measured: Mapping[int, Measured]) -> list[Expectation]:
    """Return what to expect of every node.

    Args:
        structure: with its numbers fetched.
        measured: by node; used where theory ends, as after attention.
    """
    nodes = structure.nodes
    expected = [Expectation() for _ in nodes]
    for node, expectation in zip(nodes, expected, strict=True):
        node.expectation = expectation
    steps: list[_Step] = []
    for place, node in enumerate(nodes):
        here = expected[place]
        inputs = [None if i is None else expected[i].signal for i in node.inputs]
        sources = [None if i is None else nodes[i] for i in node.inputs]
        step = _step(node, inputs, sources)
        if "BatchNorm" in node.op and node.factor is None:
            step.gains[0] = _batch_norm_gain(node, sources, measured)
        steps.append(step)
        before = [expected[i] for i in node.inputs if i is not None and nodes[i].op != PARAMETER]
        if not node.op.endswith("Norm"):  # a norm sets the size anew
            here.spread = step.spread + max((e.spread for e in before), default=0.0)
        if node.weight is not None:
            here.weight_gain = _weight_gain(node, node.weight)
        if step.signal is not None:
            here.signal = step.signal
            here.is_predicted = all(e.is_predicted for e in before)
        elif place in measured:
            here.signal, here.spread = measured[place].signal, 0.0
    _propagate_gradient(structure, expected, steps)
    _name_nonlinearities(structure, expected)
    return expected


def _propagate_gradient(
    structure: Structure, expected: list[Expectation], steps: list[_Step]
) -> None:
    nodes = structure.nodes
    known: dict[int, float | None] = {}
    if len(structure.outputs) == 1:
        known[structure.outputs[0]] = 1.0
    for place in reversed(range(len(nodes))):
        if place not in known:
            continue
        here, gradient = expected[place], known[place]
        here.gradient_square = gradient
        gains = steps[place].gains
        for i, gain in zip(nodes[place].inputs, gains, strict=False):
            if i is None or nodes[i].op == PARAMETER:
                continue
            there = expected[i]
            there.gradient_spread = max(
                there.gradient_spread, here.gradient_spread + steps[place].spread
            )
            if gradient is None or gain is None:
                known[i] = None
            elif i not in known:
                known[i] = gradient * gain
            elif (so_far := known[i]) is not None:
                known[i] = so_far + gradient * gain


def _name_nonlinearities(structure: Structure, expected: list[Expectation]) -> None:
    """Say of each weighted layer what its output goes through first."""
    following: dict[int, list[int]] = {}
    for place, node in enumerate(structure.nodes):
        for i in node.inputs:
            if i is not None:
                following.setdefault(i, []).append(place)
    for place, node in enumerate(structure.nodes):
        if node.weight is None:
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


def _step(node: Node, inputs: list[Belief | None], sources: list[Node | None]) -> _Step:
    if node.op in (PARAMETER, INPUT):
        size = node.parameter
        return _Step(None if size is None else Belief(size.mean, size.square), [])
    if node.weight is not None:
        return _weighted(node, inputs)
    found = from_autograd(node.op, node.attributes)
    if found is not None:
        if inputs[0] is None:
            return _Step(None, [None])
        mean, square, slope = gaussian_moments(found[1], inputs[0].mean, inputs[0].variance)
        return _Step(Belief(mean, square), [slope])
    if node.op in SHAPING:
        return _Step(inputs[0] if inputs else None, [1.0])
    rule = _RULES.get(node.op)
    return rule(node, inputs, sources) if rule else _Step(None, [None] * len(inputs))


def _weight_gain(node: Node, weight: Size) -> float:
    outputs = node.shape[1] if node.op == "Convolution" else node.shape[-1]
    if node.op == "Convolution" and node.attributes.get("transposed"):
        # Each input element feeds count / inputs taps; the outputs share that energy.
        return weight.square * weight.count / max(1, outputs) / _product(node.attributes["stride"])
    return weight.square * weight.count / max(1, outputs) * _valid_taps(node)


def _product(values: object) -> float:
    return float(math.prod(values)) if isinstance(values, tuple) else 1.0


def _valid_taps(node: Node) -> float:
    """The share of a convolution's taps that meet the input, not the zeros padded around it."""
    if node.op != "Convolution" or node.weight is None:
        return 1.0
    share = 1.0
    stride, padding = node.attributes["stride"], node.attributes["padding"]
    dilation = node.attributes["dilation"]
    for axis, kernel in enumerate(node.weight.shape[2:]):
        outputs = node.shape[2 + axis]
        reach = dilation[axis] * (kernel - 1)
        size = (outputs - 1) * stride[axis] + reach + 1 - 2 * padding[axis]
        starts = [o * stride[axis] - padding[axis] for o in range(outputs)]
        met = sum(0 <= s + dilation[axis] * t < size for s in starts for t in range(kernel))
        share *= met / max(1, outputs * kernel)
    return share


def _weighted(node: Node, inputs: list[Belief | None]) -> _Step:
    assert node.weight is not None
    gain = _weight_gain(node, node.weight)
    bias = node.bias or Size(0.0, 0.0, ())
    source: Belief | None = None
    if node.data is not None:
        source = Belief(node.data.mean, node.data.square)
    else:
        source = inputs[0 if node.op == "Convolution" else _data_input(node)]
    signal = None if source is None else Belief(bias.mean, gain * source.square + bias.square)
    gains: list[float | None] = [None] * len(node.inputs)
    gains[_data_input(node)] = gain
    fan_in = node.weight.count / max(1, node.shape[1 if node.op == "Convolution" else -1])
    return _Step(signal, gains, 1 / max(1.0, fan_in))


def _data_input(node: Node) -> int:
    if node.op == "Convolution":
        return 0
    first = 1 if node.op == "Addmm" else 0
    return first if node.weight_input != first else first + 1


def _add(node: Node, inputs: list[Belief | None], sources: list[Node | None]) -> _Step:
    alpha = float(node.attributes.get("alpha", 1)) * (-1 if node.op == "Sub" else 1)
    gains: list[float | None] = [1.0, alpha**2]
    a, b = inputs
    if a is None or b is None:
        return _Step(None, gains)
    square = a.square + alpha**2 * b.square + 2 * alpha * a.mean * b.mean
    return _Step(Belief(a.mean + alpha * b.mean, square), gains)


def _multiply(node: Node, inputs: list[Belief | None], sources: list[Node | None]) -> _Step:
    constant = [source is None or source.op == PARAMETER for source in sources]
    if sum(constant) != 1:
        return _Step(None, [None, None])
    varying = constant.index(False)
    factor = node.factor or (sources[1 - varying].parameter if sources[1 - varying] else None)  # type: ignore[union-attr]
    gains: list[float | None] = [None, None]
    if factor is None or (node.op == "Div" and factor.count > 1):
        return _Step(None, gains)
    mean, square = factor.mean, factor.square
    if node.op == "Div":
        mean, square = 1 / mean, 1 / square
    gains[varying] = square
    signal = inputs[varying]
    return _Step(
        None if signal is None else Belief(signal.mean * mean, signal.square * square), gains
    )


def _dropout(node: Node, inputs: list[Belief | None], sources: list[Node | None]) -> _Step:
    kept = 1 - float(node.attributes.get("p", 0.0))
    gain = 1 / kept if kept > 0 else 0.0
    signal = inputs[0]
    return _Step(None if signal is None else Belief(signal.mean, signal.square * gain), [gain])


def _normalise(node: Node, inputs: list[Belief | None], sources: list[Node | None]) -> _Step:
    scale = sources[1].parameter if len(sources) > 1 and sources[1] else None
    shift = sources[2].parameter if len(sources) > 2 and sources[2] else None
    square = scale.square if scale else 1.0
    source = inputs[0]
    if node.factor is not None:  # batch norm in eval mode divides by what it remembers
        gain = square / node.factor.mean if node.factor.mean > 0 else None
        return _Step(None, [gain, None, None])
    signal = Belief(shift.mean if shift else 0.0, square + (shift.square if shift else 0.0))
    gain = square / source.variance if source is not None and source.variance > 0 else None
    return _Step(signal, [gain, None, None])


def _batch_norm_gain(
    node: Node, sources: list[Node | None], measured: Mapping[int, Measured]
) -> float | None:
    """A batch norm divides each feature by its own deviation over the batch: that is measured."""
    place = node.inputs[0]
    if place is None or place not in measured or measured[place].precision is None:
        return None
    scale = sources[1].parameter if len(sources) > 1 and sources[1] else None
    precision = measured[place].precision
    assert precision is not None
    return precision * (scale.square if scale else 1.0)


def _pool_average(node: Node, inputs: list[Belief | None], sources: list[Node | None]) -> _Step:
    source = sources[0]
    if source is None or not source.shape:
        return _Step(None, [None])
    return _Step(None, [math.prod(node.shape) / math.prod(source.shape)])


def _pool_maximum(node: Node, inputs: list[Belief | None], sources: list[Node | None]) -> _Step:
    return _Step(None, [1.0])


_RULES: dict[str, _Rule] = {
    "Add": _add,
    "Sub": _add,
    "Mul": _multiply,
    "Div": _multiply,
    "Neg": lambda node, inputs, sources: _Step(
        inputs[0] and Belief(-inputs[0].mean, inputs[0].square), [1.0]
    ),
    "NativeDropout": _dropout,
    "NativeLayerNorm": _normalise,
    "NativeBatchNorm": _normalise,
    "CudnnBatchNorm": _normalise,
    "NativeGroupNorm": _normalise,
    "Mean": _pool_average,
    "AvgPool2D": _pool_average,
    "AvgPool3D": _pool_average,
    "AdaptiveAvgPool2D": _pool_average,
    "AdaptiveAvgPool3D": _pool_average,
    "MaxPool2DWithIndices": _pool_maximum,
    "MaxPool3DWithIndices": _pool_maximum,
}
