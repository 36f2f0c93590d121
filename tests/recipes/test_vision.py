# SPDX-License-Identifier: Apache-2.0
"""resnet, fixup, efficientnet and vit-jax, under the names of torchvision, timm and the papers."""

import itertools
import math

import pytest
import torch
from recipe_models import filled, tree
from torch import nn

import torch_init
from torch_init import recipes


def branch(name, channels, norms=True):
    """A residual branch: channels are those in front of, between and behind its convolutions."""
    parts = {}
    for i, (inputs, outputs) in enumerate(itertools.pairwise(channels), 1):
        parts[f"{name}__conv{i}"] = nn.Conv2d(inputs, outputs, 3, bias=False)
        if norms:
            parts[f"{name}__bn{i}"] = nn.BatchNorm2d(outputs)
    return parts


def torchvision_resnet(norms=True):
    """A basic block and a bottleneck with a shortcut, in two stages."""
    parts = {"conv1": nn.Conv2d(3, 8, 7, bias=False), "fc": nn.Linear(32, 10)}
    parts |= branch("layer1__0", [8, 8, 8], norms) | branch("layer2__0", [8, 8, 8, 32], norms)
    parts |= branch("layer2__1", [32, 8, 8, 32], norms)
    parts["layer2__0__downsample__0"] = nn.Conv2d(8, 32, 1, bias=False)
    if norms:
        parts |= {"bn1": nn.BatchNorm2d(8), "layer2__0__downsample__1": nn.BatchNorm2d(32)}
    return tree(**parts)


def he(outputs, kernel):
    return math.sqrt(2 / (outputs * kernel**2))


def test_resnet():
    plan = filled(torchvision_resnet(), "resnet")
    last = {"layer1.0.bn2.weight", "layer2.0.bn3.weight", "layer2.1.bn3.weight"}
    for row in plan.rows:
        if len(row.shape) == 4:
            assert row.std == pytest.approx(he(row.shape[0], row.shape[2])), row.name
        elif row.name.startswith("fc."):
            assert row.high == pytest.approx(32**-0.5)
        else:
            one = row.name.endswith("weight") and row.name not in last
            assert (row.mean, row.std) == (float(one), 0), row.name


def test_resnet_with_branches_that_start_open():
    plan = torch_init.plan(torchvision_resnet(), recipes.resnet(zero_last=False), seed=0)
    assert plan["layer1.0.bn2.weight"].mean == 1


def test_resnet_without_branches_is_an_error():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
    with pytest.raises(ValueError, match="Pass zero_last=False"):
        torch_init.plan(model, "resnet", seed=0)
    torch_init.plan(model, recipes.resnet(zero_last=False), seed=0)


def test_norms_under_other_names_are_an_error():
    parts = branch("layer1__0", [8, 8, 8], norms=False)
    model = tree(**parts, layer1__0__last_norm=nn.BatchNorm2d(8))
    with pytest.raises(ValueError, match="residual branches with norms"):
        torch_init.plan(model, "resnet", seed=0)


def test_resnext_has_the_fan_out_of_a_group():
    row = torch_init.plan(nn.Conv2d(32, 64, 3, groups=4), "resnet", seed=0)["weight"]
    assert row.std == pytest.approx(math.sqrt(2 / (64 / 4 * 9)))


def test_fixup():
    plan = filled(torchvision_resnet(norms=False), "fixup")
    blocks = 3
    expected = {
        "conv1": he(8, 7),
        "layer1.0.conv1": he(8, 3) * blocks ** (-1 / 2),  # two layers in the branch
        "layer1.0.conv2": 0,
        "layer2.0.conv1": he(8, 3) * blocks ** (-1 / 4),  # three
        "layer2.0.conv2": he(8, 3) * blocks ** (-1 / 4),
        "layer2.0.conv3": 0,
        "layer2.0.downsample.0": he(32, 1),
        "layer2.1.conv3": 0,
        "fc": 0,
    }
    for name, std in expected.items():
        assert plan[f"{name}.weight"].std == pytest.approx(std), name
    assert plan["fc.bias"].std == 0


def test_fixup_of_its_scalars():
    def scalar():
        return nn.Parameter(torch.full((1,), 7.0))

    parts = branch("layer1__0", [8, 8, 8], norms=False)
    scalars = {f"layer1__0__{name}": scalar() for name in ("bias1a", "bias1b", "scale")}
    plan = filled(tree(bias1=scalar(), **scalars, **parts), "fixup")
    found = {row.name.rpartition(".")[2]: row.mean for row in plan.rows if row.shape == (1,)}
    assert found == {"bias1": 0, "bias1a": 0, "bias1b": 0, "scale": 1}


