# SPDX-License-Identifier: Apache-2.0
"""From a model and rules to a plan: which rule each parameter gets, and what that fills it with."""

import functools
import inspect
import math
import warnings
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import nn

from torch_init import errors, keys
from torch_init._fill import Values, check_dense, check_tensor, values_of
from torch_init._ops import stream_key
from torch_init.distributed import check_logical
from torch_init.distributions import Constant, TruncatedNormal
from torch_init.model.expectations import Expectation, add, expect
from torch_init.model.layout import Block, blocks, default_split, is_split_weight, padding_row
from torch_init.model.printing import folded_name, stem
from torch_init.model.rules import Recipe, Rule, check_split, keep
from torch_init.model.sites import Site, check_assignable, find_buffers, find_sites
from torch_init.model.table import Piece, Plan, Row
from torch_init.schemes import LAYOUT_KEYWORDS, compute_fans

Rules = str | Recipe | Rule | Iterable[str | Recipe | Rule]
"""What `rules` takes: a recipe's name, a recipe, a rule, or several of these; later ones win."""

INCLUDABLE = ("frozen", "loaded")
_FAR_BOUND = 8.0
"""In standard deviations: bounds beyond are none, since no value goes that far."""
_SPLIT_WEIGHTS = """
..._g, ..._v and ..._orig are what torch.nn.utils.weight_norm, spectral_norm and prune leave of a
weight: initialise the model before, use torch.nn.utils.parametrizations, or add your own rules."""


def plan(
    model: nn.Module,
    rules: Rules,
    seed: int = 0,
    *,
    strict: bool = True,
    include: Collection[str] = (),
    rename: Callable[[str], str] | None = None,
) -> Plan:
    """Say how each parameter of a model would be initialised, without touching any of them.

    Args:
        model: real, on the meta device, fake, or sharded into DTensors. Nothing is allocated.
        rules: a recipe's name ("gpt2", or "gpt2@1" for a version that never changes), a Recipe,
            a rule, or a sequence of them. Of the rules that match a parameter the last one wins.
        seed: in [-2**63, 2**64). Each parameter's key is stream_key(seed, its canonical name).
        strict: a parameter that no rule matches is an error. If False, it is left alone, and the
            plan says so.
        include: "frozen" and "loaded" parameters are left alone unless named here. Frozen are
            those without requires_grad that hold values, loaded those that transformers'
            from_pretrained has marked.
        rename: maps a canonical name to the one that counts for rules and keys, where model is a
            part of a larger one: ``rename=lambda name: "layers.3." + name``.

    Returns:
        A Plan: print it, or read its rows; init_(model, plan) carries it out.

    Raises:
        TypeError, ValueError: parameters that no rule matches, two with one name, an unknown
            recipe, a parameter that cannot be filled, and whatever the initialisers say of
            their arguments.

    Example:
        >>> model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU())
        >>> plan = torch_init.plan(model, "he", seed=0)
        >>> plan["0.weight"].fan_in, plan["0.weight"].std
        (8, 0.5)
    """
    return make_plan("plan", model, rules, seed, strict, include, rename)


def make_plan(
    function: str,
    model: nn.Module,
    rules: Rules,
    seed: int,
    strict: bool,
    include: Collection[str],
    rename: Callable[[str], str] | None,
    dtype: torch.dtype | None = None,
) -> Plan:
    """Make a plan for the named function; with a dtype, for meta parameters converted to it."""
    seed = int(keys.check_seed(function, seed))
    if isinstance(include, (str, torch.Tensor)) or not isinstance(include, Iterable):
        expected = "a list of 'frozen', 'loaded'"
        raise TypeError(errors.describe(function, "include", f"{include!r}", expected))
    for word in include:
        errors.check_choice(function, "include", word, INCLUDABLE)
    sites = find_sites(function, model, rename)
    candidates = _flatten(function, rules)
    if dtype is not None:
        for site in sites:
            if site.tensor.is_meta and site.dtype.is_floating_point:
                site.dtype = dtype
    matches = [[found for found in candidates if found.rule.matches(site)] for site in sites]
    if strict:
        _check_coverage(function, sites, matches)
    maker = _RowMaker(function, seed, frozenset(include))
    rows = [maker.row(site, found) for site, found in zip(sites, matches, strict=True)]
    _warn_of_uncut_normals(rows)
    idle = _idle(candidates, sites, matches)
    for said in idle:
        warnings.warn(f"torch_init.{function}: rule {said}", stacklevel=3)
    return Plan(model, seed, rows, find_buffers(model), idle)


class _Candidate(NamedTuple):
    rule: Rule
    label: str
    recipe: str
    """The recipe that it is from; empty for the caller's own rules."""


