# SPDX-License-Identifier: Apache-2.0
"""Which tensor goes to which row: the state that all hooks of one watcher share."""

from __future__ import annotations

import itertools
import math
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from torch.utils.weak import WeakIdKeyDictionary

from torch_init import _ops
from torch_init.flow import kinds
from torch_init.flow.totals import Totals

if TYPE_CHECKING:
    from torch_init.flow.structure import StructureRecorder

_MOST_FEATURES = 2**20
_LEAST_ARENA = 2**12
_LARGEST_ARENA = 2**22
_SITE_ROWS = 2  # forward, backward

_RECORDERS: weakref.WeakValueDictionary[int, Recorder] = weakref.WeakValueDictionary()
_identities = itertools.count(1)

Key = tuple[str, int, str]


@dataclass(eq=False)
class Site:
    """One tensor of the model: an output of one call of one module, forward and backward."""

    name: str
    call: int
    path: str
    role: str
    module_type: str
    order: int
    dims: int
    dtype: torch.dtype
    needs_grad: bool
    totals: Totals
    forward_row: int
    backward_row: int
    feature_axis: int
    features_start: int | None
    features_width: int
    low: float
    high: float
    rectifies: bool
    is_compiled: bool = False
    shards: int = 1
    """Of how many parts this process holds one."""
    holds_part_of_features: bool = False
    elements_without_features: int = 0
    """How many elements came in a shape that the features have no room for."""

    @property
    def key(self) -> Key:
        return (self.name, self.call, self.path)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "totals": None}  # another process has no use for this memory

    @property
    def label(self) -> str:
        """The name, with the call's number where a module is called again: "cell#1:out[0]"."""
        call = f"#{self.call}" if self.call else ""
        return f"{self.name or '(model)'}{call}{f':{self.path}' if self.path else ''}"


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
        self.identity = next(_identities)
        _RECORDERS[self.identity] = self
        self.modules = weakref.WeakValueDictionary(modules)
        self.histogram = histogram
        self.active = True
        self.is_measuring = True  # this pass, forward
        self.sites: dict[Key, Site] = {}
        self.unsupported: dict[str, str] = {}
        self.scale: Tensor | None = None
        self.structure: StructureRecorder | None = None
        self.passes = 0
        self.entered: int | None = None  # id of the module by which the pass began
        self.clock = 0
        self.all_totals: list[Totals] = []
        self.totals: dict[torch.device, Totals] = {}
        self._rows = rows
        self._features = _arena_size(modules) if features else 0
        self._before: Site | None = None
        self._leaf_hooks = WeakIdKeyDictionary()
        self.device = device
        # Compiled graphs write here: these two never change.
        self.traced = self.totals_for(device)
        with torch.inference_mode(False):
            self.gate = torch.ones((), dtype=torch.bool, device=device)

    def totals_for(self, device: torch.device) -> Totals:
        """Return totals on device with room for a site; new ones are made as old ones fill."""
        totals = self.totals.get(device)
        if totals is None or totals.rows_free < _SITE_ROWS:
            totals = Totals(device, self._rows, self._features, self.histogram)
            self.all_totals.append(totals)
            self.totals[device] = totals
        return totals

    def set_active(self, active: bool) -> None:
        """Switch measuring on or off, for compiled graphs too, without synchronising."""
        if active != self.active:
            self.active = self.is_measuring = active
            self.gate.fill_(active)

    def tick(self) -> int:
        """The order of events: what a row is stamped with when it first meets a NaN."""
        self.clock += 1
        return self.clock

    def site(self, module: nn.Module, name: str, call: int, path: str, x: Tensor) -> Site:
        """Return the site of x, making it if it is new."""
        found = self.sites.get((name, call, path))
        if found is None:
            axis, held = self.axis(module, name, x.dim()), local(x.detach())
            width = held.shape[axis] if x.dim() else 1
            totals = self.totals_for(x.device)
            found = self.add_site(module, (name, call, path), x.dim(), axis, width, x.dtype, totals)
            found.shards = shards_of(x)
            found.holds_part_of_features = x.dim() > 0 and x.shape[axis] != width
        if x.requires_grad:
            found.needs_grad = True
        return found

    def give_up(self, name: str, error: Exception) -> None:
        """Note that something of the module of that name could not be measured."""
        self.unsupported[name] = f"{type(error).__name__}: {error}"

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

    def axis(self, module: nn.Module, name: str, dims: int) -> int:
        before = self._before.feature_axis if self._before and self._before.dims == dims else None
        return kinds.feature_axis(module, kinds.role(module), dims, before)

    def add_site(
        self,
        module: nn.Module,
        key: Key,
        dims: int,
        axis: int,
        width: int,
        dtype: torch.dtype,
        totals: Totals,
    ) -> Site:
        kind = kinds.role(module)
        row = totals.take_rows(_SITE_ROWS)
        start = totals.take_features(width) if width <= _MOST_FEATURES else None
        low, high = kinds.saturation_bounds(module, kind)
        site = Site(
            *key,
            role=kind,
            module_type=type(module).__name__,
            order=len(self.sites),
            dims=dims,
            dtype=dtype,
            needs_grad=False,
            totals=totals,
            forward_row=row,
            backward_row=row + 1,
            feature_axis=axis,
            features_start=start,
            features_width=width,
            low=low,
            high=high,
            rectifies=kinds.is_rectifier(module),
        )
        self.sites[key] = self._before = site
        return site

    def add_forward(self, site: Site, x: Tensor) -> None:
        features = None
        has_axis = x.dim() > 0 and x.shape[site.feature_axis] == site.features_width
        if site.features_start is not None and has_axis:
            features = site.totals.features(site.features_start, site.features_width)
            x = x.movedim(site.feature_axis, -1)
        else:
            site.elements_without_features += x.numel()
        low, high, row, table = site.low, site.high, site.forward_row, site.totals.table
        _ops.accumulate_moments_(x, table, features, row, low, high, self.tick())

    def add_backward(self, site: Site, gradient: Tensor) -> None:
        low, high = kinds.UNBOUNDED
        row, table, scale = site.backward_row, site.totals.table, beside(gradient, self.scale)
        _ops.accumulate_moments_(gradient, table, None, row, low, high, self.tick(), scale)


