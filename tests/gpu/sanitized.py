# SPDX-License-Identifier: Apache-2.0
"""A few small tensors filled and read on the GPU, for compute-sanitizer: every path, little work.

Compares with the CPU, so that it proves something without the sanitizer too.
"""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import torch

sys.path.append(str(Path(__file__).parents[1]))
from cases import KERNELS, LAYOUTS, REAL_DTYPES, Normal, TruncatedNormal, entry, same_bits

from torch_init import _ops

TILE = 4096
SIZES = (1, 5, TILE - 1, TILE, 3 * TILE + 5)
SHOWN_LAYOUTS = ("transposed", "strided slice", "channels_last", "unaligned by 1", "8-d")


def tensors(device: str) -> list[tuple[torch.Tensor, object]]:
    """Each with its distribution: whole and cut tiles, tables that alternate, layouts."""
    made = []
    for dtype, size in itertools.product(REAL_DTYPES, SIZES):
        for i, distribution in enumerate(KERNELS):
            memory = torch.zeros(size + 1, dtype=dtype, device=device)
            made.append((memory[i % 2 : size + i % 2], distribution))
    for layout in SHOWN_LAYOUTS:
        size, view = LAYOUTS[layout]
        memory = torch.zeros(size, device=device)
        made.append((view(memory), TruncatedNormal.in_sigmas(0.0, 1.0, -1.0, 3.0)))
    return made


def main() -> int:
    on_gpu, on_cpu = tensors("cuda"), tensors("cpu")
    _ops.FillPlan([entry(*item, 7) for item in on_gpu]).run()
    _ops.FillPlan([entry(*item, 7) for item in on_cpu]).run()
    single_gpu, single_cpu = (torch.zeros(5 * TILE + 1, device=d) for d in ("cuda", "cpu"))
    for tensor in (single_gpu, single_cpu):
        _ops.FillPlan([entry(tensor, Normal(0.0, 1.0), 7)]).run()
    pairs = [(a, b) for (a, _), (b, _) in zip(on_gpu, on_cpu, strict=True)]
    wrong = sum(
        not same_bits(a.cpu().contiguous(), b.contiguous())
        for a, b in [*pairs, (single_gpu, single_cpu)]
    )
    print(f"{len(pairs) + 1} tensors, {wrong} of them differ from the CPU's")
    misread = misreadings(pairs)
    print(f"{misread} of them are read otherwise than by the CPU")
    chains = differing_chains()
    print(f"{chains} results of Gibbs chains differ from the CPU's")
    return 1 if wrong or misread or chains else 0


def differing_chains(device: str = "cuda") -> int:
    """How many results of small layers differ: sweeps with a clamp, Gaussian units, an update."""
    wrong = 0
    for chains, visible, hidden in ((1, 1, 1), (9, 37, 21), (40, 70, 65)):
        results = []
        for place in (device, "cpu"):
            generator = torch.Generator().manual_seed(0)
            sizes = ((visible, hidden), (visible,), (hidden,))
            layer = [torch.randn(size, generator=generator).to(place) for size in sizes]
            weights = _ops.quantize(*layer)
            v = torch.randint(2, (chains, visible), generator=generator, dtype=torch.uint8)
            clamp = (torch.arange(visible) % 3 == 0).to(torch.uint8)
            how = {"seed": 5, "sweeps": 2, "clamp": clamp.to(place)}
            v, h = _ops.gibbs(weights, v.to(place), None, **how)
            field = torch.randn(chains, hidden, generator=generator).to(place)
            pairs = _ops.statistics(_ops.Term(v, h)).pairs
            step = updated(layer, pairs)
            results.append((v, h, pairs, _ops.sample_gaussian(field, seed=5), *step))
        wrong += sum(not torch.equal(a.cpu(), b) for a, b in zip(*results, strict=True))
    return wrong


def updated(layer: list[torch.Tensor], pairs: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """A layer's weights after a step, and the shifts of its biases."""
    weight, visible_bias, hidden_bias = layer[0].T.contiguous(), *layer[1:]
    slope = _ops.Slope(pairs, 1e-3, visible_bias, hidden_bias, 2 * visible_bias, hidden_bias)
    pace = _ops.Pace(0.1, 0.9, 1e-3, 1e-4, None, visible_bias)
    return weight, *_ops.ascend(weight, weight.clone(), slope, pace)


def misreadings(pairs: list[tuple[torch.Tensor, torch.Tensor]]) -> int:
    """How many tensors have another fingerprint, or other counts in flow mode, than the CPU's."""
    sides = [_ops.measure([(pair[side],) for pair in pairs])["fingerprint"] for side in (0, 1)]
    wrong = int((sides[0] != sides[1]).sum())
    for on_gpu, on_cpu in pairs:
        if on_gpu.dtype.itemsize == 1:
            continue
        rows = [torch.zeros(1, 76, dtype=torch.float64, device=x.device) for x in (on_gpu, on_cpu)]
        for x, row in zip((on_gpu, on_cpu), rows, strict=True):
            features = torch.zeros(3, x.shape[-1], dtype=torch.float64, device=x.device)
            _ops.accumulate_moments_(x, row, features, 0, -1.0, 1.0, 1)
        wrong += not torch.equal(rows[0][0, 4:].cpu(), rows[1][0, 4:])
    return wrong


if __name__ == "__main__":
    sys.exit(main())
