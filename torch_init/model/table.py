# SPDX-License-Identifier: Apache-2.0
"""A plan as a table: one row a parameter, to be read before anything happens."""

import difflib
import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from torch_init._fill import Values
from torch_init.model.expectations import Expectation
from torch_init.model.layout import Block
from torch_init.model.rules import Initialiser
from torch_init.model.sites import Site
from torch_init.schemes import Fans


@dataclass(frozen=True, slots=True)
class Piece:
    """A parameter, or one of the tensors packed in it, with what fills it."""

    block: Block
    initialiser: Initialiser
    arguments: dict[str, Any]
    """The initialiser's, as the rule gives them for this piece."""
    layout: dict[str, Any]
    """How the initialiser is told to read the dimensions."""
    fans: Fans | None
    values: Values | None
    """None if it has no elements."""
    expectation: Expectation | None

    @property
    def scheme(self) -> str:
        """The call, without the tensor, the seed and the name."""
        arguments = ", ".join(f"{k}={_short(v)}" for k, v in self.arguments.items())
        return f"{getattr(self.initialiser, '__name__', '?')}({arguments})"


@dataclass(eq=False, repr=False)
class Row:
    """What a plan says of one parameter."""

    site: Site
    rule: str
    """The rule that decides; empty if none matches."""
    recipe: str
    """The recipe that the rule is from; empty for a rule of the caller's."""
    overridden: tuple[str, ...]
    """Earlier rules that match too, but for those of the same recipe, which means it so."""
    status: str
    """init; or, of a parameter left alone, why: keep, frozen, loaded, no rule."""
    key: int
    """Of the parameter's stream; blocks of a packed parameter have streams of their own."""
    pieces: list[Piece] = field(default_factory=list)
    expectation: Expectation | None = None
    padding_row: int | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The canonical name."""
        return self.site.name

    @property
    def shape(self) -> torch.Size:
        """Of the logical tensor, however it is sharded."""
        return self.site.shape

    @property
    def dtype(self) -> torch.dtype:
        return self.site.dtype

    @property
    def fan_in(self) -> int | None:
        """Of the parameter, or of the first tensor packed in it; None below 2 dimensions."""
        return self._fans.fan_in if self._fans else None

    @property
    def fan_out(self) -> int | None:
        """Of the parameter, or of the first tensor packed in it; None below 2 dimensions."""
        return self._fans.fan_out if self._fans else None

    @property
    def _fans(self) -> Fans | None:
        return self.pieces[0].fans if self.pieces else None

    @property
    def fans_from(self) -> str:
        """How the fans were derived, where it is not from a plain (out, in, *kernel)."""
        if self._fans is None:
            return ""
        layout = self.pieces[0].layout or self.site.layout
        words = [k if v is True else f"{k}={v}" for k, v in layout.items() if v is True or v != 1]
        if len(self.pieces) > 1:
            shapes = list(dict.fromkeys(piece.block.shape for piece in self.pieces))
            text = " ".join(map(str, shapes)) if len(shapes) < 4 else f"{len(shapes)} shapes"
            words.append(f"{len(self.pieces)} blocks of {text}")
        return ", ".join(words)

    @property
    def scheme(self) -> str:
        """The initialiser's call; several if the blocks of a packed parameter differ in it."""
        return "; ".join(dict.fromkeys(piece.scheme for piece in self.pieces))

    @property
    def mean(self) -> float | None:
        """Expected mean of the elements; None if the scheme does not tell."""
        e = self.expectation
        return None if e is None or math.isnan(e.sum) else e.mean

    @property
    def std(self) -> float | None:
        """Expected standard deviation of the elements (the root mean square if mean is None)."""
        return None if self.expectation is None else self.expectation.std

    @property
    def low(self) -> float | None:
        """Lower bound of the values; None if there is none."""
        return self._bound(None if self.expectation is None else self.expectation.low)

    @property
    def high(self) -> float | None:
        """Upper bound of the values; None if there is none."""
        return self._bound(None if self.expectation is None else self.expectation.high)

    @staticmethod
    def _bound(bound: float | None) -> float | None:
        return bound if bound is not None and math.isfinite(bound) else None

    @property
    def note(self) -> str:
        """What else there is to know."""
        said = list(self.notes)
        if self.site.aliases:
            said.append("tied: " + ", ".join(self.site.aliases))
        if self.site.parametrized:
            said.append("parametrised: set through right_inverse")
        if self.overridden:
            said.append("also matched by " + ", ".join(self.overridden))
        if self.status == "init" and math.prod(self.shape) == 0:
            said.append("no elements")
        return "; ".join(said)

    def __repr__(self) -> str:
        what = self.scheme if self.status == "init" else f"left alone: {self.status}"
        return f"<{self.name} {tuple(self.shape)}: {what}, by {self.rule or 'no rule'}>"

    def as_dict(self) -> dict[str, Any]:
        """Return the row as plain values."""
        return {
            "name": self.name,
            "shape": list(self.shape),
            "dtype": str(self.dtype).removeprefix("torch."),
            "fan_in": self.fan_in,
            "fan_out": self.fan_out,
            "fans_from": self.fans_from,
            "scheme": self.scheme,
            "mean": self.mean,
            "std": self.std,
            "low": self.low,
            "high": self.high,
            "key": f"{self.key:016x}",
            "rule": self.rule,
            "status": self.status,
            "note": self.note,
        }


