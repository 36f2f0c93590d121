# SPDX-License-Identifier: Apache-2.0
"""Carrying a plan out: everything that is elementwise in one native call a device."""

from collections.abc import Callable, Collection
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from torch_init import _ops
from torch_init._fill import fill_box
from torch_init.distributed import Box, boxes, is_dtensor, logical_shape, reshard
from torch_init.distributions import Constant
from torch_init.errors import describe
from torch_init.keys import part_name
from torch_init.model.layout import Block
from torch_init.model.planning import Rules, make_plan
from torch_init.model.report import Report, read_back
from torch_init.model.table import Piece, Plan, Row
from torch_init.structures import Structure


def init_(
    model: nn.Module,
    rules: "Rules | Plan",
    seed: int = 0,
    *,
    strict: bool = True,
    include: Collection[str] = (),
    rename: Callable[[str], str] | None = None,
) -> Report:
    """Initialise a model: plan, fill, read back.

    All elementwise parameters of a device are filled in one native call (on a GPU one launch), and
    each value depends on the seed, the parameter's canonical name and the element's index in the
    whole tensor only: not on other layers, the device, the dtype or how the tensor is sharded.
    Then every parameter is read once, to check its moments against the plan and to take the
    report's fingerprint. Buffers are left alone. Nothing is written if the plan has an error.

    Args:
        model: its parameters hold memory (for a model on the meta device, see materialize_). Of
            DTensors, each rank fills what it holds, without communication.
        rules: as plan takes them, or a Plan made of this very model.
        seed, strict, include, rename: see plan.

    Returns:
        A Report, which says what was done and whether it is as planned.

    Raises:
        TypeError, ValueError: as plan does; a parameter on the meta device.

    Example:
        >>> model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU())
        >>> report = torch_init.init_(model, "he", seed=0)
        >>> report.problems
        []
    """
    if isinstance(rules, Plan):
        _check_plan(rules, model, seed, strict, include, rename)
        made = rules
    else:
        made = make_plan("init_", model, rules, seed, strict, include, rename)
    prepare(made).run()
    return read_back(made)


def _check_plan(
    plan: Plan, model: nn.Module, seed: int, strict: bool, include: object, rename: object
) -> None:
    if plan.model is not model:
        got = "the plan of another model"
        raise ValueError(describe("init_", "rules", got, "a plan of this model"))
    if seed not in (0, plan.seed) or not strict or include or rename is not None:
        fix = "Make another plan with these"
        got = "others beside a plan"
        raise ValueError(describe("init_", "arguments", got, "the plan's own", fix))


def prepare(plan: Plan) -> "PreparedPlan":
    """Make ready what a plan needs to run: for repeated runs, and for CUDA graphs.

    Example:
        >>> model = torch.nn.Linear(8, 16)
        >>> prepared = torch_init.prepare(torch_init.plan(model, "he", seed=0))
        >>> prepared.run()
    """
    return PreparedPlan(plan)


