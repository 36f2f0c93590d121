# SPDX-License-Identifier: Apache-2.0
"""Training data: arrays, tensors, memory maps, datasets, loaders and iterables as batches."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from torch_init.errors import describe
from torch_init.rbm.labelled import Labelled
from torch_init.rbm.machine import RBM
from torch_init.rbm.units import Bernoulli, Gaussian, Softmax, Spin

_SCAN = 4096  # rows looked at at once
PROBE = 512
"""How many rows the monitors look at."""


class Rows:
    """Data whose rows can be picked by number: a tensor, a NumPy array or memory map, a Dataset."""

    def __init__(self, function: str, data: Any, machine: RBM) -> None:
        self._function, self._data, self._machine = function, data, machine
        try:
            self.count = len(data)
        except TypeError as error:
            raise TypeError(describe(function, "data", type(data).__name__, EXPECTED)) from error
        if self.count == 0:
            raise ValueError(describe(function, "data", "no rows", "at least one"))
        self._is_array = isinstance(data, (Tensor, np.ndarray))
        self.are_states = False  # until scan has seen all of them

    def pick(self, numbers: Tensor) -> Tensor:
        """Return the rows of those numbers, prepared for the machine."""
        if isinstance(self._data, Tensor):
            rows: Any = self._data.index_select(0, numbers.to(self._data.device))
        elif self._is_array:
            # In the file's order, as a memory map is read fastest; then in the order asked for.
            order = numbers.argsort()
            picked = np.ascontiguousarray(self._data[numbers[order].numpy()])
            rows = torch.from_numpy(picked)[order.argsort()]
        else:
            rows = torch.stack([to_tensor(self._function, self._data[i]) for i in numbers.tolist()])
        return to_states(self._function, rows, self._machine)

    def scan(self) -> Tensor:
        """Check every row of an array, some of others, and return the mean, (visible,), float64."""
        last = self.count if self._is_array else min(self.count, _SCAN)
        total = torch.zeros(self._machine.visible.size, dtype=torch.float64)
        self.are_states = self._is_array
        for numbers in torch.arange(last).split(_SCAN):
            rows = self.pick(numbers)
            self._machine.check_states(self._function, "data", rows)
            total += rows.double().sum(0).cpu()
            self.are_states = self.are_states and self._machine.visible.are_states(rows)
        self._refuse_binary_bytes()
        return total / last

    def _refuse_binary_bytes(self) -> None:
        data = self._data
        if not self._is_array or data.dtype not in (torch.uint8, np.uint8):
            return
        if int(data.max()) <= 1:
            fix = "uint8 is read as grey levels of 255; pass bool or float for states"
            raise ValueError(describe(self._function, "data", "uint8 of 0 and 1", EXPECTED, fix))

    def probe(self) -> Tensor:
        """Return the rows that the monitors look at."""
        return self.pick(torch.arange(min(PROBE, self.count)))

    def batches(self, epoch: int, batch_size: int, shuffle: bool, seed: int) -> Iterator[Tensor]:
        """Yield the numbers of the rows of each batch: a function of (seed, epoch)."""
        order = torch.arange(self.count)
        if shuffle:
            generator = torch.Generator().manual_seed((seed * 1_000_003 + epoch) % 2**63)
            order = torch.randperm(self.count, generator=generator)
        yield from order.split(batch_size)


class Stream:
    """Data that come as batches, in an order of their own: a DataLoader or another iterable."""

    count = None
    are_states = False

    def __init__(self, function: str, data: Iterable[Any], machine: RBM) -> None:
        if iter(data) is data:
            fix = "Pass a list, a DataLoader, or an object whose __iter__ starts anew"
            got = "an iterator, which can be read only once"
            raise TypeError(describe(function, "data", got, "an iterable of batches", fix))
        self._function, self._data, self._machine = function, data, machine

    def __iter__(self) -> Iterator[Tensor]:
        """Yield the prepared and checked batches of one pass."""
        empty = True
        for batch in self._data:
            tensor = to_tensor(self._function, batch)
            if tensor.dim() and len(tensor) == 0:
                continue
            states = to_states(self._function, tensor, self._machine)
            self._machine.check_states(self._function, "data", states)
            empty = False
            yield states
        if empty:
            raise ValueError(describe(self._function, "data", "no batches", "at least one"))

    def first(self) -> Tensor:
        """Return the first batch."""
        return next(iter(self))

    def scan(self) -> Tensor:
        """Return the mean of the first batch, (visible,), float64."""
        return self.first().double().mean(0).cpu()

    def probe(self) -> Tensor:
        """Return the rows that the monitors look at."""
        return self.first()[:PROBE]


Source = Rows | Stream
EXPECTED = "a tensor, NumPy array, Dataset, DataLoader or iterable of batches of (N, visible)"


def as_source(function: str, data: Any, machine: RBM) -> Source:
    """Return data as Rows or a Stream.

    Raises:
        TypeError, ValueError: data of another kind, or empty.
    """
    if isinstance(data, (list, tuple)) and data and isinstance(data[0], (float, int, list, tuple)):
        data = np.asarray(data)
    if isinstance(data, Source):
        return data
    if isinstance(data, (Tensor, np.ndarray)):
        return Rows(function, data, machine)
    if (
        hasattr(data, "__getitem__")
        and hasattr(data, "__len__")
        and not isinstance(data, (list, tuple))
    ):
        return Rows(function, data, machine)
    if isinstance(data, Iterable) and not isinstance(data, (str, bytes, dict)):
        return Stream(function, data, machine)
    raise TypeError(describe(function, "data", type(data).__name__, EXPECTED))


def to_tensor(function: str, item: Any) -> Tensor:
    """Return the input of a batch or example: its first part if it has labels too."""
    if isinstance(item, (tuple, list)) and item and not isinstance(item[0], (float, int)):
        item = item[0]
    if isinstance(item, Tensor):
        return item
    try:
        return torch.as_tensor(np.asarray(item))
    except (TypeError, ValueError) as error:
        raise TypeError(describe(function, "data", type(item).__name__, EXPECTED)) from error


def to_states(function: str, rows: Tensor, machine: RBM) -> Tensor:
    """Return rows flattened to (N, visible), as the machine's dtype, on its device.

    uint8 is grey levels: divided by 255.
    """
    if rows.is_complex() or rows.dim() == 0:
        got = f"{rows.dtype} of shape {tuple(rows.shape)}"
        raise TypeError(describe(function, "data", got, EXPECTED))
    rows = rows.flatten(1) if rows.dim() > 1 else rows
    if rows.dim() != 2 or rows.shape[1] != machine.visible.size:
        got = f"shape {tuple(rows.shape)}"
        raise ValueError(describe(function, "data", got, f"shape (N, {machine.visible.size})"))
    states = rows.to(machine.weight.device, machine.weight.dtype, non_blocking=True)
    return states / 255 if rows.dtype == torch.uint8 else states


@torch.no_grad()
def set_visible_bias(machine: RBM, means: Tensor, count: int) -> None:
    """Hinton (2010), section 8.1: the biases that fit the means of units without weights."""
    units, least = machine.visible, max(1 / max(count, 2), 1e-3)
    means = means.to(machine.visible_bias.device)
    if isinstance(units, Gaussian):
        bias = means
    elif isinstance(units, Softmax):
        bias = means.clamp(least, 1).log()
    elif isinstance(units, Spin):
        bias = 0.5 * torch.logit(((1 + means) / 2).clamp(least, 1 - least))
    elif isinstance(units, Labelled):
        label = means[-units.classes :].clamp(least, 1).log()
        bias = torch.cat([torch.logit(means[: -units.classes].clamp(least, 1 - least)), label])
    else:
        assert isinstance(units, Bernoulli)
        bias = torch.logit(means.clamp(least, 1 - least))
    machine.visible_bias.copy_(bias)
