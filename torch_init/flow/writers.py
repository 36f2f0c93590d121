# SPDX-License-Identifier: Apache-2.0
"""Reports over time: to TensorBoard, Weights & Biases, JSON lines, CSV, or a function."""

from __future__ import annotations

import csv
import json
import math
import os
from pathlib import Path
from typing import Any

from torch_init.errors import describe
from torch_init.flow.report import Report
from torch_init.flow.totals import BINS, LOWEST_EXPONENT

_CHARTS = ("gradient_norm", "signal_rms", "update_ratio", "dead_units", "saturated")
LAYOUT = {
    "Gradient flow": {name.replace("_", " "): ["Multiline", [f"{name}/.*"]] for name in _CHARTS}
}
"""For SummaryWriter.add_custom_scalars: all layers of a statistic in one chart."""


def scalars(report: Report) -> dict[str, float]:
    """Return the report's numbers by name: "gradient_norm/layer", "slope/gradient" and the like.

    Only what is finite: a count of what is not stands under "nonfinite/layer".
    """
    numbers: dict[str, float] = {}
    for row in report.rows:
        numbers[f"signal_rms/{row.layer}"] = row.rms
        numbers[f"gradient_norm/{row.layer}"] = row.gradient_norm
        numbers[f"saturated/{row.layer}"] = row.saturated
        numbers[f"dead_units/{row.layer}"] = math.nan if row.dead is None else row.dead
        if row.nonfinite or row.gradient_nonfinite:
            numbers[f"nonfinite/{row.layer}"] = row.nonfinite + row.gradient_nonfinite
    for parameter in report.parameters:
        numbers[f"update_ratio/{parameter.name}"] = parameter.update_ratio
        numbers[f"parameter_gradient_norm/{parameter.name}"] = parameter.gradient_norm
    for name, slope in (("gradient", report.slope), ("signal", report.signal_slope)):
        if slope is not None:
            numbers[f"slope/{name}"] = slope.per_layer
    return {name: float(value) for name, value in numbers.items() if math.isfinite(value)}


def write(report: Report, target: Any, step: int) -> None:
    """Write report to target, whose kind is told by what it can do; see Flow.log_to()."""
    if isinstance(target, (str, os.PathLike)):
        _write_file(report, Path(target), step)
    elif hasattr(target, "add_scalar"):
        _write_tensorboard(report, target, step)
    elif hasattr(target, "log"):
        target.log({f"flow/{k}": v for k, v in scalars(report).items()} | _texts(report), step=step)
    elif callable(target):
        target(scalars(report), step)
    else:
        expected = "a SummaryWriter, a Weights & Biases run, a path or a function"
        raise TypeError(describe("Flow.log_to", "target", f"{target!r}", expected))


def _texts(report: Report) -> dict[str, str]:
    return {"flow/verdict": str(report.verdict)}


def _write_tensorboard(report: Report, writer: Any, step: int) -> None:
    for name, value in scalars(report).items():
        writer.add_scalar(name, value, step)
    writer.add_text("verdict", str(report.verdict), step)
    for row in report.rows:
        for name, counts, absmax in (
            ("signal_log2", row.histogram, row.absmax),
            ("gradient_log2", row.gradient_histogram, row.gradient_absmax),
        ):
            if counts and sum(counts):
                _write_histogram(writer, f"{name}/{row.layer}", counts, absmax, step)
    if not getattr(writer, "_has_torch_init_layout", False):
        writer.add_custom_scalars(LAYOUT)
        writer._has_torch_init_layout = True


def _write_histogram(writer: Any, tag: str, counts: list[int], absmax: float, step: int) -> None:
    """Bins of log2 |x|, counted on the device: the tensor itself is never copied.

    The axis is log2: TensorBoard's own is linear and would show one bin.
    """
    limits = [float(LOWEST_EXPONENT + i + 1) for i in range(BINS)]
    middles = [limit - 0.5 for limit in limits]
    total = sum(counts)
    seen = [i for i, count in enumerate(counts) if count]
    writer.add_histogram_raw(
        tag,
        min=limits[seen[0]] - 1,
        max=math.log2(absmax) if absmax > 0 else limits[seen[-1]],
        num=total,
        sum=sum(c * m for c, m in zip(counts, middles, strict=True)),
        sum_squares=sum(c * m * m for c, m in zip(counts, middles, strict=True)),
        bucket_limits=limits,
        bucket_counts=counts,
        global_step=step,
    )


def _write_file(report: Report, path: Path, step: int) -> None:
    if path.suffix == ".jsonl":
        with path.open("a", encoding="utf-8") as file:
            line = {"step": step, "verdict": str(report.verdict), **scalars(report)}
            file.write(json.dumps(line, allow_nan=False) + "\n")
    elif path.suffix == ".csv":
        is_new = not path.exists() or path.stat().st_size == 0
        with path.open("a", encoding="utf-8", newline="") as file:
            rows = csv.writer(file)
            if is_new:
                rows.writerow(["step", "statistic", "layer", "value"])
            for name, value in scalars(report).items():
                statistic, _, layer = name.partition("/")
                rows.writerow([step, statistic, layer, repr(value)])
    else:
        raise ValueError(
            describe("Flow.log_to", "target", f"{str(path)!r}", "a path ending in .jsonl or .csv")
        )
