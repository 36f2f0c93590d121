# SPDX-License-Identifier: Apache-2.0
"""What a GPU is asked of fills: the CPU's bits. Here of PTX, with every access checked."""

import borrowed

globals().update(borrowed.tests_of(borrowed.load("cuda/test_fill_cuda.py"), "engine"))
