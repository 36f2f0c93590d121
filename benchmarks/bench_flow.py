# SPDX-License-Identifier: Apache-2.0
"""What watching costs a training step, beside other ways of watching.

    python benchmarks/bench_flow.py --threads 1 --repeats 15

A multilayer perceptron of 8 layers, width 1024 (--width), batch 256, with SGD. In each round every
way of watching takes one step, in turn, so that a busy machine disturbs all alike; the overhead is
the median over rounds of the step's time over that of the plain step in the same round, less one.
Beside it the quartiles of these quotients: what is smaller than their distance is noise.

    every step          torch_init.watch(model, optimizer): all statistics but histograms
    with histograms     torch_init.watch(model, optimizer, histogram=True)
    every 50            that with every=50: rounds of 50 steps each, of which one is measured
    bare hooks          hooks in the same places that do nothing: what PyTorch takes to call them
    .item() hooks       forward hooks and tensor hooks that take mean, std and absmax to the host
    watch-style         per parameter: min, max and a histogram of the gradient, on the host, as
                        experiment trackers do it

It also times the statistics of one tensor against torch's own reductions, and what a window costs
once: the sizes of all weights, read at its first pass for the prediction; the report; and the
largest singular values of all weights, read only if a verdict on untrained weights depends on them.
"""

from __future__ import annotations

import argparse
import functools
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import torch_init
from torch_init import _ops
from torch_init.flow.spectrum import largest_spike
from torch_init.flow.structure import Structure

DEPTH, WIDTH, BATCH = 8, 1024, 256


class Training:
    """A model with its optimizer, and one training step."""

    def __init__(self, device: str, width: int) -> None:
        layers: list[nn.Module] = []
        for i in range(DEPTH):
            layers += [nn.Linear(width, width), nn.ReLU()]
            torch_init.he_(layers[-2].weight, seed=0, name=str(i))
        self.model = nn.Sequential(*layers[:-1]).to(device)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=1e-4)
        self.x = torch.randn(BATCH, width, device=device)
        self.y = torch.arange(BATCH, device=device) % width

    def steps(self, count: int) -> None:
        for _ in range(count):
            self.step()

    def step(self) -> None:
        self.optimizer.zero_grad()
        nn.functional.cross_entropy(self.model(self.x), self.y).backward()
        self.optimizer.step()


def watched(training: Training, histogram: bool, every: int = 1) -> None:
    torch_init.watch(training.model, training.optimizer, histogram=histogram, every=every)


def with_bare_hooks(training: Training) -> None:
    def nothing(*args: Any) -> None:
        return None

    def hook(module: nn.Module, args: Any, output: Tensor) -> None:
        output.register_hook(nothing)

    for module in training.model:
        module.register_forward_pre_hook(nothing)
        module.register_forward_hook(hook)
        module.register_forward_hook(nothing, always_call=True)
    training.optimizer.register_step_pre_hook(nothing)
    training.optimizer.register_step_post_hook(nothing)


def with_item_hooks(training: Training) -> None:
    def read(x: Tensor) -> None:
        x = x.detach()
        x.mean().item(), x.std().item(), x.abs().max().item()

    def hook(module: nn.Module, args: Any, output: Tensor) -> None:
        read(output)
        output.register_hook(read)

    for module in training.model:
        module.register_forward_hook(hook)


def watch_style(training: Training) -> None:
    def read(gradient: Tensor) -> None:
        flat = gradient.detach().float().flatten()
        low, high = flat.min().item(), flat.max().item()
        torch.histc(flat, 64, low, high).cpu().tolist()

    for parameter in training.model.parameters():
        parameter.register_hook(read)


WAYS: dict[str, Callable[[Training], None]] = {
    "plain": lambda training: None,
    "every step": lambda training: watched(training, False),
    "with histograms": lambda training: watched(training, True),
    "bare hooks": with_bare_hooks,
    ".item() hooks": with_item_hooks,
    "watch-style": watch_style,
}
EVERY_50: dict[str, Callable[[Training], None]] = {
    "plain, 50 steps": lambda training: None,
    "every 50": lambda training: watched(training, True, every=50),
}


def seconds(call: Callable[[], None], device: str) -> float:
    """Wall time; with one thread CPU time, which a busy machine disturbs less."""
    on_one_core = device == "cpu" and torch.get_num_threads() == 1
    clock = time.process_time if on_one_core else time.perf_counter
    if device == "cuda":
        torch.cuda.synchronize()
    start = clock()
    call()
    if device == "cuda":
        torch.cuda.synchronize()
    return clock() - start


