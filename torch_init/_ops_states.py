# SPDX-License-Identifier: Apache-2.0
"""States of binary units as bytes: a part of _ops.py."""

from __future__ import annotations

import torch
from torch import Tensor

from torch_init import _C
from torch_init._descriptors import check_memory


def state_bytes(states: Tensor, off: float) -> Tensor | None:
    """Return states as bytes, 1 for 1 and 0 for off, or None if there is anything else.

    Args:
        states: float32 on a CPU.
    """
    check_memory("state_bytes", "states", states)
    states = states.contiguous()
    out = torch.empty(states.shape, dtype=torch.uint8, device="cpu")
    found = _C.state_bytes(states.data_ptr(), states.numel(), off, out.data_ptr())
    return out if found else None
