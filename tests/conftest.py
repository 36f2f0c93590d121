# SPDX-License-Identifier: Apache-2.0
"""What the tests of the engine share: reference.py and cases.py as modules, and its tiers."""

import sys
from pathlib import Path

import pytest

from torch_init import _ops

sys.path.append(str(Path(__file__).parent))

CUDA_BODY = "cuda_body"  # the kernel's own code, run by the host


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
