# SPDX-License-Identifier: Apache-2.0
"""The executor itself: instructions against other arithmetic, and mistakes that it must find."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch

LANES = 256
# Whose thread t has the addresses of element t of four arrays in %a0 ... %a3.
HEAD = """
.entry probe(.param .u64 probe_0, .param .u64 probe_1, .param .u64 probe_2, .param .u64 probe_3)
{
  .shared .align 16 .b8 room[1024];
  mov.u32 %tid, %tid.x;
  mul.wide.u32 %offset, %tid, 8;
"""
POINTERS = "".join(
    f"  ld.param.u64 %p{i}, [probe_{i}]; add.s64 %a{i}, %p{i}, %offset;\n" for i in range(4)
)


def load(machine, body):
    machine.load(f"{HEAD}{POINTERS}{body}\n  ret;\n}}\n")


def run(machine, body, *arrays, blocks=1):
    """Runs a kernel that does what `body` says with up to four arrays of 8 bytes a thread."""
    load(machine, body)
    arrays = [*arrays, *[np.zeros(1)] * (4 - len(arrays))]
    for array in arrays:
        machine.add_memory(array.ctypes.data, array.nbytes)
    try:
        machine.run("probe", blocks, LANES, [array.ctypes.data for array in arrays])
    finally:
        machine.forget_memory()


def evaluate(machine, instruction, out_type, *inputs):
    """What `name`, or `name %y, %x0, ...`, makes of inputs, (type, values) each, in 64 bits."""
    boxes, loads = [], ""
    for i, (kind, values) in enumerate(inputs):
        box = np.zeros((LANES, 8 // values.itemsize), values.dtype)
        box[:, 0] = values
        boxes.append(box)
        loads += f"ld.global.{kind} %x{i}, [%a{i + 1}];\n"
    out = np.zeros(LANES, np.uint64)
    if "%" not in instruction:
        instruction += " %y, " + ", ".join(f"%x{i}" for i in range(len(inputs)))
    run(machine, f"{loads} {instruction};\n st.global.{out_type} [%a0], %y;", out, *boxes)
    return out


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


def test_lanes_that_part_meet_again(machine):
    """A loop whose lanes leave it one after the other, and a shuffle of all of them after it."""
    out = np.zeros(LANES, np.uint64)
    body = """
      and.b32 %n, %tid, 31;  mov.u32 %sum, 0;
    $again:
      add.s32 %sum, %sum, %n;
      setp.eq.s32 %stop, %n, 0;
      @%stop bra $out;
      sub.s32 %n, %n, 1;
      bra.uni $again;
    $out:
      shfl.sync.bfly.b32 %x|%valid, %sum, 1, 31, -1;
      st.global.u32 [%a0], %x;
    """
    run(machine, body, out)
    lanes = (np.arange(LANES) & 31) ^ 1
    assert (out == lanes * (lanes + 1) // 2).all()


STORE = "mov.u32 %here, room; mad.lo.u32 %here, %tid, 4, %here; st.shared.u32 [%here], %tid;\n"
NEXT = "xor.b32 %other, %tid, {}; mad.lo.u32 %there, %other, 4, room;\n"
# What each body does, of a block of 256 threads, and what is said of it.
MISTAKES = {
    "a race": (STORE + NEXT.format(32) + "ld.shared.u32 %x, [%there];", "nothing was written|race"),
    "a race of lanes": (STORE + NEXT.format(1) + "ld.shared.u32 %x, [%there];", "race: no barrier"),
    "a race with a reader": (
        STORE + "bar.sync 0;" + NEXT.format(32) + "ld.shared.u32 %x, [%there];" + STORE,
        "race: no barrier since it was",
    ),
    "a shuffle is no fence": (
        STORE + "shfl.sync.bfly.b32 %x|%p, %tid, 1, 31, -1;" + NEXT.format(1)
        + "ld.shared.u32 %x, [%there];",
        "race: no barrier since it was written",
    ),
    "nothing written": ("mov.u32 %x, room; ld.shared.u32 %y, [%x];", "nothing was written there"),
    "beyond shared memory": ("mov.u32 %x, room; st.shared.u32 [%x+1024], 1;", "out of bounds"),
    "below global memory": ("st.global.u8 [%p0+-1], 1;", "out of bounds"),
    "not aligned": ("st.global.u32 [%p0+2], 1;", "not aligned"),
    "a parameter that is not there": ("ld.param.u64 %x, [probe_3+8];", "beyond the kernel's par"),
    "writes of one place": ("st.global.u32 [%p0], 1;", "race: no barrier since it was written"),
    "a barrier for some": (
        "setp.lt.u32 %p, %tid, 32; @%p bra $in; ret; $in: bar.sync 0;", "do not reach",
    ),
    "a barrier in a branch": (
        "setp.lt.u32 %p, %tid, 5; @%p bra $in; bra.uni $out; $in: bar.sync 0; $out: bar.sync 0;",
        "wait for each other in two places",
    ),
    "different barriers": (
        "setp.lt.u32 %p, %tid, 32; @%p bra $in; bar.sync 0; ret; $in: bar.sync 0;",
        "meet at different barriers",
    ),
    "a shuffle that not all reach": (
        "setp.lt.u32 %p, %tid, 5; @%p bra $out; shfl.sync.bfly.b32 %x|%q, %tid, 1, 31, -1; $out:",
        "wait for each other",
    ),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_found(machine, mistake):
    body, message = MISTAKES[mistake]
    with pytest.raises(RuntimeError, match=message):
        run(machine, body, np.zeros(LANES, np.uint64))


# What threads may do.
RIGHT = {
    "a barrier": STORE + "bar.sync 0;" + NEXT.format(32) + "ld.shared.u32 %x, [%there];",
    "a barrier of a warp": STORE
    + "bar.warp.sync -1;"
    + NEXT.format(1)
    + "ld.shared.u32 %x, [%there];",
    "atomic operations": "mov.u32 %x, room; setp.eq.u32 %p, %tid, 0; @%p st.shared.u32 [%x], 0;"
    "bar.sync 0; atom.shared.add.u32 %y, [%x], 1;",
}


@pytest.mark.parametrize("body", RIGHT.values(), ids=RIGHT)
def test_no_mistake(machine, body):
    run(machine, body, np.zeros(LANES, np.uint64))


def test_memory_of_a_thread(machine):
    out = np.zeros(LANES, np.uint64)
    body = """
      .local .align 8 .b8 depot[16];
      mov.u64 %l, depot; cvta.local.u64 %generic, %l;
      st.local.u32 [%l+8], %tid; ld.u32 %x, [%generic+8]; st.global.u32 [%a0], %x;"""
    run(machine, body, out)
    assert (out == np.arange(LANES)).all()
    with pytest.raises(RuntimeError, match="beyond local memory"):
        run(machine, body.replace("+8", "+16"), out)


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ("griddepcontrol.wait; ld.global.u64 %x, [%a0];", None),
        ("ld.global.u64 %x, [%a0]; griddepcontrol.wait;", "a kernel launched before, which may st"),
        ("mov.u32 %x, 0;", "does not wait for kernels before"),
    ],
)
def test_a_kernel_launched_early(machine, second, message):
    array = np.zeros(LANES, np.uint64)
    machine.add_memory(array.ctypes.data, array.nbytes)
    pointers = [array.ctypes.data] * 4
    try:
        load(machine, "st.global.u64 [%a0], 1;")
        machine.run("probe", 1, LANES, pointers)
        load(machine, second)
        if message is None:
            machine.run("probe", 1, LANES, pointers, early=True)
        else:
            with pytest.raises(RuntimeError, match=message):
                machine.run("probe", 1, LANES, pointers, early=True)
    finally:
        machine.forget_memory()


# Each block writes its number; the one that counts last reads them all.
LAST_BLOCK = """
  mov.u32 %b, %ctaid.x; mad.wide.u32 %own, %b, 2048, %a0; st.global.u32 [%own], %b;
  membar.gl; // publishes
  bar.sync 0;
  setp.eq.u32 %first, %tid, 0; mov.u32 %old, room;
  @%first atom.global.add.u32 %count, [%p1], 1;
  @%first st.shared.u32 [%old], %count;
  bar.sync 0;
  ld.shared.u32 %count, [%old];
  setp.ne.u32 %other, %count, 3; @%other bra $end;
  membar.gl; // takes
  mov.u32 %b, 0; mov.u32 %sum, 0; mov.u64 %from, %a0;
$next:
  ld.global.u32 %x, [%from]; add.u32 %sum, %sum, %x; add.s64 %from, %from, 2048;
  add.u32 %b, %b, 1; setp.lt.u32 %more, %b, 4; @%more bra $next;
  st.global.u32 [%a2], %sum;
$end:
"""


@pytest.mark.parametrize("without", [None, "membar.gl; // publishes", "membar.gl; // takes"])
def test_the_last_block(machine, without):
    numbers, count, out = np.zeros(4 * LANES, np.uint64), np.zeros(1), np.zeros(LANES, np.uint64)
    body = LAST_BLOCK.replace(without or "?", "")
    if without is None:
        run(machine, body, numbers, count, out, blocks=4)
        assert (out == 0 + 1 + 2 + 3).all()
    else:
        with pytest.raises(RuntimeError, match="race: no barrier since it was written"):
            run(machine, body, numbers, count, out, blocks=4)


def test_an_unknown_instruction_is_named(machine):
    with pytest.raises(RuntimeError, match=r"unknown instruction; .*: ex2\.approx\.f32 %x, %y"):
        run(machine, "ex2.approx.f32 %x, %y;")
