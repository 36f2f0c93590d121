# SPDX-License-Identifier: Apache-2.0
"""Language models: a fixed standard deviation, and less of it where a residual branch ends.

The names they know are those of _sites.py. Inside a block, a weight with an unknown name is not
covered; outside, any Linear is a plain weight.
"""

import math
from collections.abc import Callable
from typing import Any

from torch import nn

from torch_init import init
from torch_init.errors import check_choice, check_not_negative, check_positive_int
from torch_init.model.rules import Recipe, Rule, rule
from torch_init.model.sites import Site
from torch_init.recipes import _sites
from torch_init.recipes._parts import NORMS_AND_BIASES
from torch_init.recipes.torch_default import uniform_by_fan_in

Std = float | Callable[[Site], float]

_CUT_AT_THREE: dict[str, Any] = {"a": -3.0, "b": 3.0, "bounds": "sigma"}


def gpt2(
    std: float = 0.02, position_std: float | None = None, num_layers: int | None = None
) -> Recipe:
    r"""gpt2: N(0, std²); residual outputs N(0, std² / 2L) for L blocks; biases 0, norms 1.

    Residual outputs are the last weights of attention and of the feed-forward network, of which
    a block has two: the paper's "factor of 1/√N where N is the number of residual layers".

    Args:
        std: of embeddings, the head and every other matrix.
        position_std: of position embeddings; std if None, as in transformers and nanoGPT. The
            code released with the paper has 0.01, and no scaling of residual outputs.
        num_layers: L. None: counted in the model. Give it if the model holds only some of the
            blocks, as a stage of a pipeline does.

    Source: Radford et al. 2019, "Language models are unsupervised multitask learners", sec. 2.3;
    openai/gpt-2 src/model.py; transformers GPT2PreTrainedModel._init_weights.

    Example:
        >>> block = torch.nn.ModuleDict({"c_fc": torch.nn.Linear(8, 32),
        ...                              "c_proj": torch.nn.Linear(32, 8)})
        >>> model = torch.nn.ModuleDict({"h": torch.nn.ModuleList([block])})
        >>> plan = torch_init.plan(model, "gpt2", seed=0)
        >>> [round(row.std, 4) for row in plan.rows if row.name.endswith("weight")]
        [0.02, 0.0141]
    """
    std = check_not_negative("recipes.gpt2", "std", std)
    if position_std is None:
        position_std = std
    position_std = check_not_negative("recipes.gpt2", "position_std", position_std)
    depth = _Depth("gpt2", num_layers)
    rules = (
        *_matrices(std, depth.over_root(std)),
        rule("*", init.normal_, where=_sites.is_position, std=position_std),
        *NORMS_AND_BIASES,
    )
    return Recipe("gpt2", 1, "Radford et al. 2019, sec. 2.3; openai/gpt-2 src/model.py", rules)


def llama(std: float = 0.02) -> Recipe:
    r"""llama: torchtitan's Llama 3. N(0, std²), and std / √(2(l + 1)) in block l = 0, 1 ... for
    the attention output, the up and the down projection; embeddings N(0, 1); head N(0, 1/d) cut
    at ±3 standard deviations; norms 1.

    A head tied to the embedding decides for both, as in torchtitan: N(0, 1) embeddings would make
    logits of size √d. torchtitan calls trunc_normal_(std=0.02) with torch's absolute bounds ±2,
    100 standard deviations, which cut nothing: N(0, std²) is that distribution. Packed gate and up
    projections (``gate_up_proj``) are one after the other, in halves.

    Args:
        std: of query, key, value and gate.

    Source: pytorch/torchtitan torchtitan/models/llama3/__init__.py (_LINEAR_INIT, _depth_init,
    _output_linear_init), models/common/param_init.py (depth_scaled_std).

    Example:
        >>> block = torch.nn.ModuleDict({"gate_proj": torch.nn.Linear(8, 32, bias=False),
        ...                              "up_proj": torch.nn.Linear(8, 32, bias=False)})
        >>> model = torch.nn.ModuleDict({"layers": torch.nn.ModuleList([block])})
        >>> [round(row.std, 4) for row in torch_init.plan(model, "llama", seed=0).rows]
        [0.02, 0.0141]
    """
    std = check_not_negative("recipes.llama", "std", std)
    by_index = _over_index(std)
    halves = _by_half(std, by_index)
    rules = (
        rule("*", init.normal_, where=_is_inner, std=std),
        rule("*", init.normal_, where=_is_up_projection, std=by_index),
        rule("*", init.normal_, where=_is_packed_gate, split=2, std=halves),
        rule("*", init.normal_, where=_is_output, std=by_index),
        rule("*", init.normal_, where=_sites.is_embedding),
        rule("*", init.trunc_normal_, where=_is_any_head, std=_width_root, **_CUT_AT_THREE),
        *NORMS_AND_BIASES,
    )
    return Recipe("llama", 1, "pytorch/torchtitan torchtitan/models/llama3/__init__.py", rules)


