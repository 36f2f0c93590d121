# SPDX-License-Identifier: Apache-2.0
"""Which tensor goes to which row: the state that all hooks of one watcher share."""

from __future__ import annotations

import threading
import weakref
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from torch.utils.weak import WeakIdKeyDictionary

from torch_init import _ops
from torch_init.flow import kinds
from torch_init.flow.passes import Passes, is_in_backward
from torch_init.flow.site import Key, Site
from torch_init.flow.tensors import (
    PARTIAL,
    WHOLE,
    Share,
    beside,
    is_measurable,
    is_partial,
    local,
    share_of,
    share_of_output,
    why_not,
)
from torch_init.flow.totals import Totals

if TYPE_CHECKING:
    from torch_init.flow.structure import StructureRecorder

_MOST_FEATURES = 2**20
_LEAST_ARENA = 2**12
_LARGEST_ARENA = 2**22
_SITE_ROWS = 2  # forward, backward


class Recorder:
    """Rows, sites and switches of one watcher. Holds no tensor of the model and no module."""

    def __init__(
        self,
        modules: dict[str, nn.Module],
        device: torch.device,
        rows: int,
        histogram: bool,
        features: bool,
    ) -> None:
        self.handle = _ops.add_receiver(self)
        self.modules = weakref.WeakValueDictionary(modules)
        self.histogram = histogram
        self.active = True
        self.is_measuring = True  # this pass, forward
        self.sites: dict[Key, Site] = {}
        self.unsupported: dict[str, str] = {}
        self.scale: Tensor | None = None
        self.structure: StructureRecorder | None = None
        self.passes = Passes()
        self.measured_passes = 0
        self.has_stepped = False
        self._lock = threading.Lock()
        self.clock = 0
        self.all_totals: list[Totals] = []
        self.totals: dict[torch.device, Totals] = {}
        self._rows = rows
        self._features = _arena_size(modules) if features else 0
        self._before: Site | None = None
        self._leaf_hooks = WeakIdKeyDictionary()
        self.device = device
        self._is_on_cuda = device.type == "cuda"
        with torch.inference_mode(False):
            self._gate = torch.ones((), dtype=torch.uint8, device=device)
            self._validation_gate = self._gate.clone()
        self._is_validating = False

    def totals_for(self, device: torch.device) -> Totals:
        """Return totals on device with room for a site; new ones are made as old ones fill."""
        totals = self.totals.get(device)
        if totals is None or totals.rows_free < _SITE_ROWS:
            if self.is_capturing():  # replays would begin by setting them to 0
                raise RuntimeError("no room for a layer that is first met within a CUDA graph")
            totals = Totals(device, self._rows, self._features, self.histogram)
            self.all_totals.append(totals)
            self.totals[device] = totals
        return totals

    def set_active(self, active: bool) -> None:
        """Switch measuring on or off, for captured graphs too, without synchronising."""
        if active != self.active:
            self.active = self.is_measuring = active
            self._gate.fill_(active)
            self._validation_gate.fill_(active and not self.has_stepped)

    def end_step(self) -> None:
        """Note that the model is being trained."""
        if not self.has_stepped:
            self.has_stepped = True
            self._validation_gate.zero_()

    def begin_pass(self, entrance: str, has_grad: bool, *, is_replica: bool = False) -> bool:
        """Note that one enters the model by a part of it; return whether a pass begins here."""
        if not self.passes.begin(entrance, is_replica):
            return False
        # Between training steps, passes without a graph are validation: as many as one likes, and
        # none of the training that a report is about.
        self._is_validating = self.has_stepped and not has_grad
        self.is_measuring = self.active and not self._is_validating
        self.measured_passes += self.is_measuring
        return True

    def end_pass(self, entrance: str) -> bool:
        """Note that one leaves the model; return whether a pass ends here."""
        if not self.passes.end(entrance):
            return False
        self.is_measuring, self._is_validating = self.active, False
        return True

    def is_capturing(self) -> bool:
        """Whether what is done now becomes part of a CUDA graph."""
        return self._is_on_cuda and torch.cuda.is_current_stream_capturing()

    def ticks(self, count: int = 1) -> int:
        """The order of events: what a row is stamped with when it first meets a NaN.

        Returns the first of so many stamps, of which no other event has one.
        """
        first = self.clock + 1
        self.clock += count
        return first

    def gate_of_step(self) -> Tensor | None:
        """What switches the measurement of a training step off within a captured CUDA graph."""
        return self._gate if self.is_capturing() else None

    def record_output(
        self, name: str, call: int, path: str, x: Tensor, *, is_counted: bool = True
    ) -> Site | None:
        """Add what a module returned to its site, which is made if it is new.

        is_counted: False if x was measured before and only its site is asked for.
        """
        if not is_measurable(x):
            self.unsupported[name] = why_not(x)
            return None
        if is_partial(x):
            self.unsupported[name] = PARTIAL
            return None
        site = self.sites.get((name, call, path)) or self._new_site(name, call, path, x)
        if is_counted:
            self._add_forward(site, local(x.detach()))
        return site

    def record_gradient(self, site: Site, gradient: Tensor) -> None:
        """Add the gradient with respect to a site's tensor."""
        if is_partial(gradient):
            self.unsupported[site.label] = f"the gradient: {PARTIAL}"
            return
        gradient, gate = local(gradient.detach()), self.gate_of_step()
        if is_measurable(gradient) and (self.active or gate is not None):
            with self._lock:  # passes of several threads may be on their way back
                site.backward.add(gradient, self.ticks(), beside(gradient, self.scale), gate)

    def observe_pass(self, entrance: str, begins: bool, has_grad: bool) -> None:
        """Note what a compiled graph says: a pass begins or ends."""
        if begins:
            self.begin_pass(entrance, has_grad)
        else:
            self.end_pass(entrance)

    def observe_output(
        self, x: Tensor, layer: str, call: int, path: str, needs_grad: bool, is_leaf: bool
    ) -> None:
        """Measure what a module of a compiled graph returned."""
        if not (self.is_measuring or self.is_capturing()):
            return
        try:
            site = self.record_output(layer, call, path, x, is_counted=not is_in_backward())
            if site is None:
                return
            site.needs_grad |= needs_grad and not is_leaf
            if needs_grad and is_leaf:
                # A hook on it would outlive the pass, and nothing in a graph could take it off.
                self.unsupported[site.label] = "the gradient of a leaf of a compiled graph"
        except Exception as error:  # a training run must not end because of its diagnosis
            self.give_up(layer, error)

    def observe_gradient(self, x: Tensor, layer: str, call: int, path: str) -> None:
        """Measure the gradient with respect to what a module of a compiled graph returned."""
        site = self.sites.get((layer, call, path))
        if site is None:  # its forward pass was not measured
            return
        try:
            self.record_gradient(site, x)
        except Exception as error:
            self.give_up(layer, error)

    def give_up(self, name: str, error: Exception) -> None:
        """Note that something of the module of that name could not be measured."""
        self.unsupported[name] = f"{type(error).__name__}: {error}"

    def refuse(self, layer: str, reason: str) -> None:
        """Note that what the module of that name returns cannot be measured."""
        self.unsupported[layer] = reason

    def has_leaf_hook(self, site: Site, leaf: Tensor) -> bool:
        return site.order in self._leaf_hooks.get(leaf, ())

    def keep_leaf_hook(self, site: Site, leaf: Tensor, handle: RemovableHandle) -> None:
        """Remember a hook on a tensor that outlives the pass: a parameter, or an input."""
        self._leaf_hooks.setdefault(leaf, {})[site.order] = handle

    def remove_leaf_hooks(self) -> None:
        for handles in self._leaf_hooks.values():
            for handle in handles.values():
                handle.remove()
        self._leaf_hooks.clear()

    def _new_site(self, name: str, call: int, path: str, x: Tensor) -> Site:
        module, before, held = self.modules[name], self._before, local(x.detach())
        kind = kinds.role(module)
        axis_before = before.feature_axis if before and before.dims == x.dim() else None
        axis = kinds.feature_axis(module, kind, x.dim(), axis_before)
        width = held.shape[axis] if x.dim() else 1
        totals = self.totals_for(x.device)
        row = totals.take_rows(_SITE_ROWS)
        low, high = kinds.saturation_bounds(module, kind)
        start = totals.take_features(width) if width <= _MOST_FEATURES else None
        features = None if start is None else totals.features(start, width)
        site = Site(
            name,
            call,
            path,
            role=kind,
            module_type=type(module).__name__,
            order=len(self.sites),
            dims=x.dim(),
            dtype=x.dtype,
            needs_grad=False,
            totals=totals,
            forward_row=row,
            backward_row=row + 1,
            forward=_ops.FlowRow(totals.table, features, row, low, high),
            backward=_ops.FlowRow(totals.table, None, row + 1, *kinds.UNBOUNDED),
            feature_axis=axis,
            features_start=start,
            features_width=width,
            low=low,
            high=high,
            rectifies=kinds.is_rectifier(module),
            share=self._share(module, kind, x, axis),
        )
        self.sites[site.key] = self._before = site
        return site

    def _share(self, module: nn.Module, kind: str, x: Tensor, axis: int) -> Share:
        if hasattr(x, "placements") or x.dim() == 0:
            return share_of(x, axis)
        before = self._before
        if kind == "activation" and before is not None and before.dims == x.dim():
            # Of a part of the features it makes a part, and nothing of its own says so.
            return before.share if before.features_width == x.shape[axis] else WHOLE
        return share_of_output(module, x, axis)

    def _add_forward(self, site: Site, x: Tensor) -> None:
        gate, axis = None, site.feature_axis
        if self.is_capturing():
            site.is_captured = True
            gate = self._validation_gate if self._is_validating else self._gate
        has_axis = site.features_start is not None and x.dim() > 0
        if has_axis and x.shape[axis] == site.features_width:
            x = x if axis in (-1, x.dim() - 1) else x.movedim(axis, -1)
            site.forward.add(x, self.ticks(), None, gate, with_features=True)
        else:
            site.elements_without_features += x.numel()
            site.forward.add(x, self.ticks(), None, gate)


def _arena_size(modules: dict[str, nn.Module]) -> int:
    """A guess at all features together: a module without parameters has those of the one before."""
    total = width = 0
    for module in modules.values():
        owned = list(module.parameters(recurse=False))
        width = owned[0].shape[0] if owned and owned[0].dim() else width
        total += width if width <= _MOST_FEATURES else 0
    return min(max(3 * total, _LEAST_ARENA), _LARGEST_ARENA)
