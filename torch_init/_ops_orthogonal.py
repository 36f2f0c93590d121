# SPDX-License-Identifier: Apache-2.0
"""The orthonormal factor of a matrix (docs/orthogonal.md): a part of _ops.py, its only importer."""

import torch
from torch import Tensor

from torch_init import _C
from torch_init._descriptors import DTYPE_CODES, REAL_OF_COMPLEX


def orthonormalized(matrix: Tensor) -> Tensor:
    """Return matrix with orthonormal columns, or rows if it is wide; its memory may be used."""
    is_wide = matrix.shape[0] < matrix.shape[1]
    tall = matrix.T.contiguous() if is_wide else matrix
    code = DTYPE_CODES[REAL_OF_COMPLEX.get(matrix.dtype, matrix.dtype)]
    rows, columns = tall.shape
    threads, is_complex = torch.get_num_threads(), matrix.dtype.is_complex
    _C.orthonormalize_columns(tall.data_ptr(), code, is_complex, rows, columns, threads)
    return tall.T if is_wide else tall
