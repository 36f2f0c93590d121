# SPDX-License-Identifier: Apache-2.0
"""docs/cuda_kernels.md, Gibbs chains: a sweep in tiles (csrc/gibbs/tile_kernel.h) as a model.

The instructions of the inner loops are counted (tools/sass_budget.json); what else a tile takes is
counted here by hand; how long it takes follows from these and the assumptions that the page states.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

MULTIPROCESSORS = 132
CLOCK = 1.755e9
RESIDENT = 4
"""Blocks of a multiprocessor: each of its quarters has a warp of every one."""

IMMA_CYCLES = 6.5
"""4 at the dense int8 rate, of which mma.sync is assumed to reach 62 %."""
IMMA_OF_STEP = 24
OTHER_INSTRUCTIONS = 580
"""Of a warp for a tile: clearing sums, starting the next tile, comparing, storing. By hand."""
TURNS = 8

# Cycles of a multiprocessor's shared memory, 128 bytes each, for one of a tile's four warps.
STEP_SHARED = 12 + 8 + 5
"""Of a step: the weights, the states, and a quarter of what arrives of both."""
TURN_SHARED = 4 * 4 + 4
"""Of a turn of thresholds: four rows of the table, and storing."""
OTHER_SHARED = 32 + 28
STEP_BYTES = 16 * 32 * 3 + 256 * 4
"""What a step of a tile reads from the L2 cache."""

UNITS, CHAINS = 16, 256


@dataclass(frozen=True)
class HalfStep:
    """Cycles of a quarter for all the tiles of the busiest multiprocessor."""

    tiles: int
    of_busiest: int
    steps: int
    tensor: float
    instructions: float
    shared: float

    @property
    def seconds(self) -> float:
        return max(self.tensor, self.instructions, self.shared) / CLOCK

    @property
    def l2(self) -> float:
        """Bytes a second."""
        return self.tiles * self.steps * STEP_BYTES / self.seconds


def half_step(units: int, sources: int, chains: int, budget: list[dict[str, Any]]) -> HalfStep:
    counts = {e["loop"]: e["instructions"] * e["elements"] for e in budget}
    of_turn = counts["tiles: a turn of thresholds"]
    of_step = (counts["tiles: two steps and a turn"] - of_turn) / 2
    steps = math.ceil(sources / 32)
    tiles = math.ceil(units / UNITS) * math.ceil(chains / CHAINS)
    busiest = math.ceil(tiles / MULTIPROCESSORS)
    instructions = steps * of_step + TURNS * of_turn + OTHER_INSTRUCTIONS
    shared = 4 * (steps * STEP_SHARED + TURNS * TURN_SHARED + OTHER_SHARED)
    tensor = IMMA_CYCLES * IMMA_OF_STEP * steps
    return HalfStep(
        tiles, busiest, steps, busiest * tensor, busiest * instructions, busiest * shared
    )


HEAD = """
## Gibbs chains

What an `IMMA` (16 units x 8 chains x 32 sources) costs, or a threshold, of which a turn makes four
a thread:

| kernel | loop | instructions |
|---|---|---|
"""
COLUMNS = [
    "visible x hidden x chains",
    "sampled",
    "tiles, of the busiest",
    "tensor cores",
    "instructions",
    "shared memory",
    "microseconds",
    "of L2, TB/s",
    "measured",
]
MODEL = f"""
A sweep in tiles of {UNITS} units x {CHAINS} chains, {RESIDENT} blocks of four warps a
multiprocessor, on {MULTIPROCESSORS} of them at {CLOCK / 1e9:g} GHz. Assumed: an `IMMA`
takes a quarter's tensor core {IMMA_CYCLES} cycles (4 at the dense rate), an instruction one cycle,
shared memory passes 128 bytes a cycle, tiles are dealt out evenly and overlap. Thousands of cycles
of a quarter of the busiest multiprocessor; the greatest binds. Launches and the first copies come
on top, a microsecond or two a sweep.

| {" | ".join(COLUMNS)} |
|{"---|" * len(COLUMNS)}
"""


def gibbs_note(budget: list[dict[str, Any]]) -> str:
    """The page's section, from what the budget holds."""
    text = HEAD
    for entry in budget:
        if "unit" in entry:
            cost = f"{entry['instructions']:g} {entry['unit']}"
            text += f"| {entry['kernel']} | {entry['loop']} | {cost} |\n"
    text += MODEL
    for visible, hidden, chains in ((784, 500, 4096), (4096, 4096, 4096)):
        sides = (("hidden", hidden, visible), ("visible", visible, hidden))
        for name, units, sources in sides:
            h = half_step(units, sources, chains, budget)
            cells = [f"{visible} x {hidden} x {chains}", name, f"{h.tiles}, {h.of_busiest}"]
            cells += [f"{x / 1e3:.1f}" for x in (h.tensor, h.instructions, h.shared)]
            cells += [f"{1e6 * h.seconds:.1f}", f"{h.l2 / 1e12:.1f}", "not yet"]
            text += f"| {' | '.join(cells)} |\n"
    return text
