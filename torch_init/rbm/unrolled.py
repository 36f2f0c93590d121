# SPDX-License-Identifier: Apache-2.0
"""A deep belief net unrolled into an encoder and a decoder (Hinton & Salakhutdinov 2006)."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from torch_init.rbm.units import Bernoulli, NReLU, Softmax, Spin, Units

if TYPE_CHECKING:
    from torch_init.rbm.dbn import DBN


@torch.no_grad()
def unroll(dbn: "DBN") -> tuple[nn.Sequential, nn.Sequential]:
    """Return (encoder, decoder) with parameters of their own; DBN.autoencoder has the docstring."""
    up: list[nn.Module] = []
    down: list[nn.Module] = []
    for number, machine in enumerate(dbn.each()):
        scale = 1.0 if machine.log_variance is None else (-machine.log_variance).exp()
        up += _layer(machine.weight * scale, machine.hidden_bias, machine.hidden)
        back = dbn.weight_down(number).T
        down[:0] = _layer(back, machine.visible_bias, machine.visible)
    return nn.Sequential(*up), nn.Sequential(*down)


def _layer(weight: Tensor, bias: Tensor, units: Units) -> list[nn.Module]:
    """A linear layer and what makes means of its output."""
    # Not nn.Linear at once, which would draw from torch's generator.
    linear = nn.utils.skip_init(
        nn.Linear, weight.shape[1], weight.shape[0], device=weight.device, dtype=weight.dtype
    )
    linear.weight.copy_(weight)
    linear.bias.copy_(bias)
    if isinstance(units, Softmax):
        groups = nn.Unflatten(-1, (units.groups, units.categories))
        return [linear, groups, nn.Softmax(-1), nn.Flatten(-2)]
    activations: dict[type[Units], type[nn.Module]] = {
        Bernoulli: nn.Sigmoid,
        Spin: nn.Tanh,
        NReLU: nn.Softplus,
    }
    activation = activations.get(type(units))
    return [linear] if activation is None else [linear, activation()]  # Gaussian units are linear
