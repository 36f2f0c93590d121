# SPDX-License-Identifier: Apache-2.0
"""Where forward passes and optimizer steps begin and end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.optim import Optimizer

from torch_init.flow.hooks import Hook, is_exporting, tensors_in
from torch_init.flow.structure import StructureRecorder

if TYPE_CHECKING:
    from torch_init.flow.watching import Flow


class _FlowHook(Hook):
    """A hook that keeps its flow alive: watch() works without a name for what it returns."""

    def __init__(self, flow: Flow) -> None:
        self._flow = flow


class BeforeForward(_FlowHook):
    """Begins a pass where one enters the model; the first with a graph shows its structure.

    One enters by the model itself, or by a part of it that a training step calls instead.
    """

    def __init__(self, flow: Flow, is_root: bool) -> None:
        super().__init__(flow)
        self._is_root = is_root

    def __call__(self, module: nn.Module, args: Any) -> None:
        if torch.compiler.is_compiling() or is_exporting():
            return
        flow = self._flow
        # Within a backward pass the model is being computed again by checkpointing.
        if torch._C._current_graph_task_id() != -1:
            return
        recorder = flow.recorder
        if recorder.entered is not None and not self._is_root:
            return
        recorder.entered = id(module)
        recorder.passes += 1
        # Between training steps, passes without a graph are validation: as many as one likes, and
        # none of the training that a report is about.
        is_training = torch.is_grad_enabled() or not flow.total_steps
        recorder.is_measuring = recorder.active and is_training
        flow.measured_passes += recorder.is_measuring
        wanted = recorder.is_measuring and torch.is_grad_enabled() and flow.structure is None
        recorder.structure = StructureRecorder() if wanted else None


class AfterForward(_FlowHook):
    """Ends the pass that began with the same module, and reads the structure of the first one."""

    def __call__(self, module: nn.Module, args: Any, output: Any) -> None:
        if torch.compiler.is_compiling() or is_exporting():
            return
        flow = self._flow
        if flow.recorder.entered != id(module) or torch._C._current_graph_task_id() != -1:
            return
        flow.recorder.entered, flow.recorder.is_measuring = None, flow.recorder.active
        if flow.recorder.structure is None:
            return
        reader, flow.recorder.structure = flow.recorder.structure, None
        try:
            outputs = [x for _, x in tensors_in(output) if x.requires_grad]
            if outputs:
                flow.structure = reader.finish(outputs)
        except Exception as error:  # a training run must not end because of its diagnosis
            flow.structure_problem = f"{type(error).__name__}: {error}"


def entrances(model: nn.Module) -> list[nn.Module]:
    """Return model, and what a training step may call instead: its children.

    Of a child that cannot be called, such as a ModuleList, its own children.
    """
    found = [model]
    for child in model.children():
        is_callable = type(child).forward is not nn.Module.forward
        found += [child] if is_callable else entrances(child)[1:]
    return found


class BeforeCompiled(_FlowHook):
    """Counts calls of a compiled model, outside of what is compiled."""

    def __call__(self, module: nn.Module, args: Any) -> None:
        flow = self._flow
        if not torch.compiler.is_compiling():
            flow.compiled_passes += 1


class BeforeStep(_FlowHook):
    """Reads gradients and weights before an optimizer's step."""

    def __call__(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        flow = self._flow
        flow.parameters.forget()
        if flow.recorder.active:
            # Set by GradScaler for optimizers that unscale within their step; else it is None.
            scale = getattr(optimizer, "grad_scale", None)
            flow.parameters.before_step(scale, optimizer)


class AfterStep(_FlowHook):
    """Reads what an optimizer's step changed; the first optimizer's step ends the training step."""

    def __init__(self, flow: Flow, is_boundary: bool) -> None:
        super().__init__(flow)
        self._is_boundary = is_boundary

    def __call__(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        flow = self._flow
        flow.parameters.after_step()
        if self._is_boundary:
            flow.end_step()
