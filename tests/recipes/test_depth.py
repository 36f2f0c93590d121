# SPDX-License-Identifier: Apache-2.0
"""deepnet and t-fixup: encoders, decoders and both, under torch's, fairseq's and GPT's names."""

import math

import pytest
import recipe_models as models
from recipe_models import WIDTH, filled, tree
from torch import nn

import torch_init
from torch_init import recipes

N, M, D, F = 2, 3, 16, 48


def xavier(gain, fan_in, fan_out):
    return gain * math.sqrt(2 / (fan_in + fan_out))


def fairseq(encoder_layers, decoder_layers):
    """fairseq's and transformers' names: q_proj, k_proj, v_proj, out_proj, fc1, fc2."""
    parts = {}
    for stack, layers in (("encoder", encoder_layers), ("decoder", decoder_layers)):
        if layers:
            parts[f"{stack}__embed_tokens"] = nn.Embedding(30, D, padding_idx=1)
        for layer in range(layers):
            block = f"{stack}__layers__{layer}__"
            for attention in ("self_attn", "encoder_attn")[: 2 if stack == "decoder" else 1]:
                for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
                    parts[f"{block}{attention}__{name}"] = nn.Linear(D, D)
            parts[f"{block}fc1"] = nn.Linear(D, F)
            parts[f"{block}fc2"] = nn.Linear(F, D)
    parts["output_projection"] = nn.Linear(D, 30, bias=False)
    return tree(**parts)


def gains(model, recipe):
    """The gain over Xavier of each matrix in a block."""
    rows = torch_init.plan(model, recipe, seed=0).rows
    inside = [row for row in rows if len(row.shape) == 2 and row.site.layer is not None]
    return {row.name: row.std / xavier(1, *row.shape) for row in inside}


def assert_gains(model, recipe, beta, query_key):
    """beta: {stack: gain} of value, output and feed-forward weights."""
    found = gains(model, recipe)
    assert found
    for name, gain in found.items():
        untouched = "q_proj" in name or "k_proj" in name
        expected = query_key if untouched else beta[name.split(".")[0]]
        assert gain == pytest.approx(expected, rel=1e-6), name


def test_deepnet_of_an_encoder():
    assert_gains(fairseq(N, 0), "deepnet", {"encoder": (8 * N) ** -0.25}, query_key=1)


def test_deepnet_of_a_decoder():
    assert_gains(fairseq(0, M), "deepnet", {"decoder": (8 * M) ** -0.25}, query_key=1)


def test_deepnet_of_both():
    beta = {"encoder": 0.87 * (N**4 * M) ** (-1 / 16), "decoder": (12 * M) ** -0.25}
    assert_gains(fairseq(N, M), "deepnet", beta, query_key=1)
    filled(fairseq(N, M), "deepnet")


def test_deepnet_is_told_the_depths():
    recipe = recipes.deepnet(encoder_layers=100, decoder_layers=200)
    beta = {"encoder": 0.87 * (100**4 * 200) ** (-1 / 16), "decoder": (12 * 200) ** -0.25}
    assert_gains(fairseq(N, M), recipe, beta, query_key=1)
    assert_gains(fairseq(N, 0), recipe, {"encoder": beta["encoder"]}, query_key=1)


def test_deepnet_of_packed_query_key_value():
    beta = (8 * models.LAYERS) ** -0.25
    plan = torch_init.plan(models.nano_gpt(), "deepnet", seed=0)
    packed = plan["transformer.h.1.attn.c_attn.weight"]
    expected = [xavier(gain, WIDTH, WIDTH) for gain in (1, 1, beta)]
    assert [piece.expectation.std for piece in packed.pieces] == pytest.approx(expected, rel=1e-6)
    model = nn.TransformerEncoder(nn.TransformerEncoderLayer(D, 2, F, batch_first=True), N)
    packed = torch_init.plan(model, "deepnet", seed=0)["layers.0.self_attn.in_proj_weight"]
    expected = [xavier(gain, D, D) for gain in (1, 1, (8 * N) ** -0.25)]
    assert [piece.expectation.std for piece in packed.pieces] == pytest.approx(expected, rel=1e-6)


def test_deepnet_of_torchs_transformer():
    model = nn.Transformer(D, 2, N, M, F, batch_first=True)
    plan = torch_init.plan(model, "deepnet", seed=0)
    encoder, decoder = 0.87 * (N**4 * M) ** (-1 / 16), (12 * M) ** -0.25
    name = "layers.1.linear1.weight"
    assert plan[f"encoder.{name}"].std == pytest.approx(xavier(encoder, D, F))
    assert plan[f"decoder.{name}"].std == pytest.approx(xavier(decoder, D, F))
    cross = plan["decoder.layers.0.multihead_attn.out_proj.weight"]
    assert cross.std == pytest.approx(xavier(decoder, D, D))


