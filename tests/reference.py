# SPDX-License-Identifier: Apache-2.0
"""docs/stream.md in NumPy: an independent implementation that every tier is compared with.

Written from that page alone, section by section. NumPy's + - * / and sqrt of float32 and float64
arrays are IEEE operations; torch only rounds to the narrow dtypes.
"""

import functools
import hashlib
import math

import numpy as np
import torch
from quantile_reference import table

MASK32 = 0xFFFFFFFF
INF = math.inf

# 1. Words


def philox(counter, key):
    """Philox4x32-10: four counter words and two key words, each an int or a uint64 array < 2^32."""
    c0, c1, c2, c3 = (np.asarray(c, np.uint64) for c in counter)
    k0, k1 = (int(k) for k in key)
    low, shift = np.uint64(MASK32), np.uint64(32)
    for _ in range(10):
        p0 = np.uint64(0xD2511F53) * c0
        p1 = np.uint64(0xCD9E8D57) * c2
        c0, c1, c2, c3 = (
            (p1 >> shift) ^ c1 ^ np.uint64(k0),
            p1 & low,
            (p0 >> shift) ^ c3 ^ np.uint64(k1),
            p0 & low,
        )
        k0, k1 = (k0 + 0x9E3779B9) & MASK32, (k1 + 0xBB67AE85) & MASK32
    return c0, c1, c2, c3


def words(key, index):
    """The words w[index] of the stream `key`; `index` is a uint64 array."""
    index = np.asarray(index, np.uint64)
    block, lane = index >> np.uint64(2), index & np.uint64(3)
    counter = (block & np.uint64(MASK32), block >> np.uint64(32), 0, 0)
    return np.choose(lane.astype(np.int64), philox(counter, (key & MASK32, key >> 32)))


# 2. Keys


def fold_key(seed, name):
    digest = hashlib.sha256(b"torch_init stream 1\x00" + name.encode()).digest()[:16]
    return fold_digest(seed, digest)


def fold_digest(seed, digest):
    counter = np.frombuffer(digest, "<u4").astype(np.uint64)
    seed %= 2**64
    k = philox(counter, (seed & MASK32, seed >> 32))
    return int(k[0]) + (int(k[1]) << 32)


# 4. Arithmetic and dtypes


def fma32(a, b, c):
    """RN32(a*b + c): the product is exact in float64, the sum rounded to odd, then to float32."""
    product = a.astype(np.float64) * np.float64(b)
    c = np.asarray(c, np.float64)
    total = product + c
    back = total - product
    error = (product - (total - back)) + (c - back)
    even = (total.view(np.int64) & 1) == 0
    toward = np.nextafter(total, np.where(error > 0, np.inf, -np.inf))
    return np.where((error != 0) & even, toward, total).astype(np.float32)


@functools.cache
def values_of(dtype):
    """Every finite value of a narrow dtype, ascending, as float64."""
    bits = dtype.itemsize * 8
    unsigned = {8: torch.uint8, 16: torch.int16}[bits]
    every = torch.arange(2**bits).to(unsigned).view(dtype).to(torch.float64).numpy()
    return np.unique(every[np.isfinite(every)])


def up(x, dtype):
    """The least finite value of the dtype that is >= x; a zero is +0."""
    return -down(-x, dtype) + 0.0


def down(x, dtype):
    """The greatest finite value of the dtype that is <= x; a zero is +0."""
    x = min(x, torch.finfo(dtype).max)
    if dtype == torch.float64:
        return x + 0.0
    if dtype == torch.float32:
        with np.errstate(over="ignore"):
            nearest = np.float32(x)
        exceeds = float(nearest) > x
        return float(np.nextafter(nearest, np.float32(-np.inf)) if exceeds else nearest) + 0.0
    values = values_of(dtype)
    at = np.searchsorted(values, x, side="right") - 1
    return float(values[at]) + 0.0 if at >= 0 else -INF


def below(x, dtype):
    """The greatest value of the dtype that is < x."""
    largest = down(x, dtype)
    if largest < x:
        return largest
    if dtype == torch.float64:
        return math.nextafter(largest, -INF)
    if dtype == torch.float32:
        return float(np.nextafter(np.float32(largest), np.float32(-np.inf)))
    values = values_of(dtype)
    return float(values[np.searchsorted(values, largest) - 1])