def _flatten(function: str, rules: Rules) -> list[_Candidate]:
    if isinstance(rules, str):
        from torch_init import recipes

        rules = recipes.get(rules)
    if isinstance(rules, Recipe):
        name = str(rules)
        return [_Candidate(rule, f"{name}: {rule}", name) for rule in rules.rules]
    if isinstance(rules, Rule):
        return [_Candidate(rules, str(rules), "")]
    if not isinstance(rules, Iterable) or isinstance(rules, (Mapping, nn.Module, torch.Tensor)):
        expected = "a recipe's name, a Recipe, a rule, or a sequence of them"
        got = repr(rules) if isinstance(rules, (int, float)) else f"a {type(rules).__name__}"
        raise TypeError(errors.describe(function, "rules", got, expected))
    return [candidate for part in rules for candidate in _flatten(function, part)]


def _check_coverage(function: str, sites: list[Site], matches: list[list[_Candidate]]) -> None:
    missed = [site for site, found in zip(sites, matches, strict=True) if not found]
    if not missed:
        return
    groups: dict[Any, list[str]] = {}
    for site in missed:
        what = (tuple(site.shape), type(site.module).__name__)
        groups.setdefault((stem(site.name), *what), []).append(site.name)
    lines = [
        f"  {folded_name(names)}  {shape}  of a {kind}"
        for (_, shape, kind), names in groups.items()
    ]
    if len(lines) > 50:
        lines[50:] = [f"  and {len(lines) - 50} more"]
    got = f"none for {len(missed)} of {len(sites)}"
    fix = (
        f'Add rules, such as torch_init.rule("{missed[0].name}", torch_init.normal_, std=0.02) '
        "(torch_init.keep leaves a parameter alone), or pass strict=False. Missing:\n"
    )
    text = errors.describe(function, "rules", got, "a rule for every parameter", fix)
    text += "\n".join(lines)
    if any(is_split_weight(s.module, s.leaf) for s in missed):
        text += _SPLIT_WEIGHTS
    raise ValueError(text)


def _idle(
    candidates: list[_Candidate], sites: list[Site], matches: list[list[_Candidate]]
) -> list[str]:
    """Return what to say of each of the caller's own rules that matched no parameter."""
    used = {id(candidate.rule) for found in matches for candidate in found}
    said = []
    for rule, label, recipe in candidates:
        if recipe or id(rule) in used:
            continue
        tied = [
            f"{alias} is tied to {site.name} and goes by that name"
            for site in sites
            for alias in site.aliases
            if rule.matches(replace(site, name=alias))
        ]
        said.append("; ".join([f"{label}: matches no parameter", *tied]))
    return said


class _RowMaker:
    """Makes a row of each site; the initialisers are asked about alike blocks once."""

    def __init__(self, function: str, seed: int, include: frozenset[str]) -> None:
        self._function = function
        self._seed = seed
        self._include = include
        self._answers: dict[Any, tuple[Values | None, Expectation | None]] = {}

    def row(self, site: Site, matches: list[_Candidate]) -> Row:
        chosen = matches[-1] if matches else None
        row = Row(
            site=site,
            rule=chosen.label if chosen else "",
            recipe=chosen.recipe if chosen else "",
            overridden=tuple(
                earlier.label
                for earlier in matches[:-1]
                if chosen and not (earlier.recipe and earlier.recipe == chosen.recipe)
            ),
            status=self._status(site, chosen.rule if chosen else None),
            key=stream_key(self._seed, site.name),
        )
        if row.status == "init" and chosen is not None:
            try:
                self._describe(row, site, chosen.rule)
            except (TypeError, ValueError) as error:
                # Not of the error's own type, which may want other arguments than a text.
                kind = TypeError if isinstance(error, TypeError) else ValueError
                raise kind(f"{error} (parameter {site.name}, rule {row.rule})") from error
            except AttributeError as error:  # of a callable that asks the site for what it has not
                where = f"(parameter {site.name}, rule {row.rule})"
                raise AttributeError(f"{error} {where}") from error
        return row

    def _status(self, site: Site, rule: Rule | None) -> str:
        if rule is None:
            return "no rule"
        if rule.initialiser is keep:
            return "keep"
        if site.loaded and "loaded" not in self._include:
            return "loaded"
        # What lies on the meta device has no values that could be left alone.
        if site.frozen and "frozen" not in self._include and not site.tensor.is_meta:
            return "frozen"
        return "init"

    def _describe(self, row: Row, site: Site, rule: Rule) -> None:
        check_logical(self._function, site.tensor)
        if site.parametrized:
            check_assignable(self._function, site)
        split = check_split(rule.split(site)) if callable(rule.split) else rule.split
        if split is None:
            split = default_split(site.module, site.leaf)
        cut = blocks(site.shape, split, rule.split_axis, rule.stacked)
        row.pieces = [self._piece(site, rule, block) for block in cut]
        if all(isinstance(piece.values, Constant) for piece in row.pieces):
            check_dense(self._function, site.tensor)
        else:
            check_tensor(self._function, site.tensor)
        places = [(site.module, site.leaf), *site.tied]
        padding = [padding_row(module, leaf) for module, leaf in places]
        row.padding_row = next((number for number in padding if number is not None), None)
        row.expectation = _expectation(row)
        row.notes = _notes(row, rule)

    def _piece(self, site: Site, rule: Rule, block: Block) -> Piece:
        if block.part:
            site = replace(site, shape=torch.Size(block.shape), block=block.index)
        given = {k: v(site) if callable(v) else v for k, v in rule.arguments.items()}
        takes = _layout_keywords(rule.initialiser)
        layout = {k: v for k, v in given.items() if k in takes and k in LAYOUT_KEYWORDS}
        if not layout:
            layout = {k: v for k, v in site.layout.items() if k in takes}
        arguments = {**given, **layout}
        values, expectation = self._ask(site, rule, arguments)
        fan_layout = layout if takes else site.layout
        fans = compute_fans(site.shape, **fan_layout) if len(site.shape) > 1 else None
        return Piece(block, rule.initialiser, given, layout, fans, values, expectation)

    def _ask(
        self, site: Site, rule: Rule, arguments: dict[str, Any]
    ) -> tuple[Values | None, Expectation | None]:
        shape, dtype = tuple(site.shape), site.dtype
        if math.prod(shape) == 0:
            return None, None
        # By its text, where that tells all: 0.0 and -0.0 are equal, and so are 1 and True.
        question = None
        if all(type(value) in _PLAIN for value in arguments.values()):
            question = (id(rule.initialiser), shape, dtype, repr(arguments))
        answer = self._answers.get(question)
        if answer is None:
            values = values_of(self._function, rule.initialiser, shape, dtype, arguments)
            answer = values, None if values is None else expect(values, shape, dtype)
            if question is not None:
                self._answers[question] = answer
        return answer


