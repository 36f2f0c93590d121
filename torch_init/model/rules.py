# SPDX-License-Identifier: Apache-2.0
"""Rules: which parameters, and what they are filled with. Recipes: rules with a name and a source.

A rule is data; nothing happens until a plan is made of it.
"""

import fnmatch
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from torch_init.errors import check_positive_int, describe

if TYPE_CHECKING:
    from torch_init.model.sites import Site


def keep(tensor: Tensor) -> Tensor:
    """Leave a parameter as it is: what a rule names in place of an initialiser, to say so.

    Example:
        >>> plan = torch_init.plan(torch.nn.Linear(4, 4), [rule("*", torch_init.keep)])
        >>> plan["weight"].status
        'keep'
    """
    return tensor


Initialiser = Callable[..., Any]
Split = int | Sequence[int]


@dataclass(frozen=True, eq=False)
class Rule:
    """What torch_init.rule returns."""

    name: str | re.Pattern[str]
    initialiser: Initialiser
    module: type[nn.Module] | tuple[type[nn.Module], ...] | None
    where: Callable[["Site"], Any] | None
    split: Split | Callable[["Site"], Split] | None
    split_axis: int
    stacked: bool
    arguments: dict[str, Any]
    pattern: re.Pattern[str]

    def matches(self, site: "Site") -> bool:
        """Whether the rule is for this parameter."""
        if self.pattern.fullmatch(site.name) is None:
            # "*.weight" is meant for a bare "weight" too.
            bare = isinstance(self.name, str) and "." not in site.name
            if not bare or self.pattern.fullmatch("." + site.name) is None:
                return False
        if self.module is not None and not isinstance(site.module, self.module):
            return False
        return self.where is None or bool(self.where(site))

    def __str__(self) -> str:
        name = self.name if isinstance(self.name, str) else f"/{self.name.pattern}/"
        if self.module is not None:
            kinds = self.module if isinstance(self.module, tuple) else (self.module,)
            name += " in " + "|".join(kind.__name__ for kind in kinds)
        if self.where is not None:
            predicate = getattr(self.where, "__name__", "<lambda>")
            name += " where " + ("..." if predicate == "<lambda>" else predicate.lstrip("_"))
        return name


def rule(
    name: str | re.Pattern[str] = "*",
    initialiser: Initialiser | None = None,
    *,
    module: type[nn.Module] | tuple[type[nn.Module], ...] | None = None,
    where: Callable[["Site"], Any] | None = None,
    split: int | Sequence[int] | Callable[["Site"], Split] | None = None,
    split_axis: int = 0,
    stacked: bool = False,
    **arguments: Any,
) -> Rule:
    """Make a rule of a plan: fill the parameters that match with an initialiser.

    Args:
        name: a glob that the parameter's canonical name must match ("*" crosses dots, "*.bias"
            also matches a bare "bias"), or a compiled regular expression that must match all of it.
        initialiser: any initialiser of torch_init, a function (tensor, **arguments) that calls
            one on its tensor, or torch_init.keep.
        module: the type, or types, of the module that owns the parameter.
        where: called with the parameter's site (name, shape, module, layer, fans ...); false: the
            rule does not match.
        split: for a parameter that packs several tensors: their sizes along split_axis, or the
            number of equal ones, or a function of the site that returns either. Each has fans and
            a stream of its own. 1: not packed. None: as the module's type tells (3 in
            MultiheadAttention, the gates of LSTM and GRU).
        split_axis: the dimension that split cuts; of one tensor of the stack, if stacked.
        stacked: dimension 0 counts independent tensors, such as experts.
        arguments: the initialiser's own. A callable is called with the site and gives the value:
            ``std=lambda p: 0.02 / math.sqrt(2 * p.num_layers)``. It is called for each block of
            a packed parameter, with the block's shape and fans, and its number as p.block.

    Raises:
        TypeError, ValueError: arguments of the wrong kind.

    Example:
        >>> model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.ReLU())
        >>> rules = [rule("*.weight", torch_init.he_), rule("*.bias", torch_init.zeros_)]
        >>> plan = torch_init.plan(model, rules)
        >>> [row.scheme for row in plan.rows]
        ['he_()', 'zeros_()']
    """
    pattern = _pattern(name)
    if not callable(initialiser):
        expected = "an initialiser such as torch_init.normal_, or torch_init.keep"
        raise TypeError(describe("rule", "initialiser", f"{initialiser!r}", expected))
    kinds = module if isinstance(module, tuple) else () if module is None else (module,)
    if not all(isinstance(kind, type) and issubclass(kind, nn.Module) for kind in kinds):
        raise TypeError(describe("rule", "module", f"{module!r}", "a module's type, or a tuple"))
    if where is not None and not callable(where):
        raise TypeError(describe("rule", "where", f"{where!r}", "a function of the site"))
    for reserved in ("seed", "generator"):
        if reserved in arguments:
            fix = "Give the seed to the plan; names are the parameters' own"
            raise TypeError(describe("rule", reserved, "one", "none", fix))
    if initialiser is keep and arguments:
        raise TypeError(describe("rule", "arguments", f"{arguments}", "none beside keep"))
    return Rule(
        name=name,
        initialiser=initialiser,
        module=module,
        where=where,
        split=check_split(split),
        split_axis=split_axis,
        stacked=stacked,
        arguments=arguments,
        pattern=pattern,
    )


def _pattern(name: Any) -> re.Pattern[str]:
    if isinstance(name, str):
        return re.compile(fnmatch.translate(name))
    if isinstance(name, re.Pattern) and isinstance(name.pattern, str):
        return name
    expected = "a glob, or a compiled regular expression"
    raise TypeError(describe("rule", "name", f"{name!r}", expected))


def check_split(split: Any) -> Any:
    """Return a rule's split; it must be None, a function, a positive int or a list of these."""
    if split is None or callable(split):
        return split
    if isinstance(split, (list, tuple)):
        return tuple(_check_size(size) for size in split)
    return _check_size(split)


def _check_size(size: Any) -> int:
    numpys = isinstance(size, Integral) and not isinstance(size, int)
    return check_positive_int("rule", "split", int(size) if numpys else size)


@dataclass(frozen=True)
class Recipe:
    """Rules that a paper or a codebase prescribes, under a name and a version that never change.

    Args:
        name: as plan(model, name) takes it.
        version: counts changes of what the recipe gives; "name@version" asks for one of them.
        source: where it is written: paper and equation, or repository and file.
        rules: later ones win.
    """

    name: str
    version: int
    source: str
    rules: tuple[Rule, ...]

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"
