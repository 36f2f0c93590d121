# SPDX-License-Identifier: Apache-2.0
"""docs/fingerprint.md, read literally into NumPy. Shares no code with the library."""

import numpy as np
import torch

U64 = np.uint64


def mix(x):
    x = x + U64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> U64(30))) * U64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> U64(27))) * U64(0x94D049BB133111EB)
    return x ^ (x >> U64(31))


def factor(word):
    page, place = word // U64(1024), word % U64(1024)
    return (mix(~page) | U64(1)) * (mix(place) | U64(1))


def terms(index, bits):
    """m(i, v) for arrays of logical indices and of unsigned integers of the elements' size."""
    width = 8 * bits.itemsize
    code = ~((bits << bits.dtype.type(1)) | (bits >> bits.dtype.type(width - 1)))
    index, code = np.asarray(index, U64), code.astype(U64)
    if width == 64:
        low, high = code % U64(2**32), code // U64(2**32)
        return factor(U64(2) * index) * low + factor(U64(2) * index + U64(1)) * high
    per_word = U64(32 // width)
    return factor(index // per_word) * (code << U64(width) * (index % per_word))


def bits_of(tensor):
    """The elements in row-major order as unsigned integers; a complex one as two."""
    dense = tensor.detach().clone(memory_format=torch.contiguous_format).resolve_conj().flatten()
    dense = torch.view_as_real(dense).flatten() if dense.is_complex() else dense
    raw = dense.view(torch.uint8).numpy()
    return raw.view(f"u{dense.element_size()}")


def fingerprint(tensor, first_index=0):
    bits = bits_of(tensor)
    index = np.arange(len(bits), dtype=U64) + U64(first_index)
    return int(terms(index, bits).sum(dtype=U64))
