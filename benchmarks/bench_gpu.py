# SPDX-License-Identifier: Apache-2.0
"""What a GPU is for: whole models in one launch, reading tensors, Gibbs chains; in one run each.

    python benchmarks/bench_gpu.py                       # on a GPU: events, cold L2, medians
    python benchmarks/bench_gpu.py --parts gibbs
    python benchmarks/bench_gpu.py --device cpu --quick  # does it run? the CPU, tiny sizes
    python benchmarks/bench_gpu.py --device cpu --parts launch  # what a prepared run asks of a host

memory    what can be had: fill, memset, copy and read; and fills in their light, among them
          Tensor.normal_ and uniform_, and torch.func._random where there is one.
llama     a Llama-7B's tensors in bfloat16, one prepared launch, against a loop of torch's calls.
small     150 tensors, 5 million elements in all: a prepared plan, also in a CUDA graph.
launch    what the host does for such a run, by the host's clock.
moments   flow mode and the read-back against torch's sum of the same memory.
gibbs     sweeps of an RBM against torch (eager, CUDA graph) and against the GEMMs alone.
training  CD-1 of an RBM against eager torch.

bench_init.py --device cuda compares each initialiser and dtype. Writes bench_gpu_DEVICE.json and,
with matplotlib, .png to --output.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import _gpu_cases as cases
import _machine
import torch
from _gpu_targets import judge
from _timing import CudaClock, Group, HostClock

PARTS = {
    "memory": cases.memory,
    "llama": cases.llama,
    "small": cases.small,
    "launch": cases.launch,
    "moments": cases.moments,
    "gibbs": cases.gibbs,
    "training": cases.training,
}


def main(argv: Sequence[str] | None = None) -> int:
    args = _parse(argv)
    if args.plot:
        return 0 if _plot(json.loads(args.plot.read_text())["groups"], args.plot) else 1
    device = torch.device(args.device)
    clock = CudaClock(device) if device.type == "cuda" else HostClock()
    bench = cases.Bench(device, clock, args.repeats, args.quick)
    facts: dict[str, Any] = {
        "benchmark": "bench_gpu",
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "quick": args.quick,
        "machine": _machine.describe(device),
        "versions": _machine.versions(),
        "clocks": {},
        "failed": [],
    }
    args.output.mkdir(parents=True, exist_ok=True)
    path = args.output / f"bench_gpu_{args.device}.json"
    groups: list[Group] = []
    for part in args.parts:
        try:
            for group in PARTS[part](bench):
                _print(group)
                groups.append(group)
                _save(path, facts, groups, args.device)
        except (RuntimeError, ValueError) as error:  # a part must not cost the others their figures
            facts["failed"].append(f"{part}: {str(error).splitlines()[0]}")
            print(f"{facts['failed'][-1]}\n")
        if device.type == "cuda":  # while it is warm
            facts["clocks"][part] = _machine.gpu_clocks(device)
        _save(path, facts, groups, args.device)
    for verdict in judge(groups) if device.type == "cuda" else ():
        word = {True: "reached", False: "MISSED", None: "not measured"}[verdict.reached]
        measured = "" if verdict.measured is None else f"{verdict.measured:.3g}"
        print(f"{word:<12} {measured:>8}  {verdict.statement}")
    if device.type != "cuda":
        print("Not a GPU: but for `launch`, these figures say that the script runs, and no more.")
    print(f"wrote {path}")
    if not _plot([group.as_json() for group in groups], path):
        print(f"no plot: where matplotlib is, python benchmarks/bench_gpu.py --plot {path.name}")
    return 1 if facts["failed"] else 0


def _save(path: Path, facts: dict[str, Any], groups: Sequence[Group], tier: str) -> None:
    """Write what there is by now: a run that is ended loses nothing else."""
    verdicts = [verdict.as_json() for verdict in judge(groups)]
    found = {"groups": [group.as_json() for group in groups]}
    found["targets"] = {"tier": tier, "verdicts": verdicts}
    path.write_text(json.dumps(facts | found, indent=1), encoding="utf-8")


def _print(group: Group) -> None:
    print(group.title)
    for result in group.results:
        name = f"{result.side.case}, {result.side.implementation}"
        if result.median is None or result.gb_per_s is None:
            print(f"  {name:58} {result.unavailable}")
            continue
        per_unit = result.median / result.side.units
        bandwidth = f"{result.gb_per_s:9.1f} GB/s" if result.side.moved else ""
        spread = math.nan if result.spread is None else result.spread
        print(f"  {name:58} {per_unit * 1e6:12.2f} us {bandwidth:>14}, spread {spread:.0%}")
    for counted, number in group.counts.items():
        print(f"  {counted:58} {number:12}")
    print(flush=True)


def _plot(groups: Sequence[dict[str, Any]], path: Path) -> bool:
    """Draw microseconds of each side, a panel for each group, logarithmic, beside the JSON."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return False
    shown = [[r for r in group["results"] if "median_s" in r] for group in groups]
    titles = [group["title"] for group, results in zip(groups, shown, strict=True) if results]
    shown = [results for results in shown if results]
    if not shown:
        return False
    rows = [len(results) for results in shown]
    figure = Figure(figsize=(10, 0.8 * len(rows) + 0.3 * sum(rows)), dpi=110, layout="constrained")
    axes = figure.subplots(len(rows), 1, squeeze=False, height_ratios=rows)[:, 0]
    for ax, title, results in zip(axes, titles, shown, strict=True):
        colours = ["#0072B2" if r["implementation"] == "torch_init" else "grey" for r in results]
        times = [1e6 * r["median_s"] / r["units_per_call"] for r in results]
        ax.barh(range(len(results)), times, color=colours)
        names = [f"{r['case']}, {r['implementation']}" for r in results]
        ax.set_yticks(range(len(results)), names)
        ax.invert_yaxis()
        ax.set_xscale("log")
        ax.set_title(f"{title}: microseconds", fontsize=10)
    figure.savefig(path.with_suffix(".png"))
    print(f"wrote {path.with_suffix('.png')}")
    return True


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--device", choices=("cuda", "cpu"), default="cuda")
    add("--parts", default=",".join(PARTS), help="comma-separated (default: %(default)s)")
    add("--repeats", type=int, help="rounds (default: 9, with --quick 2)")
    add("--quick", action="store_true", help="tiny sizes; figures mean nothing")
    add("--output", type=Path, default=Path("results"), help="folder (default: %(default)s)")
    add("--plot", type=Path, metavar="JSON", help="measure nothing: draw what is in this file")
    args = parser.parse_args(argv)
    if args.plot:
        return args
    args.parts = args.parts.split(",")
    if unknown := set(args.parts) - set(PARTS):
        parser.error(f"--parts: unknown {', '.join(sorted(unknown))}; known: {', '.join(PARTS)}")
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: this torch sees no GPU")
    args.repeats = args.repeats or (2 if args.quick else 9)
    return args


if __name__ == "__main__":
    sys.exit(main())
