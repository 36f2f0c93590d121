# SPDX-License-Identifier: Apache-2.0
"""The model's structure, read off the autograd graph of one forward pass.

The graph knows which functions were applied to what, functional calls and the insides of modules
included, and reading it disturbs nothing: no operation is intercepted, nothing is retained. The
sizes of weights are left on their device as scalars until somebody needs the numbers.
"""

from __future__ import annotations

import math
import re
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from torch_init.flow.nonlinearity import ATTRIBUTES
from torch_init.flow.site import Site
from torch_init.flow.tensors import local

PARAMETER = "Parameter"
INPUT = "Input"
SHAPING = frozenset(
    (
        "View", "UnsafeView", "ReshapeAlias", "T", "Transpose", "Permute", "Clone", "Alias",
        "Squeeze", "Unsqueeze", "ToCopy", "Expand", "Slice", "Select", "Narrow", "Split",
        "SplitWithSizes", "Unbind", "Chunk", "AsStrided", "Detach", "Contiguous", "ViewDtype",
    )
)  # fmt: skip
"""Operations that move values and leave their size alone."""
# How each operation of a weight names its operands: saved tensors of data and weight.
_PRODUCTS = {"Addmm": ("mat1", "mat2"), "Mm": ("self", "mat2"), "Bmm": ("self", "mat2")}
_CONVOLUTION = ("input", "weight")
_PLAIN = (int, float, str, bool)


@dataclass
class Size:
    """Mean and mean square of a tensor: numbers in the end, places in a list of scalars first.

    Attributes:
        leaf: the tensor itself, if it outlives the pass and nobody else lets go of it.
    """

    mean: float
    square: float
    shape: tuple[int, ...]
    leaf: weakref.ref[Tensor] | None = None

    @property
    def count(self) -> int:
        return math.prod(self.shape)


@dataclass
class Node:
    """One operation: its name, its inputs' places (None: a constant), what is known of it.

    Attributes:
        weight, bias: of a product or a convolution; weight_input is the weight's place in inputs.
        fan_in: how many inputs one output sums over: what schemes.compute_fans gives, read off the
            operand itself, as nothing here says how the weight is stored.
        data: what a weight is applied to, if that is a constant.
        factor: the constant of a multiplication, or the variance that a batch norm remembers.
    """

    op: str
    inputs: list[int | None]
    shape: tuple[int, ...]
    attributes: dict[str, Any] = field(default_factory=dict)
    site: Site | None = None
    parameter: Size | None = None
    weight: Size | None = None
    data: Size | None = None
    factor: Size | None = None
    weight_input: int = 1
    fan_in: int = 0
    bias: Size | None = None
    expectation: Any = None
    is_bypassed: bool = False

    @property
    def features(self) -> int:
        """How many features a product or convolution makes."""
        return self.shape[1 if self.op == "Convolution" else -1]

    @property
    def data_input(self) -> int:
        """The place of what the weight is applied to."""
        return sum(operands(self.op)) - self.weight_input


def operands(op: str) -> tuple[int, int]:
    """The places, among a product's or convolution's inputs, of data and weight: of two factors."""
    return (1, 2) if op == "Addmm" else (0, 1)


def operation(function: Any) -> str:
    """The name of what an autograd function is the backward of: Addmm of AddmmBackward0."""
    return re.sub(r"Backward\d*$", "", function.name().rpartition("::")[2])


