# SPDX-License-Identifier: Apache-2.0
"""Where the kernels of a machine's updates run: a part of _ops.py.

On a GPU they are launched on its current stream. Tests without one have the host run their bodies
on CPU tensors, which proves their arithmetic, and that nobody asks a GPU for a number on the way.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from torch_init import _C

_stand_in = False


@contextmanager
def cuda_bodies_on_host() -> Iterator[None]:
    """Run the CUDA kernels' bodies on CPU tensors instead of the CPU's own code, for tests."""
    global _stand_in
    before, _stand_in = _stand_in, True
    try:
        yield
    finally:
        _stand_in = before


def takes_kernels(tensor: Tensor) -> bool:
    """Whether what is done with a tensor is done by CUDA kernels."""
    return tensor.is_cuda or (_stand_in and tensor.is_cpu)


def launch(kernels: str, device: torch.device, *arguments: Any) -> None:
    """Run a native function's kernels on a device, in order with what torch does there."""
    if device.type != "cuda":
        getattr(_C, f"{kernels}_with_cuda_body_on_host")(*arguments)
        return
    with torch.cuda.device(device):
        stream = torch.cuda.current_stream().cuda_stream
        getattr(_C, f"{kernels}_on_cuda")(*arguments, device.index, stream)
