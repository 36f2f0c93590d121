# SPDX-License-Identifier: Apache-2.0
"""OLMo: every number of its three methods, experts included."""

import math

import pytest
import recipe_models as models
import torch
from recipe_models import CUT, HEAD, INNER, LAYERS, WIDTH, expect, filled, stds, tree
from torch import nn

import torch_init
from torch_init import recipes


def olmo_table(method):
    """InitMethod of OLMo-core: query and w1, w3, outputs, embeddings, head."""
    root = WIDTH**-0.5
    in_all = 0.02 / math.sqrt(2 * LAYERS)

    def by_depth(layer):
        return CUT * 0.02 / math.sqrt(2 * (layer + 1))

    return {
        "normal": (CUT * 0.02, CUT * 0.02, CUT * 0.02, CUT * 0.02, CUT * 0.02, CUT * 0.02),
        "llama": (CUT * 0.02, CUT * in_all, CUT * in_all, CUT * in_all, 1.0, HEAD),
        "llama_depth": (CUT * 0.02, by_depth, by_depth, by_depth, 1.0, HEAD),
        "normalized": (HEAD, HEAD, *[HEAD / math.sqrt(2 * LAYERS)] * 2, root, HEAD),
        "fan_in": (HEAD, HEAD, HEAD, CUT * INNER**-0.5, 1.0, HEAD),
    }[method]


@pytest.mark.parametrize("method", ["normal", "llama", "llama_depth", "normalized", "fan_in"])
def test_olmo(method):
    inner, up, output, down, embedding, head = olmo_table(method)
    expected = {
        "w_q": inner, "w_k": inner, "w_v": inner, "attention.w_out": output,
        "w1": inner, "w3": up, "w2": down, "embeddings": embedding, "lm_head.w_out": head,
    }  # fmt: skip
    model = models.olmo_core()
    expect(stds(model, recipes.olmo(method)), expected)
    filled(model, recipes.olmo(method))


def olmo_moe_table(method, layer):
    """init_feed_forward_moe of OLMo-core: router, w1, w3; w2."""
    one_value = {
        "normal": 0.02,
        "llama": 0.02 / math.sqrt(2 * LAYERS),
        "llama_depth": 0.02 / math.sqrt(2 * (layer + 1)),
        "normalized": 0.02,
    }
    if method == "fan_in":
        return CUT * WIDTH**-0.5, CUT * INNER**-0.5
    return (CUT * one_value[method],) * 2


@pytest.mark.parametrize("dropless", [True, False])
@pytest.mark.parametrize("method", ["normal", "llama", "llama_depth", "normalized", "fan_in"])
def test_olmo_of_olmo_cores_experts(method, dropless):
    model = models.olmo_core_experts(dropless)
    plan = filled(model, recipes.olmo(method))
    for layer in range(LAYERS):
        moe = f"blocks.{layer}.feed_forward_moe"
        inputs, output = olmo_moe_table(method, layer)
        for name in ("router.weight", "experts.mlp.w1", "experts.mlp.w3"):
            assert plan[f"{moe}.{name}"].std == pytest.approx(inputs, rel=1e-6), name
        assert plan[f"{moe}.experts.mlp.w2"].std == pytest.approx(output, rel=1e-6)
        # init_weights leaves this one as reset_parameters has made it.
        for name, fan_in in (("w1", WIDTH), ("w2", INNER)):
            for leaf in ("weight", "bias"):
                row = plan[f"{moe}.shared_mlp.{name}.{leaf}"]
                assert (row.low, row.high) == pytest.approx((-(fan_in**-0.5), fan_in**-0.5))


FLAT_EXPERTS = {"layers__0__mlp__experts__w1": (8, 4), "layers__0__mlp__experts__w2": (16, 2)}


def flat_experts():
    return tree(**{name: nn.Parameter(torch.empty(shape)) for name, shape in FLAT_EXPERTS.items()})


@pytest.mark.parametrize("recipe", ["llama", "olmo", "deepnet"])
def test_experts_in_one_matrix_are_not_covered(recipe):
    with pytest.raises(ValueError, match=r"(?s)none for 2 of 2.*experts\.w1.*experts\.w2"):
        torch_init.plan(flat_experts(), recipe, seed=0)


@pytest.mark.parametrize("recipe", ["small-init", "neox"])
def test_experts_in_one_matrix_are_refused(recipe):
    with pytest.raises(ValueError, match="stacked experts"):
        torch_init.plan(flat_experts(), recipe, seed=0)


def test_olmo_cuts_at_three_sigma():
    plan = torch_init.plan(models.olmo_core(), "olmo", seed=0)
    for row in plan.rows:
        if len(row.shape) > 1:
            assert (row.low, row.high) == pytest.approx((-0.06, 0.06)), row.name
