# SPDX-License-Identifier: Apache-2.0
"""The maximal update parametrisation: what a small model's hyperparameters need in a wide one."""

import math
from collections.abc import Callable, Mapping, Sequence

from torch import nn
from torch.nn.modules.conv import _ConvNd

from torch_init import init
from torch_init.errors import check_not_negative, describe
from torch_init.model.layout import is_split_weight
from torch_init.model.rules import Recipe, rule
from torch_init.model.sites import Site, find_sites
from torch_init.recipes import _sites
from torch_init.recipes._parts import NORMS_AND_BIASES

_FUNCTION = "recipes.mup"


def mup(
    base: nn.Module | Mapping[str, Sequence[int]] | None = None,
    std: float | Callable[[Site], float] = 0.02,
    mu_readout: bool = False,
) -> Recipe:
    r"""mup: N(0, std²) at the base width; with m = fan_in / the base's fan_in, hidden matrices have
    std / √m, the readout std / m, and all that the width enters once or not at all, std.

    Which dimensions are widths is told by comparing shapes with a base model's, as in the mup
    package: a dimension that differs is one. With two, the weight is a hidden matrix; with the
    inputs of a linear or convolutional layer alone, a readout; else (embeddings, the first layer,
    position embeddings, tokens) an input. Biases are 0, norms 1; other vectors are
    not covered.

    The method is more than the first weights. With Adam, hidden matrices and the readout learn at
    1/m of the base's rate, all else at the base's; attention logits are q·k / d in place of
    q·k / √d, up to a constant; a readout tied to the embedding must divide its logits by m.

    Args:
        base: the model at its base width (one on the meta device will do), or the shapes of its
            parameters by name. The recipe cannot do without, so that its bare name is an error.
        std: at the base width; a number, or a function of the site, such as the residual outputs'
            ``lambda p: 0.02 / math.sqrt(2 * p.num_layers) if "c_proj" in p.name else 0.02``.
        mu_readout: whether the model divides its logits by m, as mup.MuReadout does; the readout
            then keeps std.

    Raises:
        ValueError: no base, a parameter that it lacks, more than two widths in one parameter.

    Source: Yang et al. 2022, "Tensor programs V", table 3 and app. B; microsoft/mup mup/init.py,
    mup/infshape.py, mup/layer.py.

    Example:
        >>> def mlp(width):
        ...     return torch.nn.Sequential(*[torch.nn.Linear(i, o, bias=False) for i, o in
        ...                                  [(8, width), (width, width), (width, 10)]])
        >>> recipe = torch_init.recipes.mup(base=mlp(16), std=0.1)
        >>> [round(row.std, 6) for row in torch_init.plan(mlp(64), recipe, seed=0).rows]
        [0.1, 0.05, 0.025]
    """
    if not callable(std):
        std = check_not_negative(_FUNCTION, "std", std)
    shapes = _shapes(base)

    def scaled(site: Site) -> float:
        at_base = std(site) if callable(std) else std
        widths = _width_multipliers(site, shapes)
        inputs = _input_axis(site)
        if len(widths) == 2:
            axis = inputs if inputs in widths else max(widths)
            return at_base / math.sqrt(widths[axis])
        if inputs in widths and not mu_readout:
            return at_base / widths[inputs]
        return at_base

    rules = (
        rule("*", init.normal_, where=_is_matrix, split=1, std=scaled),
        *NORMS_AND_BIASES,
    )
    return Recipe("mup", 1, "Yang et al. 2022, table 3; microsoft/mup mup/init.py", rules)


def _shapes(base: nn.Module | Mapping[str, Sequence[int]] | None) -> dict[str, tuple[int, ...]]:
    if isinstance(base, nn.Module):
        return {site.name: tuple(site.shape) for site in find_sites(_FUNCTION, base)}
    if isinstance(base, Mapping):
        return {name: tuple(shape) for name, shape in base.items()}
    fix = "Use torch_init.recipes.mup(base=small_model), the same model at its base width"
    expected = "a module, or shapes by parameter name"
    error = ValueError if base is None else TypeError
    raise error(describe(_FUNCTION, "base", f"{type(base).__name__}", expected, fix))


def _width_multipliers(site: Site, shapes: dict[str, tuple[int, ...]]) -> dict[int, float]:
    """Return by how much each dimension that is a width exceeds the base's."""
    base = shapes.get(site.name)
    if base is None or len(base) != len(site.shape):
        got = f"one whose {site.name} is {'missing' if base is None else base}"
        expected = f"a base model with {site.name} of {len(site.shape)} dimensions"
        raise ValueError(describe(_FUNCTION, "base", got, expected))
    sizes = enumerate(zip(site.shape, base, strict=True))
    widths = {axis: size / size_of_base for axis, (size, size_of_base) in sizes
              if size != size_of_base}  # fmt: skip
    if len(widths) > 2:
        got = f"{site.name} of {tuple(site.shape)} beside {base}"
        raise ValueError(describe(_FUNCTION, "base", got, "at most two dimensions that differ"))
    return widths


def _input_axis(site: Site) -> int | None:
    """Return the axis of the inputs of a linear or convolutional layer; None for anything else."""
    if not (_sites.is_linear(site) or isinstance(site.module, _ConvNd)):
        return None
    return 0 if site.layout.get("transposed", False) else 1


def _is_matrix(site: Site) -> bool:
    return len(site.shape) >= 2 and not is_split_weight(site.module, site.leaf)
