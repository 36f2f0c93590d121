# SPDX-License-Identifier: Apache-2.0
"""Images: residual networks, EfficientNet, vision transformers."""

import math
from typing import Any, NamedTuple

from torch import nn
from torch.nn.modules.conv import _ConvNd

from torch_init import init
from torch_init.errors import check_finite, check_positive_int, describe
from torch_init.model.rules import Recipe, rule
from torch_init.model.sites import Site
from torch_init.recipes import _sites
from torch_init.recipes._parts import NORMS, NORMS_AND_BIASES
from torch_init.recipes.torch_default import uniform_by_fan_in

_TOKENS = ("cls_token", "class_token", "dist_token", "distillation_token", "mask_token", "cls")
_PRE_LOGITS = ("pre_logits", "pre_logits.fc", "pooler.dense")
_HE_FAN_OUT = rule(
    "*.weight", init.kaiming_normal_, module=_ConvNd, mode="fan_out", nonlinearity="relu"
)
_BIASES_AND_NORMS = (rule("*.bias", init.zeros_, module=_ConvNd), *NORMS)
_LECUN: dict[str, Any] = {"scale": 1.0, "mode": "fan_in", "distribution": "truncated_normal"}


def resnet(zero_last: bool = True) -> Recipe:
    r"""resnet: convolutions N(0, 2 / fan_out), norms 1, but 0 for the scale of the last norm of
    each residual branch; biases of both 0; linear layers as torch makes them.

    fan_out is that of one group; torch's own, in grouped convolutions (ResNeXt), is that of all.
    A branch is known by its names: conv1, bn1, conv2, bn2 and maybe conv3, bn3 (torchvision,
    timm), or a ``layer`` of convolution and normalization (transformers).

    Args:
        zero_last: whether branches start as zero, torchvision's zero_init_residual and timm's
            zero_init_last. An error in a model without a branch that is known.

    Source: He et al. 2015, "Delving deep into rectifiers", eq. 14; Goyal et al. 2017, "Accurate,
    large minibatch SGD", sec. 5.1; torchvision/models/resnet.py; timm/models/resnet.py.

    Example:
        >>> model = torch.nn.Conv2d(3, 8, 5)
        >>> round(torch_init.plan(model, "resnet", seed=0).rows[0].std, 9)  # sqrt(2 / (8 * 25))
        0.1
    """

    def scale(site: Site) -> float:
        branch = _own_branch(site, "resnet", "norms", "Pass zero_last=False, or rename them")
        return 0.0 if branch and branch.norms[-1] is site.module else 1.0

    rules = [_HE_FAN_OUT, uniform_by_fan_in(nn.Linear), *_BIASES_AND_NORMS]
    if zero_last:
        rules.append(rule("*", init.constant_, where=_sites.is_norm_scale, val=scale))
    source = "He et al. 2015, eq. 14; Goyal et al. 2017, sec. 5.1; torchvision/models/resnet.py"
    return Recipe("resnet", 1, source, tuple(rules))


