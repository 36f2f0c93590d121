# SPDX-License-Identifier: Apache-2.0
"""Very deep transformers: weights that shrink with depth, for encoders, decoders and both.

A block lies in the encoder if the name of its stack says "encoder", in the decoder if it says
"decoder".
"""

import math
from collections.abc import Callable

from torch_init import init
from torch_init.errors import check_positive_int, describe
from torch_init.model.layout import is_transformers_conv1d
from torch_init.model.rules import Recipe, Rule, rule
from torch_init.model.sites import Site
from torch_init.recipes import _sites
from torch_init.recipes._parts import NORMS_AND_BIASES

Gain = Callable[[Site], float]


def deepnet(encoder_layers: int | None = None, decoder_layers: int | None = None) -> Recipe:
    r"""deepnet: Xavier normal, with gain β for value, output and feed-forward weights.

    =================== ========================= ========================= =======================
    model               β                         α                         blocks
    =================== ========================= ========================= =======================
    encoder only        (8N)^(-1/4)               (2N)^(1/4)                N
    decoder only        (8M)^(-1/4)               (2M)^(1/4)                M
    encoder and decoder 0.87 (N⁴M)^(-1/16),       0.81 (N⁴M)^(1/16),        N in the encoder,
                        (12M)^(-1/4)              (3M)^(1/4)                M in the decoder
    =================== ========================= ========================= =======================

    Query and key have gain 1; packed ones (in_proj_weight, timm's qkv, GPT-2's c_attn) are cut in
    three. Embeddings and head are N(0, 1/d), as in the authors' torchscale; biases 0, norms 1.

    The method also needs DeepNorm, which no initialisation gives: every residual connection must
    compute LayerNorm(α x + f(x)) with the α above.

    Args:
        encoder_layers, decoder_layers: N and M. None: counted in the model. Give them if the model
            holds only a part of the blocks, or several encoders of unlike depth.

    Source: Wang et al. 2022, "DeepNet: Scaling transformers to 1,000 layers", fig. 2;
    microsoft/torchscale torchscale/architecture/{encoder,decoder}.py.

    Example:
        >>> layer = torch.nn.TransformerEncoderLayer(8, 2, 32, batch_first=True)
        >>> model = torch.nn.TransformerEncoder(layer, 2)
        >>> plan = torch_init.plan(model, "deepnet", seed=0)
        >>> round(plan["layers.0.linear1.weight"].std, 6)  # (8 * 2)**(-1/4) * sqrt(2 / (8 + 32))
        0.111803
    """
    depths = _Depths("deepnet", encoder_layers, decoder_layers)

    def beta(site: Site) -> float:
        n, m = depths.of(site)
        if n and m:
            in_decoder = _side(site) == "decoder"
            return (12 * m) ** -0.25 if in_decoder else 0.87 * (n**4 * m) ** -0.0625
        return (8 * (n or m)) ** -0.25

    rules = _xavier_rules(init.xavier_normal_, query_key=1.0, value=beta, others=beta)
    return Recipe("deepnet", 1, "Wang et al. 2022, fig. 2", rules)


def t_fixup(encoder_layers: int | None = None, decoder_layers: int | None = None) -> Recipe:
    r"""t-fixup: Xavier uniform, with gain 0.67 N^(-1/4) in the encoder and (9M)^(-1/4) in the
    decoder for value, output and feed-forward weights, and embeddings N(0, 1/d) times (9N)^(-1/4).

    N and M are the numbers of blocks. Query and key have gain 1/√2, as in fairseq, on which the
    authors build; position embeddings and an untied head are N(0, 1/d); biases 0, norms 1. An
    embedding that the decoder does not share with the encoder has M in place of N.

    The method also removes all layer normalisation and the warm-up of the learning rate; norms
    that are left are covered, but are not the method.

    Args:
        encoder_layers, decoder_layers: N and M. None: counted in the model.

    Source: Huang et al. 2020, "Improving transformer optimization through better initialization",
    sec. 3.2; layer6ai-labs/T-Fixup fairseq/modules/transformer_layer.py (fixup_initialization),
    fairseq/models/transformer.py.

    Example:
        >>> block = torch.nn.ModuleDict({"fc1": torch.nn.Linear(8, 32)})
        >>> model = torch.nn.ModuleDict({"decoder": torch.nn.ModuleList([block])})
        >>> plan = torch_init.plan(model, "t-fixup", seed=0)
        >>> round(plan["decoder.0.fc1.weight"].high, 6)  # 9**(-1/4) * sqrt(6 / (8 + 32))
        0.223607
    """
    depths = _Depths("t_fixup", encoder_layers, decoder_layers)

    def gain(site: Site) -> float:
        n, m = depths.of(site)
        if _side(site) == "decoder":
            return float((9 * m) ** -0.25)
        if _side(site) == "encoder":
            return float(0.67 * n**-0.25)
        got = f"{site.name}, in neither"
        fix = "The method is for encoder-decoder models"
        expected = 'blocks inside an "encoder" or a "decoder"'
        raise ValueError(describe("recipes.t_fixup", "model", got, expected, fix))

    def embedding_std(site: Site) -> float:
        n, m = depths.of(site)
        sides = {_side_of(name) for name in (site.name, *site.aliases)}
        of_decoder = "decoder" in sides and "encoder" not in sides
        blocks = m if m and (of_decoder or not n) else n
        return float((9 * blocks) ** -0.25 * site.shape[-1] ** -0.5)

    fill = init.xavier_uniform_
    rules = (
        *_xavier_rules(fill, query_key=math.sqrt(0.5), value=gain, others=gain),
        rule("*", init.normal_, where=_is_token_embedding, std=embedding_std),
    )
    return Recipe("t-fixup", 1, "Huang et al. 2020, sec. 3.2; layer6ai-labs/T-Fixup", rules)


