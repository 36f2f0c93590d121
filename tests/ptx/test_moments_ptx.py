# SPDX-License-Identifier: Apache-2.0
"""What a GPU is asked of tensors that it reads. Here of PTX, with every access checked."""

import borrowed
import numpy as np
import pytest

from torch_init import _ops

MOMENTS = borrowed.load("cuda/test_moments_cuda.py")

globals().update(borrowed.tests_of(MOMENTS, "engine"))


@pytest.mark.parametrize("dtype", MOMENTS.REAL_DTYPES, ids=str)
def test_seven_dimensions_that_cannot_be_joined(engine, dtype):
    memory = MOMENTS.random_bits(3**7, dtype).view(3, 3, 3, 3, 3, 3, 3)
    x = memory[::2, ::2, ::2, ::2, ::2, ::2, :2].permute(3, 1, 0, 6, 5, 2, 4)
    MOMENTS.assert_same(engine.measure([(x,)]), _ops.measure([(x,)]))


@pytest.mark.parametrize("dtype", MOMENTS.FLOW_DTYPES, ids=str)
def test_flow_of_seven_dimensions_that_cannot_be_joined(engine, dtype):
    memory = MOMENTS.normal(3**7, dtype).view(3, 3, 3, 3, 3, 3, 3)
    x = memory[::2, ::2, ::2, ::2, ::2, ::2, :2].permute(3, 1, 0, 6, 5, 2, 4)
    wanted = MOMENTS.accumulated(_ops.accumulate_moments_, x, 1.0, True)
    found = MOMENTS.accumulated(engine.accumulate, x, 1.0, True)
    for got, want in zip(found, wanted, strict=True):
        assert np.allclose(got, want, rtol=1e-11, atol=1e-11)