def olmo(method: str = "normal", std: float = 0.02, num_layers: int | None = None) -> Recipe:
    r"""olmo: OLMo-core's InitMethod. Normal distributions cut at ±3 standard deviations.

    ============== ============================ ===================== ============= ===============
    method         query, key, value, gate (w1) up (w3)               outputs       embedding, head
    ============== ============================ ===================== ============= ===============
    "normal"       std                          std                   std           std, std
    "llama"        std                          std / √(2L)           std / √(2L)   1, 1/√d
    "llama_depth"  std                          std / √(2(l+1))       likewise      1, 1/√d
    "normalized"   1/√d                         1/√d                  1/√(2Ld)      1/√d, 1/√d
    "fan_in"       1/√fan_in                    1/√fan_in             1/√fan_in     1, 1/√d
    ============== ============================ ===================== ============= ===============

    d is the width, L the number of blocks, l = 0, 1 ... the index of the block. OLMo-core's
    mixture of experts (feed_forward_moe) has the router, w1, w2 and w3 alike: std of the column up,
    but with "normalized" std, and with "fan_in" 1/√fan_in of one expert; its shared_mlp stays as
    torch makes it. Other experts in one parameter are not covered. Embeddings are cut
    with "normal" only. Biases are 0, norms 1. A tied head decides for both. "normalized" is
    nGPT's start: the model must normalise its weights after every step, the first included.

    Args:
        method: as above. OLMo-core's default, and OLMo 2's, is "normal".
        std: as above.
        num_layers: L. None: counted in the model. Give it if the model holds only some of the
            blocks, as a stage of a pipeline does.

    Source: allenai/OLMo-core src/olmo_core/nn/transformer/init.py (InitMethod),
    nn/attention/__init__.py (Attention.init_weights).

    Example:
        >>> block = torch.nn.ModuleDict({"w_q": torch.nn.Linear(8, 8, bias=False)})
        >>> model = torch.nn.ModuleDict({"blocks": torch.nn.ModuleDict({"0": block})})
        >>> round(torch_init.plan(model, "olmo", seed=0).rows[0].high, 9)  # 3 std
        0.06
    """
    methods = ("normal", "llama", "llama_depth", "normalized", "fan_in")
    check_choice("recipes.olmo", "method", method, methods)
    std = check_not_negative("recipes.olmo", "std", std)
    depth = _Depth("olmo", num_layers)
    inner: Std = std
    up: Std = std
    output: Std = std
    head: Std = _width_root
    if method == "normal":
        head = std
    elif method == "normalized":
        inner = up = _width_root
        output = depth.over_root(_width_root)
    elif method == "fan_in":
        inner = up = output = _fan_in_root
    else:
        up = output = depth.over_root(std) if method == "llama" else _over_index(std)
    embedding = _width_root if method == "normalized" else 1.0
    experts = {"normalized": std, "fan_in": _fan_in_root_of_moe}.get(method, up)
    halves = _by_half(inner, up)
    cut = init.trunc_normal_
    rules: tuple[Rule, ...] = (
        rule("*", cut, where=_is_inner, std=inner, **_CUT_AT_THREE),
        rule("*", cut, where=_is_up_projection, std=up, **_CUT_AT_THREE),
        rule("*", cut, where=_is_packed_gate, split=2, std=halves, **_CUT_AT_THREE),
        rule("*", cut, where=_is_output, std=output, **_CUT_AT_THREE),
        rule("*", cut, where=_is_moe_of_olmo, std=experts, **_CUT_AT_THREE),
        rule("*", init.normal_, where=_sites.is_embedding, std=embedding),
        rule("*", cut, where=_is_any_head, std=head, **_CUT_AT_THREE),
        *NORMS_AND_BIASES,
        uniform_by_fan_in(nn.Linear, "*.feed_forward_moe.shared_mlp.*"),
    )
    if method == "normal":
        rules += (rule("*", cut, where=_sites.is_embedding, std=std, **_CUT_AT_THREE),)
    return Recipe("olmo", 1, "allenai/OLMo-core src/olmo_core/nn/transformer/init.py", rules)


