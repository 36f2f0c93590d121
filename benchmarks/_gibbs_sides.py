# SPDX-License-Identifier: Apache-2.0
"""Sweeps of an RBM on any device: ours, torch's, torch's in a CUDA graph, and the GEMMs alone."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from _timing import Side, captured
from torch import Tensor

from torch_init import _ops

LIMBS = 3
"""Of an exact weight: a half-step is as many products of bytes."""


def gibbs_sides(
    device: torch.device, chains: int, visible: int, hidden: int, sweeps: int
) -> list[Side]:
    """Every side does so many sweeps a call, so that one launch may hold them."""
    generator = torch.Generator().manual_seed(0)
    weight = 0.05 * torch.randn(visible, hidden, generator=generator)
    biases = torch.zeros(visible), torch.zeros(hidden)
    exact = _ops.quantize(weight.to(device), biases[0].to(device), biases[1].to(device))
    states = torch.randint(2, (chains, visible), generator=generator, dtype=torch.uint8).to(device)
    hiddens = torch.zeros(chains, hidden, dtype=torch.uint8, device=device)
    facts: dict[str, Any] = {"elements": sweeps * chains * (visible + hidden), "moved": 0}
    facts["units"] = sweeps
    calls: list[tuple[str, str, Callable[[], Any]]] = [
        ("sweep", "torch_init", partial(_ops.gibbs, exact, states, hiddens, seed=1, sweeps=sweeps))
    ]
    dtypes = (torch.float32, torch.bfloat16)
    for dtype in dtypes:
        name = str(dtype).removeprefix("torch.")
        layer = weight.to(device, dtype), *(bias.to(device, dtype) for bias in biases)
        start = states.to(dtype)
        calls.append((f"sweep, {name}", "torch", partial(_sweeps, *layer, start, sweeps)))
        calls.append((f"GEMMs alone, {name}", "torch", _gemms(layer[0], start, sweeps)))
    for limbs, name in ((1, "one limb"), (LIMBS, "every limb")):
        gemms = _int8_gemms(weight, states, limbs * sweeps)
        calls.append((f"GEMMs alone, int8, {name}", "torch", gemms))
    sides = [Side(case, who, call, **facts, optional=who == "torch") for case, who, call in calls]
    if device.type == "cuda":
        facts["optional"] = True
        sides += [
            Side(f"{side.case}, in a graph", side.implementation, captured(side.call), **facts)
            for side in sides
        ]
    return sides


def _sweeps(weight: Tensor, visible_bias: Tensor, hidden_bias: Tensor, v: Tensor, n: int) -> None:
    for _ in range(n):
        h = torch.bernoulli(torch.sigmoid(torch.addmm(hidden_bias, v, weight)))
        v = torch.bernoulli(torch.sigmoid(torch.addmm(visible_bias, h, weight.t())))


def _gemms(weight: Tensor, v: Tensor, sweeps: int) -> Callable[[], None]:
    h = torch.zeros(len(v), weight.shape[1], dtype=v.dtype, device=v.device)
    there, back = torch.zeros_like(h), torch.zeros_like(v)

    def run() -> None:
        for _ in range(sweeps):
            torch.mm(v, weight, out=there)
            torch.mm(h, weight.t(), out=back)

    return run


def _int8_gemms(weight: Tensor, states: Tensor, times: int) -> Callable[[], None]:
    """One int8 limb each way, so many times. Sizes are padded as cuBLAS wants them."""

    def padded(n: int) -> int:
        return -(-n // 32) * 32

    visible, hidden = map(padded, weight.shape)
    chains, device = padded(len(states)), states.device
    generator = torch.Generator().manual_seed(0)
    limb = torch.randint(-128, 128, (visible, hidden), generator=generator, dtype=torch.int8)
    limb = limb.to(device)
    back = limb.t().contiguous()
    v = torch.ones(chains, visible, dtype=torch.int8, device=device)
    h = torch.ones(chains, hidden, dtype=torch.int8, device=device)

    def run() -> None:
        for _ in range(times):
            torch._int_mm(v, limb)
            torch._int_mm(h, back)

    return run