def _arena_size(modules: dict[str, nn.Module]) -> int:
    """A guess at all features together: a module without parameters has those of the one before."""
    total = width = 0
    for module in modules.values():
        owned = list(module.parameters(recurse=False))
        width = owned[0].shape[0] if owned and owned[0].dim() else width
        total += width if width <= _MOST_FEATURES else 0
    return min(max(3 * total, _LEAST_ARENA), _LARGEST_ARENA)


def beside(x: Tensor, scale: Tensor | None) -> Tensor | None:
    """Return the loss scale on x's device: models may lie on several."""
    return scale if scale is None or scale.device == x.device else scale.to(x.device)


def local(x: Tensor) -> Tensor:
    """Return the part of a distributed tensor that this process holds; others as they are."""
    # Asking a plain tensor for an attribute that it lacks takes as long as measuring a small one.
    if type(x) is Tensor or not hasattr(x, "to_local"):
        return x
    shard: Tensor = x.to_local()
    return shard


def shards_of(x: Tensor) -> int:
    """Return among how many processes the elements of a distributed tensor are divided."""
    if type(x) is Tensor or not hasattr(x, "device_mesh"):
        return 1
    mesh, placements = x.device_mesh, x.placements  # type: ignore[attr-defined]
    return math.prod(mesh.size(i) for i, p in enumerate(placements) if p.is_shard())


# torch.compile runs these two while it traces a hook; what they return is constant in the graph.
# They take and return plain values, and find their recorder by its number.


@torch.compiler.assume_constant_result
def axis_while_tracing(identity: int, name: str, dims: int) -> int:
    recorder = _RECORDERS[identity]
    return recorder.axis(recorder.modules[name], name, dims)


@torch.compiler.assume_constant_result
def place_while_tracing(
    identity: int, name: str, path: str, dims: int, axis: int, width: int, dtype: str, grad: bool
) -> tuple[int, int, int, float, float, int]:
    """Reserve a site.

    Calls of one module share a site: how often it was called is not known here.

    Returns:
        forward row (-1: no room), backward row, start of its features (-1: none), the bounds of
        saturation, and the order of events.
    """
    recorder = _RECORDERS[identity]
    module, key = recorder.modules[name], (name, 0, path)
    site = recorder.sites.get(key)
    if site is None:
        if recorder.traced.rows_free < _SITE_ROWS:
            return (-1, -1, -1, 0.0, 0.0, 0)
        number_type = getattr(torch, dtype)
        site = recorder.add_site(module, key, dims, axis, width, number_type, recorder.traced)
    site.is_compiled = True
    site.needs_grad = site.needs_grad or grad
    if site.features_width != width:
        site.features_start = None  # nobody could count how many elements came without features
    start = -1 if site.features_start is None else site.features_start
    return (site.forward_row, site.backward_row, start, site.low, site.high, recorder.tick())
