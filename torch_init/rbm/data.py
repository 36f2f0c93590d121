# SPDX-License-Identifier: Apache-2.0
"""Training data: arrays, tensors, memory maps, datasets, loaders and iterables as batches.

Every row is checked before a machine learns from it: those of an array before the run, those of
datasets and loaders as they are read.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from torch_init.errors import describe
from torch_init.rbm.machine import RBM
from torch_init.rbm.sampling import state_bytes, to_bytes
from torch_init.rbm.states import (
    EXPECTED,
    check_dense,
    check_rows,
    greatest_byte,
    no_rows,
    refuse_binary_bytes,
    rows_at_once,
    to_states,
    to_tensor,
)
from torch_init.rbm.units import Spin

PROBE = 512
"""How many rows the monitors look at."""
_SCANNED_AT_ONCE = 256  # which the nearest caches hold


class Rows:
    """Data whose rows can be picked by number: a tensor, a NumPy array or memory map, a Dataset.

    Of an array in memory whose rows are states of an exact machine, scan keeps a copy in bytes, a
    quarter of what float32 takes, from which batches are picked. Memory maps and Datasets are read
    as they are needed.

    Attributes:
        count: the number of rows.
        scanned: of how many rows scan has made the mean.
        are_states: whether all rows are known to be states of binary units.
    """

    def __init__(self, function: str, argument: str, data: Any, machine: RBM) -> None:
        self._function, self._argument, self._machine = function, argument, machine
        self._data, self._is_array = data, isinstance(data, (Tensor, np.ndarray))
        if isinstance(data, Tensor):
            check_dense(function, argument, data)
            self._data = data.detach()
        try:
            self.count = len(data)
        except TypeError as error:
            got = type(data).__name__
            raise TypeError(describe(function, argument, got, EXPECTED)) from error
        if self.count == 0:
            raise ValueError(describe(function, argument, "no rows", "at least one"))
        self.are_states = self._all_seen = False  # until scan has seen all of them
        self.scanned = 0
        self._probe: Tensor | None = None
        self._bytes: Tensor | None = None

    def pick_bytes(self, numbers: Tensor) -> Tensor:
        """Return the rows of those numbers, which are states, as bytes of 0 and 1."""
        if self._bytes is None:
            return to_bytes(self._machine.visible, self.pick(numbers))
        rows = self._bytes.index_select(0, numbers.to(self._bytes.device))
        return rows.to(self._machine.weight.device, non_blocking=True)

    def pick(self, numbers: Tensor) -> Tensor:
        """Return the rows of those numbers, prepared for the machine and checked."""
        if len(numbers) == 0:
            return no_rows(self._machine)
        return self._prepare(self._read(numbers), numbers)

    def _read(self, numbers: Tensor) -> Tensor:
        if isinstance(self._data, Tensor):
            return self._data.index_select(0, numbers.to(self._data.device))
        if self._is_array:
            # In the file's order, as a memory map is read fastest; then in the order asked for.
            order = numbers.argsort()
            picked = to_tensor(self._function, self._data[numbers[order].numpy()])
            return picked[order.argsort()]
        rows = [to_tensor(self._function, self._data[i]) for i in numbers.tolist()]
        shapes = {tuple(row.shape) for row in rows}
        if len(shapes) > 1:
            got = f"examples of shapes {' and '.join(map(str, sorted(shapes)))}"
            raise ValueError(describe(self._function, self._argument, got, "one shape"))
        return torch.stack(rows)

    def _prepare(self, rows: Tensor, numbers: Tensor) -> Tensor:
        states = to_states(self._function, self._argument, rows, self._machine)
        if not self._all_seen:
            self._check(states, numbers.tolist())
        return states

    def _check(self, states: Tensor, numbers: Sequence[int]) -> None:
        """Raise unless the machine takes all states, of rows of those numbers."""

        def name(row: int) -> str:
            return f"{self._argument}[{numbers[row]}]"

        check_rows(self._function, self._argument, self._machine, states, name)

    def _chunks(self, numbers: Tensor) -> Iterator[Tensor]:
        """Yield the rows of those numbers, checked; at the end, refuse bytes of 0 and 1."""
        greatest = 0
        for part in numbers.split(rows_at_once(self._machine)):
            rows = self._read(part)
            greatest = max(greatest, greatest_byte(rows))
            yield self._prepare(rows, part)
        refuse_binary_bytes(self._function, self._argument, greatest)

    @torch.no_grad()
    def scan(self) -> Tensor:
        """Look at all rows of an array, some of others; return their mean, (visible,), float64.

        Of a Dataset these are at most 4,096 rows, evenly spaced.
        """
        if self._is_array:
            return self._scan_array()
        chosen = self._spread(rows_at_once(self._machine))
        total = torch.zeros(self._machine.visible.size, dtype=torch.float64, device="cpu")
        for states in self._chunks(chosen):
            total += states.double().sum(0).cpu()
        self.scanned = len(chosen)
        return total / self.scanned

    def _scan_array(self) -> Tensor:
        """Do as scan does in one pass, which also makes the rows' bytes."""
        units, greatest, are_states = self._machine.visible, 0, True
        total = torch.zeros(units.size, dtype=torch.float64, device="cpu")
        keeps = self._machine.exact and not isinstance(self._data, np.memmap)
        for first in range(0, self.count, _SCANNED_AT_ONCE):
            rows = to_tensor(self._function, self._data[first : first + _SCANNED_AT_ONCE])
            greatest = max(greatest, greatest_byte(rows))
            states = to_states(self._function, self._argument, rows, self._machine)
            bytes_ = state_bytes(units, states)
            if bytes_ is None:
                are_states, self._bytes = False, None
                self._check(states, range(first, self.count))
                total += states.sum(0, dtype=torch.float64).cpu()
                continue
            on = bytes_.sum(0, dtype=torch.int32).cpu()
            total += 2 * on - len(rows) if isinstance(units, Spin) else on
            if keeps and are_states:
                if self._bytes is None:
                    size = (self.count, units.size)
                    self._bytes = torch.empty(size, dtype=torch.uint8, device=rows.device)
                self._bytes[first : first + len(rows)] = bytes_
        refuse_binary_bytes(self._function, self._argument, greatest)
        self.are_states, self._all_seen, self.scanned = are_states, True, self.count
        return total / self.count

    def whole(self) -> Tensor:
        """Return all rows, prepared and checked."""
        return torch.cat(list(self._chunks(self._spread(self.count))))

    def probe(self) -> Tensor:
        """Return the rows that the monitors look at: at most 512, evenly spaced."""
        if self._probe is None:
            self._probe = torch.cat(list(self._chunks(self._spread(PROBE))))
        return self._probe

    def _spread(self, most: int) -> Tensor:
        number = min(most, self.count)
        return torch.arange(number, device="cpu") * self.count // number

    def batches(self, epoch: int, batch_size: int, shuffle: bool, seed: int) -> Iterator[Tensor]:
        """Yield the numbers of the rows of each batch: a function of (seed, epoch).

        They lie on the rows' own device, so that picking rows waits for nothing.
        """
        order = torch.arange(self.count, device="cpu")
        if shuffle:
            generator = torch.Generator().manual_seed((seed * 1_000_003 + epoch) % 2**63)
            order = torch.randperm(self.count, generator=generator, device="cpu")
        if self._is_array and self._all_seen:
            kept = self._data if self._bytes is None else self._bytes
            order = order.to(kept.device, non_blocking=True) if isinstance(kept, Tensor) else order
        yield from order.split(batch_size)