class Plan:
    """How a model's parameters are to be initialised; what torch_init.plan returns.

    Attributes:
        model: the model it was made for.
        seed: an int.
        rows: one for each parameter, in the model's order; tied parameters once. ``plan[name]`` is
            the row of that name, for which a tied parameter has several.
        buffers: (name, shape, persistent) of each buffer. They are left alone.
        idle_rules: the caller's own rules that match no parameter.
    """

    def __init__(
        self,
        model: nn.Module,
        seed: int,
        rows: list[Row],
        buffers: list[tuple[str, Tensor, bool]],
        idle_rules: list[str],
    ) -> None:
        self.model = model
        self.seed = seed
        self.rows = rows
        self.buffers = [(name, b.shape, persistent) for name, b, persistent in buffers]
        self.idle_rules = idle_rules
        self._by_name = {alias: row for row in rows for alias in (row.name, *row.site.aliases)}

    def __getitem__(self, name: str) -> Row:
        return find_row(self._by_name, name)

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    def to_json(self) -> str:
        """Return the plan as JSON text."""
        return json.dumps(
            {
                "seed": self.seed,
                "parameters": [row.as_dict() for row in self.rows],
                "buffers": [
                    {"name": name, "shape": list(shape), "persistent": persistent}
                    for name, shape, persistent in self.buffers
                ],
                "idle_rules": self.idle_rules,
            },
            indent=1,
        )

    def to_dataframe(self) -> Any:
        """Return the rows as a pandas.DataFrame; needs pandas."""
        try:
            import pandas
        except ImportError as error:
            raise ImportError(
                "torch_init.Plan.to_dataframe needs pandas: pip install pandas"
            ) from (error)
        return pandas.DataFrame([row.as_dict() for row in self.rows])

    def __str__(self) -> str:
        return self.to_text()

    def to_text(self, fold: bool = True) -> str:
        """Return the plan as lines of text; fold joins the lines of layers that are alike."""
        from torch_init.model.printing import plan_text

        return plan_text(self, fold)

    def __rich_console__(self, console: Any, options: Any) -> Any:
        from torch_init.model.printing import plan_rich

        yield plan_rich(self, options.max_width)

    def __repr__(self) -> str:
        return f"<torch_init.Plan of {self.summary()}>"

    def summary(self) -> str:
        """Return a line: how many parameters, how many of them are initialised, the seed."""
        statuses = Counter(row.status for row in self.rows)
        left = [f"{n} {status}" for status, n in statuses.items() if status != "init"]
        elements = sum(math.prod(row.shape) for row in self.rows)
        parts = [f"{len(self.rows)} parameters, {elements:,} elements", f"seed {self.seed}"]
        if left:
            parts.append("left alone: " + ", ".join(left))
        return "; ".join(parts)


Found = TypeVar("Found")


def find_row(rows: Mapping[str, Found], name: str) -> Found:
    """Return the row of that name; a KeyError suggests another one."""
    if name not in rows:
        near = difflib.get_close_matches(str(name), rows, n=1)
        raise KeyError(f"no parameter {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
    return rows[name]


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return repr(value)