def fixup(num_blocks: int | None = None) -> Recipe:
    r"""fixup: convolutions N(0, 2 / fan_out), those in residual branches of m layers times
    L^(-1/(2m - 2)) for L branches, the last of each branch 0; classifier 0.

    L^(-1/2) in basic blocks (m = 2), L^(-1/4) in bottlenecks (m = 3); L counts the branches of the
    whole network, however many stages it has. The authors' code leaves the first convolution at
    torch's default; here it is N(0, 2 / fan_out) as in the paper's rule 2.

    The method also removes all normalisation and adds scalars to each branch (rule 3): a bias
    before each convolution and activation, and a multiplier. Parameters of one element are 0 if
    their name begins with "bias", 1 if it is "scale". Norms that are left are covered, but are not
    the method. Which branches are known: as for ``resnet``; a model without any is an error.

    Args:
        num_blocks: L. None: counted in the model.

    Source: Zhang, Dauphin & Ma 2019, "Fixup initialization: residual learning without
    normalization", sec. 3; hongyi-zhang/Fixup imagenet/models/fixup_resnet_imagenet.py.

    Example:
        >>> block = torch.nn.ModuleDict({"conv1": torch.nn.Conv2d(8, 8, 5, bias=False),
        ...                              "conv2": torch.nn.Conv2d(8, 8, 5, bias=False)})
        >>> model = torch.nn.Sequential(*[block] * 4)
        >>> plan = torch_init.plan(model, torch_init.recipes.fixup(num_blocks=4), seed=0)
        >>> [round(row.std, 9) for row in plan.rows]  # 4**(-1/2) * sqrt(2 / (8 * 25)), and 0
        [0.05, 0.0]
    """
    if num_blocks is not None:
        check_positive_int("recipes.fixup", "num_blocks", num_blocks)

    def std(site: Site) -> float:
        he = math.sqrt(2 / site.fans.fan_out)
        branch = _own_branch(site, "fixup", "convolutions", "Rename its layers")
        if branch is None:
            return he
        if branch.convolutions[-1] is site.module:
            return 0.0
        exponent = -1 / (2 * len(branch.convolutions) - 2)
        return float(he * (num_blocks or len(_branches(site.model))) ** exponent)

    rules = (
        rule("*.weight", init.normal_, module=_ConvNd, std=std),
        *_BIASES_AND_NORMS,
        rule("*bias*", init.zeros_, where=_is_scalar),
        rule("*.scale", init.ones_, where=_is_scalar),
        rule("*.weight", init.zeros_, module=nn.Linear, where=_is_classifier),
        rule("*.bias", init.zeros_, module=nn.Linear, where=_is_classifier),
    )
    return Recipe("fixup", 1, "Zhang, Dauphin & Ma 2019, sec. 3; hongyi-zhang/Fixup", rules)


def efficientnet() -> Recipe:
    r"""efficientnet: convolutions N(0, 2 / fan_out), fan_out that of one group; linear layers
    U(-b, b), b = 1 / √fan_out; biases 0, norms 1.

    Also MnasNet, MobileNetV3 and MixNet, which share the authors' initialiser. A depthwise
    convolution has fan_out = the size of its kernel.

    Source: Tan & Le 2019; tensorflow/tpu models/official/efficientnet/efficientnet_model.py
    (conv_kernel_initializer, dense_kernel_initializer); timm/models/_efficientnet_builder.py
    (_init_weight_goog).

    Example:
        >>> model = torch.nn.Conv2d(8, 8, 5, groups=8)
        >>> round(torch_init.plan(model, "efficientnet", seed=0).rows[0].std, 9)  # sqrt(2 / 25)
        0.282842712
    """
    rules = (
        _HE_FAN_OUT,
        rule("*.weight", init.variance_scaling_, module=nn.Linear,
             scale=1 / 3, mode="fan_out", distribution="uniform"),
        *_BIASES_AND_NORMS,
        rule("*.bias", init.zeros_, module=nn.Linear),
    )  # fmt: skip
    source = "tensorflow/tpu models/official/efficientnet/efficientnet_model.py"
    return Recipe("efficientnet", 1, source, rules)


