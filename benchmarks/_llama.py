# SPDX-License-Identifier: Apache-2.0
"""A model with the parameters of a Llama: names, shapes, nothing else."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn


class Size(NamedTuple):
    """The numbers that decide a Llama's parameters."""

    layers: int
    width: int
    hidden: int
    key_value_width: int
    vocabulary: int


SIZES = {
    "tiny": Size(2, 64, 176, 32, 256),
    "1B": Size(22, 2048, 5632, 256, 32000),  # TinyLlama's
    "7B": Size(32, 4096, 11008, 4096, 32000),
    "70B": Size(80, 8192, 28672, 1024, 128256),
}


def llama_on_meta(size: Size) -> nn.Module:
    """Return such a model on the meta device, in float32."""
    with torch.device("meta"):
        return nn.ModuleDict(
            {
                "embed_tokens": nn.Embedding(size.vocabulary, size.width),
                "layers": nn.ModuleList([_block(size) for _ in range(size.layers)]),
                "norm": nn.RMSNorm(size.width),
                "lm_head": nn.Linear(size.width, size.vocabulary, bias=False),
            }
        )


def _block(size: Size) -> nn.ModuleDict:
    def linear(inputs: int, outputs: int) -> nn.Linear:
        return nn.Linear(inputs, outputs, bias=False)

    attention = {
        "q_proj": linear(size.width, size.width),
        "k_proj": linear(size.width, size.key_value_width),
        "v_proj": linear(size.width, size.key_value_width),
        "o_proj": linear(size.width, size.width),
    }
    feed_forward = {
        "gate_proj": linear(size.width, size.hidden),
        "up_proj": linear(size.width, size.hidden),
        "down_proj": linear(size.hidden, size.width),
    }
    return nn.ModuleDict(
        {
            "self_attn": nn.ModuleDict(attention),
            "mlp": nn.ModuleDict(feed_forward),
            "input_layernorm": nn.RMSNorm(size.width),
            "post_attention_layernorm": nn.RMSNorm(size.width),
        }
    )
