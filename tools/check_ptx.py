# SPDX-License-Identifier: Apache-2.0
"""Check the PTX of every CUDA source for arithmetic that could change a weight's bits.

    python tools/check_ptx.py                    # compiles csrc/**/*.cu as the build does
    python tools/check_ptx.py --ptx a.ptx b.ptx  # checks these files instead

Fails on flushed subnormals, on approximate instructions, on sums and products whose rounding is
not written out (ptxas may fuse those), and on a fused float64 multiply-add, which the
specification excludes; and where a fill kernel does not store four words, 16 bytes, at a time.
Prints how often each kernel does what. Needs nvcc, but no GPU.
"""

from __future__ import annotations

import argparse
import collections
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from check_ptxas import kernel_name

ROOT = Path(__file__).resolve().parent.parent

# Of the build (cmake/Cuda.cmake): what decides about floating-point instructions.
FLAGS = ["-std=c++17", "-O3", "-DNDEBUG", "-fmad=false"]

ENTRY = re.compile(r"^\s*(?:\.visible\s+|\.weak\s+)?\.entry\s+(\w+)", re.MULTILINE)
# "@%p1 fma.rn.f32 %f1, ..." -> "fma.rn.f32"
INSTRUCTION = re.compile(
    r"^\s*(?:\{\s*)?(?:@!?%\w+\s+)?([a-z][a-z0-9_]*(?:\.[a-z0-9_:]+)+)\s", re.M
)

FORBIDDEN = {
    "subnormals are flushed": re.compile(r"\.ftz\b"),
    "approximate": re.compile(r"\.(approx|full)\b|^(ex2|lg2|sin|cos|tanh)\."),
    "rounding not written, ptxas may fuse it": re.compile(r"^(add|sub|mul)\.f(32|64)$"),
    "not rounded to nearest": re.compile(r"^(add|sub|mul|fma|div|sqrt)\.(rz|rm|rp)\b"),
    "fused, where the specification rounds twice": re.compile(r"^(fma\.\w+|mad(\.\w+)?)\.f64$"),
}
# Squares of float32 are exact in float64: fusing their addition changes nothing.
ALLOWED = {"measure_chunks_kernel": {"fma.rn.f64"}, "read_flow_kernel": {"fma.rn.f64"}}

WIDE_STORE = re.compile(r"^st(?!\.(shared|local|param))[\w.]*\.v4\.[bufs]32$")
COUNTED = {
    "stores of four words": WIDE_STORE,
    "fma f32": re.compile(r"^fma\.rn\.f32$"),
    "mul f64": re.compile(r"^mul\.rn\.f64$"),
    "add f64": re.compile(r"^add\.rn\.f64$"),
    "wide multiply": re.compile(r"^mul\.(hi|wide)\.u32$"),
    "64-bit division": re.compile(r"^(div|rem)\.[su]64$"),
    "local memory": re.compile(r"^(ld|st)\.local\b"),
}


def kernels(ptx: str) -> dict[str, collections.Counter[str]]:
    """How often each instruction, with its suffixes, occurs in each entry function."""
    parts = ENTRY.split(ptx)
    return {
        kernel_name(name): collections.Counter(INSTRUCTION.findall(body))
        for name, body in zip(parts[1::2], parts[2::2], strict=True)
    }


def violations(name: str, instructions: collections.Counter[str]) -> list[str]:
    """One line for each forbidden instruction, and for each wide store that is missing."""
    found = [
        f"{name}: {instruction} ({count} times): {reason}"
        for instruction, count in sorted(instructions.items())
        for reason, pattern in FORBIDDEN.items()
        if pattern.search(instruction) and instruction not in ALLOWED.get(name, ())
    ]
    if name.startswith("fill_") and not any(map(WIDE_STORE.match, instructions)):
        found.append(f"{name}: no store of four words at a time")
    return found


def summary(instructions: collections.Counter[str]) -> str:
    """How often a kernel's text has what the rules and the speed depend on."""
    counts = {
        what: sum(n for instruction, n in instructions.items() if pattern.search(instruction))
        for what, pattern in COUNTED.items()
    }
    return ", ".join(f"{what} {count}" for what, count in counts.items() if count)


def compile_ptx(source: Path, arch: str) -> str:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "kernels.ptx"
        include = ["-I", str(ROOT / "csrc")]
        command = ["nvcc", *FLAGS, *include, f"-arch=compute_{arch}", "-ptx", "-o", str(out)]
        subprocess.run([*command, str(source)], check=True)
        return out.read_text(encoding="utf-8")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--arch", default="90", help="compute capability (default: 90)")
    parser.add_argument("--ptx", type=Path, nargs="+", help="files to check; nothing is compiled")
    arguments = parser.parse_args(argv)
    if arguments.ptx:
        texts = [path.read_text(encoding="utf-8") for path in arguments.ptx]
    elif shutil.which("nvcc"):
        sources = sorted((ROOT / "csrc").rglob("*.cu"))
        texts = [compile_ptx(source, arguments.arch) for source in sources]
    else:
        print("PTX: no nvcc on PATH, nothing checked", file=sys.stderr)
        return 2
    checked = [item for text in texts for item in kernels(text).items()]
    found = [] if checked else ["no kernel found"]
    for name, instructions in checked:
        found += violations(name, instructions)
        print(f"{name}: {summary(instructions)}")
    for line in found:
        print(line)
    print(f"PTX: {len(checked)} kernels, {len(found)} violations")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
