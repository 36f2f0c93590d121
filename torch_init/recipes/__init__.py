# SPDX-License-Identifier: Apache-2.0
"""Recipes: how papers and codebases initialise whole models, by name and version.

Each function returns a Recipe for torch_init.plan and torch_init.init_, which also take the name
alone. A version, once released, gives the same rules for ever; docs/recipes.md has a page on each.
"""

import difflib
from collections.abc import Callable

from torch_init.errors import describe
from torch_init.model.rules import Recipe
from torch_init.recipes.classic import he, lecun, xavier, zero
from torch_init.recipes.depth import deepnet, t_fixup
from torch_init.recipes.language import gpt2, llama, megatron, neox, olmo, small_init
from torch_init.recipes.torch_default import torch_default
from torch_init.recipes.vision import efficientnet, fixup, resnet, vit_jax
from torch_init.recipes.width import mup

# Under the newest version last; what is replaced stays.
_RECIPES: dict[str, Callable[[], Recipe]] = {
    "torch-default@1": torch_default,
    "xavier@1": xavier,
    "he@1": he,
    "lecun@1": lecun,
    "gpt2@1": gpt2,
    "llama@1": llama,
    "olmo@1": olmo,
    "megatron@1": megatron,
    "small-init@1": small_init,
    "neox@1": neox,
    "vit-jax@1": vit_jax,
    "resnet@1": resnet,
    "efficientnet@1": efficientnet,
    "deepnet@1": deepnet,
    "t-fixup@1": t_fixup,
    "fixup@1": fixup,
    "zero@1": zero,
    "mup@1": mup,
}


def available() -> tuple[str, ...]:
    """Return the names of all recipes with their versions, in the order of docs/recipes.md.

    Example:
        >>> torch_init.recipes.available()[:3]
        ('torch-default@1', 'xavier@1', 'he@1')
    """
    return tuple(_RECIPES)


def get(name: str) -> Recipe:
    """Return the recipe of that name with its default arguments.

    Args:
        name: "gpt2" for the newest version, "gpt2@1" for one that never changes.

    Raises:
        ValueError: an unknown name or version, or a recipe that needs arguments (mup).

    Example:
        >>> str(torch_init.recipes.get("gpt2"))
        'gpt2@1'
    """
    if not isinstance(name, str):
        raise TypeError(describe("recipes.get", "name", f"{name!r}", "a recipe's name"))
    matches = [known for known in _RECIPES if name in (known, known.partition("@")[0])]
    if not matches:
        words = {word for known in _RECIPES for word in (known, known.partition("@")[0])}
        near = difflib.get_close_matches(name.lower().replace("_", "-"), sorted(words), n=1)
        fix = f"Did you mean {near[0]!r}?" if near else f"Known are {', '.join(_RECIPES)}"
        raise ValueError(describe("recipes.get", "name", f"{name!r}", "a recipe's name", fix))
    return _RECIPES[matches[-1]]()


__all__ = [
    "available",
    "deepnet",
    "efficientnet",
    "fixup",
    "get",
    "gpt2",
    "he",
    "lecun",
    "llama",
    "megatron",
    "mup",
    "neox",
    "olmo",
    "resnet",
    "small_init",
    "t_fixup",
    "torch_default",
    "vit_jax",
    "xavier",
    "zero",
]
