# SPDX-License-Identifier: Apache-2.0
"""Gibbs chains of restricted Boltzmann machines: a part of _ops.py, which alone imports it.

States are bytes, 0 or 1; a spin's 0 means -1. docs/gibbs.md specifies every bit.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from torch_init import _C, keys
from torch_init._ops_gibbs_weights import GibbsWeights
from torch_init.errors import describe

SIDES = ("visible", "hidden")
UNITS = ("bernoulli", "spin")
BETA_ONE = 2**24
"""Inverse temperatures are multiples of 1 / BETA_ONE."""
MOST_BETA = 16.0
GREY_LEVELS = 255
_MOST_CHAINS = 2**32
_MOST_STEPS = 2**62


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
    start: str = "visible",
    units: tuple[str, str] = ("bernoulli", "bernoulli"),
    clamp: Tensor | None = None,
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
        clamp: uint8 or bool [visible]; units that are not 0 keep their states.
    """
    first_side = 1 - SIDES.index(start)
    states = _states(weights, visible, hidden, first_side)
    plan = _plan(weights, states, units, clamp, beta, grey=False)
    plan.run(seed, name, first_chain, first_step, first_side, 2 * sweeps)
    return states[0], states[1]


def gibbs_with_cuda_body_on_host(
    weights: GibbsWeights,
    visible: Tensor,
    hidden: Tensor,
    blocks: int,
    *,
    key: int,
    half_steps: int,
    first_chain: int = 0,
    first_step: int = 0,
    beta: float | Tensor = 1.0,
    first_side: int = 1,
    units: tuple[str, str] = ("bernoulli", "bernoulli"),
    clamp: Tensor | None = None,
    levels: int = 1,
) -> None:
    """Run half-steps with the CUDA kernels' own code on CPU tensors, for tests without a GPU."""
    plan = _plan(weights, [visible, hidden], units, clamp, beta, grey=levels == GREY_LEVELS)
    plan.native.set_words(key, first_chain, first_step)
    plan.native.run_cuda_body_on_host(plan.chains, first_side, half_steps, blocks)


def sample_hidden(
    weights: GibbsWeights,
    visible: Tensor,
    *,
    seed: int,
    name: str = "",
    first_chain: int = 0,
    step: int = 0,
    beta: float | Tensor = 1.0,
    units: tuple[str, str] = ("bernoulli", "bernoulli"),
    levels: int = 1,
) -> Tensor:
    """Return a sample of the hidden units given the visible ones: half a sweep.

    Args:
        visible: uint8 [chains, visible]; with levels=255, u stands for u / 255, and beta <= 1.
    """
    states = _states(weights, visible, None, 1)
    plan = _plan(weights, states, units, None, beta, grey=levels == GREY_LEVELS)
    plan.run(seed, name, first_chain, step, 1, 1)
    return states[1]


