# SPDX-License-Identifier: Apache-2.0
"""The network of the demo, its activations, and the starting points that are compared."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

import torch_init


@dataclass(frozen=True)
class Activation:
    """A scalar nonlinearity, its derivative, and the largest value of that derivative."""

    label: str
    function: Callable[[torch.Tensor], torch.Tensor]
    slope: Callable[[torch.Tensor], torch.Tensor]
    largest_slope: float


def _sigmoid_slope(s: torch.Tensor) -> torch.Tensor:
    y = torch.sigmoid(s)
    return y * (1 - y)


ACTIVATIONS: dict[str, Activation] = {
    "sigmoid": Activation("sigmoid", torch.sigmoid, _sigmoid_slope, 0.25),
    "tanh": Activation("tanh", torch.tanh, lambda s: 1 - torch.tanh(s) ** 2, 1.0),
    "relu": Activation("ReLU", torch.relu, lambda s: (s > 0).to(s.dtype), 1.0),
}


class MLP(nn.Module):
    """Fully connected layers with one activation between them: ``inputs -> width x depth ->
    classes``.

    The parameters, all float32, are not initialised: a :class:`Start` gives every one of them its
    value. So constructing the model draws nothing from torch's random state.
    """

    def __init__(
        self,
        inputs: int,
        width: int,
        depth: int,
        classes: int,
        activation: Activation,
        device: torch.device,
    ) -> None:
        super().__init__()
        self.activation = activation
        sizes = [inputs] + [width] * depth + [classes]
        self.layers = nn.ModuleList(
            nn.utils.skip_init(nn.Linear, fan_in, fan_out, device=device, dtype=torch.float32)
            for fan_in, fan_out in itertools.pairwise(sizes)
        )

    def linears(self) -> list[nn.Linear]:
        """The ``depth`` hidden layers, input side first, then the output layer."""
        return [layer for layer in self.layers if isinstance(layer, nn.Linear)]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (batch, classes) of the inputs (batch, inputs)."""
        return self.signals(x)[0]

    def signals(self, x: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """The logits, and every hidden layer's pre-activations (batch, width), input side first."""
        *hidden, output = self.linears()
        pre_activations = []
        for layer in hidden:
            pre_activations.append(layer(x))
            x = self.activation.function(pre_activations[-1])
        return output(x), pre_activations


@dataclass(frozen=True)
class Start:
    """A starting point for training: a label for tables and figures, and ``initialise(model,
    seed)``.

    ``initialise`` sets every parameter of the model, as a pure function of the seed.
    """

    label: str
    initialise: Callable[[MLP, int], None]


def from_weights(
    initialise_weight: Callable[[torch.Tensor, int, str], object],
) -> Callable[[MLP, int], None]:
    """Build a ``Start.initialise`` from ``initialise_weight(weight, seed, name)``; biases start at
    zero.

    The name is the parameter's name in the model. Normal starts of one seed therefore share one
    standard normal draw and differ in its scale alone, which is what the demo compares.

    Example::

        >>> STARTS["orthogonal"] = Start(
        ...     "orthogonal",
        ...     from_weights(lambda w, seed, name: torch_init.orthogonal_(w, seed=seed, name=name)),
        ... )
    """

    def initialise(model: MLP, seed: int) -> None:
        for name, parameter in model.named_parameters():
            if name.endswith("weight"):
                initialise_weight(parameter, seed, name)
            else:
                torch_init.zeros_(parameter)

    return initialise


# Every row of the comparison, in the order shown. A start that needs more than weights and a seed
# (a pre-training, say) registers its own `initialise`. N(0, 0.01^2) is the "small random numbers"
# of the lectures: 0.01 is the standard deviation.
STARTS: dict[str, Start] = {
    "zero": Start("zero", from_weights(lambda w, seed, name: torch_init.zeros_(w))),
    "normal-1": Start(
        "N(0, 1)",
        from_weights(lambda w, seed, name: torch_init.normal_(w, std=1.0, seed=seed, name=name)),
    ),
    "normal-0.01": Start(
        "N(0, 0.01^2)",
        from_weights(lambda w, seed, name: torch_init.normal_(w, std=0.01, seed=seed, name=name)),
    ),
    "lecun": Start(
        "LeCun",
        from_weights(lambda w, seed, name: torch_init.lecun_normal_(w, seed=seed, name=name)),
    ),
    "xavier": Start(
        "Xavier", from_weights(lambda w, seed, name: torch_init.xavier_(w, seed=seed, name=name))
    ),
    "he": Start("He", from_weights(lambda w, seed, name: torch_init.he_(w, seed=seed, name=name))),
}
