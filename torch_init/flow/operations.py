# SPDX-License-Identifier: Apache-2.0
"""What each operation does to a signal's mean and mean square, and to a gradient's squared norm."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

from torch_init.flow.nonlinearity import from_autograd, gaussian_moments
from torch_init.flow.structure import INPUT, PARAMETER, SHAPING, Node, Size


class Belief(NamedTuple):
    """Mean and mean square of a tensor's elements."""

    mean: float
    square: float

    @property
    def variance(self) -> float:
        return max(0.0, self.square - self.mean**2)


class Measured(NamedTuple):
    """What was measured of a node.

    Attributes:
        signal: its elements.
        precision: mean inverse variance of its features over the batch.
        gradient_square: squared norm of the gradient with respect to it.
    """

    signal: Belief
    precision: float | None
    gradient_square: float | None


class Step(NamedTuple):
    """What one operation does.

    Attributes:
        signal: of its output; None where theory has nothing to say.
        gains: for each input, the factor of the gradient's squared norm on its way back.
        spread: 1 / fan_in of a weight, by which finite widths scatter.
    """

    signal: Belief | None
    gains: list[float | None]
    spread: float = 0.0


_Rule = Callable[[Node, list[Belief | None], list[Node | None]], Step]


def apply(node: Node, inputs: list[Belief | None], sources: list[Node | None]) -> Step:
    if node.op in (PARAMETER, INPUT):
        size = node.parameter
        return Step(None if size is None else Belief(size.mean, size.square), [])
    if node.weight is not None:
        return _weighted(node, inputs)
    found = from_autograd(node.op, node.attributes)
    if found is not None:
        if inputs[0] is None:
            return Step(None, [None])
        mean, square, slope = gaussian_moments(found[1], inputs[0].mean, inputs[0].variance)
        return Step(Belief(mean, square), [slope])
    if node.op in SHAPING:
        return Step(inputs[0] if inputs else None, [1.0])
    rule = _RULES.get(node.op)
    return rule(node, inputs, sources) if rule else Step(None, [None] * len(inputs))


def weight_gain(node: Node, weight: Size) -> float:
    """v = fan_in * E w^2, which the square of a signal of independent elements grows by."""
    return node.fan_in * weight.square * _taps_in_use(node, weight)


def _taps_in_use(node: Node, weight: Size) -> float:
    """How many of a convolution's taps an output element uses on average, over the kernel's size.

    The others meet the zeros padded around the input, or, of a transposed convolution, the gaps
    that its stride leaves and what is beyond the input's border.
    """
    if node.op != "Convolution":
        return 1.0
    share = 1.0
    for axis, kernel in enumerate(weight.shape[2:]):
        outputs = node.shape[2 + axis]
        stride, padding, dilation = (
            node.attributes[key][axis] for key in ("stride", "padding", "dilation")
        )
        reach = dilation * (kernel - 1)
        # A transposed convolution is one backward: its inputs are the places of the kernel.
        if node.attributes.get("transposed"):
            places, size = (outputs - 1 + 2 * padding - reach) // stride + 1, outputs
        else:
            places, size = outputs, (outputs - 1) * stride + reach + 1 - 2 * padding
        met = sum(
            0 <= place * stride - padding + dilation * tap < size
            for place in range(places)
            for tap in range(kernel)
        )
        share *= met / max(1, outputs * kernel)
    return share


def _weighted(node: Node, inputs: list[Belief | None]) -> Step:
    assert node.weight is not None
    gain = weight_gain(node, node.weight)
    bias = node.bias or Size(0.0, 0.0, ())
    source: Belief | None = None
    if node.data is not None:
        source = Belief(node.data.mean, node.data.square)
    else:
        source = inputs[node.data_input]
    signal = None if source is None else Belief(bias.mean, gain * source.square + bias.square)
    gains: list[float | None] = [None] * len(node.inputs)
    gains[node.data_input] = gain
    return Step(signal, gains, 1 / max(1, node.fan_in))


def _add(node: Node, inputs: list[Belief | None], sources: list[Node | None]) -> Step:
    if len(inputs) == 1:  # and a number, which the graph does not keep
        return Step(None, [1.0])
    alpha = float(node.attributes.get("alpha", 1)) * (-1 if node.op == "Sub" else 1)
    gains: list[float | None] = [1.0, alpha**2]
    a, b = inputs
    if a is None or b is None:
        return Step(None, gains)
    square = a.square + alpha**2 * b.square + 2 * alpha * a.mean * b.mean
    return Step(Belief(a.mean + alpha * b.mean, square), gains)


def _multiply(node: Node, inputs: list[Belief | None], sources: list[Node | None]) -> Step:
    constant = [source is None or source.op == PARAMETER for source in sources]
    gains: list[float | None] = [None] * len(sources)
    if len(sources) == 1:  # by a number
        varying, factor = 0, node.factor
    elif sum(constant) == 1:
        varying = constant.index(False)
        other = sources[1 - varying]
        factor = other.parameter if other is not None else node.factor
    else:
        return Step(None, gains)
    if factor is None or (node.op == "Div" and (factor.count > 1 or factor.mean == 0)):
        return Step(None, gains)
    mean, square = factor.mean, factor.square
    if node.op == "Div":
        mean, square = 1 / mean, 1 / square
    gains[varying] = square
    signal = inputs[varying]
    return Step(
        None if signal is None else Belief(signal.mean * mean, signal.square * square), gains
    )


def _dropout(node: Node, inputs: list[Belief | None], sources: list[Node | None]) -> Step:
    kept = 1 - float(node.attributes.get("p", 0.0))
    gain = 1 / kept if kept > 0 else 0.0
    signal = inputs[0]
    return Step(None if signal is None else Belief(signal.mean, signal.square * gain), [gain])


def _normalise(node: Node, inputs: list[Belief | None], sources: list[Node | None]) -> Step:
    scale = sources[1].parameter if len(sources) > 1 and sources[1] else None
    shift = sources[2].parameter if len(sources) > 2 and sources[2] else None
    square = scale.square if scale else 1.0
    source = inputs[0]
    if node.factor is not None:  # batch norm in eval mode divides by what it remembers
        gain = square / node.factor.mean if node.factor.mean > 0 else None
        return Step(None, [gain, None, None])
    signal = Belief(shift.mean if shift else 0.0, square + (shift.square if shift else 0.0))
    gain = square / source.variance if source is not None and source.variance > 0 else None
    return Step(signal, [gain, None, None])


def batch_norm_gain(
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


def _pool_average(node: Node, inputs: list[Belief | None], sources: list[Node | None]) -> Step:
    source = sources[0]
    if source is None or not source.shape:
        return Step(None, [None])
    return Step(None, [math.prod(node.shape) / math.prod(source.shape)])


def _pool_maximum(node: Node, inputs: list[Belief | None], sources: list[Node | None]) -> Step:
    return Step(None, [1.0])


_RULES: dict[str, _Rule] = {
    "Add": _add,
    "Sub": _add,
    "Mul": _multiply,
    "Div": _multiply,
    "Neg": lambda node, inputs, sources: Step(
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
