# SPDX-License-Identifier: Apache-2.0
"""How the executor runs threads, and the mistakes that it must find."""

import numpy as np
import pytest
from probe import LANES, load, run


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
    "a write before atomic operations": (
        "mov.u32 %x, room; setp.eq.u32 %p, %tid, 0; @%p st.shared.u32 [%x], 0;"
        "atom.shared.add.u32 %y, [%x], 1;",
        "nothing was written|race",
    ),
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
