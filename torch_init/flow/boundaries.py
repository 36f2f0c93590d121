# SPDX-License-Identifier: Apache-2.0
"""Where forward passes and optimizer steps begin and end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.optim import Optimizer

from torch_init import _ops
from torch_init.flow.hooks import Hook, is_exporting, is_observable
from torch_init.flow.passes import ROOT
from torch_init.flow.structure import StructureRecorder
from torch_init.flow.tensors import tensors_in

if TYPE_CHECKING:
    from torch_init.flow.handle import Flow


class _FlowHook(Hook):
    """A hook that keeps its flow alive: watch() works without a name for what it returns."""

    def __init__(self, flow: Flow) -> None:
        self._flow = flow


class BeforeForward(_FlowHook):
    """Begins a pass where one enters the model; the first with a graph shows its structure.

    One enters by the model itself, or by a part of it that a training step calls instead.
    """

    def __init__(self, flow: Flow, entrance: str) -> None:
        super().__init__(flow)
        self._entrance = entrance

    def __call__(self, module: nn.Module, args: Any) -> None:
        flow, has_grad = self._flow, torch.is_grad_enabled()
        recorder = flow.recorder
        if torch.compiler.is_compiling():
            if is_observable():
                _ops.observe_pass(recorder.handle, self._entrance, True, has_grad)
        elif recorder.passes.is_within(self._entrance):
            return
        elif not is_exporting() and recorder.begin_pass(
            self._entrance, has_grad, is_replica=getattr(module, "_is_replica", False)
        ):
            wanted = recorder.is_measuring and has_grad and flow.structure is None
            recorder.structure = StructureRecorder() if wanted else None


class AfterForward(_FlowHook):
    """Ends the pass that began with the same module, and reads the structure of the first one."""

    def __init__(self, flow: Flow, entrance: str) -> None:
        super().__init__(flow)
        self._entrance = entrance

    def __call__(self, module: nn.Module, args: Any, output: Any) -> None:
        flow = self._flow
        recorder = flow.recorder
        if torch.compiler.is_compiling():
            if is_observable():
                _ops.observe_pass(recorder.handle, self._entrance, False, torch.is_grad_enabled())
            return
        if not recorder.end_pass(self._entrance) or recorder.structure is None:
            return
        reader, recorder.structure = recorder.structure, None
        try:
            outputs = [x for _, x in tensors_in(output) if x.requires_grad]
            if outputs:
                flow.structure = reader.finish(outputs)
        except Exception as error:  # a training run must not end because of its diagnosis
            flow.structure_problem = f"{type(error).__name__}: {error}"


def entrances(model: nn.Module, name: str = ROOT) -> dict[str, nn.Module]:
    """Return model, and what a training step may call instead, by name: its children.

    Of a child that cannot be called, such as a ModuleList, its own children.
    """
    found = {name: model}
    for child_name, child in model.named_children():
        full = f"{name}.{child_name}".removeprefix(".")
        if type(child).forward is not nn.Module.forward:
            found[full] = child
        else:
            found |= {n: m for n, m in entrances(child, full).items() if n != full}
    return found


class BeforeCompiled(_FlowHook):
    """Counts calls of a compiled model, outside of what is compiled."""

    def __call__(self, module: nn.Module, args: Any) -> None:
        flow = self._flow
        if not torch.compiler.is_compiling():
            flow.compiled_passes += 1


class BeforeStep(_FlowHook):
    """Reads weights before an optimizer's step, and gradients if there is no closure."""

    def __call__(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        flow = self._flow
        flow.parameters.forget()
        if flow.recorder.active or flow.recorder.is_capturing():
            # Set by GradScaler for optimizers that unscale within their step; else it is None.
            scale, has_grad = getattr(optimizer, "grad_scale", None), not _closure(args, kwargs)
            try:
                flow.parameters.before_step(scale, optimizer, has_grad=has_grad)
            except Exception as error:  # a training run must not end because of its diagnosis
                flow.recorder.give_up("parameters", error)


class AfterStep(_FlowHook):
    """Reads what an optimizer's step changed; the first optimizer's step ends the training step."""

    def __init__(self, flow: Flow, is_boundary: bool) -> None:
        super().__init__(flow)
        self._is_boundary = is_boundary

    def __call__(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        flow = self._flow
        try:
            flow.parameters.after_step(reads_grad=bool(_closure(args, kwargs)))
        except Exception as error:
            flow.recorder.give_up("parameters", error)
        if self._is_boundary:
            flow.end_step()


def _closure(args: Any, kwargs: Any) -> Any:
    """The closure of optimizer.step(closure), which computes the gradients, perhaps repeatedly."""
    return kwargs.get("closure", args[1] if len(args) > 1 else None)
