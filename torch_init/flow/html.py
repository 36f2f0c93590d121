# SPDX-License-Identifier: Apache-2.0
"""The report as one HTML page: no script, no network, nothing beside it."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

from torch_init.flow.svg import Line, chart
from torch_init.flow.text import cells, notes, number

if TYPE_CHECKING:
    from torch_init.flow.report import Report
    from torch_init.flow.rows import ParameterRow, Slope
    from torch_init.flow.verdicts import Verdict

_STYLE = """
:root { color-scheme: light dark; --text: #1d2430; --soft: #667085; --line: #e3e7ee; --page: #fff;
  --card: #f7f8fa; --measured: #0b6bcb; --expected: #d1590b; --error: #c0262d; --warning: #b25e00;
  --info: #4a5568; --ok: #1a7f4b; }
@media (prefers-color-scheme: dark) { :root { --text: #e6e9ef; --soft: #98a2b3; --line: #333b48;
  --page: #14181f; --card: #1c222c; --measured: #6db3f2; --expected: #f2a065; --error: #ff8086;
  --warning: #f5b25c; --info: #a9b4c4; --ok: #6fd39b; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 72rem; padding: 2rem 1.25rem 4rem; background: var(--page);
  color: var(--text); font: 15px/1.5 system-ui, -apple-system, "Segoe UI", sans-serif; }
h1 { font-size: 1.5rem; margin: 0 0 .25rem; } h2 { font-size: 1.1rem; margin: 2.25rem 0 .75rem; }
.soft { color: var(--soft); } code { font: .9em ui-monospace, monospace; overflow-wrap: anywhere; }
.verdict { border: 1px solid var(--line); border-left: 4px solid var(--info); border-radius: 6px;
  background: var(--card); padding: .75rem 1rem; margin: .75rem 0; }
.verdict h3 { margin: 0 0 .25rem; font-size: 1rem; } .verdict p { margin: .2rem 0; }
.verdict dl { display: grid; grid-template-columns: 6.5rem 1fr; gap: .15rem .75rem;
  margin: .4rem 0 0; }
dt { color: var(--soft); } dd { margin: 0; }
.error { border-left-color: var(--error); } .error h3 { color: var(--error); }
.warning { border-left-color: var(--warning); } .warning h3 { color: var(--warning); }
.ok { border-left-color: var(--ok); } .ok h3 { color: var(--ok); }
.charts { display: grid; gap: 1.25rem;
  grid-template-columns: repeat(auto-fit, minmax(26rem, 1fr)); }
figure { margin: 0; } figcaption { font-weight: 600; margin-bottom: .35rem; }
svg { width: 100%; height: auto; display: block; } svg text { fill: var(--soft); font-size: 11px; }
.grid { stroke: var(--line); } .m { stroke: var(--measured); fill: none; stroke-width: 2; }
.md { fill: var(--measured); } .e { stroke: var(--expected); fill: none; stroke-width: 1.5;
  stroke-dasharray: 5 4; } .band { fill: var(--expected); opacity: .14; }
.key { display: inline-block; width: 1.6rem; border-top: 2px solid; vertical-align: middle;
  margin: 0 .35rem 0 .9rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .87rem;
  font-variant-numeric: tabular-nums; }
th { text-align: right; color: var(--soft); font-weight: 500; border-bottom: 2px solid var(--line);
  padding: .3rem .55rem; vertical-align: bottom; } td { text-align: right; padding: .25rem .55rem;
  border-bottom: 1px solid var(--line); white-space: nowrap; }
th:nth-child(-n+2), td:nth-child(-n+2) { text-align: left; } tr.hit td { background: var(--card);
  font-weight: 600; }
@media (max-width: 32rem) { .charts { grid-template-columns: 1fr; } }
"""

_HEADS = (
    "layer", "type, and what follows", "signal rms", "expected", "gradient norm", "expected",
    "zeros", "dead units", "saturated", "std over batch",
)  # fmt: skip
_PARAMETER_HEADS = (
    "parameter", "shape", "weight rms", "gradient rms", "gradient norm", "update rms",
    "update / weight", "steps",
)  # fmt: skip


def page(report: Report, title: str) -> str:
    """Return the page."""
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{escape(title)}</h1>",
        f'<p class="soft">{escape(_summary(report))}</p>',
        *(_verdict(v) for v in report.verdicts),
        _charts(report),
        _rows(report),
        _parameters(report.parameters),
        *(f'<p class="soft">{escape(line)}</p>' for line in notes(report)),
        "</body></html>",
    ]
    return "\n".join(part for part in parts if part) + "\n"


def _summary(report: Report) -> str:
    words = [f"{len(report.rows)} tensors", f"{len(report.parameters)} parameters"]
    words.append(f"{report.steps} training step{'' if report.steps == 1 else 's'}")
    for name, slope in (("gradient", report.slope), ("signal", report.signal_slope)):
        if slope is not None:
            words.append(f"{name} ×{slope.factor:.3g} per layer")
    return " · ".join(words)


def _verdict(verdict: Verdict) -> str:
    where = f" at <code>{escape(verdict.layer)}</code>" if verdict.layer else ""
    details = [
        f"<dt>{name}</dt><dd>{_words(text)}</dd>"
        for name, text in (
            ("expected", verdict.expected),
            ("cause", verdict.cause),
            ("what to do", verdict.suggestion),
        )
        if text
    ]
    return (
        f'<section class="verdict {verdict.severity}"><h3>{verdict.kind.replace("_", " ")}{where}'
        f"</h3><p>{_words(verdict.measured)}</p>"
        + (f"<dl>{''.join(details)}</dl>" if details else "")
        + "</section>"
    )


def _words(text: str) -> str:
    """Text with what stands between backticks, and torch_init's own calls, as code."""
    text = re.sub(r"`([^`]*)`", r"<code>\1</code>", escape(text, quote=False))
    return re.sub(r"(torch(?:_init|\.nn|\.amp)[\w.]*(?:\([^)]*\)+)?)", r"<code>\1</code>", text)


def _charts(report: Report) -> str:
    rows = report.weighted
    if len(rows) < 2:
        return ""
    figures = []
    names = [row.layer for row in rows]
    sizes = {
        "Gradient with respect to each layer's output (norm)": (
            [row.gradient_norm for row in rows],
            [row.expected_gradient_norm for row in rows],
            [row.gradient_tolerance or 1.0 for row in rows],
            report.slope,
        ),
        "Signal of each layer's output (root mean square)": (
            [row.rms for row in rows],
            [row.expected_rms for row in rows],
            [row.tolerance or 1.0 for row in rows],
            report.signal_slope,
        ),
    }
    for caption, (measured, expected, tolerance, slope) in sizes.items():
        if not any(math.isfinite(value) and value > 0 for value in measured):
            continue
        drawing = chart(names, Line("m", measured), Line("e", expected), tolerance)
        figures.append(
            f"<figure><figcaption>{caption}</figcaption>{drawing}"
            f'<div class="soft">{escape(_slope(slope))}</div></figure>'
        )
    if not figures:
        return ""
    legend = (
        '<p class="soft"><span class="key" style="color:var(--measured)"></span>measured'
        '<span class="key" style="color:var(--expected);border-top-style:dashed"></span>expected '
        "by mean-field theory from these weights; the band is three standard deviations of a "
        "finite width</p>"
    )
    return f'<h2>Along the depth</h2>{legend}<div class="charts">{"".join(figures)}</div>'


def _slope(slope: Slope | None) -> str:
    if slope is None:
        return ""
    return (
        f"{slope.per_layer:+.3f} log10 per layer (×{slope.factor:.3g}), ×{slope.total:.2g} over "
        f"{slope.layers} hidden layers"
    )


def _rows(report: Report) -> str:
    named = {v.layer for v in report.verdicts if not v.is_healthy}
    lines = [(cells(row), row.layer in named) for row in report.rows]
    return _table("Layers", _HEADS, lines) if lines else ""


def _parameters(parameters: Sequence[ParameterRow]) -> str:
    lines = [
        (
            [
                " = ".join(p.names),
                " × ".join(map(str, p.shape)) or "scalar",
                number(p.weight_rms),
                number(p.gradient_rms),
                number(p.gradient_norm),
                number(p.update_rms),
                number(p.update_ratio),
                str(p.steps),
            ],
            False,
        )
        for p in parameters
        if p.steps
    ]
    return _table("Parameters at the optimizer's steps", _PARAMETER_HEADS, lines) if lines else ""


def _table(caption: str, heads: Sequence[str], lines: Sequence[tuple[list[str], bool]]) -> str:
    head = "".join(f"<th>{escape(text)}</th>" for text in heads)
    body = "".join(
        f"<tr{' class=hit' if is_named else ''}>"
        + "".join(f"<td>{escape(text)}</td>" for text in texts)
        + "</tr>"
        for texts, is_named in lines
    )
    return (
        f'<h2>{escape(caption)}</h2><div class="wide"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )
