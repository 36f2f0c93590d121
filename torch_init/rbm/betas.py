# SPDX-License-Identifier: Apache-2.0
"""Inverse temperatures of chains and of units, which multiply the fields."""

from numbers import Real

import torch
from torch import Tensor

from torch_init.errors import check_type, describe

Beta = Tensor | float
"""An inverse temperature: one for all chains, (N,) for N chains, or (N or 1, units)."""
UnitBeta = tuple[Tensor | None, Tensor | None]
"""A factor more for each visible unit, (visible,), and for each hidden one, (hidden,)."""


def check_betas(
    function: str, beta: Beta, chains: int, unit_beta: UnitBeta, visible: int, hidden: int
) -> None:
    """Raise unless all are finite and >= 0, and tensors as long as there are chains or units."""
    _check("beta", function, beta, chains)
    for side, factors, size in zip(
        ("visible", "hidden"), unit_beta, (visible, hidden), strict=True
    ):
        if factors is not None:
            _check(f"unit_beta of {side} units", function, factors, size)


def _check(argument: str, function: str, beta: Beta, count: int) -> None:
    betas = beta
    if not isinstance(beta, Tensor):
        check_type(function, argument, beta, Real, "finite numbers >= 0")
        betas = torch.tensor(float(beta), device="cpu")
    assert isinstance(betas, Tensor)
    if betas.is_meta or betas.is_complex() or betas.layout != torch.strided:
        got = f"a {betas.device.type} tensor of {betas.dtype}"
        raise TypeError(describe(function, argument, got, "real numbers in memory"))
    if betas.dim() and betas.shape != (count,):
        got, expected = f"shape {tuple(betas.shape)}", f"a number or shape ({count},)"
        raise ValueError(describe(function, argument, got, expected))
    if not bool(((betas >= 0) & betas.isfinite()).all()):
        raise ValueError(describe(function, argument, f"{beta}", "finite numbers >= 0"))


def as_column(beta: Beta, rows: Tensor) -> Beta:
    """Return beta as a factor of (N, units) fields like rows."""
    if not isinstance(beta, Tensor) or beta.dim() == 0:
        return beta
    beta = beta.to(rows.device)
    return beta.reshape(-1, 1) if beta.dim() == 1 else beta


def of_units(beta: Beta, factors: Tensor | None) -> Beta:
    """Return beta times the factor of each unit, (N or 1, units); beta itself without factors."""
    if factors is None:
        return beta
    if isinstance(beta, Tensor):
        beta = beta.to(factors).reshape(-1, 1)
    return (beta * factors).reshape(-1, factors.shape[-1])
