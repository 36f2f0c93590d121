# SPDX-License-Identifier: Apache-2.0
"""What is asked of the bodies of the Gibbs kernels. Here of PTX, with every access checked."""

import borrowed
import pytest

BODIES = borrowed.load("gibbs/test_cuda_body.py")
globals().update(borrowed.tests_that_use(BODIES, "monkeypatch"))


@pytest.fixture(autouse=True)
def kernels(on_ptx):
    return on_ptx