def test_encoders_side_by_side_count_apart():
    layers = {f"{tower}__encoder__layers__{i}__fc1": nn.Linear(D, F)
              for tower, depth in (("text", 2), ("vision", 4)) for i in range(depth)}  # fmt: skip
    plan = torch_init.plan(tree(**layers), "deepnet", seed=0)
    for tower, depth in (("text", 2), ("vision", 4)):
        row = plan[f"{tower}.encoder.layers.0.fc1.weight"]
        assert row.std == pytest.approx(xavier((8 * depth) ** -0.25, D, F))


def test_layers_in_a_row_are_no_stack_of_blocks():
    model = fairseq(N, 0)
    model.add_module("pooler", nn.Sequential(nn.Linear(D, D), nn.Tanh(), nn.Linear(D, D)))
    rules = ["deepnet", torch_init.rule("pooler.*", torch_init.zeros_)]
    row = torch_init.plan(model, rules, seed=0)["encoder.layers.0.fc1.weight"]
    assert row.std == pytest.approx(xavier((8 * N) ** -0.25, D, F))


@pytest.mark.parametrize("recipe", ["deepnet", "t-fixup"])
def test_a_number_before_encoder_and_decoder_changes_nothing(recipe):
    plain = fairseq(N, M)
    wrapped = nn.Sequential(fairseq(N, M), nn.ReLU())
    found = {row.name: row.std for row in torch_init.plan(wrapped, recipe, seed=0).rows}
    assert found == {f"0.{row.name}": row.std for row in torch_init.plan(plain, recipe).rows}


def test_two_depths_beside_a_decoder_are_an_error():
    layers = {f"{stack}__layers__{i}__fc1": nn.Linear(D, F)
              for stack, depth in (("encoder_a", 2), ("encoder_b", 4), ("decoder", 1))
              for i in range(depth)}  # fmt: skip
    with pytest.raises(ValueError, match=r"encoders of \[2, 4\] blocks. Pass encoder_layers="):
        torch_init.plan(tree(**layers), "deepnet", seed=0)
    torch_init.plan(tree(**layers), recipes.deepnet(encoder_layers=6), seed=0)


@pytest.mark.parametrize("recipe", [recipes.deepnet, recipes.t_fixup])
def test_a_part_of_an_encoder_is_told_the_depth(recipe):
    model = tree(**{f"encoder__layers__{layer}__fc1": nn.Linear(D, F) for layer in (4, 5)})
    with pytest.raises(ValueError, match=r"no whole encoder of like blocks\. Pass encoder_layers="):
        torch_init.plan(model, recipe(), seed=0)
    torch_init.plan(model, recipe(encoder_layers=6), seed=0)


def test_deepnet_does_not_guess_at_interleaved_heads():
    model = tree(h__0__self_attention__query_key_value=nn.Linear(D, 3 * D))
    with pytest.raises(ValueError, match="query_key_value"):
        torch_init.plan(model, "deepnet", seed=0)


def test_t_fixup():
    beta = {"encoder": 0.67 * N**-0.25, "decoder": (9 * M) ** -0.25}
    model = fairseq(N, M)
    assert_gains(model, "t-fixup", beta, query_key=math.sqrt(0.5))
    plan = filled_but_padding(model)
    encoder, decoder, head = (
        plan[f"{name}.weight"].pieces[0].expectation.std
        for name in ("encoder.embed_tokens", "decoder.embed_tokens", "output_projection")
    )
    assert encoder == pytest.approx((9 * N) ** -0.25 * D**-0.5)
    assert decoder == pytest.approx((9 * M) ** -0.25 * D**-0.5)
    assert head == pytest.approx(D**-0.5)


def filled_but_padding(model):
    plan = torch_init.plan(model, "t-fixup", seed=0)
    torch_init.init_(model, plan)
    assert model.encoder.embed_tokens.weight[1].abs().max() == 0
    return plan


def test_t_fixup_of_a_shared_embedding_counts_the_encoder():
    model = fairseq(N, M)
    model.decoder.embed_tokens.weight = model.encoder.embed_tokens.weight
    model.output_projection.weight = model.encoder.embed_tokens.weight
    row = torch_init.plan(model, "t-fixup", seed=0)["encoder.embed_tokens.weight"]
    assert row.pieces[0].expectation.std == pytest.approx((9 * N) ** -0.25 * D**-0.5)


def test_t_fixup_is_for_encoders_and_decoders():
    with pytest.raises(ValueError, match="encoder-decoder models"):
        torch_init.plan(tree(h__0__fc1=nn.Linear(D, F)), "t-fixup", seed=0)


@pytest.mark.parametrize("recipe", [recipes.deepnet, recipes.t_fixup])
def test_depths_are_checked(recipe):
    with pytest.raises(ValueError, match="decoder_layers"):
        recipe(decoder_layers=0)