class Stream:
    """Data that come as batches, in an order of their own: a DataLoader or another iterable.

    A run opens it once for each epoch: the batches that scan looked at begin the first one.

    Attributes:
        scanned: of how many rows scan has made the mean.
        order: the state of the loader's generator before the first epoch; None if it has none.
    """

    count = None
    are_states = False

    def __init__(self, function: str, argument: str, data: Iterable[Any], machine: RBM) -> None:
        if iter(data) is data:
            fix = "Pass a list, a DataLoader, or an object whose __iter__ starts anew"
            got = "an iterator, which can be read only once"
            raise TypeError(describe(function, argument, got, "an iterable of batches", fix))
        self._function, self._argument, self._machine = function, argument, machine
        self._data, self.scanned = data, 0
        self._begun: Iterator[Tensor] | None = None
        self._probe: Tensor | None = None
        self._greatest_byte = 0
        generator = getattr(data, "generator", None)
        self._generator = generator if isinstance(generator, torch.Generator) else None
        self.order = None if self._generator is None else self._generator.get_state()

    def __iter__(self) -> Iterator[Tensor]:
        """Yield the prepared and checked batches of one pass."""
        batches, self._begun = self._begun or self._read(), None
        yield from batches

    def _read(self) -> Iterator[Tensor]:
        for number, batch in enumerate(self._data):
            rows = to_tensor(self._function, batch)
            if rows.dim() and len(rows) == 0:
                yield no_rows(self._machine)
                continue
            self._greatest_byte = max(self._greatest_byte, greatest_byte(rows))
            states = to_states(self._function, self._argument, rows, self._machine)

            def name(row: int, number: int = number) -> str:
                return f"{self._argument}, row {row} of batch {number}"

            check_rows(self._function, self._argument, self._machine, states, name)
            yield states

    @torch.no_grad()
    def scan(self) -> Tensor:
        """Return the mean of the first batches, of at most 4,096 rows, (visible,), float64."""
        batches, head, missing = self._read(), [], rows_at_once(self._machine)
        for states in batches:
            head.append(states)
            missing -= len(states)
            if missing <= 0:
                break
        rows = torch.cat(head) if head else torch.empty(0)
        if len(rows) == 0:
            got = "no batches"
            raise ValueError(describe(self._function, self._argument, got, "at least one"))
        refuse_binary_bytes(self._function, self._argument, self._greatest_byte)
        self._begun = itertools.chain(head, batches)
        self._probe, self.scanned = rows[:PROBE].clone(), len(rows)
        return rows.double().mean(0).cpu()

    def rewind(self, order: Tensor) -> None:
        """Begin anew in the order of another run's generator, if the loader has one."""
        if self._generator is not None:
            self._generator.set_state(order)
            self.order = order
            self.scan()

    def probe(self) -> Tensor:
        """Return the rows that the monitors look at: the first 512."""
        if self._probe is None:
            self.scan()
        assert self._probe is not None
        return self._probe


Source = Rows | Stream


def as_source(function: str, data: Any, machine: RBM, argument: str = "data") -> Source:
    """Return data as Rows or a Stream.

    Raises:
        TypeError, ValueError: data of another kind, or empty.
    """
    if isinstance(data, Source):
        return data
    if isinstance(data, (list, tuple)) and data and isinstance(data[0], (float, int, list, tuple)):
        data = np.asarray(data)
    if hasattr(data, "iloc"):
        data = np.asarray(data)  # a DataFrame, whose [] picks columns
    has_rows = hasattr(data, "__getitem__") and hasattr(data, "__len__")
    if has_rows and not isinstance(data, (list, tuple, str, bytes, dict)):
        return Rows(function, argument, data, machine)
    if isinstance(data, Iterable) and not isinstance(data, (str, bytes, dict)):
        return Stream(function, argument, data, machine)
    raise TypeError(describe(function, argument, type(data).__name__, EXPECTED))
