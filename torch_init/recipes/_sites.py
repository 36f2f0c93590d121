# SPDX-License-Identifier: Apache-2.0
"""What a parameter is in its model, told from the names that architectures give it.

Inside the blocks of a transformer a weight has a role only if its name is known: an unknown one
might be a residual output, whose scale a recipe must not miss, and is left to the coverage error.
docs/recipes.md prints the names.
"""

from torch import nn

from torch_init.errors import describe
from torch_init.model.layout import is_transformers_conv1d
from torch_init.model.sites import Site

# Ends of the names of weights, without ".weight".
QUERIES_AND_KEYS = (
    *("q_proj", "k_proj", "query", "key", "wq", "wk", "w_q", "w_k", "q_attn"),
    *("q_proj_weight", "k_proj_weight", "Attention.q", "Attention.k"),
)
VALUES = ("v_proj", "value", "wv", "w_v", "v_proj_weight", "Attention.v")
PACKED_THIRDS = ("in_proj_weight", "qkv", "c_attn")
"""Query, key and value in three blocks of equal size."""
_OTHER_ATTENTION_INPUTS = (
    *("qkv_proj", "in_proj", "wqkv", "Wqkv", "w_qkv", "query_key_value", "linear_qkv", "w_g"),
    *("q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "kv_b_proj"),
)
FEED_FORWARD_INPUTS = (
    *("c_fc", "fc1", "fc_in", "linear1", "w1", "gate_proj", "dense_h_to_4h", "linear_fc1"),
    *("intermediate.dense", "wi", "wi_0"),
)
UP_PROJECTIONS = ("up_proj", "w3", "wi_1")
"""What a gate multiplies."""
PACKED_GATES = ("gate_up_proj",)
"""A gate and an up projection, in halves."""
_ROUTERS = ("mlp.gate", "block_sparse_moe.gate", "router", "shared_expert_gate")
BLOCK_INPUTS = (
    *(*QUERIES_AND_KEYS, *VALUES, *PACKED_THIRDS, *_OTHER_ATTENTION_INPUTS),
    *(*FEED_FORWARD_INPUTS, *UP_PROJECTIONS, *PACKED_GATES, *_ROUTERS),
)
"""Weights in a block that do not write to the residual stream."""
RESIDUAL_OUTPUTS = (
    *("o_proj", "out_proj", "c_proj", "wo", "w_out", "linear_proj", "attn.proj", "Attention.o"),
    *("attention.dense", "self_attention.dense", "self_attn.dense"),
    "attention.output.dense",
    *("down_proj", "fc2", "fc_out", "linear2", "w2", "dense_4h_to_h", "linear_fc2", "output.dense"),
)
"""The last weight of each residual branch."""
HEADS = (
    *("lm_head", "output", "output_layer", "embed_out", "final_linear", "lm_head.w_out"),
    *("head", "heads.head", "head_dist", "score", "classifier", "cls_classifier"),
    *("distillation_classifier", "output_projection", "predictions.decoder"),
    *("classifier.out_proj", "classification_head.out_proj"),
)
"""What makes logits, outside all blocks."""

NORMS = (
    nn.LayerNorm,
    nn.GroupNorm,
    nn.RMSNorm,
    nn.modules.batchnorm._NormBase,  # BatchNorm, InstanceNorm, SyncBatchNorm
)
# layer_norm_: of Transformer Engine's layers that begin with a norm.
_SCALES = ("weight", "gamma", "scale", "g", "layer_norm_weight")
_SHIFTS = ("bias", "beta", "b", "layer_norm_bias")
# Their scale is 1 + weight. By name, since no attribute tells.
_ZERO_CENTRED_NORMS = (
    *("GemmaRMSNorm", "Gemma2RMSNorm", "Gemma3RMSNorm", "T5GemmaRMSNorm", "T5Gemma2RMSNorm"),
    *("RecurrentGemmaRMSNorm", "VaultGemmaRMSNorm", "NemotronLayerNorm1P", "VideoPrismLayerNorm"),
    *("Qwen3NextRMSNorm", "Qwen3_5RMSNorm", "Qwen3_5MoeRMSNorm", "Qwen4ExpTextRMSNorm"),
    *("MuseGlimmerTextCenteredRMSNorm", "MuseSparkTextCenteredRMSNorm"),
    *("MuseSparkTextInputScaledRMSNorm", "MiniMaxM3VLRMSNorm", "Step3p7RMSNorm"),
)


def ends_with(site: Site, ends: tuple[str, ...]) -> bool:
    """Return whether the parameter's name, without ".weight", ends with one of these.

    An end that starts with a capital ("Attention.o") may lie inside a component, as in
    "SelfAttention.o"; the others are whole components.
    """
    return _path_ends_with(site.name, ends)


def _path_ends_with(name: str, ends: tuple[str, ...]) -> bool:
    path = "." + name.removesuffix(".weight")
    return path.endswith(tuple(end if end[0].isupper() else "." + end for end in ends))


def in_block(site: Site) -> bool:
    """Return whether the parameter lies in a numbered block of its model."""
    return site.layer is not None


def is_matrix(site: Site) -> bool:
    """Return whether this is a weight of a linear map that does not end a residual branch."""
    if len(site.shape) < 2 or is_embedding(site) or is_norm(site):
        return False
    if in_block(site):
        return ends_with(site, BLOCK_INPUTS) and not is_residual_output(site)
    return is_head(site) or is_outside(site)


def is_stacked_experts(site: Site) -> bool:
    """Return whether one parameter holds the matrices of many experts, stacked or one below
    another, so that its shape does not tell their fans."""
    inside = any(part.endswith("experts") for part in site.module_name.split("."))
    return inside and site.leaf not in ("weight", "bias")


def is_outside(site: Site) -> bool:
    """Return whether this is the weight of a linear layer outside the numbered blocks.

    Not if it has a residual output's name: it lies in a block whose number is not found.
    """
    outside = not in_block(site) and site.leaf == "weight" and is_linear(site)
    return outside and not ends_with(site, RESIDUAL_OUTPUTS)


def is_residual_output(site: Site) -> bool:
    """Return whether this is the last weight of a residual branch."""
    return in_block(site) and len(site.shape) >= 2 and ends_with(site, RESIDUAL_OUTPUTS)


def is_linear(site: Site) -> bool:
    """Return whether the owner is a linear layer, transformers' Conv1D included."""
    return isinstance(site.module, nn.Linear) or is_transformers_conv1d(site.module)


def is_head(site: Site) -> bool:
    """Return whether this is the weight that makes logits."""
    return not in_block(site) and site.leaf == "weight" and ends_with(site, HEADS)


def is_tied_head(site: Site) -> bool:
    """Return whether this is the table of an embedding that the head shares."""
    if not is_embedding(site):
        return False
    return any(_path_ends_with(alias, HEADS) for alias in site.aliases)


def is_embedding(site: Site) -> bool:
    """Return whether this is a table of embeddings, of tokens or of positions."""
    if isinstance(site.module, (nn.Embedding, nn.EmbeddingBag)):
        return site.leaf == "weight"
    return is_position(site) or (site.leaf == "weight" and ends_with(site, ("word_embeddings",)))


def is_position(site: Site) -> bool:
    """Return whether this is a table of position embeddings."""
    ends = ("wpe", "pos_emb", "pos_embed", "pos_embedding", "position_embeddings")
    return ends_with(site, (*ends, "position_embedding", "embed_positions"))


def is_norm(site: Site) -> bool:
    """Return whether the parameter belongs to a normalisation layer."""
    if isinstance(site.module, NORMS) or site.leaf.startswith("layer_norm_"):
        return True
    return "Norm" in type(site.module).__name__ and len(site.shape) == 1


def is_norm_scale(site: Site) -> bool:
    """Return whether this multiplies what a normalisation layer puts out."""
    return is_norm(site) and site.leaf in _SCALES


def is_norm_offset(site: Site) -> bool:
    """Return whether this is a normalisation layer's bias, or its scale minus 1."""
    zero_centred = type(site.module).__name__ in _ZERO_CENTRED_NORMS
    return is_norm(site) and (site.leaf in _SHIFTS or (zero_centred and site.leaf in _SCALES))


def is_bias(site: Site) -> bool:
    """Return whether this is the bias of a layer that is not a norm."""
    leaf = site.leaf
    recurrent = leaf.startswith(("bias_ih", "bias_hh"))
    return (leaf in ("bias", "in_proj_bias") or recurrent) and not is_norm(site)


def depth(site: Site, recipe: str, argument: str) -> int:
    """Return how many blocks the stack has that the parameter lies in."""
    if site.num_layers is None:
        got = f"{site.name}, in a stack that is not seen to be whole and of like blocks"
        fix = f"Pass {argument}= to torch_init.recipes.{recipe}"
        expected = "like blocks, all of them, numbered from 0"
        raise ValueError(describe(f"recipes.{recipe}", "model", got, expected, fix))
    return site.num_layers


def index(site: Site) -> int:
    """Return which block of its stack the parameter lies in, from 0."""
    return site.layer or 0


def width(site: Site) -> int:
    """Return the size of the residual stream that a matrix or an embedding reads or writes."""
    if is_embedding(site):
        return site.shape[-1]
    if len(site.shape) != 2 or is_stacked_experts(site):
        got = f"shape {tuple(site.shape)} of {site.name}"
        fix = "Give stacked experts a rule of their own, with their std"
        raise ValueError(describe("recipes", "parameter", got, "a matrix", fix))
    return site.fans.fan_out if is_residual_output(site) else site.fans.fan_in
