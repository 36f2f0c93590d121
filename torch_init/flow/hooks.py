# SPDX-License-Identifier: Apache-2.0
"""The hooks: what runs inside the model's forward and backward pass.

A forward hook on each module, and tensor hooks on what it returns; never module full-backward
hooks, which break in-place operations and miss dictionaries. They hold no tensor of the model,
never synchronise, and raise nothing. torch.compile traces them into the graph: below
is_compiling() everything is constant but the tensors.
"""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx.experimental.symbolic_shapes import has_static_value

from torch_init import _ops
from torch_init.flow.kinds import UNBOUNDED
from torch_init.flow.recorder import (
    Recorder,
    Site,
    axis_while_tracing,
    beside,
    local,
    place_while_tracing,
)

MOST_CALLS = 8
"""Calls of one module in one forward pass that are told apart; later ones share the last site."""
_MOST_LEAVES = 64
_DEEPEST = 6
_DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
_DTYPE_NAMES = {dtype: str(dtype).removeprefix("torch.") for dtype in _DTYPES}


def is_exporting() -> bool:
    """Whether the model is being written into a program that others will run."""
    # Not torch.compiler.is_exporting(), which some versions of Dynamo take for always true.
    exporting: bool = getattr(torch.compiler, "_is_exporting_flag", False)
    return exporting or torch._C._get_tracing_state() is not None


class _Inert:
    """What becomes of a hook in a copy or a pickle of the model: nothing."""

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        return None


