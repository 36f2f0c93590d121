# SPDX-License-Identifier: Apache-2.0
"""mup: against the rule of Tensor Programs V, table 3, and what the mup package calls a width."""

import math

import pytest
import recipe_models as models
import torch
from recipe_models import filled, tree
from torch import nn

import torch_init
from torch_init import recipes

BASE, WIDE = 16, 64
RATIO = WIDE / BASE


def network(width, device=None):
    with torch.device(device or "cpu"):
        return tree(
            embed=nn.Embedding(30, width),
            patches=nn.Conv2d(3, width, 4),
            positions=nn.Parameter(torch.empty(1, 10, width)),
            hidden=nn.Linear(width, 4 * width),
            back=nn.Linear(4 * width, width),
            packed=nn.MultiheadAttention(width, 2),
            conv=nn.Conv2d(width, width, 3),
            norm=nn.LayerNorm(width),
            head=nn.Linear(width, 10),
        )


def stds(recipe, width=WIDE):
    plan = torch_init.plan(network(width), recipe, seed=0)
    return {row.name.removesuffix(".weight"): row.std for row in plan.rows if len(row.shape) > 1}


@pytest.mark.parametrize(
    "base", [network(BASE), network(BASE, "meta"), None], ids=["real", "meta", "shapes"]
)
def test_standard_deviations(base):
    if base is None:
        base = {name: tuple(p.shape) for name, p in network(BASE).named_parameters()}
    found = stds(recipes.mup(base, std=0.1))
    inputs = dict.fromkeys(["embed", "patches", "positions"], 0.1)
    hidden = dict.fromkeys(
        ["hidden", "back", "packed.in_proj_weight", "packed.out_proj", "conv"],
        0.1 / math.sqrt(RATIO),
    )
    assert found == pytest.approx({**inputs, **hidden, "head": 0.1 / RATIO})
    filled(network(WIDE), recipes.mup(base, std=0.1))


def test_at_the_base_width_nothing_is_scaled():
    assert set(stds(recipes.mup(network(BASE)), BASE).values()) == {0.02}


def test_mu_readout_keeps_its_std():
    assert stds(recipes.mup(network(BASE), mu_readout=True))["head"] == 0.02


def test_a_readout_of_less_width_grows():
    # Below the base's width the same formulas hold, the other way.
    found = stds(recipes.mup(network(WIDE)), BASE)
    assert found["conv"] == pytest.approx(0.02 * math.sqrt(RATIO))


def test_std_may_be_a_function():
    def std(site):
        return 0.02 / math.sqrt(2 * site.num_layers) if site.name.endswith("c_proj.weight") else 0.5

    recipe = recipes.mup(models.nano_gpt(), std=std)
    found = models.stds(models.nano_gpt(), recipe)
    assert found["transformer.h.0.attn.c_proj.weight"] == 0.02 / math.sqrt(2 * models.LAYERS)
    assert found["transformer.wte.weight"] == 0.5


def test_biases_and_norms():
    plan = torch_init.plan(network(WIDE), recipes.mup(network(BASE)), seed=0)
    for row in plan.rows:
        if len(row.shape) == 1:
            assert (row.mean, row.std) == (float(row.name == "norm.weight"), 0), row.name


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: recipes.mup(), ValueError, r"recipes\.mup\(base=small_model\)"),
        (lambda: recipes.get("mup"), ValueError, r"recipes\.mup\(base=small_model\)"),
        (lambda: recipes.mup(256), TypeError, "base"),
        (lambda: recipes.mup(network(BASE), std=-1), ValueError, "std"),
        (lambda: stds(recipes.mup({"embed.weight": (30, BASE)})), ValueError, "is missing"),
        (lambda: stds(recipes.mup(dict.fromkeys(dict(network(BASE).named_parameters()), (1,)))),
         ValueError, "3 dimensions"),
    ],
)  # fmt: skip
def test_errors(make, error, text):
    with pytest.raises(error, match=text):
        make()


def test_three_widths_are_an_error():
    model = tree(odd=nn.Parameter(torch.empty(4, 4, 4)))
    with pytest.raises(ValueError, match="at most two dimensions that differ"):
        torch_init.plan(model, recipes.mup({"odd": (2, 2, 2)}), seed=0)
