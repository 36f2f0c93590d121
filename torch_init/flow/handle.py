# SPDX-License-Identifier: Apache-2.0
"""What watch() returns: the hooks put on a model, switched, read and taken off again."""

from __future__ import annotations

import warnings
import weakref
from types import TracebackType
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from torch_init import _ops
from torch_init.flow.boundaries import (
    AfterForward,
    AfterStep,
    BeforeCompiled,
    BeforeForward,
    BeforeStep,
    entrances,
)
from torch_init.flow.hooks import ForwardHook
from torch_init.flow.parameters import ParameterWatch
from torch_init.flow.recorder import Recorder
from torch_init.flow.selection import select
from torch_init.flow.structure import Structure
from torch_init.model.sites import modules_by_name

if TYPE_CHECKING:
    from torch_init.flow.report import Report
    from torch_init.flow.thresholds import Thresholds


class Flow:
    """What watch() returns: the measurements so far, and the switches. See watch()."""

    def __init__(
        self,
        model: nn.Module,
        optimizers: list[Optimizer],
        every: int,
        scaler: torch.amp.GradScaler | None,
        selections: tuple[Any, Any],
        histogram: bool,
        features: bool,
    ) -> None:
        self._model = weakref.ref(model)
        self._every = every
        self.steps = self.total_steps = 0
        self.paused = False
        self.aliases: dict[str, list[str]] = {}
        self.structure: Structure | None = None
        self.structure_problem = ""
        self.compiled_passes = 0
        inner = getattr(model, "_orig_mod", model)
        modules = self._named(inner)
        selected = select(modules, *selections)
        parameters = {
            f"{name}.{leaf}".removeprefix("."): parameter
            for name, module in modules_by_name(inner)
            for leaf, parameter in module._parameters.items()
            if parameter is not None
        }
        devices = [p.device for p in parameters.values() if p.device.type in _ops.FLOW_DEVICES]
        device = devices[0] if devices else torch.device("cpu")
        rows = len(selected) * 8 + 64
        self.recorder = Recorder(selected, device, rows, histogram, features)
        self.parameters = ParameterWatch(parameters, self.recorder)
        self._has_optimizer = bool(optimizers)
        self._set_scaler(scaler)
        self._is_compiled = model is not inner or any(
            getattr(m, "_compiled_call_impl", None) is not None or hasattr(m, "_orig_mod")
            for m in inner.modules()
        )
        self._handles: list[RemovableHandle] = []
        self._install(model, inner, selected, optimizers)

    def _named(self, model: nn.Module) -> dict[str, nn.Module]:
        first: dict[nn.Module, str] = {}
        for name, module in modules_by_name(model):
            if "parametrizations" in name.split("."):
                continue  # computes a weight: no part of the signal's way
            if module in first and first[module] != name:
                self.aliases.setdefault(first[module], []).append(name)
            first.setdefault(module, name)
        return {name: module for module, name in first.items()}

    def _set_scaler(self, scaler: torch.amp.GradScaler | None) -> None:
        if scaler is None or not scaler.is_enabled():
            return
        # The scaler makes its scale when it is first used; its own device tensor is what the
        # hooks read, so that the scale of the moment is used without synchronising.
        scaler.scale(torch.zeros((), device=self.recorder.device))
        self.recorder.scale = scaler._scale

    def _install(
        self,
        model: nn.Module,
        inner: nn.Module,
        selected: dict[str, nn.Module],
        optimizers: list[Optimizer],
    ) -> None:
        add = self._handles.append
        if model is not inner:
            add(model.register_forward_pre_hook(BeforeCompiled(self)))
        entered = entrances(inner)
        for entrance, module in entered.items():
            add(module.register_forward_pre_hook(BeforeForward(self, entrance)))
        for name, module in selected.items():
            add(module.register_forward_hook(ForwardHook(self.recorder, name)))
        for entrance, module in entered.items():
            add(module.register_forward_hook(AfterForward(self, entrance), always_call=True))
        for place, optimizer in enumerate(optimizers):
            add(optimizer.register_step_pre_hook(BeforeStep(self)))
            add(optimizer.register_step_post_hook(AfterStep(self, is_boundary=place == 0)))

    def __enter__(self) -> Flow:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.remove()

    @property
    def model(self) -> nn.Module | None:
        """The model, if it is still alive."""
        return self._model()

    @property
    def measured_passes(self) -> int:
        """How many forward passes were measured."""
        return self.recorder.measured_passes

    def pause(self) -> None:
        """Measure nothing until resume()."""
        self.paused = True
        self._switch()

    def resume(self) -> None:
        """Measure again after pause()."""
        self.paused = False
        self._switch()

    def remove(self) -> None:
        """Take all hooks off. What was measured stays, for report()."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self.recorder.remove_leaf_hooks()
        self.parameters.forget()
        self.recorder.set_active(False)

    def reset(self) -> None:
        """Forget what was measured, so that the next report covers what follows."""
        for totals in self.recorder.all_totals:
            totals.packed.zero_()
        for site in self.recorder.sites.values():
            site.elements_without_features = 0
        for parameter in self.parameters.sites:
            parameter.steps = parameter.missing = 0
        self.parameters.forget()
        self.structure = None  # the next forward pass shows the weights as they are then
        self.steps = self.recorder.measured_passes = self.compiled_passes = 0
        self.recorder.passes.left_out = 0
        self._switch()

    def step(self) -> None:
        """Say that a training step has ended, where no optimizer was given to watch()."""
        if self._handles and self.recorder.active and not self._has_optimizer:
            try:
                self.parameters.before_step(None)
            except Exception as error:  # a training run must not end because of its diagnosis
                self.recorder.give_up("parameters", error)
            self.parameters.forget()  # the update is over: nothing to compare with
        self.end_step()

    def end_step(self) -> None:
        """Count a step and decide whether the next one is measured."""
        self.steps += 1
        self.total_steps += 1
        self.recorder.end_step()
        seen = self.recorder.sites or self.recorder.unsupported
        if self._is_compiled and self.total_steps == 1 and not seen:
            warnings.warn(NOT_SEEN, stacklevel=3)
        self._switch()

    def _switch(self) -> None:
        due = self.total_steps % self._every == 0
        self.recorder.set_active(bool(self._handles) and due and not self.paused)

    def log_to(self, target: Any, step: int | None = None, *, reset: bool = True) -> Report:
        """Write what was measured since the last call, and return it as a report.

        Args:
            target: a torch.utils.tensorboard.SummaryWriter, a Weights & Biases run, the path of a
                .jsonl or .csv file, or a function of (dict of numbers, step).
            step: what to call this moment; the number of training steps by default.
            reset: begin a new window afterwards.
        """
        from torch_init.flow.writers import write

        report = self.report()
        write(report, target, self.total_steps if step is None else step)
        if reset:
            self.reset()
        return report

    def report(self, thresholds: Thresholds | None = None, group: Any = None) -> Report:
        """Read everything measured so far and judge it: the only synchronisation there is.

        Args:
            thresholds: of the verdicts.
            group: a torch.distributed process group, or True for the default one: the sums of all
                its processes are added by layer, in one collective, which all must call. Without
                it a report shows this process's share of the batch, and of sharded tensors.
        """
        from torch_init.flow.reading import read

        return read(self, thresholds, group)


NOT_SEEN = (
    "torch_init.watch: the model ran, but none of its hooks did. torch.compile does not notice "
    "hooks that are added after a model's first compiled call: watch the model before that call, "
    "or call torch.compiler.reset() after watch(), which compiles it again."
)
