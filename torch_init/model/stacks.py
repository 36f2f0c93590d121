# SPDX-License-Identifier: Apache-2.0
"""Stacks: which of a model's numbered modules are its blocks, and how many there are.

A block is a module with a number for a name, beside others like it. What merely has a number is
none: a whole model in a Sequential, an embedding before the blocks, a head after them. The experts
or heads of a block are parts of it. Of stacks in one another the outermost one counts. Where blocks
are not alike, apart from what a Sequential has before and after them, nobody counts them.
"""

from collections import Counter
from typing import Any, NamedTuple

from torch import nn
from torch.nn.utils import parametrize

from torch_init.model.wrappers import unwrap

_PARTS_OF_A_BLOCK = ("experts", "heads")
_GENERIC = (nn.Module, nn.Sequential, nn.ModuleList, nn.ModuleDict)


class Place(NamedTuple):
    """Where in a stack a block is."""

    layer: int | None = None
    """Which block it is, from 0. In a stack of unlike blocks or with gaps, its number."""
    num_layers: int | None = None
    """How many there are; None in a stack of unlike blocks or with gaps."""
    stack: str | None = None
    """What the canonical name of the container is."""
    prefix: str = ""
    """What the canonical names in the block begin with."""

    def renamed(self, old: str, new: str) -> "Place":
        """Return the place of a parameter of this block that goes by a new name.

        How many blocks there are is then not known. A number put before the old name says which it
        is; else the new name's for the block; else, in a name that is another, the first number.
        """
        old, new, inner = f".{old}", f".{new}", f".{old.removeprefix(self.prefix)}"
        head, at = new, 0
        if new.endswith(old):
            head, at = new.removesuffix(old), -1
            if not any(part.isdecimal() for part in head.split(".")):
                stack = f"{head}.{self.stack}".strip(".")
                return NOWHERE if self is NOWHERE else Place(self.layer, None, stack, self.prefix)
        elif self.prefix and new.endswith(inner):
            head, at = new.removesuffix(inner), -1
        parts = head.split(".")
        numbers = [i for i, part in enumerate(parts) if part.isdecimal()]
        if not numbers:
            return NOWHERE
        number = numbers[at]
        return Place(int(parts[number]), None, ".".join(parts[1:number]))


NOWHERE = Place()


def blocks(container: nn.Module, prefix: str) -> dict[str, Place]:
    """Return the places of those children of a module that are blocks.

    Args:
        prefix: what the canonical names in the container begin with.
    """
    numbered = _numbered(container, prefix)
    if not numbered:
        return {}
    candidates = _candidates(numbered)
    kinds = {name: _kind(module) for name, module in candidates.items()}
    counts = Counter(kinds.values())
    among = list(kinds)
    composed = any(map(is_block_like, candidates.values()))
    found = [i for i, name in enumerate(among) if counts[kinds[name]] > 1]
    if not found and composed and any(map(_holds_stack, candidates.values())):
        return {}
    in_a_row = isinstance(container, nn.Sequential)
    if (composed and not (found and in_a_row)) or (len(among) == 1 and not in_a_row):
        found = list(range(len(among)))
    if not found or _is_model(candidates[among[found[0]]]):
        return {}
    alike = len({kinds[among[i]] for i in found}) == 1 and found[-1] - found[0] == len(found) - 1
    numbers = sorted(int(name) for name, _ in container._modules.items() if name.isdecimal())
    all_there = numbers == list(range(len(numbered)))  # None is one that lies elsewhere
    stack = prefix.rstrip(".")
    places = {}
    for layer, name in enumerate(among[i] for i in found):
        whole = Place(layer, len(found), stack, f"{prefix}{name}.")
        known = alike and all_there
        places[name] = whole if known else whole._replace(layer=int(name), num_layers=None)
    return places


def _numbered(container: nn.Module, prefix: str) -> dict[str, nn.Module]:
    """Return the numbered children that may be blocks, by number."""
    no_stack = prefix.endswith(tuple(f"{part}." for part in _PARTS_OF_A_BLOCK))
    if no_stack or isinstance(container, parametrize.ParametrizationList):
        return {}
    named = [(name, child) for name, child in container._modules.items() if name.isdecimal()]
    named.sort(key=lambda item: int(item[0]))
    return {name: unwrap(child) for name, child in named if child is not None}


def _candidates(numbered: dict[str, nn.Module]) -> dict[str, nn.Module]:
    """Return those of several layers; if there are none, single layers with parameters."""
    composed = {name: module for name, module in numbered.items() if is_block_like(module)}
    if composed:
        return composed
    return {name: module for name, module in numbered.items() if _has_parameters(module)}


def is_block_like(module: nn.Module) -> bool:
    """Return whether a module is more than one layer: it holds some, or several matrices."""
    if any(name != "parametrizations" and _has_parameters(child)
           for name, child in module._modules.items()):  # fmt: skip
        return True
    return sum(p is not None and p.ndim > 1 for p in module._parameters.values()) > 1


def _has_parameters(module: nn.Module | None) -> bool:
    inner = () if module is None else module.modules()
    return any(p is not None for m in inner for p in m._parameters.values())


def _holds_stack(module: nn.Module) -> bool:
    """Return whether there is a container inside with like blocks, or with a single one.

    Single layers are blocks of a list, but not of a Sequential.
    """
    for name, inner in module.named_modules():
        candidates = _candidates(_numbered(inner, f"{name}.")).values()
        if isinstance(inner, nn.Sequential) and not any(map(is_block_like, candidates)):
            continue
        kinds = Counter(map(_kind, candidates))
        if len(kinds) == 1 or any(count > 1 for count in kinds.values()):
            return True
    return False


def _is_model(module: nn.Module) -> bool:
    """Return whether a module has a stack of its own, and an embedding."""
    embeddings = (nn.Embedding, nn.EmbeddingBag)
    return any(isinstance(m, embeddings) for m in module.modules()) and _holds_stack(module)


def _kind(module: nn.Module, above: tuple[nn.Module, ...] = ()) -> Any:
    """Return what two modules share that are alike: their class.

    Of a container that any modules may be in, also what is in it. A module may hold one of those
    above it.
    """
    module = unwrap(module)
    kind: type[nn.Module] = type(module)
    if "parametrizations" in module._modules:
        kind = parametrize.type_before_parametrizations(module)
    if any(base.__name__ == "FSDPModule" for base in kind.__mro__):
        # fully_shard puts a class of its own before the module's.
        kind = kind.__bases__[1]
    if kind not in _GENERIC or any(module is other for other in above):
        return kind
    path = (*above, module)
    children = [
        (n, _kind(child, path)) for n, child in module._modules.items() if child is not None
    ]
    return kind, frozenset(children), frozenset(module._parameters)
