# SPDX-License-Identifier: Apache-2.0
"""Finding the layers that can be pre-trained in a model of any kind, by running it.

A model is taken for what it computes, not for how it is written: a copy runs on a few examples, the
output of every linear and convolutional layer is replaced by noise, and the activation between two
layers is the function that takes that noise to the input of the next one. So nn.Sequential, a
forward() of one's own, functional activations and functional pooling are all the same.
"""

import copy
import itertools
import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.parameter import UninitializedTensorMixin  # type: ignore[attr-defined]

from torch_init import elementwise
from torch_init.errors import describe
from torch_init.rbm.units import Bernoulli, Gaussian, NReLU, Spin, Units

_FUNCTION = "rbm_pretrain"
_SCALES = (1.0, 16.0, -16.0)
"""Of the noise: the large ones tell ReLU6 from ReLU, and hardtanh from nothing."""
_HOOKS = [name for name in vars(nn.Module()) if "_hooks" in name]

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
    """A linear or convolutional layer in the order of the forward pass.

    Attributes:
        name: the module's name in the model.
        module: the module of the copy.
        input_shape: of one example, or of one of its rows where a linear layer gets several.
        activation: a key of ACTIVATIONS; None for the last layer, the head.
        between: names and modules called between the layer before and this one.
    """

    name: str
    module: nn.Linear | nn.Conv2d
    input_shape: tuple[int, ...]
    activation: str | None = None
    between: list[tuple[str, nn.Module]] = field(default_factory=list)

    @property
    def frozen(self) -> bool:
        """Whether the user has frozen the layer, which is then left as it is."""
        return not self.module.weight.requires_grad


class _Reached(Exception):
    """Ends a forward pass at the layer whose input is wanted."""


def copy_of(model: nn.Module) -> nn.Module:
    """Return a copy in eval mode and float32, without hooks, on which pre-training works.

    Raises:
        ValueError: parameters without memory, or weights that are computed from others.
    """
    for name, parameter in model.named_parameters():
        if parameter.is_meta or isinstance(parameter, UninitializedTensorMixin):
            fix = (
                "Give it memory first: torch_init.materialize_, or a forward pass of a lazy module"
            )
            got = f"{name}, which holds no memory"
            raise ValueError(describe(_FUNCTION, "model", got, "parameters with values", fix))
    for name, module in model.named_modules():
        if isinstance(module, (nn.Linear, nn.Conv2d)) and "weight" not in module._parameters:
            got = f"{name or 'itself'}, whose weight is computed from others"
            fix = "Pre-train before the parametrisation is registered"
            raise ValueError(describe(_FUNCTION, "model", got, "plain layers", fix))
    return without_hooks(model).eval().float()


def without_hooks(model: nn.Module) -> nn.Module:
    """Return a deep copy that calls none of the model's hooks, and has copied none."""
    copies: dict[int, Any] = {}  # deepcopy's memo: what it takes for the copy of an object
    for module in model.modules():
        for name in _HOOKS:
            hooks = vars(module).get(name)
            if hooks is not None:
                copies[id(hooks)] = type(hooks)()
    return copy.deepcopy(model, copies)


def find_chain(model: nn.Module, inputs: Tensor) -> list[Layer]:
    """Return the layers of a copy of the model in the order in which it calls them.

    Args:
        model: made by copy_of.
        inputs: a few examples.

    Raises:
        ValueError: the model cannot take the inputs, has fewer than two layers, calls one twice, or
            does something between two of them for which there are no units.
    """
    layers: list[Layer] = []
    runs = []
    for scale in _SCALES:
        layers, values = _record(model, inputs, scale)
        runs.append(values)
    if len(layers) < 2:
        got = f"{len(layers)} of them in {type(model).__name__}"
        fix = "The last one is the head, which is not pre-trained"
        expected = "two Linear or Conv2d layers or more"
        raise ValueError(describe(_FUNCTION, "model", got, expected, fix))
    _check_between(layers[0])
    for number, (layer, after) in enumerate(itertools.pairwise(layers)):
        _check_between(after)
        pairs = [(values[number][1], values[number + 1][0]) for values in runs]
        layer.activation = _activation(layer, after, pairs)
    return layers


def _record(
    model: nn.Module, inputs: Tensor, scale: float
) -> tuple[list[Layer], list[tuple[Tensor, Tensor]]]:
    """Run the model; return its layers as called, the input of each, and its output: noise."""
    layers: list[Layer] = []
    values: list[tuple[Tensor, Tensor]] = []
    called: list[tuple[str, nn.Module]] = []
    weights: dict[int, str] = {}

    def hook(name: str) -> Callable[[nn.Module, Any, Any, Any], Tensor | None]:
        def note(module: nn.Module, args: Any, kwargs: Any, output: Any) -> Tensor | None:
            if not isinstance(module, (nn.Linear, nn.Conv2d)):
                called.append((name, module))
                return None
            if id(module.weight) in weights:
                got = f"{name}, which shares its weight with {weights[id(module.weight)]}"
                if weights[id(module.weight)] == name:
                    got = f"{name}, which the forward pass calls twice"
                raise ValueError(describe(_FUNCTION, "model", got, "layers used once"))
            weights[id(module.weight)] = name
            taken = _input(args, kwargs).detach()
            shape = taken.shape[-3:] if isinstance(module, nn.Conv2d) else taken.shape[-1:]
            layers.append(Layer(name, module, tuple(shape), between=called.copy()))
            noise = _noise(module, output, scale, name)
            # Clones, as an activation may work in place.
            values.append((taken.clone(), noise.clone()))
            called.clear()
            return noise

        return note

    handles = [
        module.register_forward_hook(hook(name), with_kwargs=True)
        for name, module in model.named_modules()
        if not any(module.children())
    ]
    try:
        run(model, inputs)
    finally:
        for handle in handles:
            handle.remove()
    return layers, values


