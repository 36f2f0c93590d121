# SPDX-License-Identifier: Apache-2.0
"""Count the instructions of the CUDA kernels' inner loops and hold them to tools/sass_budget.json.

    python tools/check_sass.py              # compiles csrc/**/*.cu for sm_90, disassembles, checks
    python tools/check_sass.py --update     # writes what was counted into the budget and the note
    python tools/check_sass.py --cubin FILE # checks this instead

Each entry of the budget names a kernel, how to tell the loop among the kernel's innermost ones
(how many instructions of an opcode it has), the elements of one iteration, and the most
instructions for each. Its `bytes` an element are stored, or read if it says so. An entry that finds
no loop, or more than one (unless it says how many are `alike`), fails; so does a loop with a spill
in it, and a loop that stores 16 bytes at a time and has no entry. docs/cuda_kernels.md says
what the counts would mean for the speed. Needs nvcc and nvdisasm (pip: nvidia-cuda-nvdisasm), but
no GPU.
"""

from __future__ import annotations

import argparse
import collections
import importlib.util
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from check_ptx import FLAGS, ROOT
from check_ptxas import kernel_name

BUDGET = Path(__file__).with_name("sass_budget.json")
NOTE = ROOT / "docs" / "cuda_kernels.md"

LABEL = re.compile(r"^(\.L_x_\d+):")
INSTRUCTION = re.compile(r"^\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?(\S+)(.*?);")
BRANCH = re.compile(r"`\((\.L_x_\d+)\)")

Loop = collections.Counter[str]
"""How often each opcode, with its suffixes, occurs between a loop's first and last instruction."""


def innermost_loops(sass: str) -> list[tuple[str, Loop]]:
    """Every innermost loop of every kernel in nvdisasm's output, with the kernel's name."""
    found = []
    for part in sass.split("\n.text.")[1:]:
        name = kernel_name(part.split(":", 1)[0])
        labels: dict[str, int] = {}
        opcodes: list[str] = []
        loops: list[tuple[int, int]] = []
        for line in part.splitlines():
            if match := LABEL.match(line):
                labels[match[1]] = len(opcodes)
            elif match := INSTRUCTION.match(line):
                target = BRANCH.search(match[2]) if match[1].startswith("BRA") else None
                if target and target[1] in labels:
                    loops.append((labels[target[1]], len(opcodes)))
                opcodes.append(match[1])
        for first, last in loops:
            if not any(first <= a and b <= last and (a, b) != (first, last) for a, b in loops):
                found.append((name, collections.Counter(opcodes[first : last + 1])))
    return found


def count(loop: Loop, prefix: str) -> int:
    """Instructions whose opcode is the prefix, or starts with it and a dot."""
    return sum(n for opcode, n in loop.items() if f"{opcode}.".startswith(f"{prefix}."))


def matches(loop: Loop, find: dict[str, int]) -> bool:
    return all(count(loop, prefix) == n for prefix, n in find.items())


UNITS = {
    "shared": {"LDS.128": 16, "LDS.64": 8, "LDS": 4, "ATOMS": 4},
    "float64": {"DADD": 2, "DMUL": 2, "DFMA": 2},
    "conversion": {"F2F": 8},
}
"""Cycles for which a warp's instruction occupies a unit of a quarter multiprocessor of Hopper.

Shared memory serves four quarters. That of an atomic addition is the least: if no two threads of a
warp add to one place.
"""
WITHOUT_UNIT = ("BRA", "STG", "LDC", "LDG", "BAR", "BSSY", "BSYNC", "WARPSYNC", "NOP", "IMMA")


def per_element(loop: Loop, elements: int) -> dict[str, float]:
    """What an element costs: instructions, and cycles of each unit of a quarter multiprocessor.

    4 for a wide multiplication, 2 for another, for a float32 multiplication or addition, and for
    what the integer and logic unit does: whatever is not known to do otherwise. Of the two units
    for multiplications one takes integers.
    """
    cycles = {"instructions": sum(loop.values())}
    wide = count(loop, "IMAD.WIDE") + count(loop, "IMAD.HI")
    integer = count(loop, "IMAD") - wide
    floating = sum(count(loop, name) for name in ("FFMA", "FADD", "FMUL"))
    multiplier = 4 * wide + 2 * integer
    cycles["multiplier"] = max(multiplier, (multiplier + 2 * floating) / 2)
    logic = cycles["instructions"] - wide - integer - floating
    logic -= sum(n for opcode, n in loop.items() if opcode.startswith(("U", "R2UR")))
    logic -= sum(count(loop, name) for name in WITHOUT_UNIT)
    for unit, table in UNITS.items():
        for opcode, n in loop.items():
            prefix = next((name for name in table if f"{opcode}.".startswith(f"{name}.")), None)
            if prefix is not None:
                cycles[unit] = cycles.get(unit, 0) + table[prefix] * n
                logic -= n
    cycles["logic"] = 2 * logic
    return {name: round(n / elements, 2) for name, n in cycles.items()}


