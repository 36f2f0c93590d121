# SPDX-License-Identifier: Apache-2.0
"""Small models under the names that codebases give their layers, and checks of filled ones."""

import math

import pytest
import torch
from torch import nn

import torch_init

WIDTH, INNER, VOCABULARY, LAYERS = 24, 64, 40, 3
CUT = 0.9865784925  # standard deviation of the standard normal restricted to [-3, 3]
HEAD = CUT * WIDTH**-0.5


def tree(**parts: nn.Module | nn.Parameter) -> nn.Module:
    """A module that holds the given ones under dotted names (`a__b` stands for a.b)."""
    root = nn.Module()
    for path, part in parts.items():
        *parents, leaf = path.split("__")
        owner = root
        for parent in parents:
            if parent not in owner._modules:
                owner.add_module(parent, nn.Module())
            owner = owner.get_submodule(parent)
        if isinstance(part, nn.Parameter):
            owner.register_parameter(leaf, part)
        else:
            owner.add_module(leaf, part)
    return root


def language_model(attention, feed_forward, stack, embedding, head, norm="norm", **more):
    """A decoder of LAYERS blocks.

    attention, feed_forward: {name in a block: (inputs, outputs)}, "__" for dots.
    """
    parts = {embedding: nn.Embedding(VOCABULARY, WIDTH)}
    for layer in range(LAYERS):
        block = f"{stack}__{layer}__"
        for name, (inputs, outputs) in {**attention, **feed_forward}.items():
            parts[block + name] = nn.Linear(inputs, outputs)
        parts[f"{block}{norm}_1"] = nn.LayerNorm(WIDTH)
    parts[norm] = nn.RMSNorm(WIDTH)
    parts[head] = nn.Linear(WIDTH, VOCABULARY, bias=False)
    return tree(**parts, **more)


SQUARE = (WIDTH, WIDTH)
UP, DOWN = (WIDTH, INNER), (INNER, WIDTH)


def torchtitan():
    """pytorch/torchtitan, models/llama3: unpacked query, key, value."""
    return language_model(
        {f"attention__qkv_linear__{w}": SQUARE for w in ("wq", "wk", "wv")}
        | {"attention__wo": SQUARE},
        {"feed_forward__w1": UP, "feed_forward__w2": DOWN, "feed_forward__w3": UP},
        "layers", "tok_embeddings", "lm_head", norm="attention_norm",
    )  # fmt: skip


def olmo_core():
    """allenai/OLMo-core, nn/transformer."""
    return language_model(
        {f"attention__{w}": SQUARE for w in ("w_q", "w_k", "w_v", "w_out")},
        {"feed_forward__w1": UP, "feed_forward__w2": DOWN, "feed_forward__w3": UP},
        "blocks", "embeddings", "lm_head__w_out", norm="feed_forward_norm",
    )  # fmt: skip


class OlmoRouter(nn.Module):
    """MoELinearRouter of OLMo-core, nn/moe/router.py."""

    def __init__(self):
        super().__init__()
        self.d_model = WIDTH
        self.weight = nn.Parameter(torch.empty(4 * WIDTH))


class OlmoExperts(nn.Module):
    """MoEMLP and DroplessMoEMLP of OLMo-core, nn/moe/mlp.py."""

    def __init__(self, dropless):
        super().__init__()
        self.d_model, self.hidden_size = WIDTH, INNER
        inner = (4 * INNER, WIDTH)
        self.w1 = nn.Parameter(torch.empty(inner if dropless else (4 * WIDTH, INNER)))
        self.w2 = nn.Parameter(torch.empty(inner))
        self.w3 = nn.Parameter(torch.empty(inner if dropless else (4 * WIDTH, INNER)))


def olmo_core_experts(dropless=True):
    """allenai/OLMo-core with a mixture of experts, and a shared one."""
    shared = {f"feed_forward_moe__shared_mlp__{w}": s for w, s in (("w1", UP), ("w2", DOWN))}
    model = language_model(
        {f"attention__{w}": SQUARE for w in ("w_q", "w_k", "w_v", "w_out")}, shared,
        "blocks", "embeddings", "lm_head__w_out", norm="feed_forward_norm",
    )  # fmt: skip
    for block in model.blocks.children():
        block.feed_forward_moe.router = OlmoRouter()
        block.feed_forward_moe.experts = tree(mlp=OlmoExperts(dropless))
    return model


def megatron_core():
    """NVIDIA/Megatron-LM, core/models/gpt; its linear layers are no nn.Linear."""
    model = language_model(
        {"self_attention__linear_qkv": (WIDTH, 3 * WIDTH), "self_attention__linear_proj": SQUARE},
        {"mlp__linear_fc1": UP, "mlp__linear_fc2": DOWN},
        "decoder__layers", "embedding__word_embeddings", "output_layer",
        embedding__position_embeddings=nn.Embedding(8, WIDTH),
    )  # fmt: skip
    for module in list(model.modules()):
        for name, child in module._modules.items():
            if isinstance(child, nn.Linear):
                module._modules[name] = tree(**dict(child.named_parameters()))
    return model


def nano_gpt():
    """karpathy/nanoGPT, model.py: the head shares the embedding's weight."""
    model = language_model(
        {"attn__c_attn": (WIDTH, 3 * WIDTH), "attn__c_proj": SQUARE},
        {"mlp__c_fc": UP, "mlp__c_proj": DOWN},
        "transformer__h", "transformer__wte", "lm_head", norm="ln_f",
        transformer__wpe=nn.Embedding(8, WIDTH),
    )  # fmt: skip
    model.transformer.wte.weight = model.lm_head.weight
    return model


def stds(model, recipe):
    """The planned standard deviation of each weight, by name; biases and norms left out."""
    plan = torch_init.plan(model, recipe, seed=0)
    return {row.name: row.std for row in plan.rows if len(row.shape) > 1}


def filled(model, recipe):
    """The plan, carried out; every parameter's values have been held against it."""
    plan = torch_init.plan(model, recipe, seed=0)
    assert torch_init.init_(model, plan).problems == []
    for row in plan.rows:
        assert_as_planned(model.get_parameter(row.name).detach(), row)
    return plan


def assert_as_planned(values, row):
    """Six standard errors, with the seed fixed."""
    if row.std == 0:
        assert torch.all(values == values.flatten()[0]), row.name
        assert math.isclose(values.flatten()[0].item(), row.mean, rel_tol=1e-6), row.name
        return
    error = 6 * row.std / math.sqrt(values.numel())
    assert abs(values.mean().item() - row.mean) < error, row.name
    assert abs(values.std(unbiased=False).item() - row.std) < error, row.name
    if row.low is not None:
        assert row.low <= values.min().item() <= values.max().item() <= row.high, row.name


def expect(found, expected):
    """expected: {end of names: std}; each weight has exactly one end."""
    for name, std in found.items():
        ends = [end for end in expected if name.endswith(f"{end}.weight")]
        assert len(ends) == 1, (name, ends)
        value = expected[ends[0]]
        if callable(value):
            value = value(int(next(part for part in name.split(".") if part.isdecimal())))
        assert std == pytest.approx(value, rel=1e-6), name
    assert {end for end in expected if not any(n.endswith(f"{end}.weight") for n in found)} == set()
