# SPDX-License-Identifier: Apache-2.0
"""Tensors large enough for threads and for stores past the cache: the bits of small ones."""

import pytest
import torch
from cases import Normal, TruncatedNormal, Uniform, entry, expected, same_bits

from torch_init import _ops

KEY = 5
STREAMED_BYTES = 16 << 20  # kStreamBytes of csrc/fill/host_fill.cpp
LARGE = [
    (torch.float32, Normal(0.0, 0.02)),
    (torch.float32, Uniform(-0.3, 0.7)),
    (torch.bfloat16, TruncatedNormal.in_sigmas(0.0, 1.0, -1.0, 3.0)),
    (torch.float16, Uniform(-0.3, 0.7)),
    (torch.float64, Uniform(-0.3, 0.7)),
]


@pytest.fixture
def threads():
    """torch.set_num_threads, undone after the test."""
    previous = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(previous)


def in_pieces(dtype, distribution, count, piece=600_001):
    """The same tensor from small, unaligned fills by the baseline tier."""
    previous = _ops.cpu_isa()
    _ops.set_cpu_isa("baseline")
    tensor = torch.empty(count, dtype=dtype)
    pieces = zip(tensor.split(piece), range(0, count, piece), strict=True)
    _ops.FillPlan([entry(part, distribution, KEY, first, (1,)) for part, first in pieces]).run()
    _ops.set_cpu_isa(previous)
    return tensor


def test_a_million_values_follow_the_reference(run_plan):
    for dtype in (torch.float32, torch.float64, torch.float16):
        tensor = torch.empty(1_000_003, dtype=dtype)
        run_plan([entry(tensor, Normal(0.0, 1.0), KEY)])
        assert same_bits(tensor, expected(Normal(0.0, 1.0), dtype, KEY, 1_000_003)), dtype


@pytest.mark.parametrize(("dtype", "distribution"), LARGE, ids=repr)
def test_large_tensors(run_plan, dtype, distribution):
    count = STREAMED_BYTES // dtype.itemsize + 3 * 65536 + 7
    memory = torch.empty(count + 1, dtype=dtype)
    pieces = in_pieces(dtype, distribution, count)
    for tensor in (memory[:count], memory[1:]):  # aligned for wide stores, and not
        tensor.zero_()
        run_plan([entry(tensor, distribution, KEY)], blocks=7)
        assert same_bits(tensor, pieces), tensor.storage_offset()


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_any_number_of_threads(tier, run_plan, threads, count):
    """Some 10 chunks of 2**16 elements for each thread, plain and scattered."""
    shape = (701, 1009)
    plain = torch.empty(shape)
    transposed = torch.empty(shape[::-1]).t()
    threads(count)
    run_plan([entry(plain, Normal(0.0, 1.0), KEY), entry(transposed, Normal(0.0, 1.0), KEY)])
    values = in_pieces(torch.float32, Normal(0.0, 1.0), plain.numel()).view(shape)
    assert same_bits(plain, values)
    assert same_bits(transposed, values)


def test_large_shard_across_block_2_to_the_32(run_plan):
    """The vector tiers start anew at that block, where the memory is no longer aligned."""
    count = STREAMED_BYTES // 4 + 1024
    shard = torch.empty(count)
    first = 2**34 - 100_000 + 4
    run_plan([entry(shard, Normal(0.0, 1.0), KEY, first, (1,))])
    around = slice(100_000 - 500, 100_000 + 500)
    values = expected(Normal(0.0, 1.0), torch.float32, KEY, 1000, first + around.start)
    assert same_bits(shard[around], values)
