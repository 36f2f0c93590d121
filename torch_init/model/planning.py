# SPDX-License-Identifier: Apache-2.0
"""From a model and rules to a plan: which rule each parameter gets, and what that fills it with."""

import warnings
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from torch_init import errors, keys
from torch_init.model.layout import is_split_weight
from torch_init.model.printing import folded_name, stem
from torch_init.model.rowmaking import Candidate, RowMaker, warn_of_uncut_normals
from torch_init.model.rules import Recipe, Rule
from torch_init.model.sites import Site, find_buffers, find_sites
from torch_init.model.table import Plan

Rules = str | Recipe | Rule | Iterable[str | Recipe | Rule]
"""What `rules` takes: a recipe's name, a recipe, a rule, or several of these; later ones win."""

INCLUDABLE = ("frozen", "loaded")
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
    maker = RowMaker(function, seed, frozenset(include))
    rows = [maker.row(site, found) for site, found in zip(sites, matches, strict=True)]
    warn_of_uncut_normals(rows)
    idle = _idle(candidates, sites, matches)
    for said in idle:
        warnings.warn(f"torch_init.{function}: rule {said}", stacklevel=3)
    return Plan(model, seed, rows, find_buffers(model), idle)


def _flatten(function: str, rules: Rules) -> list[Candidate]:
    if isinstance(rules, str):
        from torch_init import recipes

        rules = recipes.get(rules)
    if isinstance(rules, Recipe):
        name = str(rules)
        return [Candidate(rule, f"{name}: {rule}", name) for rule in rules.rules]
    if isinstance(rules, Rule):
        return [Candidate(rules, str(rules), "")]
    if not isinstance(rules, Iterable) or isinstance(rules, (Mapping, nn.Module, torch.Tensor)):
        expected = "a recipe's name, a Recipe, a rule, or a sequence of them"
        got = repr(rules) if isinstance(rules, (int, float)) else f"a {type(rules).__name__}"
        raise TypeError(errors.describe(function, "rules", got, expected))
    return [candidate for part in rules for candidate in _flatten(function, part)]


def _check_coverage(function: str, sites: list[Site], matches: list[list[Candidate]]) -> None:
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
    candidates: list[Candidate], sites: list[Site], matches: list[list[Candidate]]
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