class Structure:
    """Nodes in the order of the forward pass; the last ones are the model's outputs."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.outputs: list[int] = []
        self._pending: list[tuple[Size, Tensor]] = []

    def measure(self, tensor: Tensor) -> Size | None:
        """Remember mean and mean square of tensor, without waiting for them.

        None if its memory is gone: FSDP frees a layer's gathered weights after its forward pass.
        """
        value = local(tensor.detach())
        if value.dim() == 0 and not value.is_complex():
            # A number in the code, perhaps an integer. Of one without a dimension torch's mean may
            # be memory that nothing was written to.
            value = value.double().reshape(1)
        if not value.is_floating_point() or value.untyped_storage().nbytes() == 0:
            return None
        size = Size(0.0, 0.0, tuple(tensor.shape))
        value = value if value.dtype == torch.float64 else value.float()
        if isinstance(tensor, nn.Parameter) and value.shape == tensor.shape:
            size.leaf = weakref.ref(tensor)
        numbers = [value.mean().double(), value.square().mean().double()]
        self._pending.append((size, torch.stack(numbers)))
        return size

    def parameter_behind(self, place: int | None) -> int | None:
        """The place of the parameter that a node is, seen through operations that only shape it."""
        while place is not None and self.nodes[place].op != PARAMETER:
            node = self.nodes[place]
            place = node.inputs[0] if node.op in SHAPING else None
        return place

    def has_sums(self) -> bool:
        """Whether activations are added to each other, as residual connections do."""
        parameter = [node.op == PARAMETER for node in self.nodes]
        return any(
            node.op == "Add"
            and len([i for i in node.inputs if i is not None and not parameter[i]]) == 2
            for node in self.nodes
        )

    def resolve(self) -> None:
        """Fetch the numbers: one copy from each device."""
        by_device: dict[torch.device, list[tuple[Size, Tensor]]] = {}
        for entry in self._pending:
            by_device.setdefault(entry[1].device, []).append(entry)
        for entries in by_device.values():
            numbers = iter(torch.cat([entry[1] for entry in entries]).tolist())
            for size, _ in entries:
                size.mean, size.square = next(numbers), next(numbers)
        self._pending.clear()


class StructureRecorder:
    """Collects sites during one forward pass and reads the graph at its end."""

    def __init__(self) -> None:
        self._sites: dict[Any, Site] = {}
        self._saved_readable = True
        self.structure = Structure()

    def mark(self, site: Site, x: Tensor) -> None:
        """Remember which node of the graph made x."""
        # Under checkpointing reading a saved tensor would compute the segment again.
        if torch._C._autograd._top_saved_tensors_default_hooks(True) is not None:
            self._saved_readable = False
        if x.grad_fn is not None:
            self._sites.setdefault(x.grad_fn, site)

    def finish(self, outputs: Sequence[Tensor]) -> Structure:
        """Read the graph behind the model's outputs, and let go of it."""
        with torch.no_grad():
            places: dict[Any, int] = {}
            for x in outputs:
                if x.grad_fn is not None:
                    self._visit(x.grad_fn, places)
                    self.structure.outputs.append(places[x.grad_fn])
        self._sites.clear()
        return self.structure

    def _visit(self, root: Any, places: dict[Any, int]) -> None:
        """Add the nodes behind root, inputs first, without recursion: graphs are deep."""
        stack = [(root, False)]
        while stack:
            function, inputs_done = stack.pop()
            if function in places:
                continue
            if not inputs_done:
                stack.append((function, True))
                stack.extend((f, False) for f, _ in function.next_functions if f is not None)
                continue
            inputs = [places[f] if f is not None else None for f, _ in function.next_functions]
            places[function] = len(self.structure.nodes)
            self.structure.nodes.append(self._node(function, inputs))

    def _node(self, function: Any, inputs: list[int | None]) -> Node:
        if function.name().endswith("AccumulateGrad"):
            leaf = function.variable
            op = PARAMETER if isinstance(leaf, nn.Parameter) else INPUT
            return Node(op, [], tuple(leaf.shape), parameter=self.structure.measure(leaf))
        op = operation(function)
        metadata = function._input_metadata
        shape = tuple(int(n) for n in metadata[0].shape) if metadata else ()
        node = Node(op, inputs, shape, site=self._sites.get(function))
        for key in (*ATTRIBUTES, "p", "training", "stride", "padding", "dilation", "transposed"):
            value = getattr(function, f"_saved_{key}", None)
            if isinstance(value, (*_PLAIN, tuple)):
                node.attributes[key] = value
        if op in _PRODUCTS:
            self._read_product(node, function, *_PRODUCTS[op])
        elif op == "Convolution":
            self._read_weight(node, function, *operands(op), *_CONVOLUTION)
            node.bias = self._parameter(inputs[2])
        elif op in ("Mul", "Div") and (None in inputs or len(inputs) == 1):
            kept = "other" if inputs[0] is not None else "self"
            node.factor = self._saved(function, kept)
        elif op.endswith("BatchNorm") and not node.attributes.get("training", True):
            node.factor = self._saved(function, "running_var")
        return node

    def _read_product(self, node: Node, function: Any, left: str, right: str) -> None:
        data, weight = operands(node.op)
        if self._parameter(node.inputs[weight]) is None and (
            self._parameter(node.inputs[data]) is not None
        ):
            data, weight, left, right = weight, data, right, left
        self._read_weight(node, function, data, weight, left, right)
        if node.op == "Addmm":
            node.bias = self._parameter(node.inputs[0])

    def _read_weight(
        self, node: Node, function: Any, data: int, weight: int, data_name: str, weight_name: str
    ) -> None:
        node.weight = self._parameter(node.inputs[weight])
        if node.weight is None and not self._depends_on_data(node.inputs[weight]):
            # Frozen, or computed from parameters (weight_norm): not a parameter of the graph.
            node.weight = self._saved(function, weight_name)
        node.weight_input = weight
        if node.weight is not None:
            place = node.inputs[weight]
            shape = node.weight.shape if place is None else self.structure.nodes[place].shape
            if node.op == "Convolution":
                node.fan_in = math.prod(shape) // max(1, node.shape[1])
            else:
                node.fan_in = shape[-2 if weight > data else -1]
        if node.inputs[data] is None:
            node.data = self._saved(function, data_name)

    def _depends_on_data(self, place: int | None) -> bool:
        """Whether a constant input or an activation is behind the node, not parameters alone."""
        todo = [place]
        for _ in range(64):
            if not todo:
                return False
            here = todo.pop()
            if here is None:
                continue
            node = self.structure.nodes[here]
            if node.site is not None or node.weight is not None:
                return True
            todo.extend(node.inputs)
        return True

    def _parameter(self, place: int | None) -> Size | None:
        leaf = self.structure.parameter_behind(place)
        return None if leaf is None else self.structure.nodes[leaf].parameter

    def _saved(self, function: Any, name: str) -> Size | None:
        if not self._saved_readable:
            return None
        try:
            value = getattr(function, f"_saved_{name}", None)
        except RuntimeError:  # freed, or changed in place since
            return None
        if isinstance(value, (int, float)):
            return Size(float(value), float(value) ** 2, ())
        return self.structure.measure(value) if isinstance(value, Tensor) else None
