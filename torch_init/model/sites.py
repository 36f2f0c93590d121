# SPDX-License-Identifier: Apache-2.0
"""Sites: the places of a model that hold parameters, each under its canonical name."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from torch_init._fill import check_dense
from torch_init.distributed import is_dtensor, logical_shape
from torch_init.errors import describe
from torch_init.keys import check_name
from torch_init.model.layout import fan_layout
from torch_init.model.stacks import NOWHERE, Place, blocks, is_block_like
from torch_init.model.wrappers import is_wrapper, unwrap
from torch_init.schemes import FanLayout, Fans, compute_fans


@dataclass(eq=False)
class Site:
    """One parameter of a model, as rules see it.

    The tensor of a parametrised module (weight_norm and the like) is one site, "conv.weight",
    rather than the parameters it is computed from.
    """

    name: str
    """Canonical: the qualified name without the prefixes of wrappers."""
    leaf: str
    """The last part of the name."""
    module: nn.Module
    """The module that owns the parameter."""
    model: nn.Module
    shape: torch.Size
    """Of the whole, logical tensor, however it is sharded."""
    dtype: torch.dtype
    tensor: Tensor
    """The parameter; the computed tensor of a parametrised one."""
    parametrized: bool = False
    aliases: list[str] = field(default_factory=list)
    """Canonical names of the other places that hold the same parameter. Its name is that in an
    embedding if there is one, and of several the first in alphabetical order."""
    tied: list[tuple[nn.Module, str]] = field(default_factory=list)
    """Those places: the module and the last part of the name."""
    path: tuple[nn.Module, ...] = ()
    """The modules from the model down to the one that owns the parameter."""
    layer: int | None = None
    """Index of the block that the parameter lies in, among the like ones of its stack
    (torch_init.model.stacks says what that is); in an incomplete stack the block's number."""
    num_layers: int | None = None
    """How many blocks the stack has. None where they cannot be counted: a plan with rename, blocks
    that are not alike, numbers that do not run from 0 on."""
    stack: str | None = None
    """Canonical name of the container of the blocks."""
    stacks: dict[str, int | None] = field(default_factory=dict, repr=False)
    """num_layers of each stack in the model, by the container's name there; not of single layers
    in a row."""
    block: int | None = None
    """Which part of a packed parameter this is; shape and fans are then the part's own."""

    @property
    def module_name(self) -> str:
        """The canonical name of the module that owns the parameter."""
        return self.name.rpartition(".")[0]

    @property
    def layout(self) -> FanLayout:
        """How the module reads the parameter's dimensions."""
        return fan_layout(self.module, self.leaf)

    @property
    def fans(self) -> Fans:
        """Fan in and fan out; an error below 2 dimensions."""
        return compute_fans(self.shape, **self.layout, function="Site.fans")

    @property
    def frozen(self) -> bool:
        """Whether the parameter takes no gradient."""
        return not any(p.requires_grad for p in self.parameters())

    @property
    def loaded(self) -> bool:
        """Whether transformers has loaded the parameter from a checkpoint."""
        parameters = self.parameters()
        marks = [getattr(p, "_is_hf_initialized", False) for p in parameters]
        return bool(parameters) and all(marks)

    def parameters(self) -> list[Tensor]:
        """Return the parameter, or those that a parametrised tensor is computed from."""
        return _originals(self.module, self.leaf) if self.parametrized else [self.tensor]


def check_assignable(function: str, site: Site) -> None:
    """Raise unless the tensor of a parametrised module can be set through its right_inverse."""
    parametrizations: Any = site.module.parametrizations
    for parametrization in parametrizations[site.leaf]:
        if not hasattr(parametrization, "right_inverse"):
            got = f"a {type(parametrization).__name__}, which has none"
            fix = "Use torch_init.keep, or initialise the module before it is parametrised"
            expected = "a parametrisation with a right_inverse"
            raise ValueError(describe(function, "model", got, expected, fix))