def sample_visible(
    weights: GibbsWeights,
    hidden: Tensor,
    *,
    seed: int,
    name: str = "",
    first_chain: int = 0,
    step: int = 0,
    beta: float | Tensor = 1.0,
    units: tuple[str, str] = ("bernoulli", "bernoulli"),
    clamp: Tensor | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """Return a sample of the visible units given the hidden ones: half a sweep.

    Args:
        clamp: as in gibbs; the units it names keep their states in `out`.
    """
    states = _states(weights, out, hidden, 0)
    plan = _plan(weights, states, units, clamp, beta, grey=False)
    plan.run(seed, name, first_chain, step, 0, 1)
    return states[0]


def ais_run(
    weights: GibbsWeights,
    betas: Tensor,
    base_bias: Tensor,
    *,
    seed: int,
    name: str = "",
    chains: int | None = None,
    visible: Tensor | None = None,
    first_chain: int = 0,
    units: tuple[str, str] = ("bernoulli", "bernoulli"),
) -> tuple[Tensor, Tensor]:
    """Run annealed importance sampling in one native call.

    In between is p(v, h; beta) ~ exp((1 - beta) base_bias^T v - beta E(v, h)): at 0 the base, of
    independent visible units and uniform hidden ones, at 1 the layer. At each beta the log-weight
    grows by log p*(v; beta_k) - log p*(v; beta_(k-1)), the hidden units summed out; then hidden and
    visible units are sampled at beta_k, at step k.

    The chains are exact; the log-weights are float64 sums in a fixed order. Both are those of the
    integers that weights, betas and base_bias are rounded to (base_bias to weights' scale). All of
    it runs on the CPU, whose bits are a GPU's.

    Args:
        betas: float [count] in [0, 1]; ascending from 0 to 1 for AIS, descending for reverse AIS.
        base_bias: float [visible].
        chains: how many to begin with samples of the base; betas[0] is 0.
        visible: uint8 [chains, visible] to begin with instead: samples of the model at betas[0].

    Returns:
        log-weights, float64 [chains]; the visible units, uint8 [chains, visible].
    """
    device, weights = weights.device, weights.cpu()
    betas, base_bias = betas.cpu(), base_bias.detach().cpu()
    if (chains is None) == (visible is None):
        raise TypeError(describe("ais_run", "chains", "both or none", "either chains or visible"))
    from_base = visible is None
    if visible is None:
        visible = torch.zeros(chains or 0, weights.visible, dtype=torch.uint8)
    else:
        visible = visible.to("cpu", copy=True, memory_format=torch.contiguous_format)
    hidden = torch.zeros(len(visible), weights.hidden, dtype=torch.uint8)
    if not bool(((betas >= 0) & (betas <= 1)).all()):
        raise ValueError(describe("ais_run", "betas", f"{betas}", "numbers in [0, 1]"))
    fixed_betas = (betas.double() * BETA_ONE).round().to(torch.int32).contiguous()
    base = torch.zeros_like(weights.biases[0])
    scaled = (base_bias.double() * 2.0**weights.shift).round()
    base[: weights.visible] = scaled.clamp(1 - 2**30, 2**30 - 1).to(torch.int32)
    fields = torch.empty(hidden.shape, dtype=torch.int32)
    log_weights = torch.zeros(len(visible), dtype=torch.float64)
    plan = _plan(weights, [visible, hidden], units, None, 1.0, grey=False)
    _check_range("first_chain", first_chain, _MOST_CHAINS - plan.chains)
    plan.native.set_words(stream_key(seed, name), first_chain, 0)
    plan.native.run_ais(
        plan.chains,
        fixed_betas.data_ptr(),
        len(fixed_betas),
        base.data_ptr(),
        fields.data_ptr(),
        from_base,
        log_weights.data_ptr(),
        torch.get_num_threads(),
    )
    return log_weights.to(device), visible.to(device)


def statistics(
    visible: Tensor, hidden: Tensor, *, out: Tensor | None = None, sign: int = 1
) -> Tensor:
    """Return the sum over chains of v^T h, int32 [visible, hidden]: exact, in any order.

    Sums over parts of a batch, or of a group of processes, add up to the same bits.

    Args:
        visible, hidden: uint8 [chains, units], 0 or 1.
        out: int32, to which sign * v^T h is added.
        sign: 1 or -1.
    """
    chains, units = visible.shape
    _check_bytes("visible", visible, (chains, units), visible.device)
    _check_bytes("hidden", hidden, (chains, hidden.shape[1]), visible.device)
    if out is None:
        out = torch.empty(units, hidden.shape[1], dtype=torch.int32, device=visible.device)
        sign = 0
    elif out.dtype != torch.int32 or out.shape != (units, hidden.shape[1]):
        got = f"{out.dtype} {tuple(out.shape)}"
        expected = f"int32 {(units, hidden.shape[1])}"
        raise ValueError(describe("statistics", "out", got, expected))
    if not visible.is_cpu:
        # Sums of 0 and 1 below 2**24 are exact in float32, in any order.
        for v, h in zip(visible.split(2**23), hidden.split(2**23), strict=True):
            counts = (v.T.float() @ h.float()).to(torch.int32)
            out.copy_(counts) if sign == 0 else out.add_(counts, alpha=sign)
            sign = sign or 1
        return out
    _C.statistics(
        visible.data_ptr(),
        hidden.data_ptr(),
        chains,
        units,
        hidden.shape[1],
        out.data_ptr(),
        sign,
        torch.get_num_threads(),
    )
    return out


def _states(
    weights: GibbsWeights, visible: Tensor | None, hidden: Tensor | None, first_side: int
) -> list[Tensor]:
    given = [visible, hidden]
    source = given[1 - first_side]
    if source is None:
        got, expected = "None", "the states that the chains start from"
        raise TypeError(describe("gibbs", SIDES[1 - first_side], got, expected))
    chains = len(source)
    states = []
    for state, units, side in zip(given, (weights.visible, weights.hidden), SIDES, strict=True):
        if state is None:
            state = torch.empty(chains, units, dtype=torch.uint8, device=source.device)
        _check_bytes(side, state, (chains, units), weights.device)
        states.append(state)
    return states


def _check_bytes(
    argument: str, tensor: Tensor, shape: tuple[int, ...], device: torch.device
) -> None:
    fits = tensor.dtype in (torch.uint8, torch.bool) and tensor.is_contiguous()
    if tensor.shape != torch.Size(shape) or not fits or tensor.device != device:
        got = f"{tensor.dtype} {tuple(tensor.shape)} on {tensor.device}"
        expected = f"a contiguous uint8 tensor {shape} on {device}"
        raise ValueError(describe("gibbs", argument, got, expected))


class _Plan:
    """A native plan, and what its addresses point to."""

    def __init__(self, weights: GibbsWeights, states: list[Tensor]) -> None:
        self.chains = len(states[0])
        self.device = weights.device
        self.kept_alive: list[Any] = [weights, states]
        self.native = _C.GibbsPlan(
            weights.addresses(), weights.visible, weights.hidden, weights.shift
        )

    def run(
        self,
        seed: int,
        name: str,
        first_chain: int,
        first_step: int,
        first_side: int,
        half_steps: int,
    ) -> None:
        _check_range("first_chain", first_chain, _MOST_CHAINS - self.chains)
        _check_range("sweeps", half_steps, _MOST_STEPS)
        _check_range("first_step", first_step, _MOST_STEPS)
        self.native.set_words(stream_key(seed, name), first_chain, first_step)
        self._run(first_side, half_steps)

    def _run(self, first_side: int, half_steps: int) -> None:
        extent = (self.chains, first_side, half_steps)
        if self.device.type != "cuda":
            self.native.run_on_host(*extent, torch.get_num_threads())
            return
        with torch.cuda.device(self.device):
            stream = torch.cuda.current_stream().cuda_stream
            size = self.native.workspace_size(self.chains)
            room = torch.empty(size, dtype=torch.uint8, device=self.device)
            self.native.run_on_cuda(*extent, room.data_ptr(), self.device.index, stream)


def stream_key(seed: int, name: str) -> int:
    """Return the key of the chains called name, another than that of a tensor so called."""
    key: int = _C.fold_key(seed % 2**64, keys.digest(keys.part_name(name, "gibbs")))
    return key


def _check_range(argument: str, value: int, most: int) -> None:
    if not 0 <= value <= most:
        raise ValueError(describe("gibbs", argument, f"{value}", f"an int in [0, {most}]"))


def _plan(
    weights: GibbsWeights,
    states: list[Tensor],
    units: tuple[str, str],
    clamp: Tensor | None,
    beta: float | Tensor,
    grey: bool,
) -> _Plan:
    for side, unit in zip(SIDES, units, strict=True):
        if unit not in UNITS:
            expected = "'bernoulli' or 'spin'"
            raise ValueError(describe("gibbs", f"units of the {side} side", repr(unit), expected))
    plan = _Plan(weights, states)
    if clamp is not None:
        _check_bytes("clamp", clamp, (weights.visible,), weights.device)
    if grey and units[0] != "bernoulli":
        raise ValueError(describe("gibbs", "levels", "255 of spins", "levels of Bernoulli units"))
    fixed_beta = _fixed_beta(beta, plan.chains, 1.0 if grey else MOST_BETA, weights.device)
    plan.kept_alive += [clamp, fixed_beta]
    plan.native.set_run(
        units[0] == "spin",
        units[1] == "spin",
        states[0].data_ptr(),
        states[1].data_ptr(),
        0 if clamp is None else clamp.data_ptr(),
        0 if fixed_beta is None else fixed_beta.data_ptr(),
        grey,
    )
    return plan


def _fixed_beta(
    beta: float | Tensor, chains: int, most: float, device: torch.device
) -> Tensor | None:
    """Return beta as int32 [chains] in units of 1 / BETA_ONE; None for 1."""
    if not isinstance(beta, Tensor):
        if beta == 1:
            return None
        beta = torch.tensor(float(beta), dtype=torch.float64, device=device)
    if beta.dim() > 0 and beta.shape != (chains,):
        expected = f"a number or a tensor ({chains},)"
        raise ValueError(describe("gibbs", "beta", f"a tensor {tuple(beta.shape)}", expected))
    if not bool(((beta >= 0) & (beta <= most)).all()):
        raise ValueError(describe("gibbs", "beta", f"{beta}", f"numbers in [0, {most}]"))
    fixed = (beta.to(device, torch.float64) * BETA_ONE).round().to(torch.int32)
    return fixed.expand(chains).contiguous()
