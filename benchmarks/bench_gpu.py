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
    }
    groups = []
    failed = []
    for part in args.parts:
        try:
            for group in PARTS[part](bench):
                _print(group)
                groups.append(group)
        except (RuntimeError, ValueError) as error:  # a part must not cost the others their figures
            failed.append(f"{part}: {str(error).splitlines()[0]}")
            print(f"{failed[-1]}\n")
        if device.type == "cuda":  # while it is warm
            facts["clocks"][part] = _machine.gpu_clocks(device)
    verdicts = judge(groups)
    for verdict in verdicts if device.type == "cuda" else ():
        word = {True: "reached", False: "MISSED", None: "not measured"}[verdict.reached]
        measured = "" if verdict.measured is None else f"{verdict.measured:.3g}"
        print(f"{word:<12} {measured:>8}  {verdict.statement}")
    if device.type != "cuda":
        print("Not a GPU: but for `launch`, these figures say that the script runs, and no more.")
    facts |= {"groups": [group.as_json() for group in groups], "failed": failed}
    facts["targets"] = {"tier": args.device, "verdicts": [v.as_json() for v in verdicts]}
    args.output.mkdir(parents=True, exist_ok=True)
    stem = args.output / f"bench_gpu_{args.device}"
    stem.with_suffix(".json").write_text(json.dumps(facts, indent=1), encoding="utf-8")
    print(f"wrote {stem.with_suffix('.json')}")
    if _plot(groups, stem.with_suffix(".png")):
        print(f"wrote {stem.with_suffix('.png')}")
    return 1 if failed else 0


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


def _plot(groups: Sequence[Group], path: Path) -> bool:
    """Microseconds of each side, a panel for each group, logarithmic."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return False
    shown = [group for group in groups if any(result.samples for result in group.results)]
    if not shown:
        return False
    rows = [len(group.results) for group in shown]
    figure = Figure(figsize=(10, 0.8 * len(rows) + 0.3 * sum(rows)), dpi=110, layout="constrained")
    axes = figure.subplots(len(rows), 1, squeeze=False, height_ratios=rows)[:, 0]
    for ax, group in zip(axes, shown, strict=True):
        results = [result for result in group.results if result.median is not None]
        names = [f"{r.side.case}, {r.side.implementation}" for r in results]
        colours = ["#0072B2" if r.side.implementation == "torch_init" else "grey" for r in results]
        times = [1e6 * (r.median or 0.0) / r.side.units for r in results]
        ax.barh(range(len(names)), times, color=colours)
        ax.set_yticks(range(len(names)), names)
        ax.invert_yaxis()
        ax.set_xscale("log")
        ax.set_title(f"{group.title}: microseconds", fontsize=10)
    figure.savefig(path)
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
    args = parser.parse_args(argv)
    args.parts = args.parts.split(",")
    if unknown := set(args.parts) - set(PARTS):
        parser.error(f"--parts: unknown {', '.join(sorted(unknown))}; known: {', '.join(PARTS)}")
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: this torch sees no GPU")
    args.repeats = args.repeats or (2 if args.quick else 9)
    return args


if __name__ == "__main__":
    sys.exit(main())
