# SPDX-License-Identifier: Apache-2.0
"""A part of a tensor, filled alone, has the bits of that part of the whole."""

import itertools
import random

import pytest
import torch
from cases import KERNELS, REAL_DTYPES, Bits, entry, expected, same_bits

KEY = 0xFEDCBA9876543210


@pytest.mark.parametrize("distribution", KERNELS, ids=repr)
def test_chunks_are_slices_of_the_whole(run_plan, distribution):
    """At starts and ends that cut Philox blocks, registers and staging buffers."""
    whole = expected(distribution, torch.float32, KEY, 9001)
    cuts = [0, 1, 2, 3, 7, 64, 127, 2177, 2178, 6500, 9001]
    for dtype in (torch.float32, torch.bfloat16):
        parts = [torch.empty(b - a, dtype=dtype) for a, b in itertools.pairwise(cuts)]
        run_plan(
            [
                entry(part, distribution, KEY, first, (1,))
                for part, first in zip(parts, cuts, strict=False)
            ]
        )
        values = expected(distribution, dtype, KEY, len(whole))
        assert same_bits(torch.cat([p.view(torch.uint8) for p in parts]), values.view(torch.uint8))


def random_slice(generator, size):
    start = generator.randrange(size)
    stop = generator.randrange(start, size) + 1
    return slice(start, stop, generator.choice([1, 1, 2, 3]))


@pytest.mark.parametrize("dtype", REAL_DTYPES, ids=str)
@pytest.mark.parametrize("seed", range(8))
def test_shards_are_slices_of_the_whole(run_plan, dtype, seed):
    """Random boxes of a tensor, with steps and permuted dimensions, into plain memory."""
    generator = random.Random(seed)
    shape = (5, 6, 7, 11)
    distribution = generator.choice(KERNELS)
    whole = expected(distribution, dtype, KEY, 5 * 6 * 7 * 11).view(shape)
    shards, entries = [], []
    for _ in range(10):
        order = generator.sample(range(4), 4)
        box = whole[tuple(random_slice(generator, size) for size in shape)].permute(order)
        shard = torch.empty(box.shape, dtype=dtype)
        shards.append((shard, box))
        entries.append(entry(shard, distribution, KEY, box.storage_offset(), box.stride()))
    run_plan(entries)
    for shard, box in shards:
        assert same_bits(shard, box), (box.storage_offset(), box.shape, box.stride())


# Element 2**34 begins block 2**32 of four values, element 2**33 that of two.
FAR = [2**31, 2**32, 2**33, 2**34, 2**40 + 12345, 2**61]


@pytest.mark.parametrize("dtype", REAL_DTYPES, ids=str)
@pytest.mark.parametrize("distribution", KERNELS, ids=repr)
def test_elements_past_two_to_the_31(run_plan, dtype, distribution):
    """Chunks that straddle each border, of tensors far too large for memory."""
    count = 601
    chunks = [torch.empty(count, dtype=dtype) for _ in FAR]
    firsts = [border - 299 for border in FAR]
    run_plan(
        [
            entry(chunk, distribution, KEY, first, (1,))
            for chunk, first in zip(chunks, firsts, strict=True)
        ]
    )
    for chunk, first in zip(chunks, firsts, strict=True):
        assert same_bits(chunk, expected(distribution, dtype, KEY, count, first)), first


def test_rows_far_apart(run_plan):
    """A column block of a matrix with 2**33 columns."""
    rows = torch.empty(5, 13, dtype=torch.uint32)
    run_plan([entry(rows, Bits(), KEY, 2**32 - 3, (2**33, 1))])
    for i, row in enumerate(rows):
        first = 2**32 - 3 + i * 2**33
        words = expected(Bits(), torch.float32, KEY, 13, first)
        assert same_bits(row.view(torch.int32), words)
