# SPDX-License-Identifier: Apache-2.0
"""The CUDA kernels of Gibbs chains, run on CPU tensors, for tests without a GPU."""

from __future__ import annotations

from torch import Tensor

from torch_init._ops_gibbs import make_plan
from torch_init._ops_gibbs_betas import UnitBeta
from torch_init._ops_gibbs_weights import GibbsWeights, with_limbs


def gibbs_with_cuda_body_on_host(
    weights: GibbsWeights,
    visible: Tensor,
    hidden: Tensor,
    *,
    split: bool = False,
    blocks: int = 3,
    clusters: tuple[int, int] | None = None,
    key: int,
    half_steps: int,
    first_chain: int = 0,
    first_step: int = 0,
    beta: float | Tensor = 1.0,
    unit_beta: UnitBeta = (None, None),
    first_side: int = 1,
    units: tuple[str, str] = ("bernoulli", "bernoulli"),
    clamp: Tensor | None = None,
    levels: int = 1,
    means: Tensor | None = None,
    means_only: bool = False,
) -> None:
    """Run half-steps with the CUDA kernels' own code on CPU tensors, for tests without a GPU.

    Args:
        split: half-steps are split, and not made of tiles.
        blocks: of threads that pack and unpack the states.
        clusters: (bits, chains): run in clusters of 2**bits blocks and 8, 16 or 32 chains.
    """
    weights = with_limbs(weights)
    plan = make_plan(weights, [visible, hidden], units, clamp, beta, unit_beta, levels)
    plan.write_means(means, means_only)
    plan.native.set_words(key, first_chain, first_step)
    extent = (plan.chains, first_side, half_steps)
    if clusters is None:
        plan.native.run_cuda_half_steps_on_host(*extent, split, blocks)
    else:
        plan.native.run_cuda_clusters_on_host(*extent, *clusters)
