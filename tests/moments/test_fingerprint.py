# SPDX-License-Identifier: Apache-2.0
"""The fingerprint is the one of docs/fingerprint.md, adds up, and misses no accident."""

import random
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from cases import COMPLEX_DTYPES, LAYOUTS, REAL_DTYPES
from fingerprint_reference import U64, bits_of, fingerprint, terms

DTYPES = (*REAL_DTYPES, *COMPLEX_DTYPES)
PAGE = Path(__file__).parents[2] / "docs" / "fingerprint.md"
KNOWN = re.findall(r"^\| `(\w+)\((\d+)\)` \| (\w+) \| `(0x\w+)` \|$", PAGE.read_text(), re.M)


def random_bits(size, dtype, seed=0):
    """Every bit pattern of the dtype may occur, NaNs and subnormals too."""
    generator = torch.Generator().manual_seed(seed)
    raw = torch.randint(0, 256, (size * dtype.itemsize,), dtype=torch.uint8, generator=generator)
    return raw.view(dtype)


def of(measure, *entries):
    return [int(row) for row in measure(entries)["fingerprint"]]


def total(numbers):
    return sum(numbers) % 2**64


def test_known_answers(measure):
    assert len(KNOWN) == 9
    for make, size, dtype, answer in KNOWN:
        tensor = getattr(torch, make)(int(size)).to(getattr(torch, dtype))
        assert of(measure, (tensor,)) == [int(answer, 16)], (make, dtype)
        assert fingerprint(tensor) == int(answer, 16), (make, dtype)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_do_not_matter(measure, layout):
    size, view = LAYOUTS[layout]
    tensors = [view(random_bits(size, dtype)) for dtype in DTYPES]
    assert of(measure, *((t,) for t in tensors)) == [fingerprint(t) for t in tensors]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("size", [15, 16, 1023, 1024, 4097, 65535, 65537, 150_001])
def test_sizes(measure, dtype, size):
    """Around registers, pages of the image and chunks; also with memory off its alignment."""
    whole = random_bits(size + 3, dtype)
    for tensor in (whole[:size], whole[3:], whole[1:-2]):
        assert of(measure, (tensor,)) == [fingerprint(tensor)]


@pytest.mark.parametrize("dtype", REAL_DTYPES, ids=str)
@pytest.mark.parametrize("seed", range(4))
def test_disjoint_parts_add_up(measure, dtype, seed):
    """A tensor cut into boxes, each kept in plain memory, in any order of dimensions."""
    generator = random.Random(seed)
    shape = (9, 17, 40, 33)
    whole = random_bits(9 * 17 * 40 * 33, dtype, seed).view(shape)
    boxes = [whole]
    for _ in range(12):
        box = boxes.pop(generator.randrange(len(boxes)))
        d = generator.choice([d for d in range(4) if box.shape[d] > 1])
        cut = generator.randrange(1, box.shape[d])
        boxes += [box.narrow(d, 0, cut), box.narrow(d, cut, box.shape[d] - cut)]
    entries = []
    for box in boxes:
        box = box.permute(generator.sample(range(4), 4))
        entries.append((box.contiguous(), box.storage_offset(), box.stride()))
    assert total(of(measure, *entries)) == fingerprint(whole)


def test_complex_parts_add_up(measure):
    whole = random_bits(30 * 40, torch.complex64).view(30, 40)
    entries = [(whole[:, a:b].contiguous(), a, (40, 1)) for a, b in [(0, 7), (7, 40)]]
    assert total(of(measure, *entries)) == fingerprint(whole)


@pytest.mark.parametrize("dtype", REAL_DTYPES, ids=str)
@pytest.mark.parametrize("first", [2**31 - 299, 2**32 - 299, 2**34 - 1, 2**40 + 12345, 2**61])
def test_elements_past_two_to_the_31(measure, dtype, first):
    part = random_bits(70_001, dtype)
    assert of(measure, (part, first, (1,))) == [fingerprint(part, first)]


