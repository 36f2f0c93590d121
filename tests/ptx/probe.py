# SPDX-License-Identifier: Apache-2.0
"""Kernels that tests write themselves: one block, whose threads each have elements of arrays."""

import numpy as np

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