def clamp(v, low, high):
    v = np.where(v < low, v.dtype.type(low), v)
    return np.where(v > high, v.dtype.type(high), v)


# 5. Evaluation


def quantile32(w, bounds):
    _, coefficients = table(bounds, False)
    h = (w >> np.uint64(31)).astype(np.int64)
    m = (w & np.uint64(0x7FFFFFFF)).astype(np.int64)
    x = m.astype(np.float32) + np.float32(0.5)
    bits = x.view(np.int32)
    segment = (bits >> 21) - 504
    t = ((bits & 0x1FFFFF) | 0x3F800000).view(np.float32)
    symmetric = len(coefficients) == 1
    c0, c1, c2, c3 = coefficients[0 if symmetric else h, segment].T
    q = fma32(fma32(fma32(c3, t, c2), t, c1), t, c0)
    if symmetric:
        q = (q.view(np.uint32) ^ (h << 31).astype(np.uint32)).view(np.float32)
    return q


def quantile64(w, bounds):
    _, coefficients = table(bounds, True)
    h = (w >> np.uint64(63)).astype(np.int64)
    m = (w & np.uint64(2**63 - 1)).astype(np.int64)
    x = m.astype(np.float64) + 0.5
    bits = x.view(np.int64)
    segment = (bits >> 50) - 4088
    t = ((bits & (2**50 - 1)) | 0x3FF0000000000000).view(np.float64) - 1.125
    symmetric = len(coefficients) == 1
    c = coefficients[0 if symmetric else h, segment]
    q = c[..., 8]
    for power in range(7, -1, -1):
        q = q * t + c[..., power]
    if symmetric:
        q = (q.view(np.uint64) ^ (h << 63).astype(np.uint64)).view(np.float64)
    return q


# 4. Distributions: ("name", parameters...), as in the table of the page


def sample(distribution, dtype, key, index):
    """The elements `index` (uint64 array) of a real tensor, as a flat torch tensor of `dtype`."""
    kind, *parameters = distribution
    index = np.asarray(index, np.uint64)
    double = dtype == torch.float64
    if double:
        first = words(key, np.uint64(2) * index)
        w = (first << np.uint64(32)) | words(key, np.uint64(2) * index + np.uint64(1))
    else:
        first = w = words(key, index)
    if kind == "bits":
        return torch.from_numpy(first.astype(np.uint32).view(np.int32))
    real = np.float64 if double else np.float32
    with np.errstate(over="ignore"):
        v = _value(kind, [float(p) for p in parameters], dtype, real, w, first)
    if dtype == torch.float8_e4m3fn:  # saturates by itself from torch 2.13 on
        v = v.clip(-448, 448)
    return torch.from_numpy(np.ascontiguousarray(v, dtype=real)).to(dtype)


def _fma(a, b, c):
    return a * b + c if a.dtype == np.float64 else fma32(a, b, c)


def _value(kind, parameters, dtype, real, w, first):
    double = real is np.float64
    if kind == "constant":
        return np.full(w.shape, real(parameters[0]))
    if kind == "uniform":
        low, high = parameters
        bits = 53 if double else 24
        u = (w & np.uint64(2**bits - 1)).astype(real)
        v = _fma(u, real((high - low) * 2.0**-bits), real(low))
        return clamp(v, up(low, dtype), below(high, dtype))
    if kind == "two_point":
        p, low, high = parameters
        threshold = math.floor(p * 2.0**32 + 0.5)
        return np.where(first < threshold, real(high), real(low))
    quantile = quantile64 if double else quantile32
    if kind == "normal":
        mean, std = parameters
        return _fma(quantile(w, (-INF, INF)), real(std), real(mean))
    if kind == "logistic":
        location, scale = parameters
        return _fma(quantile(w, "logistic"), real(scale), real(location))
    if kind == "truncated_normal":
        mean, std, lower, upper, low, high = parameters
        centre, _ = table((lower, upper), double)
        location = mean if centre == 0.0 else low if centre == lower else high
        v = _fma(quantile(w, (lower, upper)), real(std), real(location))
        if math.isinf(lower) and math.isinf(upper):
            return v
        return clamp(v, up(low, dtype), down(high, dtype))
    raise ValueError(f"unknown distribution {kind!r}")
