# SPDX-License-Identifier: Apache-2.0
"""Where something is measured in the forward and the backward pass, and which rows it goes to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from torch_init import _ops
from torch_init.flow.tensors import WHOLE, Share
from torch_init.flow.totals import Totals

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
    forward: _ops.FlowRow
    backward: _ops.FlowRow
    feature_axis: int
    features_start: int | None
    features_width: int
    low: float
    high: float
    rectifies: bool
    is_captured: bool = False
    """Whether a CUDA graph measures it, whose stamps are those of the time it was captured."""
    share: Share = WHOLE
    """What this process holds of the tensor."""
    elements_without_features: int = 0
    """How many elements came in a shape that the features have no room for."""

    @property
    def key(self) -> Key:
        return (self.name, self.call, self.path)

    def __getstate__(self) -> dict[str, Any]:
        # Another process has no use for this memory.
        return {**self.__dict__, "totals": None, "forward": None, "backward": None}

    @property
    def label(self) -> str:
        """The name, with the call's number where a module is called again: "cell#1:out[0]"."""
        call = f"#{self.call}" if self.call else ""
        return f"{self.name or '(model)'}{call}{f':{self.path}' if self.path else ''}"
