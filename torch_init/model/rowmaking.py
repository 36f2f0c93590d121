# SPDX-License-Identifier: Apache-2.0
"""A parameter's row of a plan: what the rule that it got fills it with, block by block."""

import functools
import inspect
import math
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import nn

from torch_init._fill import Values, check_dense, check_tensor, values_of
from torch_init._ops import stream_key
from torch_init.distributed import check_logical
from torch_init.distributions import Constant, TruncatedNormal
from torch_init.model.expectations import Expectation, add, expect
from torch_init.model.layout import Block, blocks, default_split, padding_row
from torch_init.model.rules import Rule, check_split, keep
from torch_init.model.sites import Site, check_assignable
from torch_init.model.table import Piece, Row
from torch_init.schemes import LAYOUT_KEYWORDS, compute_fans

_FAR_BOUND = 8.0
"""In standard deviations: bounds beyond are none, since no value goes that far."""


class Candidate(NamedTuple):
    rule: Rule
    label: str
    recipe: str
    """The recipe that it is from; empty for the caller's own rules."""


class RowMaker:
    """Makes a row of each site; the initialisers are asked about alike blocks once."""

    def __init__(self, function: str, seed: int, include: frozenset[str]) -> None:
        self._function = function
        self._seed = seed
        self._include = include
        self._answers: dict[Any, tuple[Values | None, Expectation | None]] = {}

    def row(self, site: Site, matches: list[Candidate]) -> Row:
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


def warn_of_uncut_normals(rows: list[Row]) -> None:
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
