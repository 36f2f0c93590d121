# SPDX-License-Identifier: Apache-2.0
"""How far healthy networks stay away from each limit of the verdicts.

    python benchmarks/flow_false_alarms.py --seeds 10

Every network of tests/flow/flow_zoo.py is checked from several seeds, and takes two steps of Adam
with a learning rate of 1e-3. For each limit of torch_init.Thresholds the value that comes closest
to it is printed, and by which factor it stays away; and every verdict that is given: each is a
false alarm. It measures no time.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

import torch_init
from torch_init.flow import Report
from torch_init.flow.rules_of_start import LARGEST_SPIKE, signal_jumps
from torch_init.flow.rules_of_training import moving_weights
from torch_init.flow.spectrum import largest_spike

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests" / "flow"))
from flow_zoo import HEALTHY, healthy

LIMITS = torch_init.Thresholds()


def closeness(report: Report) -> Iterator[tuple[str, float, float]]:
    """Yield (limit, the value that comes closest, how close: 1 is a verdict)."""
    slopes = [s for s in (report.slope, report.signal_slope) if s is not None]
    for slope in slopes:
        if not 0 < slope.total < math.inf:
            continue
        # Vanishing and exploding take all of total, fitted total and slope.
        down = min(1 / slope.total, 1 / slope.fitted_total)
        up = min(slope.total, slope.fitted_total)
        yield "vanish_total", slope.total, math.log(max(down, 1)) / -math.log(LIMITS.vanish_total)
        yield "explode_total", slope.total, math.log(max(up, 1)) / math.log(LIMITS.explode_total)
    for row in report.rows:
        if not math.isnan(row.saturated):
            yield "saturated", row.saturated, row.saturated / LIMITS.saturated
        if row.dead is not None and row.samples > 1:
            yield "dead", row.dead, row.dead / LIMITS.dead
        if row.batch_std is not None and row.samples > 1 and row.std > 0 and row.units > 1:
            share = row.batch_std / row.std
            yield "batch_collapse", share, LIMITS.batch_collapse / share if share else math.inf
    for row in report.weighted[:-1]:
        if row.unit_spread is not None and row.samples > 1 and row.rms > 0:
            spread = row.unit_spread
            yield "symmetric", spread, LIMITS.symmetric / spread if spread else math.inf
    for _, jump, allowed in signal_jumps(report):
        yield "mismatch", math.exp(jump), jump / allowed
    if report.initial_loss is not None:
        excess = report.initial_loss.excess
        yield "initial_loss", excess, excess / LIMITS.initial_loss
    yield from closeness_of_updates(report)


def closeness_of_updates(report: Report) -> Iterator[tuple[str, float, float]]:
    zeros = [row for row in report.rows if row.weight_gain == 0]
    ratios = [p.update_ratio for p in moving_weights(report, zeros) if p.update_ratio > 0]
    if ratios:
        yield "update_too_large", max(ratios), max(ratios) / LIMITS.update_too_large
        spread = statistics.median(ratios) / min(ratios)
        yield "update_spread", spread, spread / LIMITS.update_spread


def spikes(model: torch.nn.Module) -> Iterator[tuple[str, float, float]]:
    for parameter in model.parameters():
        spike = largest_spike(parameter)
        # A mean that is not zero is a direction, too: of norms, and of zeros nothing can be said.
        if spike and parameter.dim() > 1:
            yield "largest singular value", spike, spike / LARGEST_SPIKE


def trained(model: torch.nn.Module, inputs: Any, loss: Any, steps: int = 2) -> Report:
    """Take steps of Adam, and return the report on them."""
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    positional, named = (), {}
    if isinstance(inputs, dict):
        named = inputs
    else:
        positional = inputs if isinstance(inputs, tuple) else (inputs,)
    with torch_init.watch(model, optimizer) as flow:
        for _ in range(steps):
            optimizer.zero_grad()
            output = model(*positional, **named)
            if callable(loss):
                value = loss(output)
            elif loss is None:
                value = output.square().mean()
            elif loss.is_floating_point():
                value = torch.nn.functional.mse_loss(output, loss)
            else:
                value = torch.nn.functional.cross_entropy(output, loss)
            value.backward()
            optimizer.step()
    return flow.report()


Closest = dict[str, tuple[float, float, str]]


def measure(names: list[str], seeds: int) -> tuple[Closest, list[str], int]:
    """Return the closest value to each limit (how close, value, where), the alarms, and runs."""
    closest: Closest = {}
    alarms: list[str] = []
    for name in names:
        print(name, file=sys.stderr)
        for seed in range(seeds):
            model, inputs, loss = healthy(name, seed)
            reports = [torch_init.check(model, inputs, loss, verbose=False)]
            found = list(spikes(model))
            reports.append(trained(model, inputs, loss))
            for report in reports:
                found += closeness(report)
                alarms += [f"{name}, seed {seed}: {v}" for v in report.verdicts if not v.is_healthy]
            for limit, value, close in found:
                if close > closest.get(limit, (-math.inf,))[0]:
                    closest[limit] = (close, value, f"{name}, seed {seed}")
    return closest, alarms, len(names) * seeds


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--networks", nargs="+", choices=list(HEALTHY), default=list(HEALTHY))
    args = parser.parse_args(argv)
    closest, alarms, runs = measure(args.networks, args.seeds)
    print(f"{len(args.networks)} networks, {args.seeds} seeds: {runs} starts, {len(alarms)} alarms")
    for alarm in alarms:
        print("  " + alarm)
    print(f"{'limit':24} {'at':>8} {'closest':>10} {'of the way':>11}")
    for limit, (close, value, where) in sorted(closest.items(), key=lambda item: -item[1][0]):
        at = LARGEST_SPIKE if limit.startswith("largest") else getattr(LIMITS, limit)
        print(f"{limit:24} {at:8.3g} {value:10.3g} {close:11.1%}  {where}")


if __name__ == "__main__":
    main()
