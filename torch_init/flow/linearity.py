# SPDX-License-Identifier: Apache-2.0
"""Whether a model as a whole is one linear map, however many layers it has.

Said only if every operation on the way from the input to the output is known to be linear: one
that is unknown, or a factor or summand that is no parameter (which may hold a function of the
input), and nothing is said. What the outputs alone go through, such as a softmax, makes no layer
worth more and is passed over.
"""

from __future__ import annotations

from torch_init.flow.nonlinearity import ELEMENTWISE
from torch_init.flow.structure import INPUT, PARAMETER, SHAPING, Node, Structure

_LINEAR = SHAPING | {
    "Add", "Sub", "Neg", "Mul", "Div", "NativeDropout", "NativeBatchNorm", "CudnnBatchNorm", "Mean",
    "AvgPool2D", "AvgPool3D", "AdaptiveAvgPool2D", "AdaptiveAvgPool3D",
}  # fmt: skip
"""Of their input; a batch norm is once its statistics stand, a dropout on average."""
_AT_THE_END = SHAPING | ELEMENTWISE | {"Softmax", "LogSoftmax"}
"""Functions of one input that an output may go through after the last layer."""
_LEAST_WITH_CONVOLUTIONS = 3
"""Two convolutions in a row, as a part that is looked at alone, are a factorisation on purpose."""


def is_linear_map(structure: Structure) -> bool:
    """Whether several layers make one linear map, and none of them is there to make it smaller.

    Not so of a single layer, nor of one that is narrower than both ends (a factorised map, a linear
    autoencoder), nor of grouped convolutions.
    """
    nodes = structure.nodes
    sources: dict[int, list[int]] = {}
    todo = [_before_the_end(structure, place) for place in structure.outputs]
    while todo:
        place = todo.pop()
        if place not in sources:
            before = _linear_in(structure, place)
            if before is None:
                return False
            sources[place] = before
            todo += before
    stack = sorted(place for place in sources if nodes[place].weight is not None)
    behind, ahead = set[int](), set[int]()  # of a weight
    for place in sorted(sources):
        if any(i in behind or i in stack for i in sources[place]):
            behind.add(place)
    for place in sorted(sources, reverse=True):
        if place in ahead or place in stack:
            ahead.update(sources[place])
    hidden = [place for place in stack if place in ahead]
    convolutions = [nodes[place] for place in stack if nodes[place].op == "Convolution"]
    if not hidden or (convolutions and len(stack) < _LEAST_WITH_CONVOLUTIONS):
        return False
    if any(_is_grouped(structure, node) for node in convolutions):
        return False
    entering = max(_features_in(structure, nodes[i]) for i in stack if i not in behind)
    leaving = sum(nodes[i].features for i in stack if i not in ahead)
    narrowest = min(nodes[place].features for place in hidden)
    return narrowest >= min(entering, leaving)


def _before_the_end(structure: Structure, place: int) -> int:
    """The node behind an output that its last functions are applied to."""
    while (node := structure.nodes[place]).op in _AT_THE_END and node.inputs:
        before = node.inputs[0]
        if before is None:
            break
        place = before
    return place


def _linear_in(structure: Structure, place: int) -> list[int] | None:
    """The nodes that this one is a linear function of; None if it is not known to be one."""
    node = structure.nodes[place]
    if node.op in (INPUT, PARAMETER, "Embedding"):
        return []
    if node.weight is not None:
        if node.data_input > node.weight_input:
            return None  # its features lie along another axis
        data = node.inputs[node.data_input]
        return [] if data is None else [data]
    if node.op not in _LINEAR or not node.inputs:
        return None
    if node.op.endswith("BatchNorm") and node.shape[0] == 1:
        return None  # an instance norm: statistics of each sample, which is divided by its own size
    inputs = node.inputs[:1] if node.op.endswith("BatchNorm") else node.inputs
    varying = [i for i in inputs if i is None or structure.parameter_behind(i) is None]
    if node.op in ("Mul", "Div"):
        is_scaled = len(inputs) == 1 or (node.factor is not None and node.factor.count == 1)
        varying = [i for i in varying if i is not None] if is_scaled else varying
        if len(varying) != 1 or (node.op == "Div" and inputs[0] not in varying):
            return None
    known = [i for i in varying if i is not None]
    return known if len(known) == len(varying) else None


def _features_in(structure: Structure, node: Node) -> int:
    """How many features a weight is applied to."""
    data = node.inputs[node.data_input]
    known = node.data.shape if node.data is not None else ()
    shape = known if data is None else structure.nodes[data].shape
    return shape[1 if node.op == "Convolution" else -1] if len(shape) > 1 else shape[-1]


def _is_grouped(structure: Structure, node: Node) -> bool:
    assert node.weight is not None
    transposed = bool(node.attributes.get("transposed"))
    whole = node.features if transposed else _features_in(structure, node)
    return node.weight.shape[1] != whole
