# SPDX-License-Identifier: Apache-2.0
"""Plans as text, with rich or without; repeated layers are folded into one line."""

import math
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch_init.model.table import Plan, Row

COLUMNS = ("name", "shape", "fan in, out", "scheme", "std", "bounds", "dtype", "rule", "notes")


def plan_text(plan: "Plan", fold: bool = True) -> str:
    """Return plan as lines of text, as wide as they need to be."""
    cells, notes = plan_cells(plan, fold)
    return "\n".join([*_aligned([COLUMNS, *cells]), "", *notes, *_footer(plan)])


def plan_rich(plan: "Plan", width: int) -> Any:
    """Return plan as a renderable of rich, for a terminal so many columns wide."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    cells, notes = plan_cells(plan, fold=True)
    shown = [i for i in _used_columns(cells) if width >= _ROOMY or COLUMNS[i] not in _SPARED]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for i in shown:
        table.add_column(COLUMNS[i], overflow="fold")
    for line in cells:
        table.add_row(*(Text(line[i]) for i in shown))
    return Group(table, Text("\n".join(["", *notes, *_footer(plan)])))


_ROOMY = 140
_SPARED = ("dtype", "rule")
"""Columns that a narrow terminal does without."""


def plan_cells(plan: "Plan", fold: bool) -> tuple[list[tuple[str, ...]], list[str]]:
    """Return the cells of each line of the table, and the notes that the last of them number."""
    groups: dict[Any, list[Row]] = {}
    for number, row in enumerate(plan.rows):
        alike = stem(row.name) if fold else number
        groups.setdefault((alike, _cells(row), row.note), []).append(row)
    notes: dict[str, int] = {}
    lines = []
    for (_, cells, note), rows in groups.items():
        mark = f"[{notes.setdefault(note, len(notes) + 1)}]" if note else ""
        lines.append((folded_name([row.name for row in rows]), *cells, mark))
    return lines, [f"[{number}] {note}" for note, number in notes.items()]


_NUMBER = re.compile(r"(?<![^.])\d+(?![^.])")


def stem(name: str) -> str:
    """Return name with a * for each number in it."""
    return _NUMBER.sub("*", name)


def folded_name(names: Sequence[str]) -> str:
    """Return one name for several that differ in their numbers alone.

    A number that differs stands as the numbers there are. Where not every combination of them is
    there, the first name and how many more there are.
    """
    if len(names) == 1:
        return names[0]
    columns = zip(*([int(n) for n in _NUMBER.findall(name)] for name in names), strict=True)
    numbers = [sorted(set(column)) for column in columns]
    if math.prod(map(len, numbers)) != len(names):
        return f"{names[0]} and {len(names) - 1} more"
    texts = iter([_numbers(found) for found in numbers])
    return _NUMBER.sub(lambda match: next(texts), names[0])


def _numbers(found: Sequence[int]) -> str:
    if len(found) == 1:
        return str(found[0])
    if list(found) == list(range(found[0], found[-1] + 1)):
        return f"[{found[0]}-{found[-1]}]"
    return "[" + ",".join(map(str, found)) + "]"


def _cells(row: "Row") -> tuple[str, ...]:
    fans = _distinct(f"{p.fans.fan_in}, {p.fans.fan_out}" for p in row.pieces if p.fans)
    if row.fans_from:
        fans += f" ({row.fans_from})"
    bounds = ""
    if row.low is not None or row.high is not None:
        bounds = f"{_number(row.low, '-inf')} .. {_number(row.high, 'inf')}"
    return (
        " x ".join(map(str, row.shape)) or "scalar",
        fans,
        row.scheme if row.status == "init" else f"left alone: {row.status}",
        _distinct(_number(p.expectation.std, "") for p in row.pieces if p.expectation),
        bounds if row.low != row.high else _number(row.low, ""),
        str(row.dtype).removeprefix("torch."),
        row.rule,
    )


def _distinct(texts: Iterable[str]) -> str:
    """Return the texts once each; those of blocks that are packed together may differ."""
    different = list(dict.fromkeys(texts))
    return "; ".join(different[:3]) + (" ..." if len(different) > 3 else "")


def _number(number: float | None, otherwise: str) -> str:
    return otherwise if number is None else f"{number:.4g}"


def _footer(plan: "Plan") -> list[str]:
    lines = [plan.summary()]
    if plan.buffers:
        names = [name for name, _, _ in plan.buffers]
        shown = ", ".join(names[:6]) + (" ..." if len(names) > 6 else "")
        lines.append(f"{len(names)} buffers, left alone: {shown}")
    lines += [f"rule {idle}" for idle in plan.idle_rules]
    return lines


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    used = _used_columns(rows[1:])
    return ["  ".join(row[i].ljust(widths[i]) for i in used).rstrip() for row in rows]


def _used_columns(rows: Sequence[Sequence[str]]) -> list[int]:
    return [i for i in range(len(COLUMNS)) if any(row[i] for row in rows)]
