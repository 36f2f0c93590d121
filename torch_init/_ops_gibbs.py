# SPDX-License-Identifier: Apache-2.0
"""Gibbs chains of restricted Boltzmann machines: a part of _ops.py, which alone imports it.

States are bytes, 0 or 1; a spin's 0 means -1. docs/gibbs.md specifies every bit.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch
from torch import Tensor

from torch_init import _C, keys
from torch_init._descriptors import check_memory
from torch_init._ops_gibbs_betas import SIDES, UnitBeta, fixed_betas
from torch_init._ops_gibbs_checks import (
    MOST_STEPS,
    check_bytes,
    check_clamped,
    check_fine,
    check_range,
    check_words,
)
from torch_init._ops_gibbs_weights import GibbsWeights
from torch_init.errors import describe

UNITS = ("bernoulli", "spin")
MOST_BETA = 16.0
GREY_LEVELS = 255
MEAN_ONE = 32767
"""Means of hidden units in fixed point, and fine levels, are multiples of 1 / MEAN_ONE."""
CudaPath = Literal["fastest", "tiles", "split", "cluster"]
_CUDA_PATHS = get_args(CudaPath)
_cuda_path: CudaPath = "fastest"


def gibbs(
    weights: GibbsWeights,
    visible: Tensor | None,
    hidden: Tensor | None,
    *,
    seed: int,
    name: str = "",
    first_chain: int = 0,
    first_step: int = 0,
    sweeps: int = 1,
    beta: float | Tensor = 1.0,
    unit_beta: UnitBeta = (None, None),
    start: str = "visible",
    units: tuple[str, str] = ("bernoulli", "bernoulli"),
    clamp: Tensor | None = None,
    means: Tensor | None = None,
    means_only: bool = False,
) -> tuple[Tensor, Tensor]:
    """Run sweeps of Gibbs sampling in one native call, updating the states in place.

    A sweep samples the hidden units given the visible ones, then the visible ones given the hidden
    ones; with start="hidden" in the other order. Sweep t of chain c is step first_step + t of chain
    first_chain + c: its words depend on (seed, name, chain, step, side, unit) and nothing else.

    Args:
        visible, hidden: uint8 [chains, units], contiguous. The side that is sampled first may be
            None: it is then made.
        beta: inverse temperature in [0, 16], of all chains or of each (float tensor [chains]);
            rounded to a multiple of 2**-24.
        unit_beta: float [visible] and [hidden], or None: a factor more for each unit. A product of
            the two is at most 16.
        clamp: uint8 or bool [visible]; units that are not 0 keep their states.
        means: int16 [chains, hidden], with start="hidden": takes the hidden units' means in the
            last half-step, a mean m as m * MEAN_ONE, rounded.
        means_only: the last half-step does not sample; `hidden` has the states of the sweep before.
    """
    first_side = 1 - SIDES.index(start)
    check_clamped("gibbs", "visible", visible, clamp)
    if means is not None and first_side == 1:
        fix = 'Only start="hidden" ends with the hidden units'
        raise ValueError(describe("gibbs", "means", "a tensor", "None", fix))
    states = _states(weights, visible, hidden, first_side)
    plan = make_plan(weights, states, units, clamp, beta, unit_beta)
    plan.write_means(means, means_only)
    plan.run(seed, name, first_chain, first_step, first_side, 2 * sweeps)
    return states[0], states[1]


def sample_hidden(
    weights: GibbsWeights,
    visible: Tensor,
    *,
    seed: int,
    name: str = "",
    first_chain: int = 0,
    step: int = 0,
    beta: float | Tensor = 1.0,
    unit_beta: UnitBeta = (None, None),
    units: tuple[str, str] = ("bernoulli", "bernoulli"),
    levels: int = 1,
    means: Tensor | None = None,
) -> Tensor:
    """Return a sample of the hidden units given the visible ones: half a sweep.

    Args:
        visible: uint8 [chains, visible]; with levels=255, u stands for u / 255, and beta <= 1. With
            levels=MEAN_ONE, int16, fine levels, on a CPU and at beta 1.
        means: int16 [chains, hidden]: takes the means of which it is a sample, as in gibbs.
    """
    if levels == MEAN_ONE:
        shape = (visible.shape[0], weights.hidden)
        hidden = torch.empty(shape, dtype=torch.uint8, device=visible.device)
        states = [visible, hidden]
    else:
        states = _states(weights, visible, None, 1)
    plan = make_plan(weights, states, units, None, beta, unit_beta, levels)
    plan.write_means(means)
    plan.run(seed, name, first_chain, step, 1, 1)
    return states[1]


def hidden_means(
    weights: GibbsWeights,
    visible: Tensor,
    *,
    beta: float | Tensor = 1.0,
    unit_beta: UnitBeta = (None, None),
    units: tuple[str, str] = ("bernoulli", "bernoulli"),
    levels: int = 1,
) -> Tensor:
    """Return the hidden units' means given states, int16 [chains, hidden], as in gibbs.

    Of a spin it is the probability of being 1.
    """
    chains, device = visible.shape[0], visible.device
    means = torch.empty((chains, weights.hidden), dtype=torch.int16, device=device)
    none = torch.empty((0, weights.hidden), dtype=torch.uint8, device=device)
    if levels != MEAN_ONE:
        check_bytes("visible", visible, (chains, weights.visible), weights.device)
    plan = make_plan(weights, [visible, none], units, None, beta, unit_beta, levels)
    plan.write_means(means, only=True)
    plan.run(0, "", 0, 0, 1, 1)
    return means


def sample_visible(
    weights: GibbsWeights,
    hidden: Tensor,
    *,
    seed: int,
    name: str = "",
    first_chain: int = 0,
    step: int = 0,
    beta: float | Tensor = 1.0,
    unit_beta: UnitBeta = (None, None),
    units: tuple[str, str] = ("bernoulli", "bernoulli"),
    clamp: Tensor | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """Return a sample of the visible units given the hidden ones: half a sweep.

    Args:
        clamp: as in gibbs; the units it names keep their states in `out`.
    """
    check_clamped("sample_visible", "out", out, clamp)
    states = _states(weights, out, hidden, 0)
    plan = make_plan(weights, states, units, clamp, beta, unit_beta)
    plan.run(seed, name, first_chain, step, 0, 1)
    return states[0]


def _states(
    weights: GibbsWeights, visible: Tensor | None, hidden: Tensor | None, first_side: int
) -> list[Tensor]:
    given = [visible, hidden]
    source = given[1 - first_side]
    if source is None:
        got, expected = "None", "the states that the chains start from"
        raise TypeError(describe("gibbs", SIDES[1 - first_side], got, expected))
    chains = source.shape[0]
    states = []
    for state, units, side in zip(given, (weights.visible, weights.hidden), SIDES, strict=True):
        if state is None:
            state = torch.empty((chains, units), dtype=torch.uint8, device=source.device)
        else:
            check_bytes(side, state, (chains, units), weights.device)
        states.append(state)
    return states


class _Plan:
    """A native plan, and what its addresses point to."""

    def __init__(self, weights: GibbsWeights, states: list[Tensor]) -> None:
        self.chains, self.hidden = states[0].shape[0], weights.hidden
        self.device = weights.device
        self.kept_alive: list[Any] = [weights, states]
        shift = weights.known_shift or 0  # a GPU's kernels find it in `scale`
        self.native = _C.GibbsPlan(weights.addresses(), weights.visible, weights.hidden, shift)
        self._has_only_limbs = weights.known_shift is None
        if weights.limbs is not None:
            scale = 0 if weights.scale is None else weights.scale.data_ptr()
            visible, hidden = (limbs.data_ptr() for limbs in weights.limbs)
            self.native.set_limbs(visible, hidden, scale)

    def write_means(self, means: Tensor | None, only: bool = False) -> None:
        """Have the last half-step, then of the hidden units, write their means."""
        if means is None:
            return
        shape = (self.chains, self.hidden)
        check_memory("gibbs", "means", means)
        fits = means.dtype == torch.int16 and means.is_contiguous() and means.device == self.device
        if means.shape != shape or not fits:
            got = f"{means.dtype} {tuple(means.shape)} on {means.device}"
            expected = f"a contiguous int16 tensor {shape} on {self.device}"
            raise ValueError(describe("gibbs", "means", got, expected))
        self.kept_alive.append(means)
        self.native.set_means(means.data_ptr(), only)

    def run(
        self,
        seed: int,
        name: str,
        first_chain: int,
        first_step: int,
        first_side: int,
        half_steps: int,
    ) -> None:
        check_words(self.chains, first_chain, first_step)
        check_range("sweeps", half_steps, MOST_STEPS)
        self.native.set_words(stream_key(seed, name), first_chain, first_step)
        self._run(first_side, half_steps)

    def _run(self, first_side: int, half_steps: int) -> None:
        extent = (self.chains, first_side, half_steps)
        if self.device.type != "cuda":
            if self._has_only_limbs:
                self.native.run_cuda_half_steps_on_host(*extent, False, 3)
                return
            self.native.run_on_host(*extent, torch.get_num_threads())
            return
        with torch.cuda.device(self.device):
            stream = torch.cuda.current_stream().cuda_stream
            size = self.native.workspace_size(self.chains)
            room = torch.empty(size, dtype=torch.uint8, device=self.device)
            path = _CUDA_PATHS.index(_cuda_path)
            self.native.run_on_cuda(*extent, room.data_ptr(), path, self.device.index, stream)


def set_cuda_path(path: CudaPath) -> None:
    """Say how chains run on a GPU: all ways return the same bits, and tests try each."""
    global _cuda_path
    _cuda_path = path


def stream_key(seed: int, name: str) -> int:
    """Return the key of the chains called name, another than that of a tensor so called."""
    key: int = _C.fold_key(seed % 2**64, keys.digest(keys.part_name(name, "gibbs")))
    return key


def make_plan(
    weights: GibbsWeights,
    states: list[Tensor],
    units: tuple[str, str],
    clamp: Tensor | None = None,
    beta: float | Tensor = 1.0,
    unit_beta: UnitBeta = (None, None),
    levels: int = 1,
) -> _Plan:
    """Return a plan of arguments that have been checked."""
    for side, unit in zip(SIDES, units, strict=True):
        if unit not in UNITS:
            expected = "'bernoulli' or 'spin'"
            raise ValueError(describe("gibbs", f"units of the {side} side", repr(unit), expected))
    check_memory("gibbs", "weights", weights.by_visible)
    plan = _Plan(weights, states)
    if clamp is not None:
        check_bytes("clamp", clamp, (weights.visible,), weights.device)
    if levels > 1 and units[0] != "bernoulli":
        got = f"{levels} of spins"
        raise ValueError(describe("gibbs", "levels", got, "levels of Bernoulli units"))
    if levels == MEAN_ONE:
        check_fine(weights, states[0], beta, unit_beta)
        plan.native.set_fine(states[0].data_ptr())
    most = 1.0 if levels > 1 else MOST_BETA
    fixed = fixed_betas(weights, plan.chains, beta, unit_beta, most)
    plan.kept_alive += [clamp, fixed]
    plan.native.set_run(
        units[0] == "spin",
        units[1] == "spin",
        states[0].data_ptr(),
        states[1].data_ptr(),
        0 if clamp is None else clamp.data_ptr(),
        *_addresses(fixed),
        levels == GREY_LEVELS,
    )
    return plan


def _addresses(
    tensors: tuple[Tensor | None, Tensor | None, Tensor | None],
) -> tuple[int, int, int]:
    first, second, third = (0 if x is None else x.data_ptr() for x in tensors)
    return first, second, third
