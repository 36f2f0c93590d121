# SPDX-License-Identifier: Apache-2.0
"""Samples of a deep belief net: a chain of its top machine, then layer by layer down."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from torch_init.rbm.sampling import Noise

if TYPE_CHECKING:
    from torch_init.rbm.dbn import DBN


@torch.no_grad()
def draw(dbn: "DBN", num: int, steps: int, label: Tensor | None, noise: Noise) -> Tensor:
    """Return the visible means, (num, visible), of num samples; DBN.sample has the docstring.

    Args:
        label: (num, classes), one-hot, clamped while the chains run; None: it is sampled, too.
    """
    top = dbn.top
    start = top.visible_bias.detach().expand(num, -1).contiguous()
    states = top.visible.sample(start, top.log_variance, noise.at("start", 0, start))
    states = states.to(start.dtype)
    features = top.visible.size - (dbn.classes or 0)
    clamp = None
    if label is not None:
        states[:, features:] = label
        clamp = torch.arange(top.visible.size, device=states.device) >= features
    states, hidden = top.run_chains(states, noise, 0, steps, clamp=clamp)
    lower = list(dbn.each())[:-1]
    if not lower:
        return top.visible_mean(hidden)
    states = states[:, :features]
    for number, machine in reversed(list(enumerate(lower))):
        field = dbn.down_field(number, states)
        if number > 0:
            half_step = noise.at(f"down{number}.", 0, field)
            states = machine.visible.sample(field, machine.log_variance, half_step)
            states = states.to(field.dtype)
    return lower[0].visible.mean(field)
