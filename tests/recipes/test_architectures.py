# SPDX-License-Identifier: Apache-2.0
"""The real architectures of transformers, small: every parameter is covered, each with the
standard deviation that its recipe's source gives it."""

import math
import re
from pathlib import Path

import pytest
import torch
from recipe_models import filled

import torch_init
from torch_init.recipes._sites import _ZERO_CENTRED_NORMS

transformers = pytest.importorskip("transformers", reason="transformers is not installed")

D, F, V, L = 32, 64, 100, 2
NO_TOKENS = {"bos_token_id": None, "eos_token_id": None}
BERT = {
    "vocab_size": V,
    "hidden_size": D,
    "intermediate_size": F,
    "num_hidden_layers": L,
    "num_attention_heads": 4,
}
LLAMA = {**BERT, **NO_TOKENS, "num_key_value_heads": 2, "pad_token_id": None}
VIT = {name: size for name, size in BERT.items() if name != "vocab_size"}
GPT = {**NO_TOKENS, "vocab_size": V, "n_embd": D, "n_layer": L, "n_head": 4}
BLOOM = {"vocab_size": V, "hidden_size": D, "n_layer": L, "n_head": 4}
OPT = {
    "vocab_size": V,
    "hidden_size": D,
    "ffn_dim": F,
    "word_embed_proj_dim": D,
    "num_hidden_layers": L,
    "num_attention_heads": 4,
}
BART = {
    "vocab_size": V,
    "d_model": D,
    "encoder_layers": 2,
    "decoder_layers": 3,
    "encoder_ffn_dim": F,
    "decoder_ffn_dim": F,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
}
T5 = {"vocab_size": V, "d_model": D, "d_ff": F, "d_kv": 8, "num_layers": L, "num_heads": 4}

DECODERS = ("gpt2", "llama", "olmo", "megatron", "small-init", "neox")
EXPERTS = ("gpt2", "megatron")
ENCODERS = ("gpt2", "megatron", "small-init", "neox", "deepnet")

# Class, what its configuration is given, the recipes that must cover it.
COVERED = {
    "GPT2LMHeadModel": (GPT, (*DECODERS, "deepnet")),
    "GPTBigCodeForCausalLM": (GPT, DECODERS),
    "GPTJForCausalLM": ({**GPT, "rotary_dim": 4}, (*DECODERS, "deepnet")),
    "GPTNeoXForCausalLM": ({**BERT, **NO_TOKENS}, DECODERS),
    "BloomForCausalLM": (BLOOM, DECODERS),
    "FalconForCausalLM": ({**BERT, **NO_TOKENS}, DECODERS),
    "OPTForCausalLM": (OPT, (*DECODERS, "deepnet")),
    "LlamaForCausalLM": (LLAMA, (*DECODERS, "deepnet", "xavier", "he", "lecun")),
    "MistralForCausalLM": (LLAMA, (*DECODERS, "deepnet")),
    "Qwen2ForCausalLM": (LLAMA, (*DECODERS, "deepnet")),
    "Qwen3ForCausalLM": (LLAMA, (*DECODERS, "deepnet")),
    "OlmoForCausalLM": (LLAMA, (*DECODERS, "deepnet")),
    "Olmo2ForCausalLM": (LLAMA, (*DECODERS, "deepnet")),
    "GemmaForCausalLM": (LLAMA, (*DECODERS, "deepnet")),
    "Phi3ForCausalLM": (LLAMA, DECODERS),
    "PhiForCausalLM": (LLAMA, DECODERS),
    "MixtralForCausalLM": ({**LLAMA, "num_local_experts": 4}, EXPERTS),
    "Qwen2MoeForCausalLM": ({**LLAMA, "num_experts": 4, "moe_intermediate_size": 8}, EXPERTS),
    "BertForMaskedLM": (BERT, ENCODERS),
    "BartForConditionalGeneration": (BART, (*DECODERS, "deepnet", "t-fixup")),
    "T5ForConditionalGeneration": (T5, (*DECODERS, "deepnet", "t-fixup")),
    "ViTForImageClassification": (VIT, ("vit-jax",)),
    "ViTModel": (VIT, ("vit-jax",)),
    "ViTForMaskedImageModeling": ({**VIT, "encoder_stride": 16}, ("vit-jax",)),
    "DeiTForImageClassificationWithTeacher": (VIT, ("vit-jax",)),
    "ResNetForImageClassification": (
        {"depths": [1, 2], "hidden_sizes": [8, 16], "embedding_size": 8},
        ("resnet", "fixup", "efficientnet", "torch-default", "he", "xavier", "lecun"),
    ),
    "EfficientNetForImageClassification": (
        {"width_coefficient": 0.1, "depth_coefficient": 0.1},
        ("efficientnet", "torch-default", "he"),
    ),
}


def build(name, device="meta", **changes):
    given, _ = COVERED[name]
    kind = getattr(transformers, name)
    with torch.device(device):
        return kind(kind.config_class(**{**given, **changes}))


@pytest.mark.parametrize(
    ("name", "recipe"), [(name, recipe) for name, (_, all) in COVERED.items() for recipe in all]
)
def test_every_parameter_is_covered(name, recipe):
    model = build(name)
    plan = torch_init.plan(model, recipe, seed=0)
    assert len(plan.rows) == len(list(model.parameters()))
    assert {row.status for row in plan.rows} == {"init"}


def stds(model, recipe):
    """Of all parameters with more than one dimension, and whether the others are 0 and norms 1."""
    rows = torch_init.plan(model, recipe, seed=0).rows
    for row in rows:
        if len(row.shape) == 1 and row.std == 0:
            kind = type(row.site.module).__name__
            is_scale = "Norm" in kind and row.name.endswith("weight")
            assert row.mean == float(is_scale and "Gemma" not in kind), row.name
    return {row.name: row.std for row in rows if len(row.shape) > 1}


