# SPDX-License-Identifier: Apache-2.0
"""Finding the layers that can be pre-trained in a model of any kind, by running it once.

A model is taken for what it computes, not for how it is written: a copy with random weights runs on
a few examples, and the activation between two layers is the function that takes the output of the
one to the input of the other. So nn.Sequential, a forward() of one's own and functional activations
are all the same.
"""

import copy
import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.parameter import UninitializedTensorMixin  # type: ignore[attr-defined]
from torch.nn.utils import parametrize

from torch_init import elementwise
from torch_init.errors import describe
from torch_init.rbm.units import Bernoulli, Gaussian, NReLU, Spin, Units

_FUNCTION = "rbm_pretrain"
_SCALES = (1.0, 16.0, -16.0)
"""Of the probing weights: the large ones tell ReLU6 from ReLU, and hardtanh from nothing."""
_PASSED = (
    *(nn.Sigmoid, nn.Tanh, nn.ReLU, nn.Softplus, nn.Identity, nn.Flatten, nn.Unflatten),
    *(nn.Dropout, nn.AlphaDropout, nn.FeatureAlphaDropout, nn.Dropout1d),
)
"""Modules that may come between layers: activations are told by their values, dropout is off."""

ACTIVATIONS: dict[str, tuple[Callable[[Tensor], Tensor], type[Units]]] = {
    "sigmoid": (torch.sigmoid, Bernoulli),
    "tanh": (torch.tanh, Spin),
    "relu": (torch.relu, NReLU),
    "softplus": (functional.softplus, NReLU),
    "linear": (lambda x: x, Gaussian),
}
"""The function of an activation, and the hidden units that it stands for."""


@dataclass
class Layer:
    """A linear layer in the order of the forward pass.

    Attributes:
        name: the module's name in the model.
        module: the module of the copy.
        activation: a key of ACTIVATIONS; None for the last layer, the head.
        between: names and modules called between the layer before and this one.
    """

    name: str
    module: nn.Linear
    activation: str | None = None
    between: list[tuple[str, nn.Module]] = field(default_factory=list)

    @property
    def frozen(self) -> bool:
        """Whether the user has frozen the layer, which is then left as it is."""
        return not self.module.weight.requires_grad

    @property
    def has_bias(self) -> bool:
        """Whether the layer has hidden biases to write."""
        return "bias" in dict(self.module.named_parameters())


class _Reached(Exception):
    """Ends a forward pass at the layer whose input is wanted."""


def copy_of(model: nn.Module) -> nn.Module:
    """Return a copy in eval mode and float32, on which pre-training works.

    Raises:
        ValueError: parameters without memory.
    """
    for name, parameter in model.named_parameters():
        if parameter.is_meta or isinstance(parameter, UninitializedTensorMixin):
            fix = (
                "Give it memory first: torch_init.materialize_, or a forward pass of a lazy module"
            )
            got = f"{name}, which holds no memory"
            raise ValueError(describe(_FUNCTION, "model", got, "parameters with values", fix))
    return copy.deepcopy(model).eval().float()


def find_chain(model: nn.Module, inputs: Tensor) -> list[Layer]:
    """Return the linear layers of a copy of the model in the order in which it calls them.

    Args:
        model: made by copy_of; its weights come back unchanged.
        inputs: a few examples.

    Raises:
        ValueError: the model cannot take the inputs, has fewer than two linear layers, calls one
            twice, or does something between two of them for which there are no units.
    """
    before = {name: value.clone() for name, value in model.state_dict().items()}
    runs = []
    for scale in _SCALES:
        _scramble(model, scale)
        layers, values = _record(model, inputs)
        runs.append(values)
    model.load_state_dict(before)
    if len(layers) < 2:
        got = f"{len(layers)} of them in {type(model).__name__}"
        fix = "The last one is the head, which is not pre-trained"
        raise ValueError(describe(_FUNCTION, "model", got, "two linear layers or more", fix))
    for number, (layer, after) in enumerate(itertools.pairwise(layers)):
        _check_between(after)
        pairs = [(values[number][1], values[number + 1][0]) for values in runs]
        layer.activation = _activation(layer, after, pairs)
    _check_between(layers[0])
    return layers


