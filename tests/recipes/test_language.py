# SPDX-License-Identifier: Apache-2.0
"""gpt2, llama, olmo, megatron, small-init and neox: every weight of models under the sources' own
names, against the sources' formulas."""

import math

import pytest
import recipe_models as models
import torch
from recipe_models import (
    HEAD,
    INNER,
    LAYERS,
    VOCABULARY,
    WIDTH,
    expect,
    filled,
    language_model,
    stds,
    tree,
)
from torch import nn

import torch_init
from torch_init import recipes


@pytest.mark.parametrize("std", [0.02, 0.1])
def test_gpt2(std):
    residual = std / math.sqrt(2 * LAYERS)
    expected = {
        "wte": std, "wpe": std, "c_attn": std, "c_fc": std,
        "attn.c_proj": residual, "mlp.c_proj": residual,
    }  # fmt: skip
    model = models.nano_gpt()
    expect(stds(model, recipes.gpt2(std=std)), expected)
    filled(model, recipes.gpt2(std=std))


def test_gpt2_as_released():
    found = stds(models.nano_gpt(), recipes.gpt2(position_std=0.01))
    assert (found["transformer.wpe.weight"], found["transformer.wte.weight"]) == (0.01, 0.02)


def test_gpt2_of_position_parameters():
    model = tree(pos_emb=nn.Parameter(torch.empty(1, 8, WIDTH)))
    assert stds(model, "gpt2") == {"pos_emb": 0.02}


@pytest.mark.parametrize("recipe", [recipes.gpt2, recipes.megatron])
def test_a_part_of_a_model_is_told_the_depth(recipe):
    found = stds(models.nano_gpt(), recipe(num_layers=50))
    assert found["transformer.h.0.attn.c_proj.weight"] == pytest.approx(0.02 / 10)


def stage_of_a_pipeline():
    """torchtitan keeps the numbers of the blocks that a stage holds: here 2, 3 and 4."""
    model = models.torchtitan()
    layers = dict(model.layers.named_children())
    model.layers = nn.ModuleDict({str(int(i) + 2): block for i, block in layers.items()})
    return model


@pytest.mark.parametrize("recipe", [recipes.gpt2, recipes.megatron, recipes.neox])
def test_a_part_that_shows_is_an_error(recipe):
    for model, options in (
        (stage_of_a_pipeline(), {}),
        (models.torchtitan(), {"rename": lambda name: f"stage.{name}"}),
    ):
        with pytest.raises(ValueError, match=r"Pass num_layers= to torch_init\.recipes"):
            torch_init.plan(model, recipe(), seed=0, **options)
        torch_init.plan(model, recipe(num_layers=9), seed=0, **options)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.c_fc = nn.Linear(WIDTH, INNER, bias=False)
        self.c_proj = nn.Linear(INNER, WIDTH, bias=False)


class Model(nn.Module):
    def __init__(self, blocks=12):
        super().__init__()
        self.wte = nn.Embedding(VOCABULARY, WIDTH)
        self.h = nn.ModuleList([Block() for _ in range(blocks)])


def numbered_parts(blocks=12):
    stack = [Block() for _ in range(blocks)]
    head = nn.Linear(WIDTH, VOCABULARY, bias=False)
    return nn.Sequential(nn.Embedding(VOCABULARY, WIDTH), *stack, nn.LayerNorm(WIDTH), head)


NUMBERED = {
    "plain": (Model, "h.{}"),
    "in a Sequential": (lambda: nn.Sequential(Model()), "0.h.{}"),
    "before a head": (lambda: nn.Sequential(Model(), nn.Linear(WIDTH, 3)), "0.h.{}"),
    "between layers": (lambda: nn.Sequential(nn.Linear(4, 4), Model(), nn.Linear(4, 4)), "1.h.{}"),
    "twice": (lambda: nn.ModuleList([Model(), Model()]), "1.h.{}"),
    "compiled": (lambda: nn.Sequential(torch.compile(Model()), nn.Linear(4, 4)), "0.h.{}"),
    "one Sequential": (numbered_parts, "{}"),
}


