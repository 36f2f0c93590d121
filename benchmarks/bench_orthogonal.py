# SPDX-License-Identifier: Apache-2.0
"""Speed and error of orthogonal_ against torch.linalg.qr.

    python benchmarks/bench_orthogonal.py --threads 2 --repeats 7

Medians in milliseconds, the two taking turns in one process: wall time, or, with one thread, the
CPU time, which a busy machine disturbs less. torch.linalg.qr is given its normal matrix;
orthogonal_ draws its own. The error is max |Q^H Q - I|.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch

import torch_init

SHAPES = [(64, 64), (256, 256), (512, 512), (1024, 1024), (2048, 2048), (4096, 1024)]
DTYPES = ["float32", "float64", "complex64", "complex128"]


def milliseconds(run: Callable[[torch.Tensor], object], matrix: torch.Tensor) -> float:
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    start = clock()
    run(matrix)
    return (clock() - start) * 1e3


def error(q: torch.Tensor) -> float:
    q = q.to(torch.complex128 if q.is_complex() else torch.float64)
    return (q.mH @ q - torch.eye(q.size(1), dtype=q.dtype)).abs().max().item()


def ours(matrix: torch.Tensor) -> torch.Tensor:
    return torch_init.orthogonal_(matrix, seed=0)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--dtype", choices=DTYPES, default="float32")
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    dtype = getattr(torch, args.dtype)

    print(f"{args.dtype}, {args.threads} threads, torch {torch.__version__}")
    print("       shape  torch ms   ours ms  ratio  torch err  our err")
    for rows, cols in SHAPES:
        generator = torch.Generator().manual_seed(0)
        normal = torch.randn(rows, cols, dtype=dtype, generator=generator)
        out = torch.empty_like(normal)
        errors = error(torch.linalg.qr(normal).Q), error(ours(out))
        rounds = [
            (milliseconds(torch.linalg.qr, normal), milliseconds(ours, out))
            for _ in range(args.repeats)
        ]
        torch_ms, our_ms = (statistics.median(times) for times in zip(*rounds, strict=True))
        print(
            f"{f'{rows} x {cols}':>12} {torch_ms:9.2f} {our_ms:9.2f} {our_ms / torch_ms:6.2f}"
            f" {errors[0]:10.1e} {errors[1]:8.1e}",
            flush=True,
        )


if __name__ == "__main__":
    main()