def megatron(
    std: float = 0.02, embedding_std: float | None = None, num_layers: int | None = None
) -> Recipe:
    r"""megatron: N(0, std²); residual outputs N(0, std² / 2L) for L blocks; biases 0, norms 1.

    Args:
        std: init_method_std: of every matrix and, with the next, of the embeddings.
        embedding_std: embedding_init_method_std; std if None. Megatron-LM suggests about 1 to keep
            the embeddings from growing. A tied head takes it too.
        num_layers: L. None: counted in the model. Give it if the model holds only some of the
            blocks, as a stage of a pipeline does.

    Source: NVIDIA/Megatron-LM megatron/core/utils.py (init_method_normal,
    scaled_init_method_normal), core/transformer/transformer_config.py.

    Example:
        >>> block = torch.nn.ModuleDict({"linear_fc1": torch.nn.Linear(8, 32),
        ...                              "linear_fc2": torch.nn.Linear(32, 8)})
        >>> model = torch.nn.ModuleDict({"layers": torch.nn.ModuleList([block])})
        >>> plan = torch_init.plan(model, "megatron", seed=0)
        >>> [round(row.std, 4) for row in plan.rows if row.name.endswith("weight")]
        [0.02, 0.0141]
    """
    std = check_not_negative("recipes.megatron", "std", std)
    if embedding_std is None:
        embedding_std = std
    embedding_std = check_not_negative("recipes.megatron", "embedding_std", embedding_std)
    depth = _Depth("megatron", num_layers)
    rules = (
        *_matrices(std, depth.over_root(std)),
        rule("*", init.normal_, where=_sites.is_embedding, std=embedding_std),
        *NORMS_AND_BIASES,
    )
    source = "NVIDIA/Megatron-LM megatron/core/utils.py, core/transformer/transformer_config.py"
    return Recipe("megatron", 1, source, rules)


def small_init() -> Recipe:
    r"""small-init: N(0, 2 / 5d) for every matrix and embedding, d the model's width; biases 0.

    It is Xavier for a d-to-4d feed-forward layer, used for the smaller matrices too.

    Source: Nguyen & Salazar 2019, "Transformers without tears", sec. 2.2 (SmallInit);
    EleutherAI/gpt-neox megatron/model/init_functions.py (small_init_init_method).

    Example:
        >>> model = torch.nn.ModuleDict({"lm_head": torch.nn.Linear(40, 8)})
        >>> round(torch_init.plan(model, "small-init", seed=0).rows[0].std, 9)
        0.1
    """
    rules = (*_matrices(_small, _small), *NORMS_AND_BIASES)
    return Recipe("small-init", 1, "Nguyen & Salazar 2019, sec. 2.2", rules)


