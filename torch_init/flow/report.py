# SPDX-License-Identifier: Apache-2.0
"""The report: rows, fits and verdicts, and the ways to show them."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch_init.errors import describe
from torch_init.flow.initial_loss import InitialLoss
from torch_init.flow.loss_mismatch import LossMismatch
from torch_init.flow.origin import Origin, find_origin
from torch_init.flow.rows import ParameterRow, Row, Slope, as_plain, fit_slope
from torch_init.flow.rules import judge
from torch_init.flow.thresholds import KINDS, Thresholds
from torch_init.flow.verdicts import Verdict, in_order

if TYPE_CHECKING:
    from torch_init.flow.comparison import Comparison


class UnhealthyModelError(AssertionError):
    """Raised by Report.assert_healthy(): its text is the verdicts."""


@dataclass
class Report:
    """What watch() or check() measured, and what follows from it.

    Attributes:
        rows: one for each module output, in the order of the forward pass.
        parameters: one for each parameter.
        steps: training steps in the window.
        passes: forward passes of the whole model that were measured; not counted if compiled.
        passes_left_out: those that one thread began while one of another was measured.
        uncalled: modules that were watched and never called, such as the output projection of
            torch.nn.MultiheadAttention, whose weight is used without calling it.
        aliases: further names of modules that are used in several places.
        unsupported: modules whose output could not be measured, and its layout and dtype.
        initial_loss: the cross-entropy of the pass, of check() with class labels; else None.
        loss_mismatch: what check() found the loss to take for what it is not; else None.
        is_linear: whether several layers make one linear map, so far as that is known.
    """

    rows: list[Row]
    parameters: list[ParameterRow]
    thresholds: Thresholds = field(default_factory=Thresholds)
    steps: int = 0
    passes: int = 0
    passes_left_out: int = 0
    uncalled: list[str] = field(default_factory=list)
    aliases: dict[str, list[str]] = field(default_factory=dict)
    unsupported: dict[str, str] = field(default_factory=dict)
    is_scaled: bool = False
    has_sums: bool = False
    is_linear: bool = False
    ran_unseen: bool = False
    prediction_problem: str = ""
    initial_loss: InitialLoss | None = None
    loss_mismatch: LossMismatch | None = None

    @cached_property
    def weighted(self) -> list[Row]:
        """The rows of layers with weights, by which depth is counted."""
        return [row for row in self.rows if row.role == "weighted" and row.calls]

    @property
    def hidden(self) -> list[Row]:
        """The weighted rows but the last, which is the model's output."""
        return self.weighted[:-1]

    @cached_property
    def depth(self) -> list[Row]:
        """The hidden rows that slopes go over: the trunk, or what lies on residual branches.

        The two have sizes of their own, which a LayerScale sets: the larger part is taken. Tables,
        which are only returned, count for no depth, nor does a row of many calls.
        """
        rows = [row for row in self.hidden if row.calls <= self._calls_of_first(row)]
        applied = [row for row in rows if row.weight_gain is not None]
        rows = applied if 2 * len(applied) > len(rows) else rows
        branches = [row for row in rows if row.is_bypassed]
        return branches if 2 * len(branches) > len(rows) else [r for r in rows if not r.is_bypassed]

    def _calls_of_first(self, row: Row) -> int:
        """How often a module was called a first time: a later row with more calls is a rest."""
        name = row.layer.partition("#")[0]
        return next((r.calls for r in self.rows if r.layer == name), row.calls)

    @cached_property
    def slope(self) -> Slope | None:
        """The line through the gradients' log10 norms, over depth's outputs."""
        rows = [row for row in self.depth if row.backward_calls]
        first = [row for row in self.hidden if row.backward_calls][:1]
        rows = _without_waiting(rows, "gradient_norm", first)
        return _slope(rows, [row.gradient_norm for row in rows], backward=True)

    @cached_property
    def signal_slope(self) -> Slope | None:
        """The line through the signal's log10 root mean squares, over the same layers."""
        rows = _without_waiting(self.depth, "rms", self.weighted[-1:])
        return _slope(rows, [row.rms for row in rows], backward=False)

    @cached_property
    def nonfinite_origin(self) -> Origin | None:
        """The first tensor that held a NaN or an infinity, in the order of events."""
        return find_origin(self.rows, self.parameters)

    @cached_property
    def verdicts(self) -> list[Verdict]:
        """What is wrong, causes first; a single `ok` if nothing is."""
        found = judge(self)
        if all(v.is_healthy for v in found):
            found.append(self._ok())
        return in_order(found)

    @property
    def verdict(self) -> Verdict:
        """The first of the verdicts that is no mere information."""
        return next(v for v in self.verdicts if v.severity != "info")

    def _ok(self) -> Verdict:
        parts = []
        for name, slope in (("gradient", self.slope), ("signal", self.signal_slope)):
            if slope is not None:
                parts.append(
                    f"{name} x{slope.factor:.3g} per layer, x{slope.total:.2g} over {slope.layers} "
                    "layers"
                )
        if self.initial_loss is not None:
            guess = math.log(self.initial_loss.classes)
            parts.append(f"first loss {self.initial_loss.value:.3g}, of a guess {guess:.3g}")
        if self.slope is None:
            reason = self._why_no_slope()
            parts.append(f"the gradient along the depth was not judged, as {reason}")
        return Verdict("ok", "ok", "", "; ".join(parts))

    def _why_no_slope(self) -> str:
        if not any(row.backward_calls for row in self.rows):
            return "no backward pass was seen"
        if len(self.hidden) < 2:
            layers = "one layer" if self.hidden else "no layer"
            return f"there is {layers} with weights before the output, and it takes two"
        reached = [row for row in self.depth if row.gradient_norm != 0]
        if len(reached) < len(self.depth):
            return (
                f"none reaches {len(self.depth) - len(reached)} of {len(self.depth)} layers yet: "
                "weights after them begin at zero"
            )
        if all(row.weight_gain is None for row in self.depth):
            return f"it takes three layers where the graph is not known (here: {len(self.depth)})"
        return (
            "it takes two layers with weights before the output that all paths go through, or "
            f"three on residual branches (here: {len(self.depth)})"
        )

    def assert_healthy(self, ignore: Collection[str] = ()) -> None:
        """Raise UnhealthyModelError if any verdict asks for mending; for tests and CI.

        Args:
            ignore: kinds of verdicts to let pass.

        Raises:
            UnhealthyModelError: naming every verdict that is left.
            ValueError: an unknown kind in ignore.
        """
        for kind in ignore:
            if kind not in KINDS:
                expected = "one of " + ", ".join(KINDS)
                raise ValueError(describe("Report.assert_healthy", "ignore", repr(kind), expected))
        left = [v for v in self.verdicts if not v.is_healthy and v.kind not in ignore]
        if left:
            raise UnhealthyModelError("\n".join(str(v) for v in left))

    def compare(self, other: Report) -> Comparison:
        """Lay another report beside this one: another initialisation, or a later step."""
        from torch_init.flow.comparison import Comparison

        return Comparison(self, other)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain numbers, strings, lists and dicts; None for NaN."""
        plain: dict[str, Any] = as_plain(
            {
                "verdicts": [asdict(v) | {"text": str(v)} for v in self.verdicts],
                "slope": None if self.slope is None else asdict(self.slope),
                "signal_slope": None if self.signal_slope is None else asdict(self.signal_slope),
                "initial_loss": None if self.initial_loss is None else asdict(self.initial_loss),
                "steps": self.steps,
                "passes": self.passes,
                "passes_left_out": self.passes_left_out,
                "uncalled": self.uncalled,
                "rows": [asdict(row) for row in self.rows],
                "parameters": [asdict(row) for row in self.parameters],
                "aliases": self.aliases,
                "unsupported": self.unsupported,
            }
        )
        return plain

    def to_json(self, path: str | Path | None = None) -> str:
        """Return the report as strict JSON, and write it to path if one is given."""
        text = json.dumps(self.to_dict(), allow_nan=False, indent=1)
        if path is not None:
            Path(path).write_text(text + "\n", encoding="utf-8")
        return text

    def to_dataframe(self) -> Any:
        """Return the rows as a pandas.DataFrame indexed by layer. Needs pandas."""
        try:
            import pandas
        except ImportError as error:
            raise ImportError(
                "torch_init: Report.to_dataframe needs pandas: pip install pandas"
            ) from error
        frame = pandas.DataFrame([asdict(row) for row in self.rows])
        return frame.set_index("layer") if len(frame) else frame

    def to_html(self, path: str | Path | None = None, title: str = "Gradient flow") -> str:
        """Return the report as one HTML page that needs no network; write it if path is given."""
        from torch_init.flow.html import page

        text = page(self, title)
        if path is not None:
            Path(path).write_text(text, encoding="utf-8")
        return text

    def plot(self, kind: str = "gradflow", ax: Any = None) -> Any:
        """Draw with matplotlib and return the Axes.

        Args:
            kind: "gradflow" (gradient by layer), "signal", "ratio" (update-to-weight ratios) or
                "hist" (log2 histograms of gradients; needs watch(histogram=True)).
            ax: the matplotlib Axes to draw into; a new figure by default.
        """
        from torch_init.flow.plots import draw

        return draw(self, kind, ax)

    def __str__(self) -> str:
        from torch_init.flow.text import format_report

        return format_report(self)

    def __rich__(self) -> Any:
        from torch_init.flow.text import rich_report

        return rich_report(self)


def _slope(rows: Sequence[Row], sizes: Sequence[float], backward: bool) -> Slope | None:
    """A line through two layers is one only if they follow each other, as far as is known."""
    in_a_row = all(row.weight_gain is not None and not row.is_bypassed for row in rows)
    if len(rows) < 3 and not in_a_row:
        return None
    return fit_slope([row.layer for row in rows], sizes, backward)


def _without_waiting(rows: Sequence[Row], size: str, end: Sequence[Row]) -> list[Row]:
    """The rows but those of size 0 which a weight that begins at zero, on purpose, makes so.

    Where the structure is not known it is on purpose if the end is reached all the same: something
    goes around it.
    """
    arrives = any(getattr(row, size) != 0 for row in end)

    def is_waiting(row: Row) -> bool:
        return getattr(row, size) == 0 and (arrives if row.waits is None else row.waits)

    return [row for row in rows if not is_waiting(row)]
