# SPDX-License-Identifier: Apache-2.0
"""Tensors in what a module returns: which can be measured, and what this process has of them."""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn

from torch_init import _ops

_MOST_LEAVES = 64
_DEEPEST = 6

_PLAIN = (Tensor, nn.Parameter)


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
        and x.dtype in _ops.FLOW_DTYPES
        and x.device.type in _ops.FLOW_DEVICES
        and not x.is_nested
        and not torch._C._functorch.is_functorch_wrapped_tensor(x)
    )


def why_not(x: Tensor) -> str:
    """Say what a tensor is that cannot be measured."""
    if torch._C._functorch.is_functorch_wrapped_tensor(x):
        return "a tensor within a transform of torch.func"
    return f"{x.layout}, {x.dtype}, {x.device.type}"


def beside(x: Tensor, scale: Tensor | None) -> Tensor | None:
    """Return the loss scale on x's device: models may lie on several."""
    return scale if scale is None or scale.device == x.device else scale.to(x.device)


def local(x: Tensor) -> Tensor:
    """Return the part of a distributed tensor that this process holds; others as they are."""
    # Asking a plain tensor for an attribute that it lacks takes as long as measuring a small one.
    if type(x) in _PLAIN or not hasattr(x, "to_local"):
        return x
    shard: Tensor = x.to_local()
    return shard


PARTIAL = "a partial sum, whose value is spread over processes: DTensor's Partial"


def is_partial(x: Tensor) -> bool:
    """Whether a distributed tensor is a sum that has yet to be taken, and has no values so far."""
    if type(x) in _PLAIN or not hasattr(x, "placements"):
        return False
    return any(placement.is_partial() for placement in x.placements)


@dataclass(frozen=True)
class Share:
    """What this process holds of a tensor: one of so many shards.

    Attributes:
        part, parts: its features are the part of that number of so many.
    """

    shards: int = 1
    part: int = 0
    parts: int = 1


WHOLE = Share()


def share_of(x: Tensor, axis: int | None = None) -> Share:
    """Return what this process holds of a distributed tensor.

    axis: the one that counts features.
    """
    if type(x) in _PLAIN or not hasattr(x, "device_mesh"):
        return WHOLE
    mesh, placements = x.device_mesh, x.placements  # type: ignore[attr-defined]
    shards = parts = 1
    part = 0
    for dim, placement in enumerate(placements):
        if not placement.is_shard():
            continue
        shards *= mesh.size(dim)
        if axis is not None and placement.dim % x.dim() == axis % x.dim():
            part = part * mesh.size(dim) + mesh.get_local_rank(dim)
            parts *= mesh.size(dim)
    return Share(shards, part, parts)


def share_of_output(module: nn.Module, x: Tensor, axis: int) -> Share:
    """Return what this process holds of a module's plain output.

    Tensor parallel layers return their shard as a plain tensor. It is told by its width: that of
    this process's shard of the weight, not that of the whole.
    """
    weight = getattr(module, "weight", None)
    if not isinstance(weight, Tensor) or not hasattr(weight, "to_local") or x.dim() == 0:
        return WHOLE
    dim = 1 if isinstance(module, nn.Embedding) else 0
    width = local(weight.detach()).shape[dim]
    if x.shape[axis] != width or width == weight.shape[dim]:
        return WHOLE
    share = share_of(weight, dim)
    return Share(share.parts, share.part, share.parts)
