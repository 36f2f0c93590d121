# SPDX-License-Identifier: Apache-2.0
"""Silent wrong starts that other projects' trackers tell of, held against the recipes here."""

import math
import warnings

import pytest
import recipe_models as models
import torch
from torch import nn

import torch_init
from torch_init import rule


def run(model, rules):
    torch_init.init_(model, rules, seed=0)
    return model


def test_residual_outputs_of_gpt2_are_really_scaled():
    """transformers #47458: drawn with 1/sqrt(2L), then drawn again without."""
    model = models.language_model(
        {"attn__c_attn": (96, 288), "attn__c_proj": (96, 96)}, {"mlp__c_proj": (384, 96)},
        "transformer__h", "transformer__wte", "lm_head",
    )  # fmt: skip
    run(model, "gpt2")
    found = {n: p.std().item() for n, p in model.named_parameters() if n.endswith("c_proj.weight")}
    assert len(found) == 2 * models.LAYERS
    for name, std in found.items():
        assert std == pytest.approx(0.02 / math.sqrt(2 * models.LAYERS), rel=0.03), name


def test_packed_query_key_value_is_three_matrices():
    """pytorch #166378: drawn as one (3E, E) matrix, sqrt(2) too small."""
    model = run(nn.MultiheadAttention(256, 4), "xavier")
    bound = math.sqrt(6 / (2 * 256))
    for block in model.in_proj_weight.detach().chunk(3):
        assert 0.99 * bound < block.abs().max() <= bound
        assert block.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.02)
    torchs = run(nn.MultiheadAttention(256, 4), "torch-default").in_proj_weight.detach()
    assert torchs.std().item() == pytest.approx(bound / math.sqrt(6), rel=0.02)


@pytest.mark.parametrize("recipe", ["resnet", "efficientnet"])
def test_fan_out_is_that_of_a_group(recipe):
    """pytorch, timm: fan_out over all groups makes a depthwise layer sqrt(groups) too small."""
    model = run(nn.Conv2d(512, 512, 3, groups=512, bias=False), recipe)
    assert model.weight.std().item() == pytest.approx(math.sqrt(2 / 9), rel=0.05)


class StateSpace(nn.Module):
    def __init__(self, dtype):
        super().__init__()
        self.A = nn.Parameter(torch.empty(1 << 20, dtype=dtype))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_uniform_values_that_a_logarithm_follows_are_never_zero(dtype):
    """transformers #47831: A ~ U(0, 16) in bfloat16 is 0 in 1 of 512 places, and log A -inf."""
    model = run(StateSpace(dtype), rule("A", torch_init.uniform_, a=2**-14, b=16.0))
    assert model.A.min() >= 2**-14
    assert model.A.max() < 16
    assert torch.isfinite(model.A.log()).all()
    if dtype == torch.bfloat16:
        assert (StateSpace(dtype).A.detach().uniform_(0, 16) == 0).sum() > 100


def test_bounds_that_cut_nothing_are_warned_about():
    """timm #1286, HRM #91: trunc_normal_(std=0.02) with +-2, 100 standard deviations."""
    model = nn.Linear(16, 16)
    weight = rule("weight", torch_init.trunc_normal_, std=0.02)
    with pytest.warns(UserWarning, match="cut nothing"):
        plan = torch_init.plan(model, ["he", weight], seed=0)
    assert "cut nothing" in plan["weight"].note
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cut = rule("weight", torch_init.trunc_normal_, std=0.02, bounds="sigma")
        torch_init.plan(model, ["he", cut], seed=0)
        torch_init.plan(models.torchtitan(), "llama", seed=0)


def test_a_tied_head_is_not_drawn_as_an_embedding():
    """torchtitan #2342: N(0, 1) in a tied embedding makes logits of size sqrt(d)."""
    model = models.torchtitan()
    model.tok_embeddings.weight = model.lm_head.weight
    run(model, "llama")
    assert model.lm_head.weight.std().item() < 1.1 * models.WIDTH**-0.5
