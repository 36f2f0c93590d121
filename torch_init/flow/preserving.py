# SPDX-License-Identifier: Apache-2.0
"""Running a model and leaving no trace: gradients, buffers, modes and random numbers restored."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from torch_init.errors import describe


@contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """Restore on exit: gradients, buffers, train and eval modes, and torch's generators.

    Within, the parameters have no gradients, and no hooks on accumulating them: an optimizer that
    steps in the backward pass would change the weights.
    """
    stepping = [
        (hooks, dict(hooks))
        for p in model.parameters()
        if (hooks := getattr(p, "_post_accumulate_grad_hooks", None))
    ]
    gradients = [(p, p.grad) for p in model.parameters()]
    modes = [(m, m.training) for m in model.modules()]
    buffers = [
        (module, name, buffer, None if buffer is None else buffer.detach().clone())
        for module in model.modules()
        for name, buffer in module._buffers.items()
    ]
    devices = {p.device for p in model.parameters() if p.is_cuda}
    try:
        with torch.random.fork_rng(devices=sorted(d.index for d in devices)):
            for parameter, _ in gradients:
                parameter.grad = None
            for hooks, _ in stepping:
                hooks.clear()
            yield
    finally:
        for hooks, saved in stepping:
            hooks.update(saved)
        for parameter, gradient in gradients:
            parameter.grad = gradient
        for module, training in modes:
            module.training = training
        with torch.no_grad():
            for module, name, buffer, value in buffers:
                module._buffers[name] = buffer
                if buffer is not None and value is not None:
                    buffer.copy_(value)


def as_arguments(function: str, inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return inputs as the arguments of a call: a tuple's or a dict's items, or one argument."""
    inputs = tree_map(apart, inputs)
    if isinstance(inputs, Mapping):
        if not all(isinstance(key, str) for key in inputs):
            raise TypeError(describe(function, "inputs", f"{inputs!r}", "strings as keys"))
        return (), dict(inputs)
    return (tuple(inputs), {}) if isinstance(inputs, (tuple, list)) else ((inputs,), {})


def check_runnable(function: str, inputs: Any) -> None:
    """Raise where no pass could be judged: under inference mode, or of a batch of nothing."""
    if torch.is_inference_mode_enabled():
        fix = "Leave it: call outside, or within torch.inference_mode(False)"
        expected = "one in which autograd records"
        raise RuntimeError(describe(function, "mode", "torch.inference_mode()", expected, fix))
    first = next((x for x in tree_leaves(inputs) if isinstance(x, Tensor)), None)
    if first is not None and first.numel() == 0:
        got = f"a tensor of shape {tuple(first.shape)}"
        raise ValueError(describe(function, "inputs", got, "a batch of at least one example"))


def apart(value: Any) -> Any:
    """Return a tensor that requires a gradient as a leaf of its own; other things unchanged.

    So that a backward pass leaves no gradient with the caller's tensor, nor with what made it.
    """
    if isinstance(value, Tensor) and value.requires_grad:
        return value.detach().clone().requires_grad_()
    return value


def with_graph(value: Any) -> Any:
    """Return a copy of a floating-point tensor that requires a gradient; other things unchanged.

    So that a model has a graph even if all of its parameters are frozen.
    """
    if isinstance(value, Tensor) and value.is_floating_point():
        return value.detach().clone().requires_grad_()
    return value


LossFunction = Callable[[Any], Tensor]
