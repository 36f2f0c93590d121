# SPDX-License-Identifier: Apache-2.0
"""docs/orthogonal.md, read literally into NumPy, gives the checksums of the C++ test.

The two share no code: if they agree, the page says what the library computes.
"""

import re
from pathlib import Path

import numpy as np
import pytest

CPP_TEST = Path(__file__).parents[1] / "cpp" / "test_orthogonal.cpp"
SHAPES = [(7, 7), (65, 64), (1000, 3), (150, 100)]
DTYPES = [np.float32, np.float64, np.complex64, np.complex128]


def multiply(a, b):
    """a b. NumPy leaves the roundings of a complex product open."""
    if not np.iscomplexobj(a):
        return a * b
    return join(a.real * b.real - a.imag * b.imag, a.real * b.imag + a.imag * b.real)


def add_product(s, a, b):
    """s + a b"""
    if not np.iscomplexobj(a):
        return s + a * b
    return join(
        (s.real + a.real * b.real) - a.imag * b.imag, (s.imag + a.real * b.imag) + a.imag * b.real
    )


def subtract_product(s, a, b):
    """s - a b"""
    return -add_product(-s, a, b)


def join(re, im):
    z = np.empty(np.shape(re), np.result_type(re, np.complex64))
    z.real, z.imag = re, im
    return z[()]


def each_part(operation, z, x):
    return (
        join(operation(z.real, x), operation(z.imag, x)) if np.iscomplexobj(z) else operation(z, x)
    )


def sum_of_products(left, right):
    """Over the first axis, from zero: sum of left[i, p] right[i, n]."""
    total = np.zeros((left.shape[1], right.shape[1]), left.dtype)
    for x, y in zip(left, right, strict=True):
        total = add_product(total, x[:, None], y[None, :])
    return total


def block_sum(left, right, skip=0):
    """The blocked sum of conj(left[i, p]) right[i, n] over the rows i >= skip."""
    total = np.zeros((left.shape[1], right.shape[1]), left.dtype)
    for start in range(0, len(left), 128):
        rows = slice(max(start, skip), start + 128)
        total = total + sum_of_products(left[rows].conj(), right[rows])
    return total


def squared(z):
    re, im = np.float64(z.real), np.float64(z.imag)
    return re * re + im * im


def factor(x, columns):
    """Turns x into V; returns T and the phases."""
    real = x.real.dtype.type
    tiny = 2.0**-250 if real is np.float32 else 2.0**-1000
    tau, phases = np.zeros(32, real), np.zeros(32, x.dtype)
    for j in range(columns):
        alpha = x[j, j]
        s = np.zeros(8)
        for i in range(j + 1, len(x)):
            s[i % 8] += squared(x[i, j])
        below = ((s[0] + s[1]) + (s[2] + s[3])) + ((s[4] + s[5]) + (s[6] + s[7]))
        if not np.iscomplexobj(x):
            modulus, phase = abs(np.float64(alpha)), np.float64(-1 if alpha < 0 else 1)
        elif squared(alpha) <= tiny:
            modulus, phase = np.float64(0), np.complex128(1)
        else:
            modulus = np.sqrt(squared(alpha))
            phase = each_part(np.divide, np.complex128(alpha), modulus)
        if below <= tiny:
            phases[j] = phase
            x[j + 1 :, j] = 0
            continue
        phases[j] = -phase
        pivot = modulus + np.sqrt(squared(alpha) + below)
        scale = x.dtype.type(each_part(np.divide, phase.conjugate(), pivot))
        tau[j] = 2.0 / (1.0 + squared(scale) * below)
        products = block_sum(x[:, j : j + 1], x[:, j + 1 :], skip=j + 1)[0]
        w = add_product(x[j, j + 1 :], scale.conjugate(), products)
        w = each_part(np.multiply, w, tau[j])
        v = multiply(x[j + 1 :, j], scale)
        x[j + 1 :, j + 1 :] = subtract_product(x[j + 1 :, j + 1 :], v[:, None], w[None, :])
        x[j + 1 :, j] = v
    for j in range(columns):
        x[:j, j] = 0
        x[j, j] = 1
    return triangular_factor(block_sum(x, x), tau), phases


def triangular_factor(gram, tau):
    t = np.zeros((32, 32), gram.dtype)
    for j in range(32):
        t[j, j] = tau[j]
        for i in range(j):
            s = sum_of_products(t[i, i:j, None], gram[i:j, j, None])[0, 0]
            t[i, j] = each_part(np.multiply, s, -tau[j])
    return t


def apply(v, s, c):
    z = sum_of_products(s.conj(), block_sum(v, c))
    c -= sum_of_products(v.T, z)


def q_factor(a):
    rows, cols = a.shape
    strips = -(-cols // 32)
    x = np.zeros((-(-rows // 4) * 4, strips * 32), a.dtype)
    x[:rows, :cols] = a
    q = np.zeros_like(x)
    t = []
    for p in range(strips):
        strip = slice(32 * p, 32 * p + 32)
        columns = min(32, cols - 32 * p)
        t_p, phases = factor(x[32 * p :, strip], columns)
        t.append(t_p)
        for s in range(p + 1, strips):
            apply(x[32 * p :, strip], t_p, x[32 * p :, 32 * s : 32 * s + 32])
        for j in range(columns):
            q[32 * p + j, 32 * p + j] = phases[j]
    for s in range(strips):
        for p in range(s, -1, -1):
            v = x[32 * p :, 32 * p : 32 * p + 32]
            apply(v, t[p].conj().T, q[32 * p :, 32 * s : 32 * s + 32])
    return q[:rows, :cols]


def near_normals():
    """The C++ test's numbers: sums of four of SplitMix64's uniforms."""
    mask = 2**64 - 1
    state = 0
    while True:
        total = -2.0
        for _ in range(4):
            state = (state + 0x9E3779B97F4A7C15) & mask
            z = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & mask
            z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
            total += ((z ^ (z >> 31)) >> 32) * 2.0**-32
        yield total


def checksum(q):
    hash_ = 0xCBF29CE484222325
    for byte in np.ascontiguousarray(q).tobytes():
        hash_ = ((hash_ ^ byte) * 0x100000001B3) & (2**64 - 1)
    return hash_


def golden():
    table = CPP_TEST.read_text(encoding="utf-8").split("kGolden[4][4] = {")[1].split("};")[0]
    words = [int(word, 16) for word in re.findall(r"0x[0-9a-f]{16}", table)]
    return np.array(words, dtype=object).reshape(4, 4)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: "x".join(map(str, shape)))
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.__name__)
def test_specification_gives_the_golden_bits(dtype, shape):
    source = near_normals()
    numbers = [complex(next(source), next(source)) for _ in range(shape[0] * shape[1])]
    a = np.array(numbers).reshape(shape)
    a = a.astype(dtype) if np.issubdtype(dtype, np.complexfloating) else a.real.astype(dtype)
    assert checksum(q_factor(a)) == golden()[DTYPES.index(dtype), SHAPES.index(shape)]
