# SPDX-License-Identifier: Apache-2.0
"""docs/cuda_kernels.md: what the counts of tools/sass_budget.json would mean for the speed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from gibbs_note import gibbs_note

ELEMENTS = 2**28


@dataclass(frozen=True)
class Gpu:
    """Assumed, not measured by us: clock in Hz under load, and bytes per second of memory."""

    name: str
    multiprocessors: int
    clock: float
    bandwidth: float


GPUS = (Gpu("H200", 132, 1.755e9, 4.3e12), Gpu("H100 SXM", 132, 1.755e9, 3.0e12))
UNITS = ("multiplier", "logic", "shared", "float64", "conversion")

ASSUMED = "; ".join(
    f"{gpu.name}: {gpu.multiprocessors} multiprocessors at {gpu.clock / 1e9:g} GHz, "
    f"memory at {gpu.bandwidth / 1e12:g} TB/s, stored or read"
    for gpu in GPUS
)
HEAD = f"""\
# The CUDA kernels, counted

Written by `python tools/check_sass.py --update` from the machine code for sm_90. **Measured on a
GPU: nothing yet.** Every figure below follows from a count and from assumptions:

- a quarter of a multiprocessor starts one instruction a cycle; a wide multiplication occupies its
  multiplier for 4 cycles, other arithmetic its unit for 2, a conversion to float64 for 8, and a
  16-byte read of shared memory the unit that four quarters share for 4. The largest of these sums
  binds. Dependencies, memory's latency and clocks that fall under load are left out: expect 0.6 to
  0.9 of it;
- {ASSUMED}.

Only inner loops are counted, those that almost every element of a large tensor passes through.

## Fills

Milliseconds are for 2^28 elements, the larger of computing and storing.

"""
READING = """
## Reading tensors

`init_` reads back moments and the fingerprint; flow mode reads activations and gradients. A pass
for the histogram comes on top where it is asked for, one for the limits of saturation where an
element may reach them; both read from the L1 cache what flow mode has just read, so that only their
cycles count. Atomic additions that meet in one bin wait for each other, which is left out. So is
what a chunk costs, at whose end 256 threads' moments are added up: some 3,000 instructions of a
warp, by estimate. That is 1.5 an element in chunks of 65,536 elements (reading back; flow mode from
2^24 elements on), 6 in chunks of 16,384 (flow mode from 2^22 on), 12 in chunks of 8,192 (below).

"""


def predict(entry: dict[str, Any], gpu: Gpu) -> tuple[float, float, str]:
    """(elements per second that can be computed, and that memory allows, what binds)."""
    binding = max(("instructions", *UNITS), key=lambda name: entry.get(name, 0))
    computed = gpu.multiprocessors * 4 * 32 * gpu.clock / entry[binding]
    moved = gpu.bandwidth / entry["bytes"]
    memory = "reads" if entry.get("reads") else "stores"
    return computed, moved, memory if moved <= computed else binding


def table(heading: Iterable[str], rows: Iterable[list[str]]) -> str:
    lines = [list(heading)]
    lines.append(["---"] * len(lines[0]))
    return "".join(f"| {' | '.join(cells)} |\n" for cells in [*lines, *rows])


def row(entry: dict[str, Any]) -> list[str]:
    predictions = [predict(entry, gpu) for gpu in GPUS]
    cells = []
    for computed, moved, _ in predictions:
        if entry.get("reads"):
            cells.append(f"{computed / 1e9:,.0f}, {min(1.0, computed / moved):.0%}")
        else:
            cells.append(f"{computed / 1e9:,.0f}, {1e3 * ELEMENTS / min(computed, moved):.2f}")
    units = ", ".join(f"{unit} {entry[unit]:g}" for unit in UNITS if entry.get(unit))
    words = " / ".join(dict.fromkeys(binding for _, _, binding in predictions))
    return [entry["loop"], f"{entry['instructions']:g}", units, words, *cells, "not yet"]


def note(budget: list[dict[str, Any]]) -> str:
    """The page, from what the budget holds."""
    fills = [entry for entry in budget if entry["kernel"] == "fill_one_kernel"]
    reading = [entry for entry in budget if entry.get("reads")]

    def heading(figures: str) -> list[str]:
        columns = ["loop", "instructions an element", "cycles of units", "bound by"]
        return [*columns, *(f"{gpu.name}: {figures}" for gpu in GPUS), "measured"]

    return (
        HEAD
        + table(heading("10^9 elements/s it can make, ms"), map(row, fills))
        + READING
        + table(heading("10^9 elements/s it can take, of bandwidth"), map(row, reading))
        + gibbs_note(budget)
    )
