# SPDX-License-Identifier: Apache-2.0
"""What the tests of the engine share: reference.py and cases.py as modules, and its tiers."""

import os
import sys
from pathlib import Path

import pytest
import torch

from torch_init import _ops

sys.path.append(str(Path(__file__).parent))

CUDA_BODY = "cuda_body"  # the kernel's own code, run by the host


def pytest_runtest_setup(item):
    """Tests marked `cuda` need a GPU, or pytest's user to say that a stand-in will do."""
    if item.get_closest_marker("cuda") is None or os.environ.get("TORCH_INIT_CUDA_STAND_IN") == "1":
        return
    if not torch.cuda.is_available():
        reason = "this torch sees no GPU"
    elif _ops.cuda_device_count() == 0:
        reason = "torch_init was built without CUDA kernels, or its driver is too old"
    else:
        return
    if os.environ.get("TORCH_INIT_REQUIRE_CUDA") == "1":
        pytest.fail(f"TORCH_INIT_REQUIRE_CUDA=1, but {reason}", pytrace=False)
    pytest.skip(reason)


@pytest.fixture(params=[*_ops.cpu_isas(), CUDA_BODY])
def tier(request):
    """The name of an implementation of the engine, in use while the test runs."""
    if request.param == CUDA_BODY:
        yield request.param
        return
    previous = _ops.cpu_isa()
    _ops.set_cpu_isa(request.param)
    yield request.param
    _ops.set_cpu_isa(previous)


@pytest.fixture
def run_plan(tier):
    """A function that fills the entries of _ops.FillPlan with the implementation `tier`."""

    def run(entries, blocks=3):
        plan = _ops.FillPlan(entries)
        if tier == CUDA_BODY:
            plan.run_cuda_body_on_host(blocks)
        else:
            plan.run()

    return run


@pytest.fixture
def measure(tier):
    """_ops.measure with the implementation `tier`."""
    if tier == CUDA_BODY:
        return lambda entries: _ops.measure_with_cuda_body_on_host(entries, 3)
    return _ops.measure


@pytest.fixture
def accumulate(tier):
    """_ops.accumulate_moments_ with the implementation `tier`."""
    return _ops.accumulate_with_cuda_body_on_host if tier == CUDA_BODY else _ops.accumulate_moments_