class PreparedPlan:
    """A plan bound to its parameters' memory, lowered for the native module.

    Valid as long as the parameters keep their memory. run() may be captured into a CUDA graph,
    which must not outlive this object, unless an initialiser needs the CPU (orthogonal_).

    Attributes:
        native: what fills everything elementwise, one for each device.
    """

    def __init__(self, plan: Plan) -> None:
        entries: dict[torch.device, list[_ops.Entry]] = {}
        self._written: list[Tensor] = []
        self._others: list[Callable[[], None]] = []
        self._parametrized: list[Callable[[], None]] = []
        reshard(plan.model)
        for row in plan.rows:
            row.site.refresh()
            if row.status == "init":
                self._add(row, plan.seed, entries)
        self.native = [_ops.FillPlan(of_device) for of_device in entries.values()]

    def run(self) -> None:
        """Fill all parameters that the plan initialises, on the current stream of a GPU."""
        for native in self.native:
            native.run()
        _ops.count_writes(self._written)
        for fill in self._others:
            fill()
        for assign in self._parametrized:
            assign()

    def _add(self, row: Row, seed: int, entries: dict[torch.device, list["_ops.Entry"]]) -> None:
        tensor = row.site.tensor
        if tensor.is_meta:
            fix = "Use torch_init.materialize_, or model.to_empty(device=...) first"
            got = f"{row.name} on the meta device"
            raise ValueError(describe("init_", "model", got, "parameters that hold memory", fix))
        if (tensor.dtype, logical_shape(tensor)) != (row.dtype, row.shape):
            got = f"{row.name} of {tensor.dtype} and shape {tuple(logical_shape(tensor))}"
            expected = f"{row.dtype} and {tuple(row.shape)}, as when the plan was made"
            raise ValueError(describe("init_", "model", got, expected, "Make the plan anew"))
        if row.site.parametrized:
            tensor = torch.empty(row.shape, dtype=row.dtype, device=tensor.device)
            self._parametrized.append(partial(_assign, row, tensor))
        parts = boxes("init_", tensor.detach())
        for piece in row.pieces:
            for part in parts:
                self._add_box(row, piece, part, seed, entries)
        if row.padding_row is not None:
            self._others.append(partial(_zero_row, parts, row.padding_row))
        self._written.append(tensor)

    def _add_box(
        self,
        row: Row,
        piece: Piece,
        part: Box,
        seed: int,
        entries: dict[torch.device, list["_ops.Entry"]],
    ) -> None:
        box = intersection(piece.block, part)
        if box is None or piece.values is None:
            return
        name = part_name(row.name, piece.block.part) if piece.block.part else row.name
        values, shape = piece.values, piece.block.shape
        odd = isinstance(values, Constant) and not _ops.takes_constants(box.view.dtype)
        if isinstance(values, Structure) or odd or not _ops.can_batch(box.view):
            self._others.append(partial(fill_box, values, box.view, box.offset, shape, seed, name))
            return
        first_index, index_strides = 0, None
        if tuple(box.view.shape) != shape:
            first_index, index_strides = _ops.box_index(box.offset, shape)
        key = _ops.stream_key(seed, name)
        entry = (box.view, values.spec(), key, first_index, index_strides)
        entries.setdefault(box.view.device, []).append(entry)


def intersection(block: Block, part: Box) -> Box | None:
    """Return what part holds of block, in block's own coordinates."""
    view, offset = part.view, []
    for axis, (start, size) in enumerate(zip(block.offset, block.size, strict=True)):
        begin = max(start, part.offset[axis])
        end = min(start + size, part.offset[axis] + part.view.shape[axis])
        if begin >= end:
            return None
        if end - begin < view.shape[axis]:
            view = view.narrow(axis, begin - part.offset[axis], end - begin)
        offset.append(begin - start)
    if block.drops_first:
        return Box(view.squeeze(0), tuple(offset[1:]))
    return Box(view, tuple(offset))


def _zero_row(parts: list[Box], row: int) -> None:
    with torch.no_grad():
        for view, offset in parts:
            if 0 <= row - offset[0] < view.shape[0]:
                view[row - offset[0]].zero_()


def _assign(row: Row, value: Tensor) -> None:
    with torch.no_grad():
        if any(is_dtensor(original) for original in row.site.parameters()):
            _assign_parts(row, value)
        else:
            setattr(row.site.module, row.site.leaf, value)


def _assign_parts(row: Row, value: Any) -> None:
    """Do what assigning to a parametrised tensor does where its originals are sharded."""
    parametrizations: Any = row.site.module.parametrizations
    for parametrization in reversed(parametrizations[row.site.leaf]):
        value = parametrization.right_inverse(value)
    wholes = [value] if isinstance(value, Tensor) else value
    for original, whole in zip(row.site.parameters(), wholes, strict=True):
        for view, offset in boxes("init_", original.detach()):
            part = tuple(slice(o, o + n) for o, n in zip(offset, view.shape, strict=True))
            view.copy_(whole[part])
        _ops.count_writes([original])
