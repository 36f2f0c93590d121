# SPDX-License-Identifier: Apache-2.0
"""What the watcher needs to know of a kind of module: its role, its bounds, its features' axis."""

from __future__ import annotations

import math

from torch import nn

UNBOUNDED = (-math.inf, math.inf)
TANH_BOUNDS = (-0.99, 0.99)
SIGMOID_BOUNDS = (0.005, 0.995)
"""Beyond these the slope is under 2 % of the largest slope: the unit is saturated."""
TANH_INPUT_BOUNDS = (-2.6467, 2.6467)
"""The same of tanh in terms of its input: where the outputs are not seen."""

_SKIPPED = (
    nn.Sequential,
    nn.ModuleList,
    nn.ModuleDict,
    nn.Identity,
    nn.Flatten,
    nn.Unflatten,
    nn.Dropout,
    nn.Dropout1d,
    nn.Dropout2d,
    nn.Dropout3d,
    nn.AlphaDropout,
    nn.modules.loss._Loss,
    nn.DataParallel,
    nn.parallel.DistributedDataParallel,
)
_RECURRENT = (nn.RNNBase, nn.RNNCellBase)
_POOLS = ("AvgPool", "MaxPool", "LPPool")
_RECTIFIERS = (nn.ReLU, nn.ReLU6)


def role(module: nn.Module) -> str:
    """Return weighted, activation, norm, embedding, recurrent, block, other, or skipped."""
    if isinstance(module, _SKIPPED) or type(module).__name__ == "OptimizedModule":
        return "skipped"
    if isinstance(module, _RECURRENT):
        return "recurrent"
    if isinstance(module, (nn.Embedding, nn.EmbeddingBag)):
        return "embedding"
    if type(module).__name__.endswith(("Norm", "Norm1d", "Norm2d", "Norm3d", "BatchNorm")):
        return "norm"
    # A parametrised layer keeps its parametrizations as a child; it is a layer all the same.
    if any(name != "parametrizations" for name, _ in module.named_children()):
        return "block"
    if type(module).__module__ == "torch.nn.modules.activation":
        return "activation"
    owned = module.parameters(recurse=False)
    parametrised = module.parameters() if hasattr(module, "parametrizations") else owned
    return "weighted" if any(p.dim() >= 2 for p in parametrised) else "other"


def saturation_bounds(module: nn.Module, kind: str) -> tuple[float, float]:
    """Return the outputs at which the module's slope has all but vanished on both sides."""
    if isinstance(module, nn.Tanh):
        return TANH_BOUNDS
    if isinstance(module, nn.Sigmoid):
        return SIGMOID_BOUNDS
    if isinstance(module, nn.ReLU6):
        return (-math.inf, 6.0)
    if isinstance(module, nn.Hardtanh):
        return (module.min_val, module.max_val)
    if isinstance(module, nn.Hardsigmoid):
        return (0.0, 1.0)
    if isinstance(module, nn.Softsign):
        return (-0.859, 0.859)
    return TANH_INPUT_BOUNDS if kind == "weighted" else UNBOUNDED


def is_rectifier(module: nn.Module) -> bool:
    """Whether the module's output is exactly 0 where its input is negative."""
    return isinstance(module, _RECTIFIERS)


def feature_axis(module: nn.Module, kind: str, dims: int, axis_before: int | None) -> int:
    """Return the axis of an output with dims dimensions that counts features (channels, units).

    axis_before: that of the tensor watched before, if it has as many dimensions. An activation has
    no axis of its own; between (batch, channels, length) and (batch, length, width) only the
    layer before can tell.
    """
    name = type(module).__name__
    if kind == "norm":
        return -1 if name.endswith(("LayerNorm", "RMSNorm")) or dims < 2 else 1
    if name != "Conv1D" and ("Conv" in name or any(pool in name for pool in _POOLS)):
        spatial = int(name[-2]) if name.endswith(("1d", "2d", "3d")) else dims - 2
        return 1 if dims > spatial + 1 else 0
    if kind == "activation" and axis_before is not None:
        return axis_before
    return 1 if dims in (4, 5) and kind in ("activation", "block", "other") else -1