@pytest.mark.parametrize("name", NUMBERED)
def test_numbers_around_a_model_change_nothing(name):
    build, block = NUMBERED[name]
    model = build()
    first = 1 if name == "one Sequential" else 0
    outputs = [f"{block.format(first + i)}.c_proj.weight" for i in range(12)]
    gpt2, neox = stds(model, "gpt2"), stds(model, "neox")
    # llama does not know the names of other Linear layers.
    llama = stds(model, ["llama", torch_init.rule("*", torch_init.ones_, where=outside_blocks)])
    deepnet = stds(model, recipes.deepnet())
    for layer, output in enumerate(outputs):
        assert gpt2[output] == pytest.approx(0.02 / math.sqrt(24)), output
        assert neox[output] == pytest.approx(2 / 12 / math.sqrt(WIDTH)), output
        assert llama[output] == pytest.approx(0.02 / math.sqrt(2 * (layer + 1))), output
        beta = (8 * 12) ** -0.25 * math.sqrt(2 / (WIDTH + INNER))
        assert deepnet[output] == pytest.approx(beta), output


def outside_blocks(site):
    return site.layer is None and isinstance(site.module, nn.Linear)


def hybrid():
    blocks = [type("Other", (Block,), {})() if i == 2 else Block() for i in range(5)]
    return nn.ModuleDict({"layers": nn.ModuleList(blocks)})


@pytest.mark.parametrize("recipe", [recipes.gpt2, recipes.megatron, recipes.neox])
def test_unlike_blocks_are_not_counted(recipe):
    rest = torch_init.rule("layers.2.*", torch_init.zeros_)
    with pytest.raises(ValueError, match=r"like blocks.*Pass num_layers= to torch_init\.recipes"):
        torch_init.plan(hybrid(), [recipe(), rest], seed=0)
    torch_init.plan(hybrid(), [recipe(num_layers=5), rest], seed=0)


def test_llama_follows_the_number_in_the_name():
    expected = 0.02 / math.sqrt(2 * 5)
    found = stds(stage_of_a_pipeline(), "llama")
    assert found["layers.4.attention.wo.weight"] == pytest.approx(expected)
    block = models.torchtitan().layers.get_submodule("0")
    plan = torch_init.plan(block, "llama", seed=0, rename=lambda name: f"layers.4.{name}")
    assert plan["layers.4.attention.wo.weight"].std == pytest.approx(expected)


@pytest.mark.parametrize("recipe", ["gpt2", "llama", "olmo", "megatron", "neox", "deepnet"])
def test_an_unknown_weight_in_a_block_is_an_error(recipe):
    model = language_model(
        {"attn__c_attn": (WIDTH, 3 * WIDTH), "attn__onwards": (WIDTH, WIDTH)}, {},
        "h", "wte", "lm_head",
    )  # fmt: skip
    with pytest.raises(ValueError, match=r"h\.\[0-2\]\.attn\.onwards\.weight"):
        torch_init.plan(model, recipe, seed=0)


@pytest.mark.parametrize("recipe", ["gpt2", "megatron", "small-init", "neox", "deepnet"])
def test_a_residual_output_in_a_block_without_a_number_is_an_error(recipe):
    model = tree(block3__c_fc=nn.Linear(WIDTH, INNER), block3__c_proj=nn.Linear(INNER, WIDTH))
    with pytest.raises(ValueError, match=r"block3\.c_proj\.weight"):
        torch_init.plan(model, recipe, seed=0)


def test_wrappers_change_nothing():
    for wrap in (torch.compile, nn.DataParallel):
        assert stds(wrap(models.torchtitan()), "llama") == stds(models.torchtitan(), "llama")


def test_llama():
    def by_depth(layer):
        return 0.02 / math.sqrt(2 * (layer + 1))

    expected = {
        "tok_embeddings": 1.0, "lm_head": HEAD,
        "wq": 0.02, "wk": 0.02, "wv": 0.02, "wo": by_depth,
        "w1": 0.02, "w2": by_depth, "w3": by_depth,
    }  # fmt: skip
    model = models.torchtitan()
    expect(stds(model, "llama"), expected)
    plan = filled(model, "llama")
    assert plan["lm_head.weight"].high == pytest.approx(3 * WIDTH**-0.5)