def block_of(name):
    return int(next((part for part in name.split(".") if part.isdecimal()), -1))


def test_gpt2():
    found = stds(build("GPT2LMHeadModel", add_cross_attention=True), "gpt2")
    for name, std in found.items():
        expected = 0.02 / math.sqrt(2 * L) if "c_proj" in name else 0.02
        assert std == pytest.approx(expected), name
    assert sum("c_proj" in name for name in found) == 3 * L


def test_gpt2_is_what_transformers_draws():
    config = transformers.GPT2Config(**{**GPT, "n_embd": 96, "n_layer": 3})
    torch.manual_seed(0)
    theirs = dict(transformers.GPT2LMHeadModel(config).named_parameters())
    model = transformers.GPT2LMHeadModel(config)
    plan = torch_init.plan(model, "gpt2", seed=0)
    torch_init.init_(model, plan)
    for name, mine in model.named_parameters():
        theirs_std, mine_std = theirs[name].std().item(), mine.std().item()
        assert mine_std == pytest.approx(theirs_std, rel=0.06, abs=1e-9), name


@pytest.mark.parametrize("name", ["LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM"])
def test_llama(name):
    head = 0.9865784925 * D**-0.5
    for weight, std in stds(build(name), "llama").items():
        depth_scaled = any(part in weight for part in ("o_proj", "up_proj", "down_proj"))
        if "embed_tokens" in weight or "lm_head" in weight:
            expected = 1.0 if "embed_tokens" in weight else head
        else:
            expected = 0.02 / math.sqrt(2 * (block_of(weight) + 1)) if depth_scaled else 0.02
        assert std == pytest.approx(expected, rel=1e-6), weight


def test_llama_with_a_tied_head():
    model = build("LlamaForCausalLM", tie_word_embeddings=True)
    found = stds(model, "llama")
    assert found["model.embed_tokens.weight"] == pytest.approx(0.9865784925 * D**-0.5, rel=1e-6)
    assert "lm_head.weight" not in found


def test_vit():
    plan = torch_init.plan(build("ViTForImageClassification"), "vit-jax", seed=0)
    for row in plan.rows:
        name = row.name
        if "classifier" in name or "cls_token" in name:
            assert (row.mean, row.std) == (0, 0), name
        elif "position" in name:
            assert row.std == pytest.approx(0.02)
        elif "patch" in name and len(row.shape) == 4:
            assert row.std == pytest.approx((3 * 16 * 16) ** -0.5, rel=1e-6)
        elif "mlp" in name and name.endswith("bias"):
            assert row.std == pytest.approx(1e-6)
        elif len(row.shape) == 2:
            assert row.high == pytest.approx(math.sqrt(6 / sum(row.shape))), name
    filled(build("ViTForImageClassification", "cpu"), ["vit-jax"])


def test_gemma_norms_start_as_the_identity():
    plan = torch_init.plan(build("GemmaForCausalLM"), "gpt2", seed=0)
    norms = [row for row in plan.rows if "norm" in row.name]
    assert norms and all((row.mean, row.std) == (0, 0) for row in norms)


def test_zero_centred_norms_are_all_known():
    """Those whose source adds 1 to their weight, in the transformers that is installed."""
    sources = Path(transformers.__file__).parent.glob("models/*/modeling_*.py")
    found = {
        kind.group(1)
        for text in (path.read_text() for path in sources)
        for kind in re.finditer(r"^class (\w+)\(.*?(?=^class |\Z)", text, re.DOTALL | re.MULTILINE)
        if re.search(r"\(1(\.0)? \+ self\.weight|self\.weight \+ 1", kind.group())
    }
    assert "GemmaRMSNorm" in found
    assert found <= set(_ZERO_CENTRED_NORMS)


def test_norms_start_as_transformers_starts_them():
    config = transformers.Qwen3NextConfig(
        vocab_size=V, hidden_size=D, intermediate_size=F, num_hidden_layers=L,
        num_attention_heads=4, num_key_value_heads=2,
    )  # fmt: skip
    model = transformers.Qwen3NextForCausalLM(config)
    plan = torch_init.plan(model, "gpt2", seed=0, strict=False)
    norms = [row for row in plan.rows if "Norm" in type(row.site.module).__name__]
    assert {row.mean for row in norms} == {0, 1}
    for row in norms:
        assert torch.all(model.get_parameter(row.name) == row.mean), row.name


def test_the_last_norm_of_each_branch_of_resnet_is_zero():
    plan = torch_init.plan(build("ResNetForImageClassification"), "resnet", seed=0)
    zeros = [row.name for row in plan.rows if row.name.endswith("normalization.weight")
             and row.mean == 0]  # fmt: skip
    assert len(zeros) == 3
    assert all(".layer.2." in name for name in zeros)


def test_embedding_is_shared_in_bart():
    plan = torch_init.plan(build("BartForConditionalGeneration"), "t-fixup", seed=0)
    row = plan["model.shared.weight"]
    assert row.pieces[0].expectation.std == pytest.approx((9 * 2) ** -0.25 * D**-0.5)
    assert plan["model.decoder.layers.0.fc1.weight"].std == pytest.approx(
        (9 * 3) ** -0.25 * math.sqrt(2 / (D + F))
    )


def test_names_that_are_not_known_are_listed():
    model = transformers.MambaForCausalLM(
        transformers.MambaConfig(vocab_size=V, hidden_size=D, num_hidden_layers=L)
    )
    with pytest.raises(ValueError, match=r"(?s)A_log.*dt_proj"):
        torch_init.plan(model, "gpt2", seed=0)
