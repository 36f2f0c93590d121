# SPDX-License-Identifier: Apache-2.0
"""What compiled graphs tell a receiver: a part of _ops.py, which alone imports it.

Operators without a result, kept by the compiler for their effect. A receiver is known by a name
(a number would become symbolic): were its memory an argument, autograd would save it for the
backward pass, and refuse to run that once another forward pass had written to it.
"""

import functools
import itertools
import weakref
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.torch_version import TorchVersion


class Receiver(Protocol):
    """What wants to know of the passes through a compiled model."""

    def observe_pass(self, entrance: str, begins: bool, has_grad: bool) -> None:
        """A pass through the part of the model of that name begins or ends."""

    def refuse(self, layer: str, reason: str) -> None:
        """What a module returns cannot be measured."""

    def observe_output(
        self, x: Tensor, layer: str, call: int, path: str, needs_grad: bool, is_leaf: bool
    ) -> None:
        """A module returned x."""

    def observe_gradient(self, x: Tensor, layer: str, call: int, path: str) -> None:
        """The gradient with respect to what a module returned is x."""


_is_kept = False
_receivers: weakref.WeakValueDictionary[str, Receiver] = weakref.WeakValueDictionary()
_numbers = itertools.count(1)


def add_receiver(receiver: Receiver) -> str:
    """Return the name by which graphs know receiver, for as long as it lives."""
    name = str(next(_numbers))
    _receivers[name] = receiver
    return name


def refuse(receiver: str, layer: str, reason: str) -> None:
    """Call Receiver.refuse() now, which may be while a graph is traced."""
    found = _receivers.get(receiver)
    if found is not None:
        found.refuse(layer, reason)


def observe_pass(receiver: str, entrance: str, begins: bool, has_grad: bool) -> None:
    """Call Receiver.observe_pass() whenever the graph that is being traced runs."""
    torch.ops.torch_init.observe_pass(receiver, entrance, begins, has_grad)


def observe_output(
    x: Tensor, receiver: str, layer: str, call: int, path: str, needs_grad: bool, is_leaf: bool
) -> None:
    """Call Receiver.observe_output() whenever the graph that is being traced runs."""
    torch.ops.torch_init.observe_output(x, receiver, layer, call, path, needs_grad, is_leaf)


def observe_gradient(x: Tensor, receiver: str, layer: str, call: int, path: str) -> None:
    """Call Receiver.observe_gradient() whenever the graph that is being traced runs."""
    torch.ops.torch_init.observe_gradient(x, receiver, layer, call, path)


def _pass_now(name: str, entrance: str, begins: bool, has_grad: bool) -> None:
    receiver = _receivers.get(name)
    if receiver is not None:
        receiver.observe_pass(entrance, begins, has_grad)


def _output_now(
    x: Tensor, name: str, layer: str, call: int, path: str, needs_grad: bool, is_leaf: bool
) -> None:
    receiver = _receivers.get(name)
    if receiver is not None:
        receiver.observe_output(x, layer, call, path, needs_grad, is_leaf)


def _gradient_now(x: Tensor, name: str, layer: str, call: int, path: str) -> None:
    receiver = _receivers.get(name)
    if receiver is not None:
        receiver.observe_gradient(x, layer, call, path)


def _batched(operator: Any, info: Any, dims: tuple[Any, ...], x: Tensor, *names: Any) -> Any:
    """Under torch.vmap: tell of all of its examples at once, along a new first dimension."""
    operator(x.movedim(dims[0], 0), *names)
    return None, None


_OPERATORS = {
    "observe_pass(str receiver, str entrance, bool begins, bool has_grad) -> ()": _pass_now,
    "observe_output(Tensor x, str receiver, str layer, int call, str path, bool needs_grad, "
    "bool is_leaf) -> ()": _output_now,
    "observe_gradient(Tensor x, str receiver, str layer, int call, str path) -> ()": _gradient_now,
}


def graphs_can_tell() -> bool:
    """Whether this PyTorch keeps operators in compiled graphs for nothing but their effect."""
    return _is_kept


def _keep_for_their_effect() -> bool:
    """Have the compiler keep the operators; return whether it will."""
    # Graphs that hold hooks of gradients: before PyTorch 2.11 none can; its own take no sizes that
    # vary, no vmap and no operation in place after a module; 2.12 was not tried.
    if TorchVersion(torch.__version__) < "2.13":
        return False
    # Not public, but there since PyTorch 2.4: the public ways to declare an effect name an
    # argument that is written to. Other versions may lack them, or have them otherwise.
    try:
        from torch._guards import CompileContext
        from torch._higher_order_ops.effects import _EffectType, _register_effectful_op

        for schema in _OPERATORS:
            operator = getattr(torch.ops.torch_init, schema.partition("(")[0]).default
            _register_effectful_op(operator, _EffectType.ORDERED)
        return hasattr(CompileContext, "current_trace_id")
    except (ImportError, AttributeError, TypeError):
        return False


def register(library: torch.library.Library) -> None:
    """Define the operators in library."""
    global _is_kept
    for schema, implementation in _OPERATORS.items():
        name = schema.partition("(")[0]
        library.define(schema)
        library.impl(name, implementation, "CompositeExplicitAutograd")
        torch.library.register_fake(f"torch_init::{name}", lambda *_, **__: None, lib=library)
        if "Tensor" in schema:
            rule = functools.partial(_batched, getattr(torch.ops.torch_init, name).default)
            torch.library.register_vmap(f"torch_init::{name}", rule, lib=library)
    _is_kept = _keep_for_their_effect()