def test_llama_of_packed_gate_and_up():
    model = tree(layers__1__mlp__gate_up_proj=nn.Linear(WIDTH, 2 * INNER, bias=False))
    torch_init.init_(model, "llama", seed=0)
    gate, up = model.get_parameter("layers.1.mlp.gate_up_proj.weight").detach().chunk(2)
    assert gate.std().item() == pytest.approx(0.02, rel=0.1)
    assert up.std().item() == pytest.approx(0.01, rel=0.1)


def test_llama_head_decides_for_a_tied_embedding():
    model = models.torchtitan()
    model.tok_embeddings.weight = model.lm_head.weight
    row = torch_init.plan(model, "llama", seed=0)["tok_embeddings.weight"]
    assert row.std == pytest.approx(HEAD, rel=1e-6)
    assert row.high == pytest.approx(3 * WIDTH**-0.5)


def test_llama_does_not_know_experts():
    model = tree(layers__0__mlp__experts__gate_up_proj=nn.Parameter(torch.empty(2, 8, 4)))
    with pytest.raises(ValueError, match="gate_up_proj"):
        torch_init.plan(model, "llama", seed=0)


def test_megatron():
    residual = 0.02 / math.sqrt(2 * LAYERS)
    expected = {
        "word_embeddings": 0.02, "position_embeddings": 0.02, "output_layer": 0.02,
        "linear_qkv": 0.02, "linear_fc1": 0.02, "linear_proj": residual, "linear_fc2": residual,
    }  # fmt: skip
    model = models.megatron_core()
    expect(stds(model, "megatron"), expected)
    filled(model, "megatron")
    wide = recipes.megatron(embedding_std=1.0)
    expect(stds(model, wide), {**expected, "word_embeddings": 1.0, "position_embeddings": 1.0})


def test_small_init_and_neox():
    model = models.torchtitan()
    small = math.sqrt(2 / (5 * WIDTH))
    expected = dict.fromkeys(
        ["tok_embeddings", "lm_head", "wq", "wk", "wv", "wo", "w1", "w2", "w3"], small
    )
    expect(stds(model, "small-init"), expected)
    wang = small / (LAYERS / math.sqrt(10))  # as llm-foundry writes 2 / (L sqrt(d))
    expect(stds(model, "neox"), {**expected, "wo": wang, "w2": wang})
    filled(model, "neox")
    assert stds(model, recipes.neox(num_layers=44))["layers.0.attention.wo.weight"] == (
        pytest.approx(2 / 44 / math.sqrt(WIDTH))
    )


def test_small_init_refuses_stacked_experts():
    model = tree(layers__0__mlp__experts__down_proj=nn.Parameter(torch.empty(2, 4, 8)))
    with pytest.raises(ValueError, match="stacked experts"):
        torch_init.plan(model, "small-init", seed=0)
    own = torch_init.rule("*.down_proj", torch_init.normal_, std=0.1)
    assert stds(model, ["small-init", own]) == {"layers.0.mlp.experts.down_proj": 0.1}


def test_biases_are_zero_and_norms_one():
    for recipe in ("gpt2", "llama", "olmo", "megatron", "small-init", "neox"):
        for row in torch_init.plan(models.torchtitan(), recipe, seed=0).rows:
            if len(row.shape) == 1:
                is_norm = "norm" in row.name and row.name.endswith("weight")
                assert (row.mean, row.std) == (float(is_norm), 0), (recipe, row.name)


def test_norms_of_transformer_engine_are_known():
    fused = {f"layer_norm_{leaf}": nn.Parameter(torch.empty(4)) for leaf in ("weight", "bias")}
    model = tree(**{f"layers__0__mlp__linear_fc1__{leaf}": p for leaf, p in fused.items()})
    assert [row.mean for row in torch_init.plan(model, "megatron", seed=0).rows] == [1, 0]


@pytest.mark.parametrize(
    ("recipe", "argument"),
    [
        (lambda: recipes.gpt2(std=-1), "std"),
        (lambda: recipes.gpt2(num_layers=0), "num_layers"),
        (lambda: recipes.olmo("mup"), "method"),
        (lambda: recipes.megatron(embedding_std="1"), "embedding_std"),
    ],
)
def test_arguments_are_checked(recipe, argument):
    with pytest.raises((TypeError, ValueError), match=rf"recipes\.\w+: {argument}"):
        recipe()