def check(loops: list[tuple[str, Loop]], budget: list[dict[str, Any]]) -> list[str]:
    """One line for each way in which the loops and the budget disagree."""
    found = []
    known: list[Loop] = []
    for entry in budget:
        where = f"{entry['kernel']}, {entry['loop']}"
        here = [loop for name, loop in loops if name == entry["kernel"]]
        here = [loop for loop in here if matches(loop, entry["find"])]
        known += here
        expected = entry.get("alike", 1)
        if len(here) != expected:
            found.append(f"{where}: {len(here)} loops look like it, expected {expected}")
            continue
        now = max(per_element(loop, entry["elements"])["instructions"] for loop in here)
        if now > entry["instructions"]:
            found.append(f"{where}: {now} instructions an element, budget {entry['instructions']}")
        if any(count(loop, "LDL") or count(loop, "STL") for loop in here):
            found.append(f"{where}: spills in the loop")
    for name, loop in loops:
        if count(loop, "STG.E.EF.128") and not any(loop is one for one in known):
            found.append(f"{name}: a loop without a budget: {dict(loop.most_common(6))}")
    return found


def update(loops: list[tuple[str, Loop]], budget: list[dict[str, Any]]) -> None:
    for entry in budget:
        for name, loop in loops:
            if name == entry["kernel"] and matches(loop, entry["find"]):
                entry |= per_element(loop, entry["elements"])


def find_nvdisasm() -> str | None:
    """On PATH, beside nvcc, or in the Python package nvidia-cuda-nvdisasm."""
    folders = [Path(nvcc).resolve().parent] if (nvcc := shutil.which("nvcc")) else []
    folders.append(Path("/usr/local/cuda/bin"))
    spec = importlib.util.find_spec("nvidia")
    for root in spec.submodule_search_locations or [] if spec else []:
        folders += sorted(Path(root).glob("*/bin"))
    path = [str(folder) for folder in folders]
    return shutil.which("nvdisasm") or next(
        (tool for folder in path if (tool := shutil.which("nvdisasm", path=folder))), None
    )


def disassemble(cubin: Path, nvdisasm: str) -> str:
    done = subprocess.run([nvdisasm, "-c", str(cubin)], capture_output=True, text=True, check=True)
    return done.stdout


def compile_and_disassemble(nvdisasm: str) -> str:
    texts = []
    with tempfile.TemporaryDirectory() as folder:
        for source in sorted((ROOT / "csrc").rglob("*.cu")):
            cubin = Path(folder) / f"{source.stem}.cubin"
            command = ["nvcc", *FLAGS, "-I", str(ROOT / "csrc"), "-arch=sm_90", "-cubin"]
            subprocess.run([*command, "-o", str(cubin), str(source)], check=True)
            texts.append(disassemble(cubin, nvdisasm))
    return "\n".join(texts)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cubin", type=Path, nargs="+", help="files to check; nothing is compiled")
    parser.add_argument("--update", action="store_true", help="write the budget and the note anew")
    args = parser.parse_args(argv)
    budget = json.loads(BUDGET.read_text(encoding="utf-8"))
    nvdisasm = find_nvdisasm()
    if nvdisasm is None or not (args.cubin or shutil.which("nvcc")):
        missing = "nvdisasm (pip: nvidia-cuda-nvdisasm)" if nvdisasm is None else "nvcc"
        print(f"SASS: no {missing}, nothing checked", file=sys.stderr)
        return 2
    if args.cubin:
        sass = "\n".join(disassemble(cubin, nvdisasm) for cubin in args.cubin)
    else:
        sass = compile_and_disassemble(nvdisasm)
    loops = innermost_loops(sass)
    if args.update:
        from cuda_note import note

        update(loops, budget)
        rows = ",\n ".join(json.dumps(entry) for entry in budget)
        BUDGET.write_text(f"[\n {rows}\n]\n", encoding="utf-8")
        NOTE.write_text(note(budget), encoding="utf-8")
    found = check(loops, budget)
    for line in found:
        print(line)
    print(f"SASS: {len(budget)} inner loops counted, {len(found)} violations")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