def time_steps(
    device: str, width: int, repeats: int, ways: dict[str, Callable[[Training], None]], steps: int
) -> dict[str, dict[str, float]]:
    """Time each of the ways, the first being the plain one, in rounds of so many steps."""
    trainings = {name: Training(device, width) for name in ways}
    for name, prepare in ways.items():
        prepare(trainings[name])
        trainings[name].steps(steps)
    times: dict[str, list[float]] = {name: [] for name in ways}
    for repeat in range(repeats):
        for name in list(ways) if repeat % 2 == 0 else list(ways)[::-1]:
            call = functools.partial(trainings[name].steps, steps)
            times[name].append(seconds(call, device) / steps)
    plain = times[next(iter(ways))]
    rows = {}
    for name, samples in times.items():
        quotients = [one / other - 1 for one, other in zip(samples, plain, strict=True)]
        low, middle, high = statistics.quantiles(quotients, n=4)
        rows[name] = {
            "step_ms": 1e3 * statistics.median(samples),
            "overhead": middle,
            "lower_quartile": low,
            "upper_quartile": high,
        }
    return rows


def time_statistics(repeats: int, elements: int = 2**20) -> dict[str, float]:
    """Milliseconds of all statistics of one tensor, and of torch's three reductions."""
    x = torch.randn(BATCH, elements // BATCH)
    columns = _ops.FLOW_COLUMNS + _ops.FLOW_BINS
    table = torch.zeros(1, columns, dtype=torch.float64)
    features = torch.zeros(3, x.shape[1], dtype=torch.float64)
    calls: dict[str, Callable[[], Any]] = {
        "all statistics": lambda: _ops.accumulate_moments_(x, table, None, 0, -1.0, 1.0, 1),
        "and by feature": lambda: _ops.accumulate_moments_(x, table, features, 0, -1.0, 1.0, 1),
        "abs().max() + mean() + std()": lambda: (x.abs().max(), x.mean(), x.std()),
    }
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            times[name].append(seconds(call, "cpu"))
    return {name: 1e3 * statistics.median(samples) for name, samples in times.items()}


def time_windows(repeats: int) -> dict[str, float]:
    """Milliseconds of what a window costs once, for the model of the table."""
    training = Training("cpu", WIDTH)
    flow = torch_init.watch(training.model, training.optimizer)
    training.step()
    weights = [layer.weight for layer in training.model if isinstance(layer, nn.Linear)]

    def sizes() -> None:
        structure = Structure()
        for weight in weights:
            structure.measure(weight)
        structure.resolve()

    calls: dict[str, Callable[[], Any]] = {
        "sizes of the weights": sizes,
        "report": flow.report,
        "singular values": lambda: [largest_spike(weight) for weight in weights],
    }
    return {
        name: 1e3 * statistics.median(seconds(call, "cpu") for _ in range(repeats))
        for name, call in calls.items()
    }


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--width", type=int, default=WIDTH)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)

    rows = time_steps(args.device, args.width, args.repeats, WAYS, 1)
    rows |= time_steps(args.device, args.width, args.repeats, EVERY_50, 50)
    reductions = time_statistics(max(args.repeats, 50)) if args.device == "cpu" else {}
    windows = time_windows(args.repeats) if args.device == "cpu" else {}
    if args.json:
        found = {"width": args.width, "steps": rows, "statistics_ms": reductions}
        print(json.dumps({**found, "windows_ms": windows}))
        return
    print(f"{DEPTH} layers of {args.width}, batch {BATCH}, {args.device}, {args.threads} threads")
    print(f"{'':16} {'step ms':>8} {'overhead':>9} {'quartiles':>17}")
    for name, row in rows.items():
        quartiles = f"{row['lower_quartile']:8.2%} {row['upper_quartile']:8.2%}"
        print(f"{name:16} {row['step_ms']:8.2f} {row['overhead']:9.2%} {quartiles}")
    for name, value in reductions.items():
        print(f"{name:30} {value:6.3f} ms, 2^20 float32 elements")
    for name, value in windows.items():
        share = value / rows["plain"]["step_ms"]
        print(f"{name:30} {value:6.1f} ms, {share:.1%} of a step, once a window")


if __name__ == "__main__":
    main()
