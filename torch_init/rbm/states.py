# SPDX-License-Identifier: Apache-2.0
"""From what datasets hold to states of a machine's visible units, checked row by row."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from torch_init.errors import describe
from torch_init.rbm.machine import RBM

EXPECTED = "a tensor, NumPy array, Dataset, DataLoader or iterable of batches of (N, visible)"


def to_tensor(function: str, item: Any) -> Tensor:
    """Return the input of a batch or example: its first part if it has labels too."""
    if isinstance(item, (tuple, list)) and item and not isinstance(item[0], (float, int)):
        item = item[0]
    if isinstance(item, Tensor):
        return item.detach()
    try:
        array = np.asarray(item)
        if not array.dtype.isnative:
            array = array.astype(array.dtype.newbyteorder("="))
        as_torch_takes_it = array.flags.writeable and min(array.strides, default=0) >= 0
        return torch.from_numpy(array if as_torch_takes_it else array.copy())
    except (TypeError, ValueError) as error:
        got = type(item).__name__
        if isinstance(item, np.ndarray):
            got = f"an array of {item.dtype}"
        raise TypeError(describe(function, "data", got, EXPECTED)) from error


def check_dense(function: str, argument: str, rows: Tensor) -> None:
    """Raise unless rows are real numbers in memory, none of them left out."""
    if rows.is_complex() or rows.dim() == 0 or rows.is_meta or rows.layout != torch.strided:
        layout = "meta" if rows.is_meta else str(rows.layout).removeprefix("torch.")
        got = f"a {layout} tensor of {rows.dtype} and shape {tuple(rows.shape)}"
        raise TypeError(describe(function, argument, got, EXPECTED))


def to_states(function: str, argument: str, rows: Tensor, machine: RBM) -> Tensor:
    """Return rows flattened to (N, visible), as the machine's dtype, on its device.

    uint8 is grey levels: divided by 255.
    """
    check_dense(function, argument, rows)
    rows = rows.flatten(1) if rows.dim() > 1 else rows
    if rows.dim() != 2 or rows.shape[1] != machine.visible.size:
        got = f"shape {tuple(rows.shape)}"
        raise ValueError(describe(function, argument, got, f"shape (N, {machine.visible.size})"))
    states = rows.to(machine.weight.device, machine.weight.dtype, non_blocking=True)
    return states / 255 if rows.dtype == torch.uint8 else states


def check_rows(
    function: str, argument: str, machine: RBM, states: Tensor, name: Callable[[int], str]
) -> None:
    """Raise unless the machine takes all states; the error names the first row that is bad."""
    try:
        machine.check_states(function, argument, states)
    except ValueError:
        for row in range(len(states)):
            machine.check_states(function, name(row), states[row : row + 1])
        raise


def greatest_byte(rows: Tensor) -> int:
    """Return the greatest value of rows of uint8, and 0 of others."""
    return int(rows.max()) if rows.dtype == torch.uint8 and rows.numel() else 0


def refuse_binary_bytes(function: str, argument: str, greatest: int) -> None:
    """Raise if the greatest byte is 1: such bytes are states, though bytes are grey levels."""
    if greatest == 1:
        fix = "uint8 is read as grey levels of 255; pass bool or float for states"
        raise ValueError(describe(function, argument, "uint8 of 0 and 1", EXPECTED, fix))


def rows_at_once(machine: RBM) -> int:
    """How many rows are looked at at once: 4,096, or fewer where they are wide."""
    return max(1, min(4096, 2**24 // machine.visible.size))


def no_rows(machine: RBM) -> Tensor:
    """Return states of no rows, (0, visible)."""
    return machine.weight.new_empty(0, machine.visible.size).detach()
