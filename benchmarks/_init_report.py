# SPDX-License-Identifier: Apache-2.0
"""What bench_init.py shows: tables in the terminal, and a figure."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from _init_cases import COUNTERPARTS
from _init_targets import Verdict
from _timing import SLOW_BUDGET, Group

_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7")
"""Of torch_init's tiers: from Okabe and Ito's palette, for readers with any colour vision."""
_MARKERS = ("o", "s", "D", "^")


def print_group(group: Group) -> None:
    """Print one table; a figure that does not exist is "-", with the reason below."""
    throughput = group.kind == "throughput"
    header, rows = _throughput_rows(group) if throughput else _call_rows(group)
    _print_table(group.heading(group.title), header, rows)
    reasons: dict[str, list[str]] = {}
    most = max(len(result.samples) for result in group.results)
    for result in group.results:
        reason = result.unavailable
        if result.samples and len(result.samples) < most:
            reason = f"{len(result.samples)} of {most} samples, being slow"
        if reason:
            name = f"{result.side.implementation} {result.side.case} {result.side.tier}".strip()
            reasons.setdefault(reason, []).append(name)
    for reason, names in reasons.items():
        print(f"  {', '.join(names)}: {reason}")
    print()


def print_notes(quick: bool) -> None:
    """Print how to read the tables."""
    print(
        "Medians of interleaved rounds; +-: interquartile range over median. x torch: torch's "
        f"time over ours. {COUNTERPARTS} of fill: bandwidth over Tensor.fill_'s; copy_ counts "
        f"reads and writes. What needs more than {SLOW_BUDGET:g} s for its samples has fewer."
    )
    if quick:
        print("--quick: sizes that fit the caches and few repeats; figures mean little.")


def print_verdicts(verdicts: Sequence[Verdict], tier: str) -> None:
    """Print what was aimed at and what was measured."""
    if not verdicts:
        print(f"No targets are stated for the tier {tier}.")
        return
    print(f"Measured on {tier}:")
    for verdict in verdicts:
        word = {True: "reached", False: "MISSED", None: "not measured"}[verdict.reached]
        figure = "" if verdict.measured is None else _number(verdict.measured)
        print(f"  {word:<12} {figure:>6}  {verdict.statement}")
    judged = [verdict.reached for verdict in verdicts if verdict.reached is not None]
    print(f"  {sum(judged)} of {len(judged)} reached")


def _throughput_rows(group: Group) -> tuple[list[str], list[list[str]]]:
    stateless = any(
        r.side.implementation == "torch.func._random" and r.samples for r in group.results
    )
    header = ["", "tier", "ns/element", "+-", "GB/s", "of fill", "torch ns", "x torch"]
    header += ["x _random"] if stateless else []
    rows = []
    for result in group.results:
        side = result.side
        memory = side.case in ("fill", "copy")
        if side.implementation != "torch_init" and not memory:
            continue
        row = [f"Tensor.{side.case}_" if memory else side.case, side.tier]
        row += [_number(result.ns_per_element), _percent(result.spread)]
        row += [_number(result.gb_per_s), _percent(group.share_of_fill(result))]
        if not memory:
            theirs = group.find(side.case, "torch")
            row += [_number(None if theirs is None else theirs.ns_per_element)]
            row += [_number(group.speedup(result, "torch"))]
            row += [_number(group.speedup(result, "torch.func._random"))] if stateless else []
        rows.append(row + [""] * (len(header) - len(row)))
    return header, rows


def _call_rows(group: Group) -> tuple[list[str], list[list[str]]]:
    header = ["", "implementation", "tier", "time", "+-", "x torch"]
    rows = []
    for result in group.results:
        side = result.side
        speedup = "" if side.implementation == "torch" else _number(group.speedup(result, "torch"))
        cost = [_duration(result.median), _percent(result.spread), speedup]
        rows.append([side.case, side.implementation, side.tier, *cost])
    return header, rows


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    for unit, size in (("s", 1), ("ms", 1e-3)):
        if seconds >= size:
            return f"{_number(seconds / size)} {unit}"
    return f"{_number(seconds * 1e6)} us"


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"


def _print_table(title: str, header: list[str], rows: list[list[str]]) -> None:
    words = header.index("tier") + 1  # columns of words, aligned to the left
    if importlib.util.find_spec("rich"):
        from rich import box
        from rich.console import Console
        from rich.table import Table

        table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
        for i, name in enumerate(header):
            table.add_column(name, justify="left" if i < words else "right")
        for row in rows:
            table.add_row(*row)
        console = Console()
        if not console.is_terminal:
            console = Console(width=120)
        console.print(table)
        return
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    print(title)
    for row in (header, *rows):
        cells = zip(row, widths, strict=True)
        print("  ".join(c.ljust(w) if i < words else c.rjust(w) for i, (c, w) in enumerate(cells)))


def plot(groups: Sequence[Group], path: Path, subtitle: str) -> bool:
    """Draw time per element, a panel for each dtype and number of threads.

    Returns:
        False, having drawn nothing, without matplotlib or without throughputs.
    """
    panels = [group for group in groups if group.kind == "throughput"]
    if not panels or importlib.util.find_spec("matplotlib") is None:
        return False
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    dtypes = list(dict.fromkeys(group.dtype for group in panels))
    threads = list(dict.fromkeys(group.threads for group in panels))
    cases = list(
        dict.fromkeys(
            result.side.case
            for group in panels
            for result in group.results
            if result.side.implementation == "torch_init"
        )
    )
    size = (2 + 4.6 * len(threads), 1.6 + len(dtypes) * (0.9 + 0.26 * len(cases)))
    figure = Figure(figsize=size, dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(dtypes), len(threads), sharex=True, sharey=True, squeeze=False)
    for group in panels:
        ax = axes[dtypes.index(group.dtype), threads.index(group.threads)]
        _draw_panel(ax, group, cases)
    for ax in axes[-1]:
        ax.set_xlabel("ns per element (logarithmic; less is better)")
    labelled: dict[str, Any] = {}
    for ax in axes.flat:
        handles, labels = ax.get_legend_handles_labels()
        labelled |= dict(zip(labels, handles, strict=True))
    figure.legend(labelled.values(), labelled, loc="outside lower center", ncols=3, frameon=False)
    figure.suptitle(f"Filling {panels[0].results[0].side.elements:,} elements\n{subtitle}")
    figure.savefig(path)
    return True


def _draw_panel(ax: Any, group: Group, cases: list[str]) -> None:
    tiers = list(dict.fromkeys(r.side.tier for r in group.results if r.side.tier))
    for tier, colour, marker in zip(tiers, _COLOURS, _MARKERS, strict=False):
        _dots(ax, group, cases, "torch_init", tier, color=colour, marker=marker)
    for name, marker in (("torch", "x"), ("torch.func._random", "+")):
        _dots(ax, group, cases, name, "", color="black", marker=marker)
    fill = group.find("fill", "torch")
    if fill is not None and fill.ns_per_element is not None:
        ax.axvline(fill.ns_per_element, color="grey", linestyle="--", label="torch fill_")
    ax.set_title(group.heading(group.dtype), fontsize=11)
    ax.set_xscale("log")
    ax.set_yticks(range(len(cases)), [case.replace("_", " ") for case in cases])
    ax.set_ylim(len(cases) - 0.5, -0.5)
    ax.grid(color="#e6e6e6", which="both", axis="x")
    ax.grid(color="#e6e6e6", axis="y")
    ax.set_axisbelow(True)
    ax.xaxis.set_major_formatter("{x:g}")


def _dots(
    ax: Any, group: Group, cases: list[str], implementation: str, tier: str, **style: Any
) -> None:
    # What has no tiers is the same on all.
    found = [
        (i, group.find(case, implementation, tier) or group.find(case, implementation))
        for i, case in enumerate(cases)
    ]
    points = [(r.ns_per_element, i) for i, r in found if r is not None and r.samples]
    if points:
        label = f"{implementation} {tier}".strip()
        ax.plot(*zip(*points, strict=True), linestyle="none", label=label, **style)