def _input(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """Return what a layer was called with."""
    return args[0] if args else kwargs["input"]


def _noise(module: nn.Module, output: Tensor, scale: float, name: str) -> Tensor:
    """Return noise in an output's shape; that of a map is the same everywhere.

    So pooling, of whatever kind, hands it on.
    """
    noise = torch.empty_like(output)
    if isinstance(module, nn.Conv2d):
        noise = noise[..., :1, :1].contiguous()
    elementwise.normal_(noise, std=abs(scale), seed=0, name=f"{name}.probe{scale}")
    return noise.expand_as(output).contiguous()


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
        fix = _fitting(model, tuple(inputs.shape[1:]))
        raise ValueError(describe(_FUNCTION, "data", got, expected, fix)) from error


def _fitting(model: nn.Module, shape: tuple[int, ...]) -> str:
    """Say what would make examples of a shape fit the model's first layer."""
    first = next((m for m in model.modules() if isinstance(m, (nn.Linear, nn.Conv2d))), None)
    if isinstance(first, nn.Linear) and len(shape) > 1 and math.prod(shape) == first.in_features:
        return "Begin the model with torch.nn.Flatten(), or give data.flatten(1)"
    if isinstance(first, nn.Linear):
        return f"Its first layer takes {first.in_features} numbers: give such examples as data="
    if isinstance(first, nn.Conv2d) and len(shape) == 2 and first.in_channels == 1:
        return "Images have a dimension of channels: give data.unsqueeze(1)"
    if isinstance(first, nn.Conv2d):
        return f"Its first layer takes images of shape ({first.in_channels}, height, width)"
    return "Give unlabelled examples of your own as data="


def _check_between(layer: Layer) -> None:
    """Refuse modules that hold something: a batch normalisation looks like nothing in eval mode."""
    for name, module in layer.between:
        if any(True for _ in itertools.chain(module.parameters(), module.buffers())):
            got = f"{name}, a {type(module).__name__}, before {layer.name}"
            expected = "nothing but activations, pooling, reshaping and dropout between layers"
            fix = "Pre-train a model without it, and add it later"
            if "Norm" in type(module).__name__:
                fix = (
                    "Add the normalisation after pre-training: its scale would undo what is learned"
                )
            raise ValueError(describe(_FUNCTION, "model", got, expected, fix))


def _activation(layer: Layer, after: Layer, pairs: list[tuple[Tensor, Tensor]]) -> str:
    """Return the activation that takes the first of each pair to the second."""
    for name, (function, _) in ACTIVATIONS.items():
        if all(_is_taken_to(given, taken, function, layer.module) for given, taken in pairs):
            return name
    modules = ", ".join(f"{name}, a {type(module).__name__}" for name, module in after.between)
    got = f"{modules or 'something else'} between {layer.name} and {after.name}"
    expected = f"one of {', '.join(ACTIVATIONS)}; nothing else but pooling, reshaping and dropout"
    raise ValueError(describe(_FUNCTION, "model", got, expected))


def _is_taken_to(
    given: Tensor, taken: Tensor, function: Callable[[Tensor], Tensor], module: nn.Module
) -> bool:
    """Whether the next layer takes function(given).

    Of a map, constant as it is, there must be that value in each channel of what is left of it,
    with the channels before the positions or after them.
    """
    want = function(given)
    if isinstance(module, nn.Conv2d):
        want = want.flatten(2)[..., 0]
        if taken.shape[0] != len(want) or taken.numel() == 0 or taken.numel() % want.numel():
            return False
        rows, channels = want.shape
        maps = [taken.reshape(rows, channels, -1), taken.reshape(rows, -1, channels).mT]
        # At a border, padding that is averaged in makes it less.
        return any(_close(want, m.gather(-1, m.abs().argmax(-1, keepdim=True))) for m in maps)
    return want.numel() == taken.numel() and _close(want, taken)


def _close(want: Tensor, values: Tensor) -> bool:
    return torch.allclose(want, values.reshape(want.shape), rtol=1e-4, atol=1e-5)


def input_of(layer: Layer, model: nn.Module, inputs: Tensor) -> Tensor:
    """Return what a layer of the model gets of inputs, as (rows, features).

    Raises:
        ValueError: it is not of the shape that the layer got of the first few examples.
    """
    found: list[Tensor] = []

    def stop(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        found.append(_input(args, kwargs).detach())
        raise _Reached

    handle = layer.module.register_forward_pre_hook(stop, with_kwargs=True)
    try:
        with suppress(_Reached):
            run(model, inputs)
    finally:
        handle.remove()
    taken, shape = found.pop(), layer.input_shape
    if taken.shape[-len(shape) :] != shape:
        got = f"examples of shape {tuple(inputs.shape[1:])}, which {layer.name} gets as "
        got += f"{tuple(taken.shape[1:])}"
        raise ValueError(describe(_FUNCTION, "data", got, f"examples that it gets as {shape}"))
    return taken.reshape(-1, *shape).flatten(1)
