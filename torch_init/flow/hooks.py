# SPDX-License-Identifier: Apache-2.0
"""The hooks: what runs inside the model's forward and backward pass.

A forward hook on each module, and tensor hooks on what it returns; never module full-backward
hooks, which break in-place operations and miss dictionaries. They hold no tensor of the model,
never synchronise, and raise nothing. torch.compile traces them into the graph, as operators that
tell the recorder, when the graph runs, what the hooks would have told it.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch import Tensor, nn

from torch_init import _ops
from torch_init.flow.passes import is_in_backward
from torch_init.flow.recorder import Recorder
from torch_init.flow.site import Site
from torch_init.flow.tensors import PARTIAL, is_partial, local, tensors_in

MOST_CALLS = 8
"""Calls of one module in one forward pass that are told apart; later ones share the last site."""

_UNOBSERVABLE = (
    f"PyTorch {torch.__version__} keeps no operator in a compiled graph for its effect alone: "
    "watch the model without torch.compile"
)


def is_exporting() -> bool:
    """Whether the model is being written into a program that others will run."""
    # Not torch.compiler.is_exporting(), which some versions of Dynamo take for always true.
    exporting: bool = getattr(torch.compiler, "_is_exporting_flag", False)
    return exporting or torch._C._get_tracing_state() is not None


def is_observable() -> bool:
    """Whether the graph that is being traced can tell a recorder when it runs."""
    return _ops.graphs_can_tell() and not is_exporting()


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
        if torch.compiler.is_compiling():
            _trace(self.recorder.handle, self.name, output)
        elif self.recorder.is_measuring or self.recorder.is_capturing():
            if is_exporting() or self.recorder.passes.is_left_out():
                return
            try:
                self._record(output)
            except Exception as error:  # a training run must not end because of its diagnosis
                self.recorder.give_up(self.name, error)

    def _record(self, output: Any) -> None:
        recorder, passes = self.recorder, self.recorder.passes
        # Inside a backward pass checkpointing computes the module again: measured already, but
        # with reentrant checkpointing the first pass had no graph to hang a hook on.
        recomputing = is_in_backward()
        if passes.entered is None and self._pass == passes.number and not recomputing:
            passes.number += 1  # called by itself, from outside of the model, and again
        if self._pass != passes.number:
            self._pass, self._calls, self._recomputed = passes.number, 0, 0
        if recomputing:
            self._recomputed += 1
            call = max(0, self._calls - self._recomputed)
        else:
            call = self._calls
            self._calls += 1
        call = min(call, MOST_CALLS - 1)
        for path, x in tensors_in(output):
            site = recorder.record_output(self.name, call, path, x, is_counted=not recomputing)
            if site is None:
                continue
            if recorder.structure is not None and not recomputing:
                recorder.structure.mark(site, x)
            if not x.requires_grad:
                continue
            site.needs_grad = True
            if not (x.is_leaf and recorder.has_leaf_hook(site, x)):
                handle = x.register_hook(GradientHook(recorder, site))
                if x.is_leaf:
                    recorder.keep_leaf_hook(site, x, handle)


class GradientHook(Hook):
    """Measures the gradient with respect to one tensor, each time that a backward pass has it."""

    def __init__(self, recorder: Recorder, site: Site) -> None:
        self.recorder = recorder
        self.site = site

    def __call__(self, gradient: Tensor | None) -> None:
        if gradient is None:  # one output of a function of several, and not what the loss is of
            return
        try:
            self.recorder.record_gradient(self.site, gradient)
        except Exception as error:
            self.recorder.give_up(self.site.name, error)


class _TracedGradientHook(Hook):
    def __init__(self, recorder: str, name: str, call: int, path: str) -> None:
        self.recorder = recorder
        self.name = name
        self.call = call
        self.path = path

    def __call__(self, gradient: Tensor | None) -> None:
        if gradient is not None and not is_partial(gradient):
            x = local(gradient.detach())
            _ops.observe_gradient(x, self.recorder, self.name, self.call, self.path)


def _trace(recorder: str, name: str, output: Any) -> None:
    if not is_observable():
        if not is_exporting():
            _refuse_while_tracing(recorder, name, _UNOBSERVABLE)
        return
    call = _call_while_tracing(recorder, name)
    for path, x in tensors_in(output):
        if is_partial(x):
            _refuse_while_tracing(recorder, name, PARTIAL)
            continue
        needs_grad, is_leaf = x.requires_grad, x.is_leaf
        held = local(x.detach())
        _ops.observe_output(held, recorder, name, call, path, needs_grad, is_leaf)
        if needs_grad and not is_leaf:
            x.register_hook(_TracedGradientHook(recorder, name, call, path))


@torch.compiler.assume_constant_result
def _refuse_while_tracing(recorder: str, name: str, reason: str) -> None:
    _ops.refuse(recorder, name, reason)


_traced_calls: Counter[tuple[Any, str, str]] = Counter()


@torch.compiler.assume_constant_result
def _call_while_tracing(recorder: str, name: str) -> int:
    """Return how often the module was called before in the graph that is being traced."""
    from torch._guards import CompileContext  # there if graphs_can_tell()

    trace = CompileContext.current_trace_id()
    if _traced_calls and next(iter(_traced_calls))[0] != trace:
        _traced_calls.clear()
    _traced_calls[trace, recorder, name] += 1
    return min(_traced_calls[trace, recorder, name], MOST_CALLS) - 1
