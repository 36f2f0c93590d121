# SPDX-License-Identifier: Apache-2.0
"""Instructions as the executor has them, against other arithmetic."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from probe import LANES, evaluate


def words(seed):
    generator = np.random.default_rng(seed)
    edges = [0, 1, 2, 31, 32, 33, 63, 64, 255, 2**31 - 1, 2**31, 2**32 - 1]
    drawn = generator.integers(0, 2**32, LANES, dtype=np.uint64).astype(np.uint32)
    drawn[: len(edges)] = generator.permutation(edges)
    return drawn


def floats(seed):
    """All exponents, and the edges of the narrow formats' ranges."""
    generator = np.random.default_rng(seed)
    x = np.ldexp(generator.uniform(-2, 2, LANES), generator.integers(-150, 128, LANES))
    edges = [0.0, -0.0, 448, 464, 480, 57344, 61440, 65504, 65520, 3.4e38, 2**-9, 2**-10, 1e-45]
    x[: len(edges)] = edges
    x[100:200] = np.ldexp(generator.integers(-512, 512, 100), generator.integers(-20, 4, 100))
    return x.astype(np.float32)


def signed(x):
    return x - 2**32 if x >= 2**31 else x


def permuted(a, b, selector):
    pool, found = (b << 32 | a).to_bytes(8, "little"), []
    for nibble in (selector >> 4 * i & 15 for i in range(4)):
        byte = pool[nibble & 7]
        found.append((255 if byte >= 128 else 0) if nibble >= 8 else byte)
    return int.from_bytes(found, "little")


def inserted(a, b, position, length):
    position, length = position & 255, length & 255
    field = ((1 << length) - 1 << position) & 0xFFFFFFFF
    return a << position & field | b & ~field


# The bits of a result, and what it is of Python's integers, read as unsigned ones.
INTEGERS = {
    "add.s32": (32, lambda a, b: a + b),
    "mul.lo.s32": (32, lambda a, b: a * b),
    "mul.hi.u32": (32, lambda a, b: a * b >> 32),
    "mul.hi.s32": (32, lambda a, b: signed(a) * signed(b) >> 32),
    "mul.wide.s32": (64, lambda a, b: signed(a) * signed(b)),
    "mad.lo.u32": (32, lambda a, b, c: a * b + c),
    "div.s32": (32, lambda a, b: math.trunc(Fraction(signed(a), signed(b)))),
    "rem.u32": (32, lambda a, b: a % b),
    "shl.b32": (32, lambda a, n: a << n if n < 32 else 0),
    "shr.u32": (32, lambda a, n: a >> n if n < 32 else 0),
    "shr.s32": (32, lambda a, n: signed(a) >> min(n, 31)),
    "shf.l.wrap.b32": (32, lambda a, b, n: (b << 32 | a) << (n & 31) >> 32),
    "shf.r.clamp.b32": (32, lambda a, b, n: (b << 32 | a) >> min(n, 32)),
    "prmt.b32": (32, permuted),
    "max.s32": (32, lambda a, b: max(signed(a), signed(b))),
    "popc.b32": (32, lambda a: bin(a).count("1")),
    "clz.b32": (32, lambda a: 32 - a.bit_length()),
    "cvt.s16.s8": (32, lambda a: (a & 127) - (a & 128)),
    "cvt.rn.f32.s32": (32, lambda a: int(np.float32(signed(a)).view(np.uint32))),
}


@pytest.mark.parametrize("name", INTEGERS)
def test_integers(machine, name):
    bits, meaning = INTEGERS[name]
    arguments = [words(i) for i in range(meaning.__code__.co_argcount)]
    if name.startswith(("div", "rem")):
        arguments[1] |= 1
    found = evaluate(machine, name, f"b{bits}", *(("b32", x) for x in arguments))
    wanted = [meaning(*x) % 2**bits for x in zip(*(x.tolist() for x in arguments), strict=True)]
    assert found.tolist() == wanted


@pytest.mark.parametrize(
    ("position", "length"), [(0, 8), (5, 3), (31, 4), (16, 32), (40, 2), (3, 0)]
)
def test_bit_fields(machine, position, length):
    a, b = words(0), words(1)
    name = f"bfi.b32 %y, %x0, %x1, {position}, {length}"
    found = evaluate(machine, name, "b32", ("b32", a), ("b32", b))
    pairs = zip(a.tolist(), b.tolist(), strict=True)
    assert found.tolist() == [inserted(x, y, position, length) for x, y in pairs]


