# SPDX-License-Identifier: Apache-2.0
"""Statistics of parameters at the optimizer step: weights, gradients and updates.

The step is where gradients are complete: accumulated over micro-batches, reduced over processes,
unscaled. The gradient is read whole. The update is new minus old weights; keeping all old weights
would cost a copy of the model, so weight and update are read at up to SAMPLE elements of each
parameter, spread evenly: their root mean squares are then right to about 1 %.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from torch_init import _ops
from torch_init.flow.recorder import Recorder
from torch_init.flow.tensors import (
    PARTIAL,
    WHOLE,
    Share,
    beside,
    is_measurable,
    is_partial,
    local,
    share_of,
    why_not,
)
from torch_init.flow.totals import Totals

SAMPLE = 4096
_GOLDEN = (math.sqrt(5) - 1) / 2
_ROWS = 3
GRADIENT, WEIGHT, UPDATE = range(_ROWS)


@dataclass(eq=False)
class ParameterSite:
    """A parameter, once, however many names it has."""

    names: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: torch.dtype
    requires_grad: bool
    totals: Totals
    row: int
    indices: Tensor | None
    steps: int = 0
    missing: int = 0
    unsupported: str = ""
    share: Share = WHOLE
    rows: int = _ROWS

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "totals": None, "indices": None}  # this process's memory


class ParameterWatch:
    """The rows of a model's parameters, and what fills them around an optimizer's step."""

    def __init__(self, parameters: dict[str, nn.Parameter], recorder: Recorder) -> None:
        self._recorder = recorder
        self._totals: dict[torch.device, Totals] = {}
        self._rows = _ROWS * len(parameters)
        names: dict[int, list[str]] = {}
        for name, parameter in parameters.items():
            names.setdefault(id(parameter), []).append(name)
        self._watched: list[tuple[weakref.ref[nn.Parameter], ParameterSite]] = []
        for parameter in {id(p): p for p in parameters.values()}.values():
            self._watched.append(
                (weakref.ref(parameter), self._site(parameter, tuple(names[id(parameter)])))
            )
        self._before: list[_Sample] = []

    @property
    def sites(self) -> list[ParameterSite]:
        return [site for _, site in self._watched]

    def _site(self, parameter: nn.Parameter, names: tuple[str, ...]) -> ParameterSite:
        held = local(parameter.detach())
        device = held.device if is_measurable(held) else self._recorder.device
        totals = self._totals_on(device)
        row = totals.take_rows(_ROWS)
        shape, grad = tuple(parameter.shape), parameter.requires_grad
        indices = None
        if held.numel() > SAMPLE and is_measurable(held):
            # Multiples of the golden ratio: spread evenly, in step with no row or column.
            place = torch.arange(SAMPLE, dtype=torch.float64, device=held.device) * _GOLDEN
            indices = ((place % 1.0) * held.numel()).long()
        site = ParameterSite(names, shape, parameter.dtype, grad, totals, row, indices)
        site.share = share_of(parameter)
        if not is_measurable(held):
            site.unsupported = why_not(held)
        return site

    def _totals_on(self, device: torch.device) -> Totals:
        """Rows without a histogram, which would take longer than all the rest."""
        if device not in self._totals:
            totals = Totals(device, self._rows, 0, histogram=False)
            self._totals[device] = totals
            self._recorder.all_totals.append(totals)
        return self._totals[device]

    def _alive(self) -> Iterator[tuple[nn.Parameter, ParameterSite]]:
        for reference, site in self._watched:
            parameter = reference()
            if parameter is not None and not site.unsupported:
                yield parameter, site

    def before_step(
        self, scale: Tensor | None, optimizer: Optimizer | None = None, *, has_grad: bool = True
    ) -> None:
        """Read gradients and weights of an optimizer's parameters, by default of all.

        The weights are kept until after_step() or forget().

        scale: what the gradients must still be divided by.
        has_grad: False if the gradients are yet to come, from a closure that the step calls.
        """
        watched = list(self._owned(optimizer))
        for parameter, site in watched:
            site.steps += 1
            site.requires_grad = parameter.requires_grad
        if has_grad:
            watched = self._read_gradients(watched, scale)
        self._before = self._samples(watched)
        if has_grad:
            self._add_samples(self._before, WEIGHT)

    def after_step(self, *, reads_grad: bool = False) -> None:
        """Read what the step changed.

        reads_grad: whether the gradients are those of a closure that the step has called.
        """
        before = self._before
        self.forget()
        seen = {site for sample in before for site in sample.sites}
        if not seen:
            return
        watched = [(parameter, site) for parameter, site in self._alive() if site in seen]
        after = self._samples(watched)
        if reads_grad:
            seen = {site for _, site in self._read_gradients(watched, None)}
            self._add_samples(before, WEIGHT, seen)
        if [(old.sizes, old.sites) for old in before] == [(new.sizes, new.sites) for new in after]:
            for old, new in zip(before, after, strict=True):
                new.flat = new.flat - old.flat
            self._add_samples(after, UPDATE, seen)

    def forget(self) -> None:
        """Let go of the weights of a step whose end is not seen, such as one that raised."""
        self._before = []

    def _owned(self, optimizer: Optimizer | None) -> Iterator[tuple[nn.Parameter, ParameterSite]]:
        groups = [] if optimizer is None else optimizer.param_groups
        owned = {id(p) for group in groups for p in group["params"]}
        for parameter, site in self._alive():
            if optimizer is None or id(parameter) in owned:
                yield parameter, site

    def _read_gradients(
        self, watched: list[tuple[nn.Parameter, ParameterSite]], scale: Tensor | None
    ) -> list[tuple[nn.Parameter, ParameterSite]]:
        """Add the gradients; return the parameters that have one."""
        gradients: list[Tensor] = []
        sites: list[ParameterSite] = []
        found = []
        for parameter, site in watched:
            gradient = parameter.grad
            if gradient is None:
                site.missing += 1
                continue
            found.append((parameter, site))
            if gradient.is_sparse:
                gradient = gradient._values()
            if is_partial(gradient):
                self._recorder.unsupported[site.names[0]] = f"the gradient: {PARTIAL}"
                continue
            gradient = local(gradient.detach())
            if is_measurable(gradient):
                gradients.append(gradient)
                sites.append(site)
        self._add(gradients, sites, GRADIENT, scale)
        return found

    def _samples(self, watched: list[tuple[nn.Parameter, ParameterSite]]) -> list[_Sample]:
        """The watched elements of all weights, one after another: a tensor for each dtype."""
        kinds: dict[tuple[Totals, torch.dtype], list[tuple[Tensor, ParameterSite]]] = {}
        with torch.no_grad():
            for parameter, site in watched:
                held = local(parameter)
                if site.indices is not None:
                    held = _in_memory_order(held).index_select(0, site.indices)
                kinds.setdefault((site.totals, held.dtype), []).append((held, site))
            return [
                _Sample(
                    torch.cat([x.reshape(-1) for x, _ in found]),
                    [x.numel() for x, _ in found],
                    [site for _, site in found],
                )
                for found in kinds.values()
            ]

    def _add_samples(
        self, samples: list[_Sample], offset: int, only: set[ParameterSite] | None = None
    ) -> None:
        for sample in samples:
            flat, sizes, sites = sample.flat, sample.sizes, sample.sites
            if only is not None and not only.issuperset(sites):
                parts = zip(flat.split(sizes), sites, strict=True)
                chosen = [(x, site) for x, site in parts if site in only]
                self._add([x for x, _ in chosen], [site for _, site in chosen], offset)
                continue
            table, rows = sites[0].totals.table, [site.row + offset for site in sites]
            order = self._recorder.ticks(len(sites))
            _ops.accumulate_parts_(flat, sizes, table, rows, order, self._recorder.gate_of_step())

    def _add(
        self,
        xs: Sequence[Tensor],
        sites: Sequence[ParameterSite],
        offset: int,
        scale: Tensor | None = None,
    ) -> None:
        recorder = self._recorder
        for totals in {site.totals for site in sites}:
            mine = [(x, site) for x, site in zip(xs, sites, strict=True) if site.totals is totals]
            rows = [site.row + offset for _, site in mine]
            order, gate = recorder.ticks(len(mine)), recorder.gate_of_step()
            tensors = [x for x, _ in mine]
            scale = beside(tensors[0], scale)
            _ops.accumulate_batch_(tensors, totals.table, rows, order, scale, gate)


@dataclass
class _Sample:
    """Elements of several weights of one dtype, one after another."""

    flat: Tensor
    sizes: list[int]
    sites: list[ParameterSite]


def _in_memory_order(held: Tensor) -> Tensor:
    """Return all elements in the order of memory, so that no layout makes a copy necessary."""
    if held.is_contiguous():
        return held.view(-1)
    order = sorted(range(held.dim()), key=held.stride, reverse=True)
    return held.permute(order).reshape(-1)
