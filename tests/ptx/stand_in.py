# SPDX-License-Identifier: Apache-2.0
"""The native module, whose CUDA bodies on the host are the PTX executed by a Machine instead.

What tests ask of the bodies (`run_cuda_body_on_host`) they thus ask of what nvcc made of them. The
executor is told of exactly the memory that a kernel has been given: an access beyond is an error.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from machine import Machine

from torch_init import _ops_measure
from torch_init._descriptors import DTYPE_CODES

BYTES = {code: dtype.itemsize for dtype, code in DTYPE_CODES.items()}
MOMENTS_BYTES = _ops_measure._MOMENTS.itemsize
SCALE_BYTES = 8  # of a FoundScale
PAIR_BYTES = [4, 8, 4]  # by PairKind
PATHS = {"tiles": 1, "split": 2, "cluster": 3}  # GibbsPath


def extent(sizes: Sequence[int], strides: Sequence[int]) -> tuple[int, int]:
    """The first element of a region, and how many there are up to the last."""
    if 0 in sizes:
        return 0, 0
    steps = [(size - 1) * stride for size, stride in zip(sizes, strides, strict=True)]
    first = sum(step for step in steps if step < 0)
    return first, 1 + sum(map(abs, steps))


class Memory:
    """Pieces of memory that a kernel is given."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._pieces: list[tuple[int, int, bool]] = []

    def add(self, address: int, size: int, defined: bool = True) -> None:
        if address != 0:
            self._pieces.append((address, size, defined))

    def add_arrays(
        self, addresses: Sequence[int], given: Sequence[int], made: Sequence[int] = ()
    ) -> None:
        """Arrays of so many bytes: first those that are given, then those that it must write."""
        sizes = [(size, True) for size in given] + [(size, False) for size in made]
        for address, size in zip(addresses, sizes, strict=False):
            self.add(address, *size)

    def add_region(self, task: Sequence[Any]) -> None:
        address, dtype, sizes, strides = task[:4]
        first, count = extent(sizes, strides)
        self.add(address + first * BYTES[dtype], count * BYTES[dtype])

    @contextlib.contextmanager
    def with_room(self, size: int, defined: bool = False) -> Iterator[int]:
        """Gives the kernel all pieces and so many bytes, aligned as torch.empty on a GPU does."""
        room = torch.full((size + 256,), 0xA5, dtype=torch.uint8)
        address = -(-room.data_ptr() // 256) * 256
        for piece in self._pieces:
            self._machine.add_memory(*piece)
        self._machine.add_memory(address, size, defined)
        try:
            yield address
        finally:
            self._machine.forget_memory()


def stand_in(machine: Machine) -> Any:
    native = machine.module

    class FillPlan(native.FillPlan):
        def __init__(self, tasks: Sequence[Any]) -> None:
            super().__init__(tasks)
            self._memory = Memory(machine)
            for task in tasks:
                self._memory.add_region(task)

        def run_cuda_body_on_host(self, blocks: int) -> None:
            with self._memory.with_room(self.blob_size()) as blob:
                if not self.fits_in_arguments():
                    self.upload(0, 0, blob)
                self.run_on_cuda(0, 0, 0 if self.fits_in_arguments() else blob)

    class MeasurePlan(native.MeasurePlan):
        def __init__(self, tasks: Sequence[Any]) -> None:
            super().__init__(tasks)
            self._memory, self._count = Memory(machine), len(tasks)
            for task in tasks:
                self._memory.add_region(task)

        def run_cuda_body_on_host(self, blocks: int, out: int) -> None:
            blob = torch.frombuffer(bytearray(self.blob()), dtype=torch.uint8)
            self._memory.add(blob.data_ptr(), len(blob))
            self._memory.add(out, self._count * MOMENTS_BYTES, False)
            with self._memory.with_room(self.chunks() * MOMENTS_BYTES) as of_chunk:
                self.run_on_cuda(0, 0, blob.data_ptr(), of_chunk, out)

    class Accumulation(native.Accumulation):
        def __init__(self, address: int, dtype: int, sizes: Sequence[int], *rest: Any) -> None:
            super().__init__(address, dtype, sizes, *rest)
            strides, row, histogram, features, _, _, _, scale, gate = rest
            self._memory = Memory(machine)
            self._memory.add_region((address, dtype, sizes, strides))
            columns = native.FLOW_ROW["histogram"] + (native.FLOW_BINS if histogram else 0)
            self._memory.add(row, 8 * columns)
            self._memory.add(features, 3 * 8 * (sizes[-1] if len(sizes) else 1))
            self._memory.add(scale, 4)
            self._memory.add(gate, 1)

        def run_cuda_body_on_host(self, blocks: int) -> None:
            with self._memory.with_room(self.scratch_size()) as scratch:
                self.run_on_cuda(0, 0, scratch)

    class GibbsPlan(native.GibbsPlan):
        def __init__(self, layer: Sequence[int], visible: int, hidden: int, shift: int) -> None:
            super().__init__(layer, visible, hidden, shift)
            self._units = visible, hidden
            self._padded = tuple(-(-units // 16) * 16 for units in self._units)
            self._layer = [
                (layer[0], 4 * visible * self._padded[1]),
                (layer[1], 4 * hidden * self._padded[0]),
                *zip(layer[2:], [4 * n for n in self._padded * 2], strict=True),
            ]
            self._run: tuple[Any, ...] = ()
            self._means = 0
            # As quantising leaves it: the native plan's own is in memory that kernels may not read.
            self._scale = torch.tensor([shift, 1], dtype=torch.int32)

        def set_limbs(self, visible: int, hidden: int, scale: int) -> None:
            scale = scale or self._scale.data_ptr()
            super().set_limbs(visible, hidden, scale)
            self._layer.append((scale, SCALE_BYTES))
            sides = (self._units, self._units[::-1])
            sizes = [native.limbs_size(*side) for side in sides]
            self._layer += zip((visible, hidden), sizes, strict=True)

        def set_run(self, *run: Any) -> None:
            super().set_run(*run)
            self._run = run

        def set_means(self, means: int, only: bool) -> None:
            super().set_means(means, only)
            self._means = means

        def run_cuda_half_steps_on_host(
            self, chains: int, first_side: int, half_steps: int, split: bool, blocks: int
        ) -> None:
            self._run_path(chains, first_side, half_steps, "split" if split else "tiles", 0)

        def run_cuda_clusters_on_host(
            self, chains: int, first_side: int, half_steps: int, bits: int, of_cluster: int
        ) -> None:
            machine.only_clusters(1 << bits, f"ILi{of_cluster}E")
            # The launcher remembers what it found for a device.
            device = 64 * bits + of_cluster
            try:
                self._run_path(chains, first_side, half_steps, "cluster", device)
            finally:
                machine.only_clusters(0, "")

        def _run_path(
            self, chains: int, first_side: int, half_steps: int, path: str, device: int
        ) -> None:
            memory = Memory(machine)
            for piece in self._layer:
                memory.add(*piece)
            _, _, visible, hidden, clamped, beta, *of_units, _ = self._run
            memory.add(visible, chains * self._units[0])
            memory.add(hidden, chains * self._units[1])
            memory.add(clamped, self._units[0])
            memory.add(beta, 4 * chains)
            for address, padded in zip(of_units, self._padded, strict=True):
                memory.add(address, 4 * padded)
            memory.add(self._means, 2 * chains * self._units[1])
            # States of chains that pad a tile are read, multiplied and left: whatever they are.
            with memory.with_room(self.workspace_size(chains), True) as room:
                self.run_on_cuda(chains, first_side, half_steps, room, PATHS[path], device, 0)

    class StandIn:
        def __getattr__(self, name: str) -> Any:
            return getattr(native, name)

        def quantize_with_cuda_body_on_host(
            self, at: Sequence[int], is_double: bool, units: Sequence[int]
        ) -> None:
            (visible, hidden), size = units, 8 if is_double else 4
            padded = [-(-n // 16) * 16 for n in units]
            given = [visible * hidden * size, visible * size, hidden * size]
            made = [4 * visible * padded[1], 4 * hidden * padded[0], *(4 * n for n in padded * 2)]
            made += [native.limbs_size(*side) for side in (units, units[::-1])]
            memory = Memory(machine)
            memory.add_arrays(at, given, [*made, SCALE_BYTES])
            memory.add(at[-1], native.quantize_room_size(*units))
            with memory.with_room(0):
                native.quantize_on_cuda(at, is_double, units, 0, 0)

        def statistics_with_cuda_body_on_host(
            self,
            terms: Sequence[tuple[Sequence[int], Sequence[int]]],
            units: Sequence[int],
            out: int,
            sums: int,
            *kind: bool,
        ) -> None:
            means, wide, accumulate = kind
            memory = Memory(machine)
            for (visible, hidden), (chains, _) in terms:
                memory.add(visible, chains * units[0])
                memory.add(hidden, chains * units[1] * (2 if means else 1))
            memory.add(out, units[0] * units[1] * (8 if wide else 4), accumulate)
            memory.add(sums, len(terms) * sum(units) * 8, False)
            with memory.with_room(0):
                native.statistics_on_cuda(terms, units, out, sums, *kind, 0, 0)

        def differences_with_cuda_body_on_host(
            self, at: Sequence[int], units: Sequence[int], *rest: Any
        ) -> None:
            sums, *made, visible, hidden = at
            memory, count = Memory(machine), sum(units)
            memory.add_arrays([sums, *made], [2 * 8 * count], [4 * count] * 2)
            memory.add_arrays([visible, hidden], [4 * n for n in units])
            with memory.with_room(0):
                native.differences_on_cuda(at, units, *rest, 0, 0)

        def ascend_with_cuda_body_on_host(
            self,
            at: Sequence[int],
            moves: tuple[Sequence[int], Sequence[float]],
            units: Sequence[int],
            kind: int,
            numbers: Sequence[float],
        ) -> None:
            visible, hidden = (4 * n for n in units)
            pairs, weights = units[0] * units[1] * PAIR_BYTES[kind], units[0] * hidden
            given = [pairs, visible, hidden, visible, hidden, hidden, visible, weights, weights]
            memory = Memory(machine)
            memory.add_arrays(at, given, [weights, visible, hidden])
            memory.add_arrays(moves[0], [visible, visible, hidden, hidden])
            with memory.with_room(0):
                native.ascend_on_cuda(at, moves, units, kind, numbers, 0, 0)

        def sample_float_with_cuda_body_on_host(self, task: Sequence[Any], blocks: int) -> None:
            kind, field, out, std, chains, units, categories, *_ = task
            memory = Memory(machine)
            memory.add(field, 4 * chains * units * categories)
            memory.add(out, chains * units * categories * (1 if kind in (0, 3) else 4), False)
            memory.add(std, 4 * units)
            with memory.with_room(0):
                native.sample_float_on_cuda(task, 0, 0)

    standing_in = StandIn()
    for plan in (FillPlan, MeasurePlan, Accumulation, GibbsPlan):
        setattr(standing_in, plan.__name__, plan)
    return standing_in
