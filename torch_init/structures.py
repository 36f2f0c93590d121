# SPDX-License-Identifier: Apache-2.0
"""Values with structure across elements, as objects that fill any box of the tensor they make.

A box is a piece of the logical tensor that lies in memory here: the whole of it, a shard, a block.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from torch_init import _ops
from torch_init.distributions import Bits, Normal
from torch_init.keys import part_name

Seed = int | Tensor


@dataclass(frozen=True, slots=True)
class Identity:
    """Ones on the main diagonal of a matrix, zeros elsewhere."""

    def fill_box(
        self, view: Tensor, offset: Sequence[int], shape: Sequence[int], seed: Seed, name: str
    ) -> None:
        with torch.no_grad():
            view.zero_()
            view.diagonal(offset[0] - offset[1]).fill_(1)

    def moments(self, shape: Sequence[int]) -> tuple[float, float]:
        """Return the sum of the elements and that of their squares."""
        return min(shape), min(shape)


@dataclass(frozen=True, slots=True)
class Dirac:
    """A convolution that passes the channels of each group through."""

    groups: int = 1

    def fill_box(
        self, view: Tensor, offset: Sequence[int], shape: Sequence[int], seed: Seed, name: str
    ) -> None:
        with torch.no_grad():
            view.zero_()
            centre = _kernel_point(view, offset, [size // 2 for size in shape[2:]])
            if centre is None:
                return
            outputs = shape[0] // self.groups
            for group in range(self.groups):
                first = group * outputs - offset[0]
                rows = centre[max(first, 0) : max(first + outputs, 0)]
                rows.diagonal(max(-first, 0) - offset[1]).fill_(1)

    def moments(self, shape: Sequence[int]) -> tuple[float, float]:
        """Return the sum of the elements and that of their squares."""
        ones = self.groups * min(shape[0] // self.groups, shape[1])
        return ones, ones


@dataclass(frozen=True, slots=True)
class ZeroIdentity:
    """A partial identity, or a corner of a Hadamard matrix where outputs outnumber inputs."""

    def fill_box(
        self, view: Tensor, offset: Sequence[int], shape: Sequence[int], seed: Seed, name: str
    ) -> None:
        with torch.no_grad():
            view.zero_()
            matrix = _kernel_point(view, offset, [size // 2 for size in shape[2:]])
            if matrix is None:
                return
            if shape[0] <= shape[1]:
                matrix.diagonal(offset[0] - offset[1]).fill_(1)
            else:
                matrix.copy_(_hadamard(matrix, offset, shape[0]))

    def moments(self, shape: Sequence[int]) -> tuple[None, float]:
        """Return None, since the sum says nothing, and the sum of the squares."""
        rows, columns = shape[:2]
        if rows <= columns:
            return None, rows
        return None, rows * columns * 2.0 ** -_hadamard_order(rows)


@dataclass(frozen=True, slots=True)
class Orthogonal:
    """gain times a (semi-)orthogonal matrix: dimension 0 against all others.

    A box smaller than the tensor costs as much as the tensor: the factorisation needs all of it.
    """

    gain: float

    def fill_box(
        self, view: Tensor, offset: Sequence[int], shape: Sequence[int], seed: Seed, name: str
    ) -> None:
        if tuple(view.shape) == tuple(shape):
            _ops.orthogonal_(view, self.gain, seed, name)
            return
        whole = torch.empty(tuple(shape), dtype=view.dtype, device="cpu")
        _ops.orthogonal_(whole, self.gain, seed, name)
        with torch.no_grad():
            view.copy_(_cut(whole, offset, view.shape))

    def moments(self, shape: Sequence[int]) -> tuple[None, float]:
        """Return None, since the sum says nothing, and the sum of the squares."""
        return None, self.gain**2 * min(shape[0], math.prod(shape[1:]))


@dataclass(frozen=True, slots=True)
class DeltaOrthogonal:
    """gain times an orthogonal matrix at a convolution's centre, zeros elsewhere."""

    gain: float

    def fill_box(
        self, view: Tensor, offset: Sequence[int], shape: Sequence[int], seed: Seed, name: str
    ) -> None:
        with torch.no_grad():
            view.zero_()
            centre = _kernel_point(view, offset, [(size - 1) // 2 for size in shape[2:]])
            if centre is not None:
                matrix = view.new_empty(tuple(shape[:2]))
                _ops.orthogonal_(matrix, self.gain, seed, name)
                centre.copy_(_cut(matrix, offset, centre.shape))

    def moments(self, shape: Sequence[int]) -> tuple[None, float]:
        """Return None, since the sum says nothing, and the sum of the squares."""
        return None, self.gain**2 * min(shape[:2])


@dataclass(frozen=True, slots=True)
class Sparse:
    """Normal values with the same number of zeros, sparsity * rows rounded up, in each column."""

    sparsity: float
    std: float

    def fill_box(
        self, view: Tensor, offset: Sequence[int], shape: Sequence[int], seed: Seed, name: str
    ) -> None:
        if self.std == 0:
            with torch.no_grad():
                view.zero_()
            return
        _ops.fill_box_(view, Normal(0.0, self.std).spec(), seed, name, offset, shape)
        # Which elements of a column are zero is known from all its rows.
        words = view.new_empty((shape[0], view.shape[1]), dtype=torch.int32)
        columns = (0, offset[1])
        _ops.fill_box_(words, Bits().spec(), seed, part_name(name, "mask"), columns, shape)
        smallest = torch.argsort(words, dim=0, stable=True)[: self.zeros(shape)]
        mask = torch.zeros_like(words, dtype=torch.bool).scatter_(0, smallest, True)
        with torch.no_grad():
            # torch cannot mask 8-bit floats; the zero of every dtype is all zero bits.
            masked = view.view(torch.uint8) if view.element_size() == 1 else view
            masked.masked_fill_(mask[offset[0] : offset[0] + view.shape[0]], 0)

    def zeros(self, shape: Sequence[int]) -> int:
        """Return the number of zeros in each column."""
        return math.ceil(self.sparsity * shape[0])


Structure = Identity | Dirac | ZeroIdentity | Orthogonal | DeltaOrthogonal | Sparse

STRUCTURES = (Identity, Dirac, ZeroIdentity, Orthogonal, DeltaOrthogonal, Sparse)
"""For isinstance, which the compilers of some versions of torch cannot do with a union."""


def _kernel_point(view: Tensor, offset: Sequence[int], point: list[int]) -> Tensor | None:
    """Return the matrix that a box of a convolution's weight holds at one point of the kernel.

    None if the point lies outside the box.
    """
    for axis, index in reversed(list(enumerate(point, start=2))):
        local = index - offset[axis]
        if not 0 <= local < view.shape[axis]:
            return None
        view = view.select(axis, local)
    return view


def _cut(whole: Tensor, offset: Sequence[int], shape: Sequence[int]) -> Tensor:
    for axis, size in enumerate(shape):
        whole = whole.narrow(axis, offset[axis], size)
    return whole


def _hadamard_order(rows: int) -> int:
    return (rows - 1).bit_length()


def _hadamard(box: Tensor, offset: Sequence[int], rows: int) -> Tensor:
    """Return a box of Sylvester's Hadamard matrix of order 2**ceil(log2(rows)), scaled."""
    order = _hadamard_order(rows)
    i = torch.arange(box.shape[0], device=box.device) + offset[0]
    j = torch.arange(box.shape[1], device=box.device) + offset[1]
    # Entry (i, j) is -1 to the number of ones that i and j have in common.
    common = i[:, None] & j
    parity = torch.zeros_like(common)
    for bit in range(order):
        parity ^= (common >> bit) & 1
    return (1 - 2 * parity).to(torch.float64) * math.sqrt(2.0**-order)