def find_sites(
    function: str, model: nn.Module, rename: Callable[[str], str] | None = None
) -> list[Site]:
    """Return the sites of model in the order of its parameters, tied ones once.

    Args:
        function: name for error messages.
        rename: maps a canonical name to the name that counts, for a model that is a part of a
            larger one (a stage of a pipeline).

    Raises:
        TypeError: model is not a module.
        ValueError: two parameters with one canonical name.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(describe(function, "model", type(model).__name__, "a torch.nn.Module"))
    if rename is not None and not callable(rename):
        raise TypeError(describe(function, "rename", f"{rename!r}", "a function of a name"))
    places: dict[Any, list[Site]] = {}
    known: dict[str, Any] = {}
    stacks: dict[str, int | None] = {}
    for prefix, path, place in _walk(model):
        first = place.stack not in stacks and prefix == place.prefix
        if place.stack is not None and first and is_block_like(unwrap(path[-1])):
            stacks[place.stack] = place.num_layers
        module = path[-1]
        for leaf, tensor, parametrized in _tensors(function, module):
            name, block = prefix + leaf, place
            if rename is not None:
                name = _renamed(function, rename, name)
                block = place.renamed(prefix + leaf, name)
            _check_name(function, name)
            identity = (id(module), leaf) if parametrized else id(tensor)
            check_dense(f"{function}: {name}", tensor)
            if known.setdefault(name, identity) != identity:
                got = f"two parameters called {name}"
                raise ValueError(describe(function, "model", got, "names that differ"))
            shape = logical_shape(tensor)
            site = Site(name, leaf, module, model, shape, tensor.dtype, tensor, parametrized)
            site.path, site.stacks = path, stacks
            site.layer, site.num_layers, site.stack, _ = block
            places.setdefault(identity, []).append(site)
    return [_canonical(tied) for tied in places.values()]


def _canonical(places: list[Site]) -> Site:
    """Return that of the places of a tied parameter which gives it its name.

    No matter in what order they come. An embedding before anything else, for its layout.
    """
    if len(places) == 1:
        return places[0]
    embeddings = (nn.Embedding, nn.EmbeddingBag)
    site, *others = sorted(
        places, key=lambda site: (not isinstance(site.module, embeddings), site.name)
    )
    site.aliases = sorted({other.name for other in others} - {site.name})
    site.tied = [(other.module, other.leaf) for other in others]
    return site


def find_buffers(model: nn.Module) -> list[tuple[str, Tensor, bool]]:
    """Return canonical name, buffer and whether state_dict holds it, of each of model's buffers."""
    found: dict[int, tuple[str, Tensor, bool]] = {}
    for prefix, path, _ in _walk(model):
        for leaf, buffer in path[-1]._buffers.items():
            if buffer is not None:
                persistent = leaf not in path[-1]._non_persistent_buffers_set
                found.setdefault(id(buffer), (prefix + leaf, buffer, persistent))
    return list(found.values())


def modules_by_name(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield canonical name and module for every place in model."""
    for prefix, path, _ in _walk(model):
        yield prefix.rstrip("."), path[-1]


_Path = tuple[nn.Module, ...]


def _walk(
    module: nn.Module, prefix: str = "", place: Place = NOWHERE, above: _Path = ()
) -> Iterator[tuple[str, _Path, Place]]:
    """Yield, for every place in a model, the prefix of its canonical names, the modules from the
    model down to the one there, and where in which stack that is."""
    path = (*above, module)
    yield prefix, path, place
    found = blocks(module, prefix) if place is NOWHERE else {}
    for name, child in module._modules.items():
        # Not a module that holds one of those around it.
        if child is None or any(child is other for other in path):
            continue
        inner = prefix if is_wrapper(module, name) else f"{prefix}{name}."
        yield from _walk(child, inner, found.get(name, place), path)


def _tensors(function: str, module: nn.Module) -> Iterator[tuple[str, Tensor, bool]]:
    """Yield (leaf, tensor, whether it is parametrised) for what a module itself holds."""
    # Not by attribute, which a wrapper may pass on to the module inside it.
    if "parametrizations" in module._modules and parametrize.is_parametrized(module):
        for leaf in module.parametrizations:  # type: ignore[union-attr]
            if _originals(module, leaf):  # none of a parametrised buffer
                yield leaf, _check_computable(function, module, leaf), True
    is_list = isinstance(module, parametrize.ParametrizationList)
    for leaf, parameter in module._parameters.items():
        if parameter is not None and not (is_list and leaf.startswith("original")):
            yield leaf, parameter, False


def _originals(module: nn.Module, leaf: str) -> list[Tensor]:
    """Return the parameters that a parametrised tensor is computed from."""
    parametrizations: Any = module.parametrizations
    named = parametrizations[leaf].named_parameters(recurse=False)
    return [parameter for name, parameter in named if name.startswith("original")]


def _computed(module: nn.Module, leaf: str) -> Tensor:
    """Return a parametrised tensor, as in eval mode: spectral_norm's buffers change in training."""
    parametrizations: Any = module.parametrizations
    modes = [(part, part.training) for part in parametrizations[leaf].modules()]
    try:
        parametrizations[leaf].eval()
        with torch.no_grad():
            tensor: Tensor = getattr(module, leaf)
            return tensor
    finally:
        for part, training in modes:
            part.training = training


def _check_computable(function: str, module: nn.Module, leaf: str) -> Tensor:
    try:
        return _computed(module, leaf)
    except RuntimeError as error:
        if not any(is_dtensor(parameter) for parameter in module.parameters()):
            raise
        got = f"a sharded {type(module).__name__} whose {leaf} cannot be computed from shards"
        fix = "Initialise it before it is sharded"
        expected = "parametrisations that work on DTensors"
        raise ValueError(describe(function, "model", got, expected, fix)) from error


def _check_name(function: str, name: str) -> None:
    check_name(function, name)
    if "\0" in name:  # which keeps apart the streams of packed blocks
        expected = "parameters whose names contain no NUL"
        raise ValueError(describe(function, "model", f"{name!r}", expected))


def _renamed(function: str, rename: Callable[[str], str], name: str) -> str:
    renamed = rename(name)
    if not isinstance(renamed, str):
        raise TypeError(describe(function, "rename", f"{renamed!r} for {name}", "a str"))
    return renamed
