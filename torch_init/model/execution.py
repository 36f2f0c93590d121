# SPDX-License-Identifier: Apache-2.0
"""Carrying a plan out: everything that is elementwise in one native call a device."""

from collections.abc import Callable, Collection
from functools import partial
from operator import attrgetter, is_
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from torch_init import _ops
from torch_init._fill import fill_box
from torch_init.distributed import Box, boxes, is_dtensor, logical_shape, reshard
from torch_init.distributions import Constant
from torch_init.errors import describe
from torch_init.keys import part_name
from torch_init.model.layout import Block
from torch_init.model.memory import Extent, check_apart, unreachable
from torch_init.model.planning import Rules, make_plan
from torch_init.model.read_back import read_back
from torch_init.model.report import Report
from torch_init.model.sites import Site, find_sites
from torch_init.model.table import Piece, Plan, Row
from torch_init.structures import STRUCTURES, DeltaOrthogonal, Orthogonal


def init_(
    model: nn.Module,
    rules: "Rules | Plan",
    seed: int | None = None,
    *,
    strict: bool = True,
    include: Collection[str] = (),
    rename: Callable[[str], str] | None = None,
) -> Report:
    """Initialise a model: plan, fill, read back.

    All elementwise parameters of a device are filled in one native call (one launch, on a GPU),
    and each value depends on the seed, the parameter's canonical name and the element's index in
    the whole tensor only: not on other layers, the device, the dtype or how the tensor is sharded.
    Then every parameter is read once, to check its moments against the plan and to take the
    report's fingerprint: that waits for a GPU; prepare() is for those who must not wait. Buffers
    are left alone. Nothing is written if the plan has an error.

    Args:
        model: its parameters hold memory (for a model on the meta device, see materialize_). Of
            DTensors, each rank fills what it holds, without communication.
        rules: as plan takes them, or a Plan made of this very model.
        seed: see plan; 0, or the plan's own, if None.
        strict, include, rename: see plan.

    Returns:
        A Report, which says what was done and whether the moments are as planned.

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
        seed = 0 if seed is None else seed
        made = make_plan("init_", model, rules, seed, strict, include, rename)
    prepare(made).run()
    return read_back(made)


def _check_plan(
    plan: Plan, model: nn.Module, seed: int | None, strict: bool, include: object, rename: object
) -> None:
    if plan.model is not model:
        got = "the plan of another model"
        raise ValueError(describe("init_", "rules", got, "a plan of this model"))
    if seed not in (None, plan.seed) or not strict or include or rename is not None:
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
    if not isinstance(plan, Plan):
        raise TypeError(describe("prepare", "plan", type(plan).__name__, "a Plan"))
    return PreparedPlan(plan)


class _Bound(NamedTuple):
    """A parameter as it was when the plan was bound to its memory."""

    module: nn.Module
    leaf: str
    address: int


class PreparedPlan:
    """A plan bound to its parameters' memory, lowered for the native module.

    A model that is moved, converted, sharded or given other parameters afterwards is refused by
    run(). run() may be captured into a CUDA graph, which must not outlive this object; not so
    where an initialiser needs the CPU (orthogonal_, delta_orthogonal_).

    Attributes:
        native: what fills everything elementwise, one for each device.
    """

    def __init__(self, plan: Plan) -> None:
        entries: dict[torch.device, list[_ops.Entry]] = {}
        self._bound: list[_Bound] = []
        self._written: list[Tensor] = []
        self._others: list[Callable[[], None]] = []
        self._parametrized: list[Callable[[], None]] = []
        self._needs_cpu = ""
        extents: list[Extent] = []
        reshard(plan.model)
        _look_up_again(plan)
        for row in plan.rows:
            tensors = [tensor.detach() for tensor in row.site.parameters()]
            parts = [part for tensor in tensors for part in boxes("init_", tensor)]
            extents += [Extent(row.name, row.status == "init", part.view) for part in parts]
            if row.status == "init":
                self._add(row, parts, plan.seed, entries)
        check_apart("init_", extents)
        self.native = [_ops.FillPlan(of_device) for of_device in entries.values()]
        modules = {bound.module: bound.module._parameters for bound in self._bound}
        self._owners = list(modules), list(modules.values())
        self._places = (
            [bound.module._parameters for bound in self._bound],
            [bound.leaf for bound in self._bound],
            [bound.address for bound in self._bound],
        )

    def run(self, *, check: bool = True) -> None:
        """Fill all parameters that the plan initialises, on the current stream of a GPU.

        Args:
            check: look whether each parameter still has the memory that the plan was bound to,
                which takes a host longer than to launch. Without it the memory of then is written,
                whoever has it now: what is filled is not the parameter if that got other memory,
                and may be another tensor, or nobody's, if its storage was resized or freed.

        Raises:
            RuntimeError: a parameter no longer has the memory that the plan was bound to; a
                capture of what needs the CPU.
        """
        if check and not self._is_bound():
            self._check_memory()
        if self._needs_cpu and torch.cuda.is_current_stream_capturing():
            got = f"{self._needs_cpu}, which is computed on the CPU"
            fix = "Run it before the capture"
            expected = "what a CUDA graph can capture"
            raise RuntimeError(describe("PreparedPlan.run", "plan", got, expected, fix))
        for native in self.native:
            native.run()
        _ops.count_writes(self._written)
        for fill in self._others:
            fill()
        for assign in self._parametrized:
            assign()

    def _is_bound(self) -> bool:
        """Whether all parameters surely have the memory they had: no loop of Python's own."""
        modules, owned = self._owners
        parameters, leaves, addresses = self._places
        try:
            found = map(dict.get, parameters, leaves)
            same = all(map(is_, map(_parameters, modules), owned))
            return same and list(map(_data_ptr, found)) == addresses
        except (TypeError, RuntimeError):  # no dict, no tensor, or one without memory
            return False

    def _check_memory(self) -> None:
        for module, leaf, address in self._bound:
            parameters = module._parameters  # no dict, in TorchScript
            if leaf not in parameters or _address(parameters[leaf]) != address:
                got = f"another tensor for {leaf} of a {type(module).__name__}"
                fix = "Prepare again after a model is moved, converted or sharded"
                expected = "the parameters that the plan was prepared for"
                raise RuntimeError(describe("PreparedPlan.run", "model", got, expected, fix))

    def _add(
        self,
        row: Row,
        parts: list[Box],
        seed: int,
        entries: dict[torch.device, list["_ops.Entry"]],
    ) -> None:
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
            parts = boxes("init_", tensor)
        else:
            self._bound.append(_Bound(row.site.module, row.site.leaf, _address(tensor)))
        for part in parts:
            problem = unreachable(part.view)
            if problem:
                got = f"{row.name}, {problem}"
                raise ValueError(describe("init_", "model", got, "parameters that hold memory"))
            for piece in row.pieces:
                self._add_box(row, piece, part, seed, entries)
        if row.padding_row is not None:
            self._others.append(partial(_zero_row, parts, row.padding_row))
        # Autograd may have saved the parameter, or the local part of it that a DTensor holds.
        self._written.append(tensor)
        if is_dtensor(tensor):
            self._written += [part.view for part in parts]

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
        if isinstance(values, (Orthogonal, DeltaOrthogonal)) and box.view.is_cuda:
            self._needs_cpu = self._needs_cpu or row.name
        if isinstance(values, STRUCTURES) or odd or not _ops.can_batch(box.view):
            self._others.append(partial(fill_box, values, box.view, box.offset, shape, seed, name))
            return
        first_index, index_strides = 0, None
        if tuple(box.view.shape) != shape:
            first_index, index_strides = _ops.box_index(box.offset, shape)
        key = _ops.stream_key(seed, name) if piece.block.part else row.key
        entry = (box.view, values.spec(), key, first_index, index_strides)
        entries.setdefault(box.view.device, []).append(entry)


