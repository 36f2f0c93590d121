# SPDX-License-Identifier: Apache-2.0
"""What the modules of torch.nn give themselves when they are made."""

import math
import re
from collections.abc import Callable
from typing import cast

from torch import nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from torch_init import init
from torch_init.model.layout import is_split_weight
from torch_init.model.rules import Recipe, Rule, rule
from torch_init.model.sites import Site
from torch_init.recipes._sites import NORMS

# weight_hr_l0 is the projection of an LSTM; cells have no _l0.
_RECURRENT = re.compile(r"(weight|bias)_(ih|hh|hr)(_l\d+(_reverse)?)?")
_ATTENTION_WEIGHTS = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")


def torch_default() -> Recipe:
    r"""torch-default: what ``reset_parameters`` of every torch.nn module does, as a plan.

    ============================ ===============================================================
    Linear, ConvNd               weight and bias U(-b, b), b = 1 / sqrt(fan_in)
    ConvTransposeNd              the same, with fan_in as torch reads it: size(1) times the kernel
    Bilinear                     weight and bias U(-b, b), b = 1 / sqrt(in1_features)
    Embedding, EmbeddingBag      N(0, 1), zeros at padding_idx
    RNN, LSTM, GRU and cells     all U(-b, b), b = 1 / sqrt(hidden_size)
    MultiheadAttention           in_proj_weight, q_, k_ and v_proj_weight Xavier uniform, the packed
                                 one as one matrix; bias_k, bias_v Xavier normal; biases 0;
                                 out_proj.weight as Linear
    Transformer                  every parameter with more than one dimension Xavier uniform
    LayerNorm, RMSNorm, GroupNorm, BatchNorm, InstanceNorm: weight 1, bias 0
    PReLU                        its ``init``, 0.25
    ============================ ===============================================================

    The packed in_proj_weight is drawn as one (3E, E) matrix because torch does so, which makes it
    sqrt(2) too small (pytorch #166378); ``xavier`` draws three (E, E) ones. A subclass is taken
    for its base class, whatever its own reset_parameters does. Parameters of other modules are
    not covered.

    Source: torch 2.13, torch/nn/modules: linear.py, conv.py, sparse.py, rnn.py, activation.py,
    transformer.py, normalization.py, batchnorm.py.

    Example:
        >>> model = torch.nn.Linear(100, 8)
        >>> [row.high for row in torch_init.plan(model, "torch-default", seed=0).rows]
        [0.1, 0.1]
    """
    rules = (
        uniform_by_fan_in((nn.Linear, _ConvNd)),
        _uniform(nn.Bilinear, _bilinear_bound),
        _uniform((nn.RNNBase, nn.RNNCellBase), _recurrent_bound),
        rule("*.weight", init.normal_, module=(nn.Embedding, nn.EmbeddingBag)),
        rule("*.weight", init.ones_, module=NORMS),
        rule("*.bias", init.zeros_, module=NORMS),
        rule("*.weight", init.constant_, module=nn.PReLU, val=_prelu_slope),
        rule("*", init.xavier_uniform_, module=nn.MultiheadAttention,
             where=is_attention_weight, split=1),
        rule("*.in_proj_bias", init.zeros_, module=nn.MultiheadAttention),
        rule("*.bias_[kv]", init.xavier_normal_, module=nn.MultiheadAttention),
        rule("*.bias", init.zeros_, module=NonDynamicallyQuantizableLinear),
        rule("*", init.xavier_uniform_, where=_in_transformer, split=1),
    )  # fmt: skip
    return Recipe("torch-default", 1, "torch 2.13, torch/nn/modules/*.py, reset_parameters", rules)


def is_attention_weight(site: Site) -> bool:
    """Return whether this is a projection of torch's MultiheadAttention but the last one."""
    return isinstance(site.module, nn.MultiheadAttention) and site.leaf in _ATTENTION_WEIGHTS


def is_of_torch(site: Site) -> bool:
    """Return whether a layer's parameter is one that torch's class makes, no weight_g."""
    return is_weight(site) or is_bias(site)


def is_weight(site: Site) -> bool:
    """Return whether this is a weight of a torch layer, by the exact names of its class."""
    return _is_called(site, "weight")


def is_bias(site: Site) -> bool:
    """Return whether this is a bias of a torch layer, by the exact names of its class."""
    return _is_called(site, "bias")


def _is_called(site: Site, kind: str) -> bool:
    if isinstance(site.module, (nn.RNNBase, nn.RNNCellBase)):
        return _RECURRENT.fullmatch(site.leaf) is not None and site.leaf.startswith(kind)
    return site.leaf == kind


def uniform_by_fan_in(
    module: type[nn.Module] | tuple[type[nn.Module], ...], name: str = "*"
) -> Rule:
    """Return the rule for weights and biases of Linear and ConvNd."""
    return _uniform(module, _fan_in_bound, name)


def _uniform(
    module: type[nn.Module] | tuple[type[nn.Module], ...],
    bound: Callable[[Site], float],
    name: str = "*",
) -> Rule:
    return rule(
        name, init.uniform_, module=module, where=is_of_torch, a=lambda site: -bound(site), b=bound
    )


def _fan_in_bound(site: Site) -> float:
    # Also for the bias, whose bound is the weight's. kaiming_uniform_(a=sqrt(5)) comes to this.
    of_bias = site.leaf == "bias"
    shape = cast(nn.Linear, site.module).weight.shape if of_bias else site.shape
    return _inverse_root(math.prod(shape[1:]))


def _bilinear_bound(site: Site) -> float:
    return _inverse_root(cast(nn.Bilinear, site.module).in1_features)


def _recurrent_bound(site: Site) -> float:
    return _inverse_root(cast(nn.RNNBase, site.module).hidden_size)


def _inverse_root(size: int) -> float:
    return 1 / math.sqrt(size) if size > 0 else 0.0


def _prelu_slope(site: Site) -> float:
    return cast(nn.PReLU, site.module).init


def _in_transformer(site: Site) -> bool:
    """Return whether torch.nn.Transformer, at or above the owner, draws this parameter again."""
    drawn = len(site.shape) > 1 and not is_split_weight(site.module, site.leaf)
    return drawn and any(isinstance(m, nn.Transformer) for m in site.path)
