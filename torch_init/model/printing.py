# SPDX-License-Identifier: Apache-2.0
"""Plans as text, with rich or without; repeated layers are folded into one line."""

import re
from collections.abc import Sequence
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
        stem = _LAYER.sub(r"\1*\2", row.name, count=1) if fold else number
        groups.setdefault((stem, _cells(row), row.note), []).append(row)
    notes: dict[str, int] = {}
    lines = []
    for (_, cells, note), rows in groups.items():
        mark = f"[{notes.setdefault(note, len(notes) + 1)}]" if note else ""
        lines.append((_name(rows), *cells, mark))
    return lines, [f"[{number}] {note}" for note, number in notes.items()]


_LAYER = re.compile(r"(^|\.)\d+(\.|$)")


def _name(rows: "Sequence[Row]") -> str:
    if len(rows) == 1:
        return rows[0].name
    layers = sorted(row.site.layer or 0 for row in rows)
    if layers == list(range(layers[0], layers[-1] + 1)):
        which = f"[{layers[0]}-{layers[-1]}]"
    else:
        which = "[" + ",".join(map(str, layers)) + "]"
    return _LAYER.sub(lambda match: match[1] + which + match[2], rows[0].name, count=1)


def _cells(row: "Row") -> tuple[str, ...]:
    fans = "" if row.fan_in is None else f"{row.fan_in}, {row.fan_out}"
    if row.fans_from:
        fans += f" ({row.fans_from})"
    bounds = ""
    if row.low is not None or row.high is not None:
        bounds = f"{_number(row.low, '-inf')} .. {_number(row.high, 'inf')}"
    return (
        " x ".join(map(str, row.shape)) or "scalar",
        fans,
        row.scheme if row.status == "init" else f"left alone: {row.status}",
        _number(row.std, ""),
        bounds if row.low != row.high else _number(row.low, ""),
        str(row.dtype).removeprefix("torch."),
        row.rule,
    )


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