_data_ptr: Callable[[Any], int] = Tensor.data_ptr
_parameters: Callable[[Any], Any] = attrgetter("_parameters")


def _look_up_again(plan: Plan) -> None:
    """Look up the tensors of a plan's parameters, which may have been replaced since.

    Raises:
        ValueError: the model no longer has just these parameters, in these modules.
    """
    found = find_sites("init_", plan.model)
    places = {_place(site) for site in found}
    planned = {_place(row.site): row for row in plan.rows}
    others = [site.name for site in found if _place(site) not in planned]
    others += [row.name for place, row in planned.items() if place not in places]
    if others:
        got = f"other parameters, layers or ties than when the plan was made, as of {others[0]}"
        raise ValueError(describe("init_", "model", got, "the plan's model", "Make the plan anew"))
    for site in found:
        planned[_place(site)].site.tensor = site.tensor


def _place(site: Site) -> tuple[int, str, bool, int]:
    return id(site.module), site.leaf, site.parametrized, len(site.aliases)


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


def _assign(row: Row, value: Any) -> None:
    """Do what assigning to a parametrised tensor does, into the memory that its originals have.

    torch lets an original take the memory of what right_inverse returns.
    """
    parametrizations: Any = row.site.module.parametrizations
    with torch.no_grad():
        for parametrization in reversed(parametrizations[row.site.leaf]):
            value = parametrization.right_inverse(value)
        wholes = [value] if isinstance(value, Tensor) else value
        for original, whole in zip(row.site.parameters(), wholes, strict=True):
            for view, offset in boxes("init_", original.detach()):
                part = tuple(slice(o, o + n) for o, n in zip(offset, view.shape, strict=True))
                view.copy_(whole[part])
            _ops.count_writes([original])


def _address(tensor: Tensor | None) -> int:
    """Return where the elements lie that this rank holds; 0 if nowhere."""
    if tensor is None or tensor.is_meta:
        return 0
    local: Tensor = tensor._local_tensor if is_dtensor(tensor) else tensor  # type: ignore[attr-defined]
    return local.data_ptr() if not unreachable(local.detach()) else 0
