# SPDX-License-Identifier: Apache-2.0
"""Compare what ptxas says about every kernel with tools/ptxas_budget.json.

    python tools/check_ptxas.py build/cmake-cpython-311

reads the *.ptxas.log files that a build leaves beside its CUDA objects. A kernel fails if it
spills, uses local memory (a stack frame), or takes more registers or shared memory than its
budget, which together decide how many threads a multiprocessor can hold. A budget is a number of
registers, or [registers, bytes of shared memory], or these and the registers on others than
sm_90. A kernel without a budget fails too, and so does a budget without a kernel, and a build
without a kernel. No GPU is needed.
"""

import argparse
import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path

BUDGET = Path(__file__).with_name("ptxas_budget.json")

ENTRY = re.compile(r"Compiling entry function '(\w+)' for '(\w+)'")
MEMORY = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
REGISTERS = re.compile(r"Used (\d+) registers(?:.*?(\d+) bytes smem)?")

Budget = dict[str, int | list[int]]
# _ZN10torch_init12_GLOBAL__N_111fill_kernelE...: nested names are length-prefixed.
IDENTIFIER = re.compile(r"(\d+)")


@dataclass
class Kernel:
    name: str
    arch: str
    stack: int = 0
    spills: int = 0
    registers: int = 0
    shared: int = 0


def kernel_name(mangled: str) -> str:
    """The unqualified name of a kernel: template arguments and overloads share a budget."""
    names = []
    rest = re.sub(r"^_ZN?", "", mangled)
    while (match := IDENTIFIER.match(rest)) is not None:
        end = match.end() + int(match[1])
        names.append(rest[match.end() : end])
        rest = rest[end:]
    return names[-1] if names else mangled


def parse(text: str) -> list[Kernel]:
    """The kernels of one log. A device function that was not inlined counts with the kernel that
    ptxas reported before it."""
    kernels: list[Kernel] = []
    for line in text.splitlines():
        if match := ENTRY.search(line):
            kernels.append(Kernel(match[1], match[2]))
        elif match := MEMORY.search(line):
            kernels[-1].stack = max(kernels[-1].stack, int(match[1]))
            kernels[-1].spills += int(match[2]) + int(match[3])
        elif match := REGISTERS.search(line):
            kernels[-1].registers = int(match[1])
            kernels[-1].shared = int(match[2] or 0)
    return kernels


def violations(kernels: list[Kernel], budget: Budget) -> list[str]:
    """One line for each way in which the kernels and the budget disagree."""
    if not kernels:
        return ["no kernel found"]
    found = []
    for kernel in kernels:
        name = kernel_name(kernel.name)
        where = f"{name} ({kernel.arch}, {kernel.name})"
        if kernel.spills:
            found.append(f"{where}: {kernel.spills} bytes spilled, expected 0")
        if kernel.stack:
            found.append(f"{where}: {kernel.stack} bytes of local memory, expected 0")
        if name not in budget:
            found.append(f"{where}: {kernel.registers} registers, but no budget")
            continue
        entry = budget[name]
        registers, *shared = entry if isinstance(entry, list) else [entry]
        if len(shared) > 1 and kernel.arch != "sm_90":
            registers = shared[1]
        if kernel.registers > registers:
            found.append(f"{where}: {kernel.registers} registers, budget {registers}")
        if shared and kernel.shared > shared[0]:
            found.append(f"{where}: {kernel.shared} bytes of shared memory, budget {shared[0]}")
    missing = set(budget) - {kernel_name(kernel.name) for kernel in kernels}
    found += [f"{name}: has a budget, but no such kernel was compiled" for name in sorted(missing)]
    return found


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("build", type=Path, help="CMake's build folder")
    logs = sorted(parser.parse_args(argv).build.rglob("*.ptxas.log"))
    kernels = [kernel for log in logs for kernel in parse(log.read_text())]
    found = violations(kernels, json.loads(BUDGET.read_text()))
    for line in found:
        print(line)
    most = max((kernel.registers for kernel in kernels), default=0)
    print(f"ptxas: {len(kernels)} kernels, at most {most} registers, {len(found)} violations")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
