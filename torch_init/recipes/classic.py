# SPDX-License-Identifier: Apache-2.0
"""Xavier, He and LeCun over a whole model: one scheme for every weight, from its own fans."""

from typing import Any

from torch import nn
from torch.nn.modules.conv import _ConvNd

from torch_init import init
from torch_init.errors import check_choice
from torch_init.model.rules import Recipe, Rule, rule
from torch_init.model.sites import Site
from torch_init.recipes._parts import NORMS, NORMS_AND_BIASES
from torch_init.recipes._sites import PACKED_THIRDS, ends_with, is_linear
from torch_init.recipes.torch_default import is_attention_weight, is_bias, is_weight, torch_default

_LAYERS = (nn.Linear, _ConvNd, nn.RNNBase, nn.RNNCellBase, nn.MultiheadAttention)


def xavier(gain: float = 1.0, distribution: str = "uniform") -> Recipe:
    r"""xavier: variance 2 gain² / (fan_in + fan_out) for every weight, biases 0.

    Weights: Linear, ConvNd, ConvTransposeNd, RNN, LSTM, GRU and their cells, MultiheadAttention,
    transformers' Conv1D. Each gate, and each of a packed query, key and value (in_proj_weight;
    ``qkv`` and ``c_attn`` of three equal parts), is a matrix with fans of its own. Embeddings,
    PReLU and Bilinear are as in torch-default, norms 1, torch's or not; other parameters are not
    covered.

    Args:
        gain: see torch_init.calculate_gain.
        distribution: "uniform" (the paper's eq. 16) or "normal".

    Source: Glorot & Bengio 2010, "Understanding the difficulty of training deep feedforward neural
    networks", eq. 12 and 16.

    Example:
        >>> model = torch.nn.Linear(100, 50)
        >>> row = torch_init.plan(model, "xavier", seed=0).rows[0]
        >>> abs(row.high - math.sqrt(6 / 150)) < 1e-9
        True
    """
    check_choice("recipes.xavier", "distribution", distribution, ("uniform", "normal"))
    fill = init.xavier_uniform_ if distribution == "uniform" else init.xavier_normal_
    source = "Glorot & Bengio 2010, eq. 12 and 16"
    return Recipe("xavier", 1, source, _every_weight(fill, gain=gain))


def he(
    mode: str = "fan_in", nonlinearity: str = "relu", a: float = 0.0, distribution: str = "normal"
) -> Recipe:
    r"""he: variance gain² / fan for every weight, gain √2 for ReLU; biases 0.

    Which parameters: as for ``xavier``. fan_out is that of one group of a grouped convolution.

    Args:
        mode: "fan_in" keeps the variance of the forward pass (eq. 10), "fan_out" that of the
            backward pass (eq. 14).
        nonlinearity, a: what follows each layer, as in torch_init.kaiming_normal_.
        distribution: "normal" (the paper's) or "uniform".

    Source: He et al. 2015, "Delving deep into rectifiers", eq. 10 and 14.

    Example:
        >>> model = torch.nn.Linear(200, 50)
        >>> row = torch_init.plan(model, "he", seed=0).rows[0]
        >>> abs(row.std - 0.1) < 1e-9
        True
    """
    check_choice("recipes.he", "distribution", distribution, ("uniform", "normal"))
    fill = init.kaiming_uniform_ if distribution == "uniform" else init.kaiming_normal_
    rules = _every_weight(fill, mode=mode, nonlinearity=nonlinearity, a=a)
    return Recipe("he", 1, "He et al. 2015, eq. 10 and 14", rules)


