# SPDX-License-Identifier: Apache-2.0
"""Names and versions of recipes; and that a version, once released, never changes.

After adding a recipe or a version, write its numbers with
    PYTHONPATH=tests python tests/recipes/test_registry.py
and look at the difference: lines may only be added.
"""

import hashlib
import inspect
import json
import math
from pathlib import Path

import pytest
import recipe_models as models
import torch
import torch.nn.utils.prune
from torch import nn

import torch_init
from torch_init import recipes
from torch_init.recipes import _sites

FROZEN = Path(__file__).parents[1] / "data" / "recipes.json"


def convolutional():
    branch = {f"layer1__0__{name}": layer for name, layer in [
        ("conv1", nn.Conv2d(4, 4, 3, bias=False)), ("bn1", nn.BatchNorm2d(4)),
        ("conv2", nn.Conv2d(4, 4, 3, groups=2)), ("bn2", nn.BatchNorm2d(4))]}  # fmt: skip
    return models.tree(conv1=nn.Conv2d(3, 4, 5), **branch, fc=nn.Linear(4, 3))


def encoder_decoder():
    return models.tree(
        encoder__embed=nn.Embedding(9, 8),
        encoder__layers=nn.TransformerEncoder(
            nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2
        ).layers,
        decoder__layers=nn.TransformerDecoder(nn.TransformerDecoderLayer(8, 2, 16), 3).layers,
    )


def layers_of_torch():
    return models.tree(
        linear=nn.Linear(6, 4),
        conv=nn.Conv2d(4, 6, 3, groups=2),
        transposed=nn.ConvTranspose1d(4, 6, 3),
        attention=nn.MultiheadAttention(8, 2),
        lstm=nn.LSTM(3, 5),
        embedding=nn.Embedding(9, 4, padding_idx=0),
        norm=nn.LayerNorm(4),
    )


def plain_layers():
    return models.tree(linear=nn.Linear(3, 5), conv=nn.Conv2d(4, 2, 3), norm=nn.LayerNorm(4))


def vision_transformer():
    return models.tree(
        cls_token=nn.Parameter(torch.ones(1, 1, 8)),
        pos_embed=nn.Parameter(torch.ones(1, 5, 8)),
        patch_embed__proj=nn.Conv2d(3, 8, 2),
        blocks__0__attn__qkv=nn.Linear(8, 24),
        blocks__0__mlp__fc1=nn.Linear(8, 16),
        head=nn.Linear(8, 3),
    )


