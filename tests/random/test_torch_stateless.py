# SPDX-License-Identifier: Apache-2.0
"""An outside oracle: PyTorch's own stateless Philox (torch.func._random) has the same words.

Its uniforms on [0, 1) are made from the words as ours are, so they agree bit for bit. Its normals
are not: they depend on the device's logarithm and sine.
"""

import importlib

import pytest
import torch

from torch_init import _ops
from torch_init.distributions import Uniform

KEYS = [0, 1, 42, 2**40 + 7, 2**63 + 11]


def stateless_uniform(key: int, size: int, dtype: torch.dtype) -> torch.Tensor:
    try:
        random = importlib.import_module("torch.func._random")
        return random.uniform(torch.tensor([key, 0], dtype=torch.uint64), size, dtype=dtype)
    except (ImportError, NotImplementedError):
        pytest.skip(f"torch {torch.__version__} has no stateless uniform on the CPU (2.14 has)")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("key", KEYS)
def test_uniforms_are_those_of_torch(key: int, dtype: torch.dtype) -> None:
    expected = stateless_uniform(key, 100_003, dtype)
    ours = torch.empty(100_003, dtype=dtype)
    _ops.FillPlan([(ours, Uniform(0.0, 1.0).spec(), key)]).run()
    assert torch.equal(ours, expected)