def _xavier_rules(
    fill: Callable[..., object], query_key: float, value: Gain, others: Gain
) -> tuple[Rule, ...]:
    def of_three(site: Site) -> float:
        return value(site) if site.block == 2 else query_key

    return (
        rule("*", fill, where=_sites.is_outside),
        rule("*", init.normal_, where=_sites.is_head, std=_width_root),
        rule("*", init.normal_, where=_sites.is_embedding, std=_width_root),
        rule("*", fill, where=_is_query_or_key, gain=query_key),
        rule("*", fill, where=_is_value, gain=value),
        rule("*", fill, where=_is_packed, split=3, gain=of_three),
        rule("*", fill, where=_is_packed_conv1d, split=3, split_axis=1, gain=of_three),
        rule("*", fill, where=_is_feed_forward_input, gain=others),
        rule("*", fill, where=_is_packed_gate, split=2, gain=others),
        rule("*", fill, where=_is_residual_output, gain=others),
        *NORMS_AND_BIASES,
    )


class _Depths:
    """How many blocks encoder and decoder have: as given, or as the model's containers tell."""

    def __init__(self, function: str, encoder: int | None, decoder: int | None) -> None:
        self._function = f"recipes.{function}"
        self._given = {"encoder": encoder, "decoder": decoder}
        for stack, layers in self._given.items():
            if layers is not None:
                check_positive_int(self._function, f"{stack}_layers", layers)

    def of(self, site: Site) -> tuple[int, int]:
        """Return the blocks of the encoder and of the decoder; 0 for one that is not there.

        Blocks in neither count as a decoder's.
        """
        counts: dict[str, set[int | None]] = {"encoder": set(), "decoder": set()}
        for name, blocks in site.stacks.items():
            counts[_side_of(name) or "decoder"].add(blocks)
        both = all(self._given[stack] or counts[stack] for stack in counts)
        # The stacks of two encoders are apart.
        if _sites.in_block(site) and (not both or site.num_layers is None):
            counts[_side(site) or "decoder"] = {site.num_layers}
        return self._one("encoder", counts["encoder"]), self._one("decoder", counts["decoder"])

    def _one(self, stack: str, counts: set[int | None]) -> int:
        layers = self._given[stack]
        if layers is not None:
            return layers
        depths = sorted(count for count in counts if count is not None)
        if len(counts) > 1 or len(depths) < len(counts):
            got = f"{stack}s of {depths} blocks" if depths else f"no whole {stack} of like blocks"
            fix = f"Pass {stack}_layers="
            raise ValueError(describe(self._function, "model", got, "one depth", fix))
        return depths[0] if depths else 0


def _side(site: Site) -> str | None:
    return _side_of(site.stack or "")


def _side_of(name: str) -> str | None:
    """Return "encoder" or "decoder", by the last part of a name that has the word in it, or None.

    The name is a stack's, or that of a parameter outside all stacks.
    """
    for part in reversed(name.split(".")):
        for side in ("encoder", "decoder"):
            if side in part:
                return side
    return None


def _is_query_or_key(site: Site) -> bool:
    return _is_matrix_in_block(site) and _sites.ends_with(site, _sites.QUERIES_AND_KEYS)


def _is_value(site: Site) -> bool:
    return _is_matrix_in_block(site) and _sites.ends_with(site, _sites.VALUES)


def _is_feed_forward_input(site: Site) -> bool:
    ends = (*_sites.FEED_FORWARD_INPUTS, *_sites.UP_PROJECTIONS)
    return _is_matrix_in_block(site) and _sites.ends_with(site, ends)


def _is_packed_gate(site: Site) -> bool:
    return _is_matrix_in_block(site) and _sites.ends_with(site, _sites.PACKED_GATES)


def _is_residual_output(site: Site) -> bool:
    return _is_matrix_in_block(site) and _sites.is_residual_output(site)


def _is_matrix_in_block(site: Site) -> bool:
    matrix = len(site.shape) == 2 and not _sites.is_stacked_experts(site)
    return _sites.in_block(site) and matrix and not _sites.is_embedding(site)


def _is_packed(site: Site) -> bool:
    return _is_three(site) and not is_transformers_conv1d(site.module)


def _is_packed_conv1d(site: Site) -> bool:
    return _is_three(site) and is_transformers_conv1d(site.module)


def _is_three(site: Site) -> bool:
    packed = _is_matrix_in_block(site) and _sites.ends_with(site, _sites.PACKED_THIRDS)
    return packed and site.fans.fan_out == 3 * site.fans.fan_in


def _is_token_embedding(site: Site) -> bool:
    return _sites.is_embedding(site) and not _sites.is_position(site)


def _width_root(site: Site) -> float:
    return 1 / math.sqrt(_sites.width(site))
