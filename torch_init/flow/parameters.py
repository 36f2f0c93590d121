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
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from torch_init import _ops
from torch_init.flow.kinds import UNBOUNDED
from torch_init.flow.recorder import Recorder
from torch_init.flow.tensors import beside, is_measurable, local, shards_of
from torch_init.flow.totals import Totals

SAMPLE = 4096
_GOLDEN = (math.sqrt(5) - 1) / 2
_ROWS = 3  # gradient, weight, update


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
    shards: int = 1
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
        self._before: dict[int, Tensor] = {}

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
        site.shards = shards_of(parameter)
        if not is_measurable(held):
            site.unsupported = f"{held.layout}, {held.dtype}, {held.device.type}"
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

    def before_step(self, scale: Tensor | None, optimizer: Optimizer | None = None) -> None:
        """Read gradients and weights of an optimizer's parameters, by default of all.

        The weights are kept until after_step() or forget().

        scale: what the gradients must still be divided by.
        """
        groups = [] if optimizer is None else optimizer.param_groups
        owned = {id(p) for group in groups for p in group["params"]}
        for parameter, site in self._alive():
            if optimizer is not None and id(parameter) not in owned:
                continue
            site.steps += 1
            site.requires_grad = parameter.requires_grad
            gradient = parameter.grad
            if gradient is None:
                site.missing += 1
                continue
            if gradient.is_sparse:
                gradient = gradient._values()
            gradient = local(gradient.detach())
            if is_measurable(gradient):
                self._add(site, 0, gradient, scale)
            sample = _sample(parameter, site)
            self._add(site, 1, sample)
            # A small parameter's sample may be the parameter's own memory.
            self._before[id(site)] = sample.clone() if site.indices is None else sample

    def forget(self) -> None:
        """Let go of the weights of a step whose end is not seen, such as one that raised."""
        self._before.clear()

    def after_step(self) -> None:
        """Read what the step changed."""
        for parameter, site in self._alive():
            before = self._before.pop(id(site), None)
            if before is not None:
                self._add(site, 2, _sample(parameter, site) - before)

    def _add(
        self, site: ParameterSite, offset: int, x: Tensor, scale: Tensor | None = None
    ) -> None:
        low, high = UNBOUNDED
        table, row = site.totals.table, site.row + offset
        _ops.accumulate_moments_(
            x, table, None, row, low, high, self._recorder.tick(), beside(x, scale)
        )


def _sample(parameter: nn.Parameter, site: ParameterSite) -> Tensor:
    held = local(parameter.detach())
    # In the order of memory, so that no layout makes a copy necessary.
    order = sorted(range(held.dim()), key=held.stride, reverse=True)
    flat = held.permute(order).reshape(-1)
    return flat if site.indices is None else flat.index_select(0, site.indices)