def lecun(distribution: str = "normal") -> Recipe:
    r"""lecun: variance 1 / fan_in for every weight, biases 0. What tanh and SELU networks want.

    Which parameters: as for ``xavier``.

    Args:
        distribution: "normal", "uniform", or "truncated_normal": cut at two standard deviations
            and widened so that the variance is 1 / fan_in all the same, as JAX and Keras do.

    Source: LeCun et al. 1998, "Efficient BackProp", eq. 16; Klambauer et al. 2017 for SELU.

    Example:
        >>> model = torch.nn.Linear(100, 50)
        >>> row = torch_init.plan(model, "lecun", seed=0).rows[0]
        >>> abs(row.std - 0.1) < 1e-9
        True
    """
    choices = ("normal", "uniform", "truncated_normal")
    check_choice("recipes.lecun", "distribution", distribution, choices)
    arguments = {"scale": 1.0, "mode": "fan_in", "distribution": distribution}
    rules = _every_weight(init.variance_scaling_, **arguments)
    return Recipe("lecun", 1, "LeCun et al. 1998, eq. 16", rules)


def zero() -> Recipe:
    r"""zero: ZerO. Identities and Hadamard matrices for every weight, biases 0, norms 1; no chance.

    A weight with no more outputs than inputs is a partial identity, one with more a corner of a
    Hadamard matrix; a convolution has it at the middle of its kernel (torch_init.zero_identity_,
    normalised as in the authors' code). Weights: Linear, ConvNd, MultiheadAttention, packed ones
    block by block. Embeddings, recurrent layers, transposed and grouped convolutions, of which
    the paper does not speak, are not covered, nor is transformers' Conv1D.

    Source: Zhao, Schäfer & Anandkumar 2022, "ZerO initialization: Initializing neural networks
    with only zeros and ones", algorithms 1 and 2; jiaweizzhao/ZerO-initialization
    example_mnist.ipynb (ZerO_Init_on_matrix).

    Example:
        >>> model = torch.nn.Linear(3, 2)
        >>> _ = torch_init.init_(model, "zero", seed=0)
        >>> model.weight.detach()
        tensor([[1., 0., 0.],
                [0., 1., 0.]])
    """
    fill = init.zero_identity_
    rules = (
        rule("*", fill, where=_has_identity),
        rule("*", fill, where=_is_packed_weight, split=3),
        *NORMS_AND_BIASES,
    )
    return Recipe("zero", 1, "Zhao, Schäfer & Anandkumar 2022, algorithms 1 and 2", rules)


def _every_weight(initialiser: Any, **arguments: Any) -> tuple[Rule, ...]:
    """torch-default, but for the weights and biases of the layers that have fans."""
    return (
        *torch_default().rules,
        rule("*", initialiser, where=_is_weight, **arguments),
        rule("*", initialiser, where=_is_packed_weight, split=3, **arguments),
        rule("*", initialiser, where=_is_packed_conv1d, split=3, split_axis=1, **arguments),
        *NORMS,
        rule("*", init.zeros_, where=_is_bias),
    )


def _is_weight(site: Site) -> bool:
    if isinstance(site.module, nn.MultiheadAttention):
        return is_attention_weight(site)
    return _is_layer(site) and is_weight(site)


def _is_bias(site: Site) -> bool:
    if isinstance(site.module, nn.MultiheadAttention):
        return site.leaf == "in_proj_bias"
    return _is_layer(site) and is_bias(site)


def _is_layer(site: Site) -> bool:
    return isinstance(site.module, _LAYERS) or is_linear(site)


def _is_packed_weight(site: Site) -> bool:
    return _is_packed(site) and isinstance(site.module, nn.Linear)


def _is_packed_conv1d(site: Site) -> bool:
    return _is_packed(site) and not isinstance(site.module, nn.Linear)


def _is_packed(site: Site) -> bool:
    if not (_is_weight(site) and is_linear(site) and ends_with(site, PACKED_THIRDS)):
        return False
    return site.fans.fan_out == 3 * site.fans.fan_in


def _has_identity(site: Site) -> bool:
    if isinstance(site.module, _ConvNd):
        plain = site.module.groups == 1 and not site.module.transposed
        return plain and site.leaf == "weight"
    return _is_weight(site) and isinstance(site.module, (nn.Linear, nn.MultiheadAttention))
