# SPDX-License-Identifier: Apache-2.0
"""docs/cuda_kernels.md: what the counts of tools/sass_budget.json would mean for the speed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gibbs_note import gibbs_note

ELEMENTS = 2**28


@dataclass(frozen=True)
class Gpu:
    """Assumed, not measured by us: clock in Hz under load, and bytes per second of stores."""

    name: str
    multiprocessors: int
    clock: float
    stores: float


GPUS = (Gpu("H200", 132, 1.755e9, 4.3e12), Gpu("H100 SXM", 132, 1.755e9, 3.0e12))

COLUMNS = [
    "loop",
    "instructions an element",
    "cycles of multiplier, logic, shared memory",
    "bound by",
    *(f"{gpu.name}: 10^9 elements/s it can make, ms" for gpu in GPUS),
    "measured",
]
ASSUMED = "; ".join(
    f"{gpu.name}: {gpu.multiprocessors} multiprocessors at {gpu.clock / 1e9:g} GHz, "
    f"stores at {gpu.stores / 1e12:g} TB/s"
    for gpu in GPUS
)
HEAD = f"""\
# The CUDA kernels, counted

Written by `python tools/check_sass.py --update` from the machine code for sm_90. **Measured on a
GPU: nothing yet.** Every figure below follows from a count and from assumptions:

- a quarter of a multiprocessor starts one instruction a cycle; a wide multiplication occupies its
  multiplier for 4 cycles, other arithmetic its unit for 2, and a 16-byte read of shared memory
  the unit that four quarters share for 4. The largest of these sums binds. Dependencies, memory's
  latency and clocks that fall under load are left out: expect 0.6 to 0.9 of it;
- {ASSUMED}.

Milliseconds are for 2^28 elements, the larger of computing and storing. Only the inner loops of
fills are in this table: how long those of reading tensors take depends on the data.

| {" | ".join(COLUMNS)} |
|{"---|" * len(COLUMNS)}
"""


def predict(entry: dict[str, Any], gpu: Gpu) -> tuple[float, float, str]:
    """(elements per second that can be computed, seconds for ELEMENTS, what binds)."""
    names = ("instructions", "multiplier", "logic", "shared")
    binding = max(names, key=lambda name: entry[name])
    rate = gpu.multiprocessors * 4 * 32 * gpu.clock / entry[binding]
    computing, storing = ELEMENTS / rate, ELEMENTS * entry["bytes"] / gpu.stores
    return rate, max(computing, storing), "stores" if storing >= computing else binding


def note(budget: list[dict[str, Any]]) -> str:
    """The page, from what the budget holds."""
    rows = []
    for entry in budget:
        if entry["kernel"] != "fill_one_kernel":
            continue
        predictions = [predict(entry, gpu) for gpu in GPUS]
        cells = [f"{rate / 1e9:,.0f}, {1e3 * time:.2f}" for rate, time, _ in predictions]
        pipes = ", ".join(f"{entry[name]:g}" for name in ("multiplier", "logic", "shared"))
        words = " / ".join(dict.fromkeys(binding for _, _, binding in predictions))
        cells = [entry["loop"], f"{entry['instructions']:g}", pipes, words, *cells, "not yet"]
        rows.append(f"| {' | '.join(cells)} |\n")
    return HEAD + "".join(rows) + gibbs_note(budget)
