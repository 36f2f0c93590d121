# SPDX-License-Identifier: Apache-2.0
"""find_nonfinite: which module made the first NaN or infinity, and in which direction."""

from __future__ import annotations

from dataclasses import replace
from types import TracebackType

import torch
from torch import nn
from torch.optim import Optimizer

from torch_init.flow.handle import Flow
from torch_init.flow.origin import Origin
from torch_init.flow.watching import watch


class NonFiniteError(ArithmeticError):
    """Raised by find_nonfinite(). `origin` says where the number came from."""

    def __init__(self, origin: Origin) -> None:
        super().__init__(f"{origin.sentence}. {origin.cause}. {origin.suggestion}.")
        self.origin = origin


class FindNonFinite:
    """The context of find_nonfinite(); `origin` is the finding, once the block has ended."""

    def __init__(self, flow: Flow, should_raise: bool) -> None:
        self._flow = flow
        self._should_raise = should_raise
        self.origin: Origin | None = None

    def __enter__(self) -> FindNonFinite:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._flow.remove()
        self.origin = self.look()
        if self.origin is None:
            return
        finding = NonFiniteError(self.origin)
        if error is None and self._should_raise:
            raise finding
        if error is not None and hasattr(error, "add_note"):
            error.add_note(f"torch_init.find_nonfinite: {finding}")

    def look(self) -> Origin | None:
        """Return the first non-finite tensor so far. This synchronises; nothing else does."""
        origin = self._flow.report().nonfinite_origin
        model = self._flow.model
        if origin is None or origin.direction != "forward" or model is None:
            return origin
        return self._blame_weights(origin, model)

    def _blame_weights(self, origin: Origin, model: nn.Module) -> Origin:
        module = self._flow.recorder.modules.get(origin.layer.split("#")[0].split(":")[0])
        if module is None:
            return origin
        for name, parameter in module.named_parameters(recurse=False):
            broken = int((~torch.isfinite(parameter.detach())).sum())
            if broken:
                cause = f"its parameter `{name}` holds {broken} non-finite numbers"
                fix = "look at the step before: clip the gradient or lower the learning rate"
                return replace(origin, cause=cause, suggestion=fix)
        return origin


def find_nonfinite(
    model: nn.Module,
    optimizer: Optimizer | None = None,
    *,
    should_raise: bool = True,
) -> FindNonFinite:
    """Find the module that produces the first NaN or infinity within a with block.

    Every module's outputs and the gradients with respect to them are counted on their device, and
    stamped with their place in the order of events; nothing is copied to the host before the
    block ends. torch.autograd.detect_anomaly, in contrast, looks at each operation of the backward
    pass at once, and not at the forward pass.

    Args:
        model: any module.
        optimizer: if given, the parameters' gradients at its steps are looked at as well.
        should_raise: whether a finding is raised when the block ends. If the block itself
            raises, the finding becomes a note of that exception (Python 3.11 and newer).

    Raises:
        NonFiniteError: at the end of the block; its `origin` has layer, direction and cause.

    Example:
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.ReLU())
        >>> _ = torch_init.constant_(model[0].weight, float("inf"))
        >>> with torch_init.find_nonfinite(model, should_raise=False) as found:
        ...     _ = model(torch.ones(2, 4))
        >>> found.origin.layer, found.origin.direction, found.origin.cause
        ('0', 'forward', 'its parameter `weight` holds 16 non-finite numbers')
    """
    return FindNonFinite(watch(model, optimizer, features=False), should_raise)
