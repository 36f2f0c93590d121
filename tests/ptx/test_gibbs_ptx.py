# SPDX-License-Identifier: Apache-2.0
"""What is asked of the bodies of the Gibbs kernels. Here of PTX, with every access checked."""

import borrowed
import pytest

BODIES = borrowed.load("gibbs/test_cuda_body.py")
MEANS = borrowed.load("gibbs/test_means.py")
STATISTICS = borrowed.load("gibbs/test_statistics.py")
FLOAT_UNITS = borrowed.load("gibbs/test_float_units.py")

globals().update(borrowed.tests_that_use(BODIES, "monkeypatch"))
test_means = MEANS.test_cuda_body
test_statistics = STATISTICS.test_cuda_body
test_float_units = FLOAT_UNITS.test_cuda_body


@pytest.fixture(autouse=True)
def kernels(on_ptx):
    return on_ptx


@pytest.fixture
def isa():
    """Of test_float_units: the CPU's own."""
