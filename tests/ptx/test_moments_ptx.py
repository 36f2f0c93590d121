# SPDX-License-Identifier: Apache-2.0
"""What a GPU is asked of tensors that it reads. Here of PTX, with every access checked."""

import borrowed

globals().update(borrowed.tests_that_use(borrowed.load("cuda/test_moments_cuda.py"), "engine"))