def mup_of_half_the_width():
    model = layers_of_torch()
    shapes = {n: [-(-size // 2) for size in p.shape] for n, p in model.named_parameters()}
    for name in ("conv.weight", "transposed.weight"):
        shapes[name][2:] = model.get_parameter(name).shape[2:]
    return recipes.mup(shapes)


MODELS = {
    "torch-default@1": layers_of_torch,
    "xavier@1": layers_of_torch,
    "he@1": layers_of_torch,
    "lecun@1": layers_of_torch,
    "gpt2@1": models.nano_gpt,
    "llama@1": models.torchtitan,
    "olmo@1": models.olmo_core,
    "megatron@1": models.megatron_core,
    "small-init@1": models.torchtitan,
    "neox@1": models.torchtitan,
    "vit-jax@1": vision_transformer,
    "resnet@1": convolutional,
    "efficientnet@1": convolutional,
    "deepnet@1": encoder_decoder,
    "t-fixup@1": encoder_decoder,
    "fixup@1": convolutional,
    "zero@1": plain_layers,
    "mup@1": layers_of_torch,
}


def described(name):
    """Mean, std, low and high of each parameter, and the bits that seed 0 gives the model."""
    model = MODELS[name]()
    recipe = mup_of_half_the_width() if name == "mup@1" else recipes.get(name)
    plan = torch_init.plan(model, recipe, seed=0)
    torch_init.init_(model, plan)
    digest = hashlib.sha256()
    for row in plan.rows:
        digest.update(row.name.encode())
        digest.update(model.get_parameter(row.name).detach().numpy().tobytes())
    rows = {r.name: " ".join(map(_short, (r.mean, r.std, r.low, r.high))) for r in plan.rows}
    return {**rows, "sha256": digest.hexdigest()}


def _short(number):
    return f"{number:.9g}" if number is not None and math.isfinite(number) else "-"


@pytest.mark.parametrize("name", MODELS)
def test_version_is_frozen(name):
    assert described(name) == json.loads(FROZEN.read_text())[name]


OLD_HOOKS = {
    "weight_norm": (nn.utils.weight_norm, ("_g", "_v")),
    "spectral_norm": (nn.utils.spectral_norm, ("_orig",)),
    "prune": (nn.utils.prune.identity, ("_orig",)),
}


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@pytest.mark.parametrize("hook", OLD_HOOKS)
@pytest.mark.parametrize("name", MODELS)
def test_what_old_hooks_make_of_a_weight_is_not_covered(name, hook):
    recipe = mup_of_half_the_width() if name == "mup@1" else recipes.get(name)
    model = MODELS[name]()
    apply, ends = OLD_HOOKS[hook]
    for module in list(model.modules()):
        for leaf in ("weight", "weight_ih_l0", "weight_hh_l0"):
            if leaf in module._parameters and module._parameters[leaf].ndim > 1:
                apply(module, leaf)
    rows = torch_init.plan(model, recipe, seed=0, strict=False).rows
    made = [row for row in rows if row.name.endswith(ends)]
    assert made
    assert {row.name: row.status for row in made if row.status != "no rule"} == {}
    with pytest.raises(ValueError, match=r"use torch\.nn\.utils\.parametrizations"):
        torch_init.plan(model, recipe, seed=0)


def test_every_version_is_in_the_table():
    assert set(MODELS) == set(recipes.available())
    assert set(json.loads(FROZEN.read_text())) == set(recipes.available())


@pytest.mark.parametrize("name", [name for name in recipes.available() if name != "mup@1"])
def test_recipe_bears_its_name_and_source(name):
    recipe = recipes.get(name)
    assert str(recipe) == name
    assert len(recipe.source) > 10
    assert str(recipes.get(recipe.name)) == name


def test_page_names_every_recipe_and_every_name_they_know():
    page = (Path(__file__).parents[2] / "docs" / "recipes.md").read_text()
    known = [*_sites.BLOCK_INPUTS, *_sites.RESIDUAL_OUTPUTS, *_sites.HEADS]
    assert [end for end in known if f"`{end}`" not in page and "Attention." not in end] == []
    headings = " ".join(line for line in page.splitlines() if line.startswith("## "))
    assert [name for name in recipes.available() if name.partition("@")[0] not in headings] == []


@pytest.mark.parametrize("name", recipes.__all__)
def test_functions_say_what_they_give(name):
    text = inspect.getdoc(getattr(recipes, name))
    assert ">>>" in text
    if name not in ("available", "get"):
        assert "\nSource: " in text
        assert text.startswith(f"{name.replace('_', '-')}: ")


def test_plan_takes_names_and_versions():
    model = nn.Linear(3, 3)
    stds = {torch_init.plan(model, recipe, seed=0)["weight"].std
            for recipe in ("he", "he@1", recipes.he(), ["xavier", "he"])}  # fmt: skip
    assert len(stds) == 1


@pytest.mark.parametrize(
    ("name", "hint"),
    [("gpt_2", "'gpt2'"), ("GPT2", "'gpt2'"), ("t_fixup", "'t-fixup'"), ("gpt2@2", "'gpt2@1'"),
     ("zzzz", "Known are torch-default@1, xavier@1")],
)  # fmt: skip
def test_unknown_names_are_answered_with_near_ones(name, hint):
    with pytest.raises(ValueError, match=hint):
        recipes.get(name)
    with pytest.raises(ValueError, match=hint):
        torch_init.plan(nn.Linear(3, 3), name, seed=0)


def test_name_must_be_a_str():
    with pytest.raises(TypeError, match="name"):
        recipes.get(2)


if __name__ == "__main__":
    FROZEN.write_text(json.dumps({name: described(name) for name in MODELS}, indent=1) + "\n")
