# SPDX-License-Identifier: Apache-2.0
"""Greedy training of a deep belief net: each machine on the means of the one below."""

import dataclasses
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from torch_init.errors import describe
from torch_init.rbm.checkpoint import of_layer
from torch_init.rbm.history import History
from torch_init.rbm.machine import RBM
from torch_init.rbm.options import Options

if TYPE_CHECKING:
    from torch_init.rbm.dbn import DBN

Examples = tuple[Tensor, Tensor | None]
"""Rows, and their labels one-hot if the net has classes."""

_CHUNK = 2048


def check_options(function: str, dbn: "DBN", options: dict[str, Any]) -> None:
    """Raise now if a machine above the first could not take the options of fit()."""
    known = {field.name for field in dataclasses.fields(Options)}
    chosen = Options(**{name: value for name, value in options.items() if name in known})
    for machine in dbn.each():
        chosen.check(machine.visible, machine.hidden, machine.exact)
    if chosen.statistics == "samples" and chosen.binarize is None:
        expected = "'means' without binarize, as machines above the first see means"
        raise ValueError(describe(function, "statistics", "'samples'", expected))


def train_greedily(
    dbn: "DBN", examples: Examples, held_out: Examples | None, options: dict[str, Any]
) -> list[History]:
    """Train all machines on checked data; DBN.fit has the docstring."""
    histories: list[History] = []
    below: RBM | None = None
    for number, machine in enumerate(dbn.each()):
        if below is not None:
            examples = _means(below, examples)
            held_out = None if held_out is None else _means(below, held_out)
        own = {} if below is None else _start_mirrored(below, machine)
        settings = own | of_layer(options, number)
        validation = None if held_out is None else _rows(dbn, machine, held_out)
        rows = _rows(dbn, machine, examples)
        histories.append(machine.fit(rows, validation=validation, **settings))
        below = machine
    return histories


@torch.no_grad()
def _means(below: RBM, examples: Examples) -> Examples:
    """What the machine below makes of the rows, and the labels as they are."""
    rows, labels = examples
    return torch.cat([below.hidden_mean(part) for part in rows.split(_CHUNK)]), labels


def _rows(dbn: "DBN", machine: RBM, examples: Examples) -> Tensor:
    """The rows as the machine sees them: at the top, with the labels."""
    rows, labels = examples
    return rows if labels is None or machine is not dbn.top else torch.cat([rows, labels], 1)


@torch.no_grad()
def _start_mirrored(below: RBM, machine: RBM) -> dict[str, str]:
    """Give a machine that mirrors the one below its weights, transposed; return fit's options."""
    mirrored = below.visible.size == machine.hidden.size
    same = type(below.visible) is type(machine.hidden)
    if not (mirrored and same and type(below.hidden) is type(machine.visible)):
        return {}
    machine.weight.copy_(below.weight.T)
    machine.visible_bias.copy_(below.hidden_bias)
    machine.hidden_bias.copy_(below.visible_bias)
    return {"visible_bias": "keep"}
