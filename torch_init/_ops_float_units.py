# SPDX-License-Identifier: Apache-2.0
"""Sampling units from floating-point fields: a part of _ops.py. docs/gibbs.md, section 7.

Each sampler takes float32 fields [chains, units] and gives unit i of chain c the word that an
exact chain would give it. Given the same fields, the bits are the same on every device.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from torch_init import _C
from torch_init._descriptors import check_memory
from torch_init._ops_gibbs import stream_key
from torch_init._ops_gibbs_betas import SIDES
from torch_init._ops_gibbs_checks import check_words
from torch_init.errors import describe

_BERNOULLI, _GAUSSIAN, _RELU, _SOFTMAX = range(4)


def sample_bernoulli(
    field: Tensor,
    *,
    seed: int,
    name: str = "",
    first_chain: int = 0,
    step: int = 0,
    side: str = "hidden",
) -> Tensor:
    """Return uint8 [chains, units]: 1 with probability sigmoid(field)."""
    _check_matrix("sample_bernoulli", field)
    out = torch.empty(field.shape, dtype=torch.uint8, device=field.device)
    _run(_BERNOULLI, field, out, None, 1, (seed, name, first_chain, step, side))
    return out


def sample_gaussian(
    field: Tensor,
    std: Tensor | float = 1.0,
    *,
    seed: int,
    name: str = "",
    first_chain: int = 0,
    step: int = 0,
    side: str = "visible",
) -> Tensor:
    """Return float32 [chains, units]: normal with mean field and std, a number or [units]."""
    _check_matrix("sample_gaussian", field)
    out = torch.empty_like(field, dtype=torch.float32, memory_format=torch.contiguous_format)
    stds = torch.as_tensor(std, dtype=torch.float32, device=field.device)
    stds = stds.detach().expand(field.shape[1]).contiguous()
    _run(_GAUSSIAN, field, out, stds, 1, (seed, name, first_chain, step, side))
    return out


def sample_nrelu(
    field: Tensor,
    *,
    seed: int,
    name: str = "",
    first_chain: int = 0,
    step: int = 0,
    side: str = "hidden",
) -> Tensor:
    """Return float32 [chains, units]: max(0, field + normal(0, sqrt(sigmoid(field)))).

    The noisy rectified linear units of Nair & Hinton, ICML 2010, section 2.
    """
    _check_matrix("sample_nrelu", field)
    out = torch.empty_like(field, dtype=torch.float32, memory_format=torch.contiguous_format)
    _run(_RELU, field, out, None, 1, (seed, name, first_chain, step, side))
    return out


def sample_softmax(
    field: Tensor,
    *,
    seed: int,
    name: str = "",
    first_chain: int = 0,
    step: int = 0,
    side: str = "visible",
) -> Tensor:
    """Return uint8 one-hot [chains, units, categories], with probabilities softmax(field)."""
    if field.dim() != 3 or field.shape[2] == 0:
        expected = "[chains, units, categories], one category or more"
        raise ValueError(describe("sample_softmax", "field", f"{tuple(field.shape)}", expected))
    out = torch.empty(field.shape, dtype=torch.uint8, device=field.device)
    _run(_SOFTMAX, field, out, None, field.shape[2], (seed, name, first_chain, step, side))
    return out


def _check_matrix(function: str, field: Tensor) -> None:
    if field.dim() != 2:
        got = f"a tensor {tuple(field.shape)}"
        raise ValueError(describe(function, "field", got, "[chains, units]"))


def _run(
    kind: int,
    field: Tensor,
    out: Tensor,
    std: Tensor | None,
    categories: int,
    words: tuple[int, str, int, int, str],
) -> None:
    seed, name, first_chain, step, side = words
    chains, units = field.shape[:2]
    check_words(chains, first_chain, step)
    check_memory("rbm", "field", field)
    values = field.detach().to(torch.float32).contiguous()
    task = (
        kind,
        values.data_ptr(),
        out.data_ptr(),
        0 if std is None else std.data_ptr(),
        chains,
        units,
        categories,
        stream_key(seed, name),
        first_chain,
        step,
        SIDES.index(side),
    )
    if values.is_cpu:
        _C.sample_float(task, torch.get_num_threads())
        return
    with torch.cuda.device(values.device):
        stream = torch.cuda.current_stream().cuda_stream
        _C.sample_float_on_cuda(task, values.device.index, stream)


def sample_float_with_cuda_body_on_host(
    kind: str,
    field: Tensor,
    out: Tensor,
    std: Tensor | None,
    *,
    key: int,
    first_chain: int,
    step: int,
    side: str,
    blocks: int,
) -> None:
    """Sample with the CUDA kernel's own code on CPU tensors, for tests without a GPU."""
    chains, units, *rest = field.shape
    _C.sample_float_with_cuda_body_on_host(
        (
            ("bernoulli", "gaussian", "nrelu", "softmax").index(kind),
            field.data_ptr(),
            out.data_ptr(),
            0 if std is None else std.data_ptr(),
            chains,
            units,
            math.prod(rest),
            key,
            first_chain,
            step,
            SIDES.index(side),
        ),
        blocks,
    )
