# SPDX-License-Identifier: Apache-2.0
"""What watching costs a training step, beside other ways of watching.

    python benchmarks/bench_flow.py --threads 1 --repeats 15

A multilayer perceptron of 8 layers, width 1024, batch 256, with SGD. In each round every way of
watching takes one step, in turn, so that a busy machine disturbs all alike; the overhead is the
median over rounds of the step's time over that of the plain step in the same round, less one.

    every step          torch_init.watch(model, optimizer): all statistics but histograms
    with histograms     torch_init.watch(model, optimizer, histogram=True)
    every 50            that with every=50; the mean over 50 steps
    .item() hooks       forward hooks and tensor hooks that take mean, std and absmax to the host
    watch-style         per parameter: min, max and a histogram of the gradient, on the host, as
                        experiment trackers do it

It also times the statistics of one tensor against torch's own reductions, and what a window costs
once: the sizes of all weights, read at its first pass for the prediction; the report; and the
largest singular values of all weights, read only if a verdict on untrained weights depends on them.
"""

from __future__ import annotations

import argparse
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

    def __init__(self, device: str) -> None:
        layers: list[nn.Module] = []
        for i in range(DEPTH):
            layers += [nn.Linear(WIDTH, WIDTH), nn.ReLU()]
            torch_init.he_(layers[-2].weight, seed=0, name=str(i))
        self.model = nn.Sequential(*layers[:-1]).to(device)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=1e-4)
        self.x = torch.randn(BATCH, WIDTH, device=device)
        self.y = torch.arange(BATCH, device=device)

    def step(self) -> None:
        self.optimizer.zero_grad()
        nn.functional.cross_entropy(self.model(self.x), self.y).backward()
        self.optimizer.step()


def watched(training: Training, histogram: bool) -> None:
    torch_init.watch(training.model, training.optimizer, histogram=histogram)


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
    ".item() hooks": with_item_hooks,
    "watch-style": watch_style,
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


def time_steps(device: str, repeats: int) -> dict[str, dict[str, float]]:
    trainings = {}
    for name, prepare in WAYS.items():
        trainings[name] = Training(device)
        prepare(trainings[name])
        trainings[name].step()
    times: dict[str, list[float]] = {name: [] for name in WAYS}
    for repeat in range(repeats):
        order = list(WAYS) if repeat % 2 == 0 else list(WAYS)[::-1]
        for name in order:
            times[name].append(seconds(trainings[name].step, device))
    return {
        name: {
            "step_ms": 1e3 * statistics.median(samples),
            "overhead": statistics.median(
                one / plain for one, plain in zip(samples, times["plain"], strict=True)
            )
            - 1,
        }
        for name, samples in times.items()
    }


def time_idle(device: str, repeats: int, every: int = 50) -> float:
    """The overhead of every=50, from its parts: hooks that return at once, and a 50th of a step.

    Measured as a whole it would drown in the noise of 50 steps.
    """
    plain, idle = Training(device), Training(device)
    flow = torch_init.watch(idle.model, idle.optimizer, every=10**9, histogram=True)
    idle.step()
    assert not flow.recorder.active
    calls = len(idle.model)
    hook = next(iter(idle.model[0]._forward_hooks.values()))
    output = torch.zeros(1)
    start = time.perf_counter()
    for _ in range(1000):
        for _ in range(calls):
            hook(idle.model[0], (), output)
        for step_hook in idle.optimizer._optimizer_step_pre_hooks.values():
            step_hook(idle.optimizer, (), {})
        for step_hook in idle.optimizer._optimizer_step_post_hooks.values():
            step_hook(idle.optimizer, (), {})
    hooks = (time.perf_counter() - start) / 1000
    step = statistics.median(seconds(plain.step, device) for _ in range(repeats))
    return hooks / step


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
    training = Training("cpu")
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
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)

    steps = time_steps(args.device, args.repeats)
    idle = time_idle(args.device, args.repeats)
    steps["every 50"] = {
        "step_ms": steps["plain"]["step_ms"],
        "overhead": idle + steps["with histograms"]["overhead"] / 50,
    }
    reductions = time_statistics(max(args.repeats, 50)) if args.device == "cpu" else {}
    windows = time_windows(args.repeats) if args.device == "cpu" else {}
    if args.json:
        found = {"steps": steps, "idle_hooks": idle, "statistics_ms": reductions}
        print(json.dumps({**found, "windows_ms": windows}))
        return
    print(f"{DEPTH} layers of {WIDTH}, batch {BATCH}, {args.device}, {args.threads} threads")
    print(f"{'':16} {'step ms':>8} {'overhead':>9}")
    for name, row in steps.items():
        print(f"{name:16} {row['step_ms']:8.1f} {row['overhead']:9.2%}")
    print(f"hooks that are not due: {idle:.3%} of a step")
    for name, value in reductions.items():
        print(f"{name:30} {value:6.3f} ms, 2^20 float32 elements")
    for name, value in windows.items():
        share = value / steps["plain"]["step_ms"]
        print(f"{name:30} {value:6.1f} ms, {share:.1%} of a step, once a window")


if __name__ == "__main__":
    main()
