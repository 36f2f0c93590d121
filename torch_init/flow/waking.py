# SPDX-License-Identifier: Apache-2.0
"""Which weights of exactly zero will never learn: true and false, sent along the graph.

A weight of zero learns once its layer's input is not zero and a gradient comes back to its layer's
output; from then on it lets both pass. One such layer at the end of a branch, a gate, or the output
layer therefore wakes by itself. Two in a row do not: the second keeps the gradient from the first,
the first the signal from the second. So the zeros that get a gradient are woken, over and over,
until no more do.
"""

from __future__ import annotations

from typing import NamedTuple

from torch_init.flow.nonlinearity import from_autograd, gaussian_moments
from torch_init.flow.structure import PARAMETER, Node, Structure, operands

_BILINEAR = ("Mm", "Bmm", "Addmm", "Convolution", "Mul")


class Zeros(NamedTuple):
    """What weights of exactly zero do to a model, by places of the structure's nodes.

    Attributes:
        never: parameters that are zero and that no gradient will ever reach.
        waiting: operations whose output is zero, or gets no gradient, until some zero has moved.
    """

    never: set[int]
    waiting: set[int]


def follow_zeros(structure: Structure) -> Zeros:
    """Wake the zeros that a gradient reaches until no more do.

    What an operation does to zeros is known of products, convolutions, elementwise nonlinearities
    and norms; all others are taken to pass everything, so that nothing is blamed in error.
    """
    nodes = structure.nodes
    zeros = {
        place
        for place, node in enumerate(nodes)
        if node.op == PARAMETER and node.parameter is not None and node.parameter.square == 0
    }
    if not zeros:
        return Zeros(set(), set())
    signals = _signals(structure, zeros)
    reached = _reached(structure, signals)
    waiting = {p for p in range(len(nodes)) if not signals[p] or p not in reached}
    while zeros & reached:
        zeros = zeros - reached
        reached = _reached(structure, _signals(structure, zeros))
    return Zeros(zeros, waiting)


def _signals(structure: Structure, zeros: set[int]) -> list[bool]:
    """Which tensors may differ from zero while these parameters do not."""
    signals: list[bool] = []
    for place, node in enumerate(structure.nodes):
        inputs = _inputs(node, signals)
        function = from_autograd(node.op, node.attributes)
        if node.op == PARAMETER or not inputs:
            signals.append(place not in zeros)
        elif node.op in _BILINEAR:
            factors = [known for k, known in enumerate(inputs) if k in operands(node.op)]
            terms = [known for k, known in enumerate(inputs) if k not in operands(node.op)]
            signals.append(all(factors) or any(terms))
        elif node.op.endswith("Norm"):
            signals.append(all(inputs[:2]) or any(inputs[2:]))
        elif function is not None:
            signals.append(inputs[0] or gaussian_moments(function[1], 0.0, 0.0).square > 0)
        else:
            signals.append(any(inputs))
    return signals


def _reached(structure: Structure, signals: list[bool]) -> set[int]:
    """Which tensors get a gradient, if that many are not zero."""
    reached = set(structure.outputs)
    for place in reversed(range(len(structure.nodes))):
        if place not in reached:
            continue
        node = structure.nodes[place]
        inputs = _inputs(node, signals)
        reached.update(
            i for k, i in enumerate(node.inputs) if i is not None and _passes(node, k, inputs)
        )
    return reached


def _passes(node: Node, k: int, inputs: list[bool]) -> bool:
    """Whether an operation hands a gradient on to its input k."""
    if node.op in _BILINEAR and k in operands(node.op):
        return all(inputs[i] for i in operands(node.op) if i != k and i < len(inputs))
    if node.op.endswith("Norm") and k < 2:
        return inputs[1 - k] if len(inputs) > 1 else True
    function = from_autograd(node.op, node.attributes)
    if function is not None and not inputs[0]:
        return gaussian_moments(function[1], 0.0, 0.0).slope_square > 0
    return True


def _inputs(node: Node, signals: list[bool]) -> list[bool]:
    return [_constant(node, k) if i is None else signals[i] for k, i in enumerate(node.inputs)]


def _constant(node: Node, k: int) -> bool:
    """Whether an input that needs no gradient may differ from zero: a frozen weight may not."""
    if k == 2 and (node.op == "Convolution" or node.op.endswith("Norm")):
        return False  # no bias
    if node.op == "Mul" and node.factor is not None:
        return node.factor.square != 0
    if node.weight is not None and k == node.weight_input:
        return node.weight.square != 0
    return True
