# SPDX-License-Identifier: Apache-2.0
"""Inverse temperatures in fixed point: a part of _ops.py. docs/gibbs.md, section 4."""

from __future__ import annotations

import torch
from torch import Tensor

from torch_init._ops_gibbs_weights import GibbsWeights
from torch_init.errors import describe

SIDES = ("visible", "hidden")
BETA_ONE = 2**24
"""Inverse temperatures are multiples of 1 / BETA_ONE."""
UnitBeta = tuple[Tensor | None, Tensor | None]


def fixed_betas(
    weights: GibbsWeights, chains: int, beta: float | Tensor, unit_beta: UnitBeta, most: float
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Return the betas of chains, visible and hidden units in units of 1 / BETA_ONE; None for 1."""
    device = weights.device
    of_chains = _fixed_beta("beta", beta, chains, most, device)
    if unit_beta == (None, None):
        return of_chains, None, None
    left = (
        most if of_chains is None or not chains else most * BETA_ONE / max(1, int(of_chains.max()))
    )
    of_units: list[Tensor | None] = []
    for side, given, count in zip(SIDES, unit_beta, (weights.visible, weights.hidden), strict=True):
        if given is None:
            of_units.append(None)
            continue
        fixed = _fixed_beta(f"unit_beta of the {side} side", given, count, min(left, most), device)
        if fixed is None:
            of_units.append(None)
            continue
        of_units.append(torch.nn.functional.pad(fixed, (0, -count % 16)))
    return of_chains, of_units[0], of_units[1]


def _fixed_beta(
    argument: str, beta: float | Tensor, count: int, most: float, device: torch.device
) -> Tensor | None:
    """Return beta as int32 [count] in units of 1 / BETA_ONE; None for 1."""
    if not isinstance(beta, Tensor):
        if beta == 1:
            return None
        beta = torch.tensor(float(beta), dtype=torch.float64, device=device)
    if beta.dim() > 0 and beta.shape != (count,):
        expected = f"a number or a tensor ({count},)"
        raise ValueError(describe("gibbs", argument, f"a tensor {tuple(beta.shape)}", expected))
    if not bool(((beta >= 0) & (beta <= most)).all()):
        raise ValueError(describe("gibbs", argument, f"{beta}", f"numbers in [0, {most}]"))
    fixed = (beta.to(device, torch.float64) * BETA_ONE).round().to(torch.int32)
    return fixed.expand(count).contiguous()
