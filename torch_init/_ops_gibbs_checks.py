# SPDX-License-Identifier: Apache-2.0
"""What chains cannot be run with: a part of _ops.py."""

from __future__ import annotations

import torch
from torch import Tensor

from torch_init._descriptors import check_memory
from torch_init._ops_gibbs_betas import UnitBeta
from torch_init._ops_gibbs_weights import GibbsWeights
from torch_init.errors import describe

MOST_STEPS = 2**62
_MOST_CHAINS = 2**32


def check_bytes(
    argument: str, tensor: Tensor, shape: tuple[int, ...], device: torch.device
) -> None:
    """Raise unless tensor is of bytes that the engine can read and write as they lie."""
    check_memory("gibbs", argument, tensor)
    fits = tensor.dtype in (torch.uint8, torch.bool) and tensor.is_contiguous()
    if tensor.shape != torch.Size(shape) or not fits or tensor.device != device:
        got = f"{tensor.dtype} {tuple(tensor.shape)} on {tensor.device}"
        expected = f"a contiguous uint8 tensor {shape} on {device}"
        raise ValueError(describe("gibbs", argument, got, expected))


def check_fine(
    weights: GibbsWeights, visible: Tensor, beta: float | Tensor, unit_beta: UnitBeta
) -> None:
    """Raise unless chains can start from fine levels, at beta 1."""
    check_memory("gibbs", "visible", visible)
    shape = (visible.shape[0], weights.visible)
    fits = visible.dtype == torch.int16 and visible.is_contiguous() and visible.is_cpu
    if visible.shape != shape or not fits or not weights.by_visible.is_cpu:
        got = f"{visible.dtype} {tuple(visible.shape)} on {visible.device}"
        raise ValueError(describe("gibbs", "visible", got, f"int16 {shape} on a CPU"))
    if isinstance(beta, Tensor) or beta != 1 or unit_beta != (None, None):
        raise ValueError(describe("gibbs", "beta", f"{beta}", "1 with fine levels"))


def check_clamped(
    function: str, argument: str, visible: Tensor | None, clamp: Tensor | None
) -> None:
    """Raise if units are to keep the states of a tensor that is not there."""
    if clamp is not None and visible is None:
        raise TypeError(describe(function, argument, "None", "the states that clamp keeps"))


def check_words(chains: int, first_chain: int, first_step: int) -> None:
    """Raise unless the chains and the step have words of their own."""
    check_range("first_chain", first_chain, _MOST_CHAINS - chains)
    check_range("first_step", first_step, MOST_STEPS)


def check_range(argument: str, value: int, most: int) -> None:
    """Raise unless value is in [0, most]."""
    if not 0 <= value <= most:
        raise ValueError(describe("gibbs", argument, f"{value}", f"an int in [0, {most}]"))
