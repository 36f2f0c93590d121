# SPDX-License-Identifier: Apache-2.0
"""watch: the way to a Flow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from torch_init.errors import check_positive_int, describe
from torch_init.flow.handle import Flow
from torch_init.flow.selection import Selection


def watch(
    model: nn.Module,
    optimizer: Optimizer | Sequence[Optimizer] | None = None,
    *,
    every: int = 1,
    scaler: torch.amp.GradScaler | None = None,
    include: Selection | Sequence[Selection] | None = None,
    exclude: Selection | Sequence[Selection] | None = None,
    histogram: bool = False,
    features: bool = True,
) -> Flow:
    r"""Watch signal and gradient flow through model; a context manager and a handle.

    Measured are the outputs of all modules (forward), the gradients with respect to them
    (backward) and, at the optimizer's steps, parameters: weights, gradients and updates. The
    statistics of a tensor are taken in one pass and added up on its device; nothing is copied to
    the host before report(). Gradients with respect to activations are what shows a vanishing
    signal; those of parameters stay level (Glorot & Bengio 2010, section 4.2.1, eq. 14).

    Args:
        model: any module; also wrapped in DistributedDataParallel or FSDP. If it will be compiled,
            watch it before the first call.
        optimizer: the optimizer, or several; its steps are then seen. Without one call step()
            on what this returns after each training step, or never.
        every: measure one step of so many. From the first step on, passes under torch.no_grad()
            are taken for validation and not measured.
        scaler: torch.amp.GradScaler in use: gradients are divided by its scale, on the device.
        include, exclude: modules by regular expression on the name (search), type, or function of
            (name, module); one or a sequence. The default is all but pure containers, dropout and
            reshaping.
        histogram: also count floor(log2 |x|) in 64 bins.
        features: also sums by feature, which dead units, collapsed batches and identical
            units are found by.

    Raises:
        TypeError, ValueError: an argument of the wrong kind; include selects nothing.

    Example:
        >>> layers = [torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 2)]
        >>> model = torch.nn.Sequential(*layers)
        >>> with torch_init.watch(model) as flow:
        ...     model(torch.randn(32, 8)).square().mean().backward()
        >>> report = flow.report()
        >>> [row.layer for row in report.rows]
        ['0', '1', '2']
        >>> print(report.verdict)
        ok: ...
    """
    _check_arguments(model, optimizer, every, scaler)
    optimizers = (
        []
        if optimizer is None
        else list(optimizer if isinstance(optimizer, Sequence) else [optimizer])
    )
    return Flow(model, optimizers, every, scaler, (include, exclude), histogram, features)


def _check_arguments(model: Any, optimizer: Any, every: Any, scaler: Any) -> None:
    if not isinstance(model, nn.Module):
        raise TypeError(describe("watch", "model", type(model).__name__, "a torch.nn.Module"))
    for name, parameter in model.named_parameters():
        if isinstance(parameter, nn.parameter.UninitializedParameter):
            fix = "Run a batch through the model first"
            got = f"a lazy one, {name!r}"
            raise ValueError(describe("watch", "model", got, "parameters with a shape", fix))
    check_positive_int("watch", "every", every)
    several = optimizer if isinstance(optimizer, Sequence) else [optimizer]
    for one in several:
        if one is not None and not hasattr(one, "register_step_pre_hook"):
            got = type(one).__name__
            raise TypeError(describe("watch", "optimizer", got, "a torch.optim.Optimizer"))
    if scaler is not None and not hasattr(scaler, "get_scale"):
        got = type(scaler).__name__
        raise TypeError(describe("watch", "scaler", got, "a torch.amp.GradScaler"))