def test_fixup_is_told_the_number_of_blocks():
    plan = torch_init.plan(torchvision_resnet(), recipes.fixup(num_blocks=100), seed=0)
    assert plan["layer1.0.conv1.weight"].std == pytest.approx(he(8, 3) / 10)


def test_fixup_without_branches_is_an_error():
    with pytest.raises(ValueError, match="residual branches"):
        torch_init.plan(nn.Conv2d(3, 8, 3), "fixup", seed=0)


def test_efficientnet():
    model = tree(
        conv_stem=nn.Conv2d(3, 16, 3, bias=False),
        blocks__0__conv_dw=nn.Conv2d(16, 16, 5, groups=16, bias=False),
        blocks__0__bn1=nn.BatchNorm2d(16),
        blocks__0__se__conv_reduce=nn.Conv2d(16, 4, 1),
        classifier=nn.Linear(16, 10),
    )
    plan = filled(model, "efficientnet")
    assert plan["conv_stem.weight"].std == pytest.approx(math.sqrt(2 / (16 * 9)))
    assert plan["blocks.0.conv_dw.weight"].std == pytest.approx(math.sqrt(2 / 25))
    assert plan["blocks.0.se.conv_reduce.weight"].std == pytest.approx(math.sqrt(2 / 4))
    assert plan["classifier.weight"].high == pytest.approx(10**-0.5)
    zeros = ["blocks.0.se.conv_reduce.bias", "classifier.bias", "blocks.0.bn1.bias"]
    assert [(plan[name].mean, plan[name].std) for name in zeros] == [(0, 0)] * 3


D = 32


def timm_vit():
    return tree(
        cls_token=nn.Parameter(torch.ones(1, 1, D)),
        pos_embed=nn.Parameter(torch.ones(1, 50, D)),
        patch_embed__proj=nn.Conv2d(3, D, 4),
        blocks__0__norm1=nn.LayerNorm(D),
        blocks__0__attn__qkv=nn.Linear(D, 3 * D),
        blocks__0__attn__proj=nn.Linear(D, D),
        blocks__0__mlp__fc1=nn.Linear(D, 4 * D),
        blocks__0__mlp__fc2=nn.Linear(4 * D, D),
        norm=nn.LayerNorm(D),
        head=nn.Linear(D, 10),
    )


def torchvision_vit():
    block = "encoder__layers__encoder_layer_0"
    return tree(
        class_token=nn.Parameter(torch.ones(1, 1, D)),
        encoder__pos_embedding=nn.Parameter(torch.ones(1, 50, D)),
        conv_proj=nn.Conv2d(3, D, 4),
        **{
            f"{block}__ln_1": nn.LayerNorm(D),
            f"{block}__self_attention": nn.MultiheadAttention(D, 4),
            f"{block}__mlp__0": nn.Linear(D, 4 * D),
            f"{block}__mlp__3": nn.Linear(4 * D, D),
        },
        heads__head=nn.Linear(D, 10),
    )


@pytest.mark.parametrize("model", [timm_vit(), torchvision_vit()], ids=["timm", "torchvision"])
def test_vit_jax(model):
    plan = filled(model, recipes.vit_jax(head_bias=-3.0))
    for row in plan.rows:
        name = row.name
        if "token" in name or "norm" in name or ".ln_" in name or "head" in name:
            scale = name.endswith("weight") and "head" not in name
            mean = 1.0 if scale else -3.0 if "head" in name and name.endswith("bias") else 0.0
            assert (row.mean, row.std) == (mean, 0), name
        elif "pos" in name:
            assert row.std == pytest.approx(0.02), name
        elif len(row.shape) == 4:
            std = (3 * 16) ** -0.5
            assert row.std == pytest.approx(std, rel=1e-6), name
            assert row.high == pytest.approx(2 * std / 0.87962566103423978), name
        elif ".mlp." in name:
            bound = math.sqrt(6 / (D + 4 * D))
            assert row.std == pytest.approx(1e-6 if "bias" in name else bound / 3**0.5), name
        elif name.endswith("bias"):
            assert (row.mean, row.std) == (0, 0), name
        else:
            assert row.high == pytest.approx(math.sqrt(6 / (2 * D))), name


def test_vit_jax_of_pre_logits():
    model = tree(pre_logits__fc=nn.Linear(D, 16), head=nn.Linear(16, 10))
    row = torch_init.plan(model, "vit-jax", seed=0)["pre_logits.fc.weight"]
    assert row.high == pytest.approx(2 * D**-0.5 / 0.87962566103423978)