def nearest(exact, guess):
    """The float32 nearest to a fraction, one of whose neighbours is given."""
    around = [np.nextafter(guess, np.float32(s * np.inf), dtype=np.float32) for s in (-1, 1)]
    finite = [x for x in (guess, *around) if np.isfinite(x)]
    return min(finite, key=lambda x: (abs(Fraction(float(x)) - exact), x.view(np.uint32) & 1))


def test_fma_is_rounded_once(machine):
    generator = np.random.default_rng(0)
    a, b = (generator.normal(size=LANES).astype(np.float32) for _ in range(2))
    c = (-(a * b) * (1 + generator.normal(size=LANES) * 2.0**-24)).astype(np.float32)
    found = evaluate(machine, "fma.rn.f32", "f32", *(("f32", x) for x in (a, b, c)))
    exact = [Fraction(float(x)) * Fraction(float(y)) + Fraction(float(z))
             for x, y, z in zip(a, b, c, strict=True)]  # fmt: skip
    wanted = np.array([nearest(x, np.float32(float(x))) for x in exact])
    assert (found.astype(np.uint32) == wanted.view(np.uint32)).all()
    assert (wanted != a * b + c).any()


NARROW = {
    "cvt.rn.bf16x2.f32": (torch.bfloat16, None),
    "cvt.rn.f16x2.f32": (torch.float16, None),
    "cvt.rn.satfinite.e4m3x2.f32": (torch.float8_e4m3fn, 448.0),
    "cvt.rn.satfinite.e5m2x2.f32": (torch.float8_e5m2, 57344.0),
}


@pytest.mark.parametrize("name", NARROW)
def test_pairs_of_narrow_numbers(machine, name):
    """PyTorch's own conversions; the first argument is the upper half."""
    dtype, most = NARROW[name]
    bits, halves = 8 * dtype.itemsize, []
    for x in (floats(0), floats(1)):
        saturated = torch.from_numpy(x if most is None else x.clip(-most, most)).to(dtype)
        halves.append(saturated.view(torch.uint8 if bits == 8 else torch.uint16).numpy())
    wanted = halves[0].astype(np.uint64) << bits | halves[1]
    inputs = (("f32", floats(0)), ("f32", floats(1)))
    assert (evaluate(machine, name, f"b{2 * bits}", *inputs) == wanted).all()


HALVES = {
    "min.bf16x2": (torch.bfloat16, torch.minimum),
    "max.bf16x2": (torch.bfloat16, torch.maximum),
    "min.f16x2": (torch.float16, torch.minimum),
    "max.f16x2": (torch.float16, torch.maximum),
    "min.xorsign.abs.bf16x2": (torch.bfloat16, lambda a, b: (a * b).sign() * a.abs().min(b.abs())),
    "add.s16x2": (torch.int16, torch.add),
    "max.s16x2": (torch.int16, torch.maximum),
    "min.s16x2.relu": (torch.int16, lambda a, b: torch.minimum(a, b).clamp(min=0)),
}


@pytest.mark.parametrize("name", HALVES)
def test_pairs_of_halves(machine, name):
    dtype, meaning = HALVES[name]
    generator = torch.Generator().manual_seed(0)
    draw = (torch.randint(-999, 999, (LANES, 2), generator=generator) for _ in range(2))
    a, b = (torch.where(x == 0, 1, x).to(dtype) for x in draw)
    boxes = [x.view(torch.int32).numpy().reshape(LANES).view(np.uint32) for x in (a, b)]
    found = evaluate(machine, name, "b32", *(("b32", box) for box in boxes))
    wanted = meaning(a, b).to(dtype).view(torch.int32).numpy().reshape(LANES).view(np.uint32)
    assert (found == wanted).all()


def test_minimum_and_conversion_of_what_is_no_number(machine):
    x = np.full(LANES, np.nan, np.float32)
    x[:3] = (-0.0, 3e9, -7.9)
    y = np.zeros(LANES, np.float32)
    least = evaluate(machine, "min.f32", "b32", ("f32", x), ("f32", y)).tolist()
    assert least[:4] == [0x80000000, 0, int(np.float32(-7.9).view(np.uint32)), 0]
    whole = evaluate(machine, "cvt.rzi.s32.f32", "b32", ("f32", x)).tolist()
    assert whole[:4] == [0, 2**31 - 1, 2**32 - 7, 0]