_PLAIN = (float, int, bool, str, type(None))


def _layout_keywords(initialiser: Callable[..., Any]) -> frozenset[str]:
    """Return which of FanLayout's keywords an initialiser takes; all, if it computes fans."""
    try:
        return _known_layout_keywords(initialiser)
    except TypeError:  # it cannot be hashed
        return _known_layout_keywords.__wrapped__(initialiser)


@functools.lru_cache(maxsize=256)
def _known_layout_keywords(initialiser: Callable[..., Any]) -> frozenset[str]:
    parameters = inspect.signature(initialiser).parameters
    if "layout" in parameters:
        return frozenset(LAYOUT_KEYWORDS)
    return frozenset(LAYOUT_KEYWORDS) & frozenset(parameters)


def _expectation(row: Row) -> Expectation | None:
    parts = [piece.expectation for piece in row.pieces]
    known = [part for part in parts if part is not None]
    if not known or len(known) < len(parts):
        return None
    whole = add(known)
    if row.padding_row is None:
        return whole
    left = 1 - 1 / row.shape[0]
    return whole._replace(
        sum=left * whole.sum,
        sum_variance=left * whole.sum_variance,
        square_sum=left * whole.square_sum,
        square_sum_variance=left * whole.square_sum_variance,
        low=min(whole.low, 0.0),
        high=max(whole.high, 0.0),
    )


def _notes(row: Row, rule: Rule) -> list[str]:
    notes = []
    if row.padding_row is not None:
        notes.append(f"row {row.padding_row} (padding_idx) is zero")
    if any(_is_uncut(piece.values) for piece in row.pieces):
        std = row.std
        notes.append(
            f"bounds more than {_FAR_BOUND:g} standard deviations ({std:.3g}) away cut nothing; "
            'bounds="sigma" counts them in standard deviations'
        )
    scaled = len(_layout_keywords(rule.initialiser)) == len(LAYOUT_KEYWORDS)
    odd = len(row.shape) > 2 and not isinstance(row.site.module, nn.modules.conv._ConvNd)
    if scaled and odd and not rule.stacked and not row.pieces[0].layout:
        notes.append("read as (out, in, *kernel); stacked=True if dimension 0 counts experts")
    return notes


def _is_uncut(values: Values | None) -> bool:
    if not isinstance(values, TruncatedNormal):
        return False
    finite = [abs(bound) for bound in (values.lower, values.upper) if math.isfinite(bound)]
    return values.lower < 0 < values.upper and min(finite, default=0.0) > _FAR_BOUND


def _warn_of_uncut_normals(rows: list[Row]) -> None:
    """Tell those who wrote trunc_normal_(std=0.02) and meant two standard deviations."""
    names = [
        row.name for row in rows if not row.recipe and any(_is_uncut(p.values) for p in row.pieces)
    ]
    if names:
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        warnings.warn(
            f"torch_init.plan: {names[0]}{more}: the bounds of trunc_normal_ are more than "
            f"{_FAR_BOUND:g} standard deviations from the mean and cut nothing. "
            'Pass bounds="sigma" if a and b are meant in standard deviations.',
            stacklevel=4,  # who called plan, init_ or materialize_
        )
