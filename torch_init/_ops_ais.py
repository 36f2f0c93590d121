# SPDX-License-Identifier: Apache-2.0
"""Annealed importance sampling of exact chains: a part of _ops.py. docs/gibbs.md, section 5."""

from __future__ import annotations

import torch
from torch import Tensor

from torch_init._ops_gibbs import make_plan, stream_key
from torch_init._ops_gibbs_betas import BETA_ONE
from torch_init._ops_gibbs_checks import check_words
from torch_init._ops_gibbs_weights import GibbsWeights
from torch_init.errors import describe


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
    if base_bias.shape != (weights.visible,) or not bool(base_bias.isfinite().all()):
        got = f"a tensor {tuple(base_bias.shape)}"
        expected = f"finite numbers ({weights.visible},)"
        raise ValueError(describe("ais_run", "base_bias", got, expected))
    if (chains is None) == (visible is None):
        raise TypeError(describe("ais_run", "chains", "both or none", "either chains or visible"))
    from_base = visible is None
    if visible is None:
        visible = torch.zeros(chains or 0, weights.visible, dtype=torch.uint8, device="cpu")
    else:
        _check_visible(visible, weights.visible)
        visible = visible.to("cpu", copy=True, memory_format=torch.contiguous_format)
    hidden = visible.new_zeros(len(visible), weights.hidden)
    if not bool(((betas >= 0) & (betas <= 1)).all()):
        raise ValueError(describe("ais_run", "betas", f"{betas}", "numbers in [0, 1]"))
    fixed_betas = (betas.double() * BETA_ONE).round().to(torch.int32).contiguous()
    base = torch.zeros_like(weights.biases[0])
    scaled = (base_bias.double() * 2.0**weights.shift).round()
    base[: weights.visible] = scaled.clamp(1 - 2**30, 2**30 - 1).to(torch.int32)
    fields = hidden.new_empty(hidden.shape, dtype=torch.int32)
    log_weights = hidden.new_zeros(len(visible), dtype=torch.float64)
    plan = make_plan(weights, [visible, hidden], units)
    check_words(plan.chains, first_chain, 0)
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


def _check_visible(visible: Tensor, units: int) -> None:
    fits = visible.dtype == torch.uint8 and visible.device.type in ("cpu", "cuda")
    if not fits or visible.dim() != 2 or visible.shape[1] != units:
        got = f"{visible.dtype} {tuple(visible.shape)} on {visible.device}"
        expected = f"a uint8 tensor [chains, {units}] on a CPU or a CUDA device"
        raise ValueError(describe("ais_run", "visible", got, expected))