def neox(num_layers: int | None = None) -> Recipe:
    r"""neox: small-init, and residual outputs N(0, 4 / (L² d)) for L blocks (Wang's): GPT-NeoX-20B.

    Args:
        num_layers: L. None: counted in the model. Give it if the model holds only some of the
            blocks, as a stage of a pipeline does.

    Source: EleutherAI/gpt-neox megatron/model/init_functions.py (small_init_init_method,
    wang_init_method), configs/20B.yml; Black et al. 2022, "GPT-NeoX-20B", sec. 2.1;
    kingoflolz/mesh-transformer-jax.

    Example:
        >>> block = torch.nn.ModuleDict({"dense_4h_to_h": torch.nn.Linear(400, 100)})
        >>> model = torch.nn.ModuleDict({"layers": torch.nn.ModuleList([block, block])})
        >>> round(torch_init.plan(model, "neox", seed=0).rows[0].std, 9)
        0.1
    """
    depth = _Depth("neox", num_layers)

    def wang(site: Site) -> float:
        return 2 / (depth.of(site) * math.sqrt(_sites.width(site)))

    rules = (*_matrices(_small, wang), *NORMS_AND_BIASES)
    source = "EleutherAI/gpt-neox megatron/model/init_functions.py, configs/20B.yml"
    return Recipe("neox", 1, source, rules)


class _Depth:
    """How many blocks the stack has that a parameter lies in: as given, or as the model tells."""

    def __init__(self, function: str, num_layers: int | None) -> None:
        if num_layers is not None:
            check_positive_int(f"recipes.{function}", "num_layers", num_layers)
        self._function = function
        self._given = num_layers

    def of(self, site: Site) -> int:
        return self._given or _sites.depth(site, self._function, "num_layers")

    def over_root(self, std: Std) -> Callable[[Site], float]:
        """Return the rule's std for residual outputs: divided by the root of their number."""
        return lambda site: _value(std, site) / math.sqrt(2 * self.of(site))


def _value(std: Std, site: Site) -> float:
    return std(site) if callable(std) else std


def _matrices(std: Std, residual_std: Std) -> tuple[Rule, ...]:
    return (
        rule("*", init.normal_, where=_sites.is_matrix, std=std),
        rule("*", init.normal_, where=_sites.is_embedding, std=std),
        rule("*", init.normal_, where=_sites.is_residual_output, std=residual_std),
    )


def _over_index(std: float) -> Callable[[Site], float]:
    return lambda site: std / math.sqrt(2 * (_sites.index(site) + 1))


def _by_half(gate: Std, up: Std) -> Callable[[Site], float]:
    """Return the std of either block of a packed gate and up projection."""

    return lambda site: _value(gate if site.block == 0 else up, site)


def _width_root(site: Site) -> float:
    return 1 / math.sqrt(_sites.width(site))


def _fan_in_root(site: Site) -> float:
    return 1 / math.sqrt(site.fans.fan_in)


def _fan_in_root_of_moe(site: Site) -> float:
    module: Any = site.module
    return float((module.hidden_size if site.leaf == "w2" else module.d_model) ** -0.5)


def _small(site: Site) -> float:
    return math.sqrt(2 / (5 * _sites.width(site)))


def _is_inner(site: Site) -> bool:
    # linear_fc1 of Megatron may or may not be a packed gate and up projection.
    packed = (*_sites.PACKED_GATES, "linear_fc1")
    inner = _sites.in_block(site) and _sites.is_matrix(site) and _is_one_matrix(site)
    return inner and not _sites.ends_with(site, packed)


def _is_up_projection(site: Site) -> bool:
    return _is_inner(site) and _sites.ends_with(site, _sites.UP_PROJECTIONS)


def _is_packed_gate(site: Site) -> bool:
    packed = _sites.ends_with(site, _sites.PACKED_GATES)
    return packed and _sites.in_block(site) and _is_one_matrix(site)


def _is_output(site: Site) -> bool:
    return _sites.is_residual_output(site) and not _sites.is_stacked_experts(site)


def _is_one_matrix(site: Site) -> bool:
    return len(site.shape) == 2 and not _sites.is_stacked_experts(site)


def _is_moe_of_olmo(site: Site) -> bool:
    """Return whether this is OLMo-core's router, of 1 dimension, or its experts', of 2."""
    ends = ("router", *(f"experts.mlp.{leaf}" for leaf in ("w1", "w2", "w3")))
    known = _sites.ends_with(site, tuple(f"feed_forward_moe.{end}" for end in ends))
    return known and hasattr(site.module, "d_model")


def _is_any_head(site: Site) -> bool:
    return _sites.is_head(site) or _sites.is_tied_head(site)