def vit_jax(head_bias: float = 0.0) -> Recipe:
    r"""vit-jax: Xavier uniform matrices, biases of the feed-forward layers N(0, 1e-6²), other
    biases 0; patches LeCun normal cut at ±2 standard deviations; class token 0, position
    embeddings N(0, 0.02²); head 0; norms 1.

    Query, key and value are a matrix each, as in JAX, even where they are packed (timm's qkv,
    torch's in_proj_weight). A layer between the class token and the head (pre_logits, pooler) is
    as the patches. Names: those of timm, torchvision and transformers.

    Args:
        head_bias: of the head; -log(number of classes) starts a sigmoid loss at chance.

    Source: Dosovitskiy et al. 2021; google-research/vision_transformer vit_jax/models_vit.py.

    Example:
        >>> model = torch.nn.ModuleDict({"head": torch.nn.Linear(8, 10)})
        >>> recipe = torch_init.recipes.vit_jax(head_bias=-math.log(10))
        >>> [round(row.mean, 4) for row in torch_init.plan(model, recipe, seed=0).rows]
        [0.0, -2.3026]
    """
    head_bias = check_finite("recipes.vit_jax", "head_bias", head_bias)
    patches = init.variance_scaling_
    rules = (
        rule("*.weight", init.xavier_uniform_, module=nn.Linear),
        rule("*.qkv.weight", init.xavier_uniform_, module=nn.Linear, split=3),
        rule("*.in_proj_weight", init.xavier_uniform_, module=nn.MultiheadAttention),
        rule("*.weight", patches, module=nn.Linear, where=_is_pre_logits, **_LECUN),
        rule("*.weight", patches, module=_ConvNd, **_LECUN),
        *NORMS_AND_BIASES,
        rule("*.bias", init.normal_, module=nn.Linear, where=_is_feed_forward, std=1e-6),
        rule("*", init.zeros_, where=_is_token),
        rule("*", init.normal_, where=_sites.is_position, std=0.02),
        rule("*.weight", init.zeros_, module=nn.Linear, where=_is_classifier),
        rule("*.bias", init.constant_, module=nn.Linear, where=_is_classifier, val=head_bias),
    )
    source = "google-research/vision_transformer vit_jax/models_vit.py"
    return Recipe("vit-jax", 1, source, rules)


class _Branch(NamedTuple):
    """The layers of a residual branch, in order."""

    convolutions: list[nn.Module]
    norms: list[nn.Module]


def _branch(block: nn.Module) -> _Branch | None:
    """Return the residual branch that a block has, if its names are known."""
    layers = block._modules.get("layer")
    if isinstance(layers, nn.Sequential):  # of transformers
        convolutions = [layer._modules.get("convolution") for layer in layers]
        norms = [layer._modules.get("normalization") for layer in layers]
    else:
        convolutions = [block._modules.get(f"conv{i}") for i in range(1, 4)]
        norms = [block._modules.get(f"bn{i}") for i in range(1, 4)]
    branch = _Branch(_with_weights(convolutions), _with_weights(norms))
    return branch if len(branch.convolutions) > 1 else None


def _with_weights(layers: list[nn.Module | None]) -> list[nn.Module]:
    return [layer for layer in layers if layer is not None and hasattr(layer, "weight")]


def _branches(model: nn.Module) -> list[_Branch]:
    """Return the residual branches of a model."""
    return [branch for block in model.modules() if (branch := _branch(block))]


def _own_branch(site: Site, recipe: str, kind: str, fix: str) -> _Branch | None:
    """Return the residual branch that the owner is a layer of, if of one.

    A model without a branch that has layers of that kind is an error: they go by other names.
    """
    for block in reversed(site.path):
        branch = _branch(block)
        if branch and any(site.module is layer for layers in branch for layer in layers):
            return branch
    if not any(getattr(branch, kind) for branch in _branches(site.model)):
        got = f"a {type(site.model).__name__} without any that is known by its names"
        expected = f"residual branches with {kind}"
        raise ValueError(describe(f"recipes.{recipe}", "model", got, expected, fix))
    return None


def _is_scalar(site: Site) -> bool:
    return site.shape.numel() == 1


def _is_classifier(site: Site) -> bool:
    """Return whether the owner makes logits.

    Of an fc inside something else one cannot tell; transformers' ResNet has it in a Sequential.
    """
    name = site.module_name
    ends = tuple("." + end for end in (*_sites.HEADS, "classifier.1"))
    return name == "fc" or ("." + name).endswith(ends)


def _is_pre_logits(site: Site) -> bool:
    return _sites.ends_with(site, _PRE_LOGITS)


def _is_token(site: Site) -> bool:
    return _sites.ends_with(site, _TOKENS)


def _is_feed_forward(site: Site) -> bool:
    """Return whether the owner is one of the two layers of a feed-forward network."""
    name = "." + site.module_name
    old = name.endswith((".intermediate.dense", ".output.dense"))  # of transformers before 5
    return ".mlp." in name or (old and ".attention." not in name)
