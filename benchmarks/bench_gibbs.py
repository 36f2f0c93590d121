# SPDX-License-Identifier: Apache-2.0
"""Speed of exact Gibbs chains against plain torch (addmm, sigmoid, bernoulli).

    python benchmarks/bench_gibbs.py                # 100 chains x 784 x 500, 500 sweeps, 1 thread
    python benchmarks/bench_gibbs.py --threads 2 --sweeps 100

All sides take turns; medians and their spread. One thread is timed in the process's CPU time, which
other programs on the machine disturb less; more threads by the wall clock.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import torch
from _machine import describe
from _timing import Clock, CpuClock, HostClock, Side, measure
from torch import Tensor

from torch_init import _ops


class Layer:
    """Weights, chains and a mini-batch of one size."""

    def __init__(self, chains: int, visible: int, hidden: int, density: float) -> None:
        generator = torch.Generator().manual_seed(0)
        self.weight = 0.05 * torch.randn(visible, hidden, generator=generator)
        self.visible_bias = torch.full((visible,), torch.logit(torch.tensor(density)).item())
        self.hidden_bias = torch.zeros(hidden)
        self.exact, self.again = self.quantize(), self.quantize()
        self.statistics = torch.zeros(visible, hidden, dtype=torch.int32)
        self.float_statistics = torch.zeros(visible, hidden)
        on = torch.rand(chains, visible, generator=generator) < density
        self.visible = on.to(torch.uint8)
        self.hidden = _ops.sample_hidden(self.exact, self.visible, seed=0)

    def quantize(self) -> _ops.GibbsWeights:
        return _ops.quantize(self.weight, self.visible_bias, self.hidden_bias)

    def quantize_again(self) -> _ops.GibbsWeights:
        layer = (self.weight, self.visible_bias, self.hidden_bias)
        self.again = _ops.quantize(*layer, out=self.again)
        return self.again

    def exact_sweeps(self, sweeps: int) -> None:
        _ops.gibbs(self.exact, self.visible.clone(), self.hidden, seed=1, sweeps=sweeps)

    def torch_sweeps(self, sweeps: int) -> None:
        v = self.visible.float()
        for _ in range(sweeps):
            h = self._half_step(v, self.weight, self.hidden_bias)
            v = self._half_step(h, self.weight.T, self.visible_bias)

    @staticmethod
    def _half_step(source: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return torch.bernoulli(torch.sigmoid(torch.addmm(bias, source, weight)))

    def exact_cd1(self) -> None:
        """What a CD-1 update needs of the engine, from new weights to statistics."""
        weights = self.quantize_again()
        h0 = _ops.sample_hidden(weights, self.visible, seed=1)
        v1, h1 = _ops.gibbs(weights, None, h0.clone(), seed=1, first_step=1, start="hidden")
        terms = _ops.Term(self.visible, h0), _ops.Term(v1, h1, weight=-1)
        _ops.statistics(*terms, out=self.statistics, accumulate=False)

    def torch_cd1(self) -> None:
        v0 = self.visible.float()
        h0 = self._half_step(v0, self.weight, self.hidden_bias)
        v1 = self._half_step(h0, self.weight.T, self.visible_bias)
        h1 = self._half_step(v1, self.weight, self.hidden_bias)
        torch.mm(v0.T, h0, out=self.float_statistics)
        torch.addmm(self.float_statistics, v1.T, h1, alpha=-1, out=self.float_statistics)

    def exact_statistics(self) -> None:
        term = _ops.Term(self.visible, self.hidden)
        _ops.statistics(term, out=self.statistics, accumulate=False)

    def torch_statistics(self) -> None:
        torch.mm(self.visible.float().T, self.hidden.float(), out=self.float_statistics)

    def ais(self, betas: int) -> None:
        _ops.ais_run(
            self.exact,
            torch.linspace(0, 1, betas),
            self.visible_bias,
            seed=1,
            chains=len(self.visible),
        )


def sides(layer: Layer, sweeps: int) -> list[Side]:
    products = layer.visible.shape[0] * layer.weight.numel()
    cases: list[tuple[str, int, Callable[[], Any], Callable[[], Any] | None]] = [
        ("sweep", sweeps, lambda: layer.exact_sweeps(sweeps), lambda: layer.torch_sweeps(sweeps)),
        ("CD-1 update", 1, layer.exact_cd1, layer.torch_cd1),
        ("v^T h", 1, layer.exact_statistics, layer.torch_statistics),
        ("quantize", 1, layer.quantize_again, None),
        ("AIS, a beta", 50, lambda: layer.ais(51), None),
    ]
    found = []
    for case, count, exact, plain in cases:
        size = {"elements": count * products, "moved": 0}
        if plain is not None:
            found.append(Side(case, "torch", plain, **size))
        for isa in _ops.cpu_isas():

            def call(isa: str = isa, exact: Callable[[], Any] = exact) -> None:
                _ops.set_cpu_isa(isa)
                exact()

            found.append(Side(case, "torch_init", call, tier=isa, **size))
    return found


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--chains", type=int, default=100)
    parser.add_argument("--visible", type=int, default=784)
    parser.add_argument("--hidden", type=int, default=500)
    parser.add_argument("--sweeps", type=int, default=500)
    parser.add_argument("--density", type=float, default=0.2, help="of units that are on")
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    facts = describe(torch.device("cpu"))
    print(f"{facts['cpu']}, load {facts['load_average_1_min']}, torch {torch.__version__}")
    print(
        f"{args.chains} chains x {args.visible} x {args.hidden}, {args.sweeps} sweeps a call, "
        f"{args.threads} thread(s), median of {args.repeats}"
    )
    best = _ops.cpu_isa()
    layer = Layer(args.chains, args.visible, args.hidden, args.density)
    clock: Clock = CpuClock() if args.threads == 1 else HostClock()
    results = measure(sides(layer, args.sweeps), clock, args.repeats)
    _ops.set_cpu_isa(best)
    plain = {r.side.case: r.median for r in results if r.side.implementation == "torch"}
    per_call = args.chains * layer.weight.numel()
    for result in results:
        side = result.side
        ms = result.median / (side.elements / per_call) * 1e3
        ratio = f", {plain[side.case] / result.median:5.2f} x torch" if side.case in plain else ""
        print(
            f"{side.case:12} {side.implementation:10} {side.tier:8} {ms:8.3f} ms{ratio}, "
            f"spread {result.spread:.0%}",
            flush=True,
        )


if __name__ == "__main__":
    main()