def _scramble(model: nn.Module, scale: float) -> None:
    """Give linear layers weights and biases with which no two activations look alike."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            _check_linear(name, module)
            with torch.no_grad():
                std = module.in_features**-0.5
                elementwise.normal_(module.weight, std=std, seed=0, name=f"{name}.probe")
                module.weight.mul_(scale)
                if module.bias is not None:
                    elementwise.normal_(module.bias, seed=0, name=f"{name}.bias.probe")
                    module.bias.mul_(scale)


def _check_linear(name: str, module: nn.Linear) -> None:
    if parametrize.is_parametrized(module) or hasattr(module, "weight_g"):
        got = f"{name}, whose weight is computed from others"
        fix = "Pre-train before the parametrisation is registered"
        raise ValueError(describe(_FUNCTION, "model", got, "plain linear layers", fix))


def _record(model: nn.Module, inputs: Tensor) -> tuple[list[Layer], list[tuple[Tensor, Tensor]]]:
    """Run the model; return its linear layers as called, and the input and output of each."""
    layers: list[Layer] = []
    values: list[tuple[Tensor, Tensor]] = []
    called: list[tuple[str, nn.Module]] = []
    weights: dict[int, str] = {}

    def hook(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def note(module: nn.Module, arguments: Any, output: Any) -> None:
            if not isinstance(module, nn.Linear):
                called.append((name, module))
                return
            if id(module.weight) in weights:
                got = f"{name}, which shares its weight with {weights[id(module.weight)]}"
                if weights[id(module.weight)] == name:
                    got = f"{name}, which the forward pass calls twice"
                raise ValueError(describe(_FUNCTION, "model", got, "layers used once"))
            weights[id(module.weight)] = name
            layers.append(Layer(name, module, between=called.copy()))
            # Clones, as an activation may work in place.
            values.append((arguments[0].detach().clone(), output.detach().clone()))
            called.clear()

        return note

    handles = [
        module.register_forward_hook(hook(name))
        for name, module in model.named_modules()
        if not any(module.children())
    ]
    try:
        run(model, inputs)
    finally:
        for handle in handles:
            handle.remove()
    return layers, values


def run(model: nn.Module, inputs: Tensor) -> None:
    """Run the model without gradients, and say in the error what it was given.

    Raises:
        ValueError: the model cannot take the inputs.
    """
    try:
        with torch.no_grad():
            model(inputs)
    except (RuntimeError, TypeError, IndexError) as error:
        reason = str(error).strip().splitlines()[0]
        got = f"examples of shape {tuple(inputs.shape[1:])}: {reason}"
        expected = f"input that {type(model).__name__} takes"
        fix = "Give unlabelled examples of your own as data="
        raise ValueError(describe(_FUNCTION, "data", got, expected, fix)) from error


def _check_between(layer: Layer) -> None:
    for name, module in layer.between:
        if not isinstance(module, _PASSED):
            got = f"{name}, a {type(module).__name__}, before {layer.name}"
            expected = "nothing but activations, Flatten and dropout between linear layers"
            fix = "Pre-train a model without it, and add it later"
            if "Norm" in type(module).__name__:
                fix = (
                    "Add the normalisation after pre-training: its scale would undo what is learned"
                )
            raise ValueError(describe(_FUNCTION, "model", got, expected, fix))


def _activation(layer: Layer, after: Layer, pairs: list[tuple[Tensor, Tensor]]) -> str:
    """Return the activation that takes the first of each pair to the second."""
    if all(out.numel() == into.numel() for out, into in pairs):
        for name, (function, _) in ACTIVATIONS.items():
            if all(
                torch.allclose(function(out), into.reshape(out.shape), rtol=1e-4, atol=1e-5)
                for out, into in pairs
            ):
                return name
    got = f"something else between {layer.name} and {after.name}"
    expected = "one of " + ", ".join(ACTIVATIONS)
    raise ValueError(describe(_FUNCTION, "model", got, expected))


@contextmanager
def capturing(layer: Layer) -> Iterator[Callable[[nn.Module, Tensor], Tensor]]:
    """Give a function (model, inputs) that returns what the layer gets, as (rows, features)."""
    found: list[Tensor] = []

    def stop(module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        found.append(arguments[0].detach())
        raise _Reached

    def capture(model: nn.Module, inputs: Tensor) -> Tensor:
        with suppress(_Reached):
            run(model, inputs)
        return found.pop().reshape(-1, layer.module.in_features)

    handle = layer.module.register_forward_pre_hook(stop)
    try:
        yield capture
    finally:
        handle.remove()
