# SPDX-License-Identifier: Apache-2.0
"""Two reports side by side: two initialisations of a model, or two moments of its training."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch_init.flow.text import number

if TYPE_CHECKING:
    from torch_init.flow.report import Report
    from torch_init.flow.rows import Row


@dataclass(frozen=True)
class ComparedRow:
    """One layer in both reports; None where a report lacks it.

    Attributes:
        signal, gradient: the second report's root mean square, or gradient norm, over the first's.
    """

    layer: str
    first: Row | None
    second: Row | None

    @property
    def signal(self) -> float:
        return _ratio(self.first, self.second, "rms")

    @property
    def gradient(self) -> float:
        return _ratio(self.first, self.second, "gradient_norm")


def _ratio(first: Row | None, second: Row | None, attribute: str) -> float:
    if first is None or second is None or not getattr(first, attribute) > 0:
        return math.nan
    return float(getattr(second, attribute) / getattr(first, attribute))


class Comparison:
    """What Report.compare() returns: rows, verdicts that came and went, and a table as text."""

    def __init__(self, first: Report, second: Report) -> None:
        self.first, self.second = first, second
        ours = {row.layer: row for row in first.rows}
        theirs = {row.layer: row for row in second.rows}
        names = list(ours) + [name for name in theirs if name not in ours]
        self.rows = [ComparedRow(name, ours.get(name), theirs.get(name)) for name in names]

    @property
    def gone(self) -> list[str]:
        """Kinds of verdicts that the first report has and the second has not."""
        return self._only(self.first, self.second)

    @property
    def new(self) -> list[str]:
        """Kinds of verdicts that only the second report has."""
        return self._only(self.second, self.first)

    @staticmethod
    def _only(here: Report, there: Report) -> list[str]:
        others = {v.kind for v in there.verdicts}
        return [v.kind for v in here.verdicts if v.kind not in others]

    def __str__(self) -> str:
        width = max([5, *(len(row.layer) for row in self.rows)])
        lines = [
            f"first: {self.first.verdict}",
            f"second: {self.second.verdict}",
            "",
            f"{'layer':{width}}  {'signal':>9} {'':>9} {'ratio':>9}"
            f"  {'gradient':>9} {'':>9} {'ratio':>9}",
        ]
        for row in self.rows:
            a, b = row.first, row.second
            cells = [
                number(a.rms if a else None),
                number(b.rms if b else None),
                number(row.signal),
                number(a.gradient_norm if a else None),
                number(b.gradient_norm if b else None),
                number(row.gradient),
            ]
            one, two = cells[:3], cells[3:]
            lines.append(
                f"{row.layer:{width}}  "
                + " ".join(f"{c:>9}" for c in one)
                + "  "
                + " ".join(f"{c:>9}" for c in two)
            )
        return "\n".join(lines)
