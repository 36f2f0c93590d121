# SPDX-License-Identifier: Apache-2.0
"""Where the CUDA tests run: on a GPU or, to try the tests themselves, on a stand-in for one.

With TORCH_INIT_CUDA_STAND_IN=1 the host runs the kernel's body on CPU tensors. That proves the
tests and the body's arithmetic, and nothing about GPUs.
"""

import os

import pytest
import torch

from torch_init import _ops

STAND_IN = os.environ.get("TORCH_INIT_CUDA_STAND_IN") == "1"


class Engine:
    """The implementation under test; the CPU's, which it is compared with, is _ops.FillPlan."""

    device = torch.device("cpu") if STAND_IN else torch.device("cuda", 0)

    def plan(self, entries):
        """A prepared plan as a function that runs it."""
        plan = _ops.FillPlan(entries)
        return (lambda: plan.run_cuda_body_on_host(7)) if STAND_IN else plan.run

    def run(self, entries):
        self.plan(entries)()

    def measure(self, entries):
        if STAND_IN:
            return _ops.measure_with_cuda_body_on_host(entries, 7)
        return _ops.measure(entries)

    def accumulate(self, *arguments):
        if STAND_IN:
            return _ops.accumulate_with_cuda_body_on_host(*arguments, blocks=7)
        return _ops.accumulate_moments_(*arguments)


@pytest.fixture
def engine():
    yield Engine()
    if not STAND_IN:
        # An illegal access of this test must not be blamed on the next one.
        torch.cuda.synchronize()


@pytest.fixture
def gpu(engine):
    """The GPU, for tests of what the stand-in has not got."""
    if STAND_IN:
        pytest.skip("needs a GPU: the stand-in has no streams, graphs or second device")
    return engine.device
