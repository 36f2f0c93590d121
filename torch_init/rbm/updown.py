# SPDX-License-Identifier: Apache-2.0
"""The up-down algorithm: contrastive wake-sleep fine-tuning of a deep belief net."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from torch_init.errors import describe
from torch_init.rbm.divergence import check_parameters
from torch_init.rbm.sampling import Noise
from torch_init.rbm.units import Bernoulli

if TYPE_CHECKING:
    from torch_init.rbm.dbn import DBN


def check_units(function: str, dbn: "DBN") -> None:
    """Raise unless all layers are of Bernoulli units, but for a label's."""
    machines = list(dbn.each())
    layers = [machines[0].visible, *(machine.hidden for machine in machines)]
    others = {type(units).__name__ for units in layers if not isinstance(units, Bernoulli)}
    if others:
        got = f"layers of {' and '.join(sorted(others))} units"
        raise TypeError(describe(function, "self", got, "Bernoulli units in every layer"))


@torch.no_grad()
def up_down(
    dbn: "DBN",
    data: Tensor,
    one_hot: Tensor | None,
    epochs: int,
    batch_size: int,
    rate: float,
    k: int,
    noise: Noise,
) -> None:
    """Train a net whose weights have parted; DBN.up_down checks the arguments and explains them."""
    generator = torch.Generator().manual_seed(noise.seed % 2**63)
    step = 0
    for epoch in range(epochs):
        order = torch.randperm(len(data), generator=generator, device="cpu")
        for rows in order.split(batch_size):
            rows = rows.to(data.device)
            labels = None if one_hot is None else one_hot[rows]
            try:
                _update(dbn, data[rows], labels, rate / len(rows), k, noise, step)
            except ValueError:
                # Chains refuse parameters that have diverged, too.
                check_parameters("DBN.up_down", dbn, epoch + 1)
                raise
            step += 1
        check_parameters("DBN.up_down", dbn, epoch + 1)


def _update(
    dbn: "DBN", data: Tensor, labels: Tensor | None, rate: float, k: int, noise: Noise, step: int
) -> None:
    """One batch; rate is for a sum over its rows."""
    lower, top = list(dbn.each())[:-1], dbn.top
    # Up: states of every layer under the top machine, from the data.
    up = [data]
    for number, machine in enumerate(lower):
        field = machine.hidden_field(up[-1])
        up.append(machine.hidden.sample(field, None, noise.at(f"up{number}.", step, field)))
    wanted = [dbn.down_field(number, up[number + 1]) for number in range(len(lower))]
    # Top: contrastive divergence from those states and the label.
    start = up[-1] if labels is None else torch.cat([up[-1], labels], 1)
    first = step * (k + 1)
    states, _ = top.run_chains(start, Noise(noise.seed, f"{noise.name}.top"), first, k)
    h_start, h_end = top.hidden_mean(start), top.hidden_mean(states)
    top_moves = (
        h_start.T @ start - h_end.T @ states,
        (start - states).sum(0),
        (h_start - h_end).sum(0),
    )
    # Down: a fantasy, from the top machine's states.
    down = [states if labels is None else states[:, : -labels.shape[1]]]
    for number in reversed(range(len(lower))):
        field, units = dbn.down_field(number, down[-1]), lower[number].visible
        # The data's layer is given as means, as data in [0, 1] are.
        draw = noise.at(f"down{number}.", step, field)
        down.append(units.mean(field) if number == 0 else units.sample(field, None, draw))
    down.reverse()
    recognised = [machine.hidden_mean(down[number]) for number, machine in enumerate(lower)]
    for number, machine in enumerate(lower):
        error = up[number] - machine.visible.mean(wanted[number])
        dbn.generative[number].add_(up[number + 1].T @ error, alpha=rate)
        machine.visible_bias.add_(error.sum(0), alpha=rate)
        error = down[number + 1] - recognised[number]
        machine.weight.add_(error.T @ down[number], alpha=rate)
        machine.hidden_bias.add_(error.sum(0), alpha=rate)
    for parameter, move in zip(
        (top.weight, top.visible_bias, top.hidden_bias), top_moves, strict=True
    ):
        parameter.add_(move, alpha=rate)
