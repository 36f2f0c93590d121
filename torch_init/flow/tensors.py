# SPDX-License-Identifier: Apache-2.0
"""Tensors in what a module returns: which can be measured, and what this process has of them."""

from __future__ import annotations

import math
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor

from torch_init import _ops

_MOST_LEAVES = 64
_DEEPEST = 6
_DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


def tensors_in(output: Any) -> list[tuple[str, Tensor]]:
    """Return the tensors in nested tuples, lists, dicts and dataclasses, each with its path."""
    if isinstance(output, Tensor):
        return [("", output)]
    found: list[tuple[str, Tensor]] = []
    _collect(output, "out", 0, found)
    return found


def _collect(value: Any, path: str, depth: int, found: list[tuple[str, Tensor]]) -> None:
    if isinstance(value, Tensor):
        if len(found) < _MOST_LEAVES and value.is_floating_point():
            found.append((path, value))
    elif depth == _DEEPEST:
        return
    elif isinstance(value, dict):
        for key, item in value.items():
            _collect(item, f"{path}[{key!r}]", depth + 1, found)
    elif isinstance(value, (tuple, list)):
        for index, item in enumerate(value):
            _collect(item, f"{path}[{index}]", depth + 1, found)
    elif is_dataclass(value) and not isinstance(value, type):
        for field in fields(value):
            # A field without a default that nobody has set is no attribute at all.
            _collect(getattr(value, field.name, None), f"{path}.{field.name}", depth + 1, found)


def is_measurable(x: Tensor) -> bool:
    return (
        x.layout == torch.strided
        and x.dtype in _DTYPES
        and x.device.type in _ops.FLOW_DEVICES
        and not x.is_nested
        and not torch._C._functorch.is_functorch_wrapped_tensor(x)
    )


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
