# SPDX-License-Identifier: Apache-2.0
"""The up-down algorithm: contrastive wake-sleep fine-tuning of a deep belief net."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from torch_init.errors import check_not_negative, check_positive_int, describe
from torch_init.rbm.sampling import Noise
from torch_init.rbm.units import Bernoulli

if TYPE_CHECKING:
    from torch_init.rbm.dbn import DBN


@torch.no_grad()
def up_down(
    dbn: "DBN",
    data: Tensor,
    one_hot: Tensor | None = None,
    *,
    epochs: int = 10,
    batch_size: int = 100,
    learning_rate: float = 0.01,
    k: int = 3,
    seed: int | None = None,
) -> None:
    """Fine-tune all weights of a net of Bernoulli layers (Hinton, Osindero, Teh 2006, appendix B).

    Up: states are drawn by the recognition weights, and the generative ones learn to predict each
    layer from the one above. Top: k sweeps of the top machine, contrastively. Down: states are
    drawn by the generative weights, and the recognition ones learn to predict each layer from the
    one below.

    Args:
        dbn: with generative weights, as DBN.up_down gives it.
        data: (N, visible) in [0, 1]. one_hot: (N, classes) or None.
        epochs, batch_size, learning_rate, k: of the fine-tuning.
        seed: None: the net's.

    Raises:
        TypeError: layers of other units.
    """
    machines = [dbn._machine(number) for number in range(len(dbn.machines))]
    if not all(isinstance(m.hidden, Bernoulli) for m in machines) or not isinstance(
        machines[0].visible, Bernoulli
    ):
        got = "layers of other units"
        raise TypeError(describe("up_down", "dbn", got, "Bernoulli units in every layer"))
    check_positive_int("up_down", "epochs", epochs)
    check_positive_int("up_down", "batch_size", batch_size)
    check_positive_int("up_down", "k", k)
    rate = check_not_negative("up_down", "learning_rate", learning_rate)
    seed = dbn.seed if seed is None else seed
    generator = torch.Generator().manual_seed(seed % 2**63)
    step = 0
    for _ in range(epochs):
        for rows in torch.randperm(len(data), generator=generator).split(batch_size):
            rows = rows.to(data.device)
            labels = None if one_hot is None else one_hot[rows]
            _update(dbn, data[rows], labels, rate / len(rows), k, Noise(seed, dbn.name), step)
            step += 1


def _update(
    dbn: "DBN", data: Tensor, labels: Tensor | None, rate: float, k: int, noise: Noise, step: int
) -> None:
    """One batch; rate is for a sum over its rows."""
    lower = [dbn._machine(number) for number in range(len(dbn.machines) - 1)]
    top = dbn.top
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