class Hook:
    """Does not follow its model into copies and files."""

    @property
    def __name__(self) -> str:
        # torch.jit.script, which compiles hooks from their source, begins by asking for it.
        raise AttributeError(
            "a watched model cannot be scripted: call remove() on what torch_init.watch returned "
            "before torch.jit.script"
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> _Inert:
        return _Inert()

    def __reduce__(self) -> tuple[type[_Inert], tuple[()]]:
        return (_Inert, ())


class ForwardHook(Hook):
    """Measures what a module returns, and sees to it that its gradient is measured."""

    def __init__(self, recorder: Recorder, name: str) -> None:
        self.recorder = recorder
        self.name = name
        self._pass = -1
        self._calls = 0
        self._recomputed = 0

    def __call__(self, module: nn.Module, args: Any, output: Any) -> None:
        if is_exporting():
            return
        if torch.compiler.is_compiling():
            if not self.name:
                # The model's own hooks are a graph of their own. It would write to the table
                # between the model's forward graph and its backward graph, which autograd refuses.
                return
            for path, x in tensors_in(output):
                _record_while_tracing(self.recorder, self.name, path, x)
        elif self.recorder.is_measuring:
            try:
                self._record(module, output)
            except Exception as error:  # a training run must not end because of its diagnosis
                self.recorder.give_up(self.name, error)

    def _record(self, module: nn.Module, output: Any) -> None:
        recorder = self.recorder
        # Inside a backward pass checkpointing computes the module again: measured already, but
        # with reentrant checkpointing the first pass had no graph to hang a hook on.
        recomputing = torch._C._current_graph_task_id() != -1
        if recorder.entered is None and self._pass == recorder.passes and not recomputing:
            recorder.passes += 1  # called by itself, from outside of the model, and again
        if self._pass != recorder.passes:
            self._pass, self._calls, self._recomputed = recorder.passes, 0, 0
        if recomputing:
            self._recomputed += 1
            call = max(0, self._calls - self._recomputed)
        else:
            call = self._calls
            self._calls += 1
        call = min(call, MOST_CALLS - 1)
        for path, x in tensors_in(output):
            if not is_measurable(x):
                recorder.unsupported[self.name] = f"{x.layout}, {x.dtype}, {x.device.type}"
                continue
            site = recorder.site(module, self.name, call, path, x)
            if not recomputing:
                recorder.add_forward(site, local(x.detach()))
                if recorder.structure is not None:
                    recorder.structure.mark(site, x)
            if x.requires_grad and not (x.is_leaf and recorder.has_leaf_hook(site, x)):
                handle = x.register_hook(GradientHook(recorder, site))
                if x.is_leaf:
                    recorder.keep_leaf_hook(site, x, handle)


class GradientHook(Hook):
    """Measures the gradient with respect to one tensor, each time that a backward pass has it."""

    def __init__(self, recorder: Recorder, site: Site) -> None:
        self.recorder = recorder
        self.site = site

    def __call__(self, gradient: Tensor) -> None:
        try:
            gradient = local(gradient.detach())
            if self.recorder.active and is_measurable(gradient):
                self.recorder.add_backward(self.site, gradient)
        except Exception as error:
            self.recorder.give_up(self.site.name, error)


class _TracedGradientHook(Hook):
    def __init__(self, recorder: Recorder, row: int, order: int) -> None:
        self.recorder = recorder
        self.row = row
        self.order = order

    def __call__(self, gradient: Tensor) -> None:
        recorder, (low, high) = self.recorder, UNBOUNDED
        table, gate = recorder.traced.table, recorder.gate
        scale = beside(gradient, recorder.scale)
        _ops.accumulate_moments_(
            gradient.detach(), table, None, self.row, low, high, self.order, scale, gate
        )


def _record_while_tracing(recorder: Recorder, name: str, path: str, x: Tensor) -> None:
    if x.layout != torch.strided or x.dtype not in _DTYPE_NAMES or x.device != recorder.device:
        return
    dims, axis, width = x.dim(), -1, 1
    if dims > 0:
        axis = axis_while_tracing(recorder.identity, name, dims)
        # A size that varies from call to call can be no constant: then there are no features.
        width = int(x.shape[axis]) if has_static_value(x.shape[axis]) else 0
    dtype = _DTYPE_NAMES[x.dtype]
    # A hook on a leaf would outlive the pass, and nothing in a graph could take it off.
    needs_grad = x.requires_grad and not x.is_leaf
    forward_row, backward_row, start, low, high, order = place_while_tracing(
        recorder.identity, name, path, dims, axis, width, dtype, needs_grad
    )
    if forward_row < 0:
        return
    totals, value = recorder.traced, x.detach()
    features = None
    if start >= 0:
        features = totals.arena[start : start + 3 * width].view(3, width)
        value = value.movedim(axis, -1) if dims > 0 else value
    _ops.accumulate_moments_(
        value, totals.table, features, forward_row, low, high, order, None, recorder.gate
    )
    if needs_grad:
        # Backward passes follow: later in the order of events, and in the opposite direction.
        x.register_hook(_TracedGradientHook(recorder, backward_row, 2**30 - order))


def tensors_in(output: Any) -> list[tuple[str, Tensor]]:
    """Return the tensors in nested tuples, lists, dicts and dataclasses, each with its path."""
    if isinstance(output, Tensor):
        return [("", output)]
    found: list[tuple[str, Tensor]] = []
    _collect(output, "out", 0, found)
    return found


def _collect(value: Any, path: str, depth: int, found: list[tuple[str, Tensor]]) -> None:
    if isinstance(value, Tensor):
        if len(found) < _MOST_LEAVES and value.is_floating_point():
            found.append((path, value))
    elif depth == _DEEPEST:
        return
    elif isinstance(value, dict):
        for key, item in value.items():
            _collect(item, f"{path}[{key!r}]", depth + 1, found)
    elif isinstance(value, (tuple, list)):
        for index, item in enumerate(value):
            _collect(item, f"{path}[{index}]", depth + 1, found)
    elif is_dataclass(value) and not isinstance(value, type):
        for field in fields(value):
            # A field without a default that nobody has set is no attribute at all.
            _collect(getattr(value, field.name, None), f"{path}.{field.name}", depth + 1, found)


def is_measurable(x: Tensor) -> bool:
    return (
        x.layout == torch.strided
        and x.dtype in _DTYPE_NAMES
        and x.device.type in _ops.FLOW_DEVICES
        and not x.is_nested
        and not torch._C._functorch.is_functorch_wrapped_tensor(x)
    )
