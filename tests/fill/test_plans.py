# SPDX-License-Identifier: Apache-2.0
"""Many tensors in one call: each as if it were alone."""

import random

import torch
from cases import DISTRIBUTIONS, REAL_DTYPES, Normal, entry, expected, same_bits

from torch_init import _ops


def some_tensors(seed, count):
    """Tensors of mixed dtypes, sizes (none, a few, several tiles) and alignments."""
    generator = random.Random(seed)
    for i in range(count):
        size = generator.choice([0, 1, 2, 5, 97, 1024, 4096, 9001])
        dtype = generator.choice(REAL_DTYPES)
        offset = generator.choice([0, 0, 1])
        tensor = torch.empty(size + offset, dtype=dtype)[offset:]
        yield tensor, generator.choice(DISTRIBUTIONS), i % 7


def test_each_tensor_as_if_alone(run_plan, tier):
    """The number of blocks matters to the CUDA body only."""
    for blocks in (1, 2, 5, 64, 10_000) if tier == "cuda_body" else (1,):
        tensors = list(some_tensors(seed=blocks, count=60))
        run_plan([entry(*t) for t in tensors], blocks)
        for tensor, distribution, key in tensors:
            values = expected(distribution, tensor.dtype, key, tensor.numel())
            assert same_bits(tensor, values), (distribution, tensor.dtype, tensor.numel())


def test_a_plan_can_be_run_again():
    tensor = torch.empty(999)
    plan = _ops.FillPlan([entry(tensor, Normal(0.0, 1.0), 2)])
    plan.run()
    first = tensor.clone()
    tensor.zero_()
    plan.run()
    assert same_bits(tensor, first)
