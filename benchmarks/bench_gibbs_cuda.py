# SPDX-License-Identifier: Apache-2.0
"""Speed of exact Gibbs chains on a GPU, by each way of running them, against plain torch.

    python benchmarks/bench_gibbs_cuda.py
    python benchmarks/bench_gibbs_cuda.py --sizes 784,500,100 --sweeps 1000

torch is addmm, sigmoid and bernoulli, eager and as a CUDA graph; "int8 products" are the three
products of bytes of each half-step by torch._int_mm, without anything else. Microseconds a sweep.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from _machine import describe
from _timing import CudaClock, Side, measure
from torch import Tensor

from torch_init import _ops

SIZES = "784,500,100 784,500,1024 784,500,4096 4096,4096,100 4096,4096,4096"
LIMBS = 3


class Case:
    """A layer and its chains on the GPU."""

    def __init__(self, visible: int, hidden: int, chains: int, sweeps: int) -> None:
        generator = torch.Generator().manual_seed(0)
        self.weight = (0.05 * torch.randn(visible, hidden, generator=generator)).cuda()
        self.biases = torch.zeros(visible, device="cuda"), torch.zeros(hidden, device="cuda")
        self.exact = _ops.quantize(self.weight, *self.biases)
        self.states = (
            torch.randint(2, (chains, visible), generator=generator).to(torch.uint8).cuda()
        )
        self.real = self.states.float()
        self.sweeps = sweeps
        self.name = f"{visible} x {hidden}, {chains} chains"

    def ours(self, path: _ops.CudaPath) -> None:
        _ops.set_cuda_path(path)
        _ops.gibbs(self.exact, self.states, None, seed=1, sweeps=self.sweeps)

    def torch(self) -> None:
        for _ in range(self.sweeps):
            self.torch_sweep()

    def torch_sweep(self) -> None:
        up = torch.sigmoid(torch.addmm(self.biases[1], self.real, self.weight))
        down = torch.addmm(self.biases[0], torch.bernoulli(up), self.weight.T)
        self.real.copy_(torch.bernoulli(torch.sigmoid(down)))

    def torch_graph(self) -> Callable[[], None]:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self.torch_sweep()

        def run() -> None:
            for _ in range(self.sweeps):
                graph.replay()

        return run

    def products(self) -> Callable[[], None]:
        def bytes_of(rows: int, columns: int) -> Tensor:
            size = -(-max(rows, 32) // 32) * 32, -(-columns // 32) * 32
            return torch.ones(size, dtype=torch.int8, device="cuda")

        visible, hidden = self.weight.shape
        v, h = bytes_of(len(self.real), visible), bytes_of(len(self.real), hidden)
        up, down = bytes_of(hidden, visible).T, bytes_of(visible, hidden).T

        def run() -> None:
            for _ in range(LIMBS * self.sweeps):
                torch._int_mm(v, up)
                torch._int_mm(h, down)

        return run


def sides(case: Case) -> list[Side]:
    calls = {
        "torch": case.torch,
        "torch, a graph": case.torch_graph(),
        "int8 products": case.products(),
        "torch_init, tiles": lambda: case.ours("tiles"),
        "torch_init, split": lambda: case.ours("split"),
        "torch_init, cluster": lambda: case.ours("cluster"),
    }
    cells = case.sweeps * case.weight.numel() * len(case.states)
    return [
        Side(case.name, name, call, elements=cells, moved=0, optional=True)
        for name, call in calls.items()
    ]


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sizes", nargs="+", default=SIZES.split(), help="visible,hidden,chains")
    parser.add_argument("--sweeps", type=int, default=100, help="in a call")
    parser.add_argument("--repeats", type=int, default=9)
    args = parser.parse_args(argv)
    device = torch.device("cuda")
    print(f"{describe(device)['gpu']['name']}, torch {torch.__version__}")
    for size in args.sizes:
        case = Case(*(int(number) for number in size.split(",")), args.sweeps)
        results = measure(sides(case), CudaClock(device), args.repeats)
        plain = results[0].median
        for result in results:
            if result.median is None:
                print(f"{case.name}: {result.side.implementation}: {result.unavailable}")
                continue
            times = "" if plain is None else f", {plain / result.median:.1f} times as fast as torch"
            microseconds = result.median / args.sweeps * 1e6
            print(f"{case.name}: {result.side.implementation}: {microseconds:.2f} us{times}")


if __name__ == "__main__":
    main()