def test_only_bits_count(measure):
    zero, negative = torch.zeros(5), torch.zeros(5)
    negative[3] = -0.0
    quiet, payload = torch.full((5,), torch.nan), torch.full((5,), torch.nan)
    payload.view(torch.int32)[2] += 1
    same_bits = torch.zeros(5, dtype=torch.bfloat16), torch.zeros(5, dtype=torch.float16)
    found = of(measure, *((t,) for t in (zero, negative, quiet, payload, *same_bits)))
    assert len(set(found[:5])) == 5
    assert found[4] == found[5]


def test_missing_zeros_are_noticed(measure):
    found = of(measure, *((torch.zeros(n),) for n in range(1, 40)))
    assert len(set(found)) == 39
    assert of(measure, (torch.zeros(0),)) == [0]


# What follows is about the function, not the kernels, and asks the reference.


def changes(bits, changed):
    """By how much each element's term changes."""
    index = np.arange(len(bits), dtype=U64)
    return terms(index, changed) - terms(index, bits)


@pytest.mark.parametrize("dtype", REAL_DTYPES, ids=str)
def test_no_two_flipped_bits_cancel(dtype):
    """Nor does one vanish. Among 2**18 changes, 2**35 pairs would meet often in 32 bits."""
    bits = bits_of(torch.randn(2**18 // (8 * dtype.itemsize)).to(dtype))
    width = 8 * bits.itemsize
    flipped = [changes(bits, bits ^ bits.dtype.type(1 << b)) for b in range(width - 2)]
    # The exponent's two highest bits alone change by factors of 2**64 and more in float32.
    flipped.append(changes(bits, bits ^ bits.dtype.type(1 << (width - 1))))
    found = np.concatenate([*flipped, *(U64(0) - f for f in flipped)])
    assert (found != 0).all()
    assert len(np.unique(found)) == len(found)


@pytest.mark.parametrize("dtype", REAL_DTYPES, ids=str)
def test_swaps_and_shifts_are_seen(dtype):
    tensor = torch.randn(3000).to(dtype)
    bits = bits_of(tensor)
    rng = np.random.default_rng(0)
    index = np.arange(len(bits), dtype=U64)

    def swapped(i, j):
        terms_now = terms(i, bits[i]) + terms(j, bits[j])
        return (terms(i, bits[j]) + terms(j, bits[i]) - terms_now)[bits[i] != bits[j]]

    neighbours = swapped(index[:-1], index[1:])
    others = swapped(*np.unique(rng.integers(0, 3000, (100_000, 2), U64), axis=0).T)
    assert (neighbours != 0).all() and (others != 0).all()
    assert len(np.unique(neighbours)) == len(neighbours)  # no two neighbouring swaps cancel
    for shift in (1, 2, 3, 4, 8, 1024):
        assert changes(bits, np.roll(bits, shift)).sum() != 0


@pytest.mark.parametrize("dtype", REAL_DTYPES, ids=str)
def test_structured_changes_are_seen(dtype):
    """Rows and columns negated, scaled, exchanged or zeroed: all fingerprints differ."""
    tensor = torch.randn(48, 64).to(dtype).double()
    variants = [tensor, torch.zeros_like(tensor), tensor.flip(0), tensor.flip(1)]
    variants.append(tensor.view(64, 48).t().reshape(48, 64))
    variants += [tensor * scale for scale in (-1.0, 0.5, 2.0, 4.0)]
    for d in (0, 1):
        for i in range(tensor.shape[d]):
            for scale in (-1.0, 0.0, 2.0):
                changed = tensor.clone()
                changed.select(d, i).mul_(scale)
                variants.append(changed)
            order = list(range(tensor.shape[d]))
            order[i], order[i - 1] = order[i - 1], order[i]
            variants.append(tensor.index_select(d, torch.tensor(order)))
    variants = [variant.to(dtype) for variant in variants]
    found = {fingerprint(variant) for variant in variants}
    distinct = {bits_of(variant).tobytes() for variant in variants}
    assert len(found) == len(distinct) > 400


def test_a_weaker_function_would_fail():
    """The tests above can fail: with factors that ignore the place, swaps are not seen."""
    bits = bits_of(torch.randn(100))
    weak = terms(np.zeros(100, U64), bits).sum()
    assert weak == terms(np.zeros(100, U64), np.roll(bits, 1)).sum()
