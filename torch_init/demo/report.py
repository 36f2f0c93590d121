# SPDX-License-Identifier: Apache-2.0
"""The comparison in words and numbers: the table and sentences of the terminal, and results.json.

Neither holds a time, a date or a path, so two runs of one seed give the same text and the same
bytes.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

import torch_init

from .claims import Claim, Comparison, learnt
from .data import Digits
from .few_labels import FewLabels
from .measurement import total_ratio
from .models import ACTIVATIONS, STARTS
from .training import MOMENTUM, Run, Settings

_NOTE = (
    "Loss: mean cross-entropy in nats on training examples. Gradient: root mean square of d(loss "
    "of one example) / d(pre-activation), going back from the last hidden layer to the first: mean "
    "factor per layer before training, the mean-field value of the same, and the factor over all "
    "hidden layers before and after training. -: no gradient at all."
)
_COLUMNS = (
    "loss:\nfirst",
    "\nlast",
    "test\naccuracy",
    "gradient:\nper layer",
    "\ntheory",
    "\nbefore",
    "\nafter",
)


def describe(digits: Digits, settings: Settings) -> str:
    """Two lines saying what is trained on what."""
    epochs = settings.epochs_for(digits)
    return (
        f"{digits.name}: {len(digits.x_train)} training and {len(digits.x_test)} test images of "
        f"{digits.x_train.shape[1]} pixels, {digits.classes} classes\n"
        f"{settings.depth} hidden layers of {settings.width} units; SGD, learning rate "
        f"{settings.lr:g}, momentum {MOMENTUM:g}, batches of {settings.batch_size}, "
        f"{epochs} epoch{'s' * (epochs > 1)} ({settings.updates_for(digits)} updates), "
        f"seed {settings.seed}"
    )


def build_table(comparison: Comparison) -> Table:
    """One row per run; fits 80 columns."""
    table = Table(caption=_NOTE, caption_justify="left", box=box.SIMPLE_HEAD, padding=0)
    table.add_column("activation,\n start", no_wrap=True)
    for header in _COLUMNS:
        table.add_column(header, justify="right", no_wrap=True)
    activation = None
    for run in comparison.runs:
        if run.activation != activation:
            activation = run.activation
            table.add_row(Text(ACTIVATIONS[activation].label, style="bold"))
        table.add_row(*_row(comparison, run))
    return table


def _row(comparison: Comparison, run: Run) -> list[str | Text]:
    first, last, factor = run.first, run.last, comparison.factor(run)
    return [
        " " + STARTS[run.start].label,
        _number(first.train_loss, ".4f") if first else "overflow",
        format(last.train_loss, ".4f") if last else "diverged",
        Text(
            "-" if run.test_accuracy is None else f"{run.test_accuracy:.1%}",
            style="green" if learnt(run) else "",
        ),
        _number(factor, ".3f"),
        "-" if factor is None else _number(comparison.expected_factor(run), ".3f"),
        _number(comparison.ratio(run), ".3g"),
        _number(total_ratio(last.gradient_rms) if last else None, ".3g"),
    ]


def _number(value: float | None, form: str) -> str:
    """At most 8 characters: ``form`` from 0.01 to 1000, else two digits and an exponent."""
    if value is None:
        return "-"
    return format(value, form if value == 0 or 1e-2 <= value < 1e3 else ".1e")


def print_report(
    console: Console,
    comparison: Comparison,
    claims: list[Claim],
    success: str,
    tables: list[Table],
) -> None:
    """Print the table, more tables, and what they show."""
    for table in [build_table(comparison), *tables]:
        console.print(table)
    console.print("[bold]What you see[/bold]")
    for claim in claims:
        verdict = "[green]Holds[/green]" if claim.holds else "[red]Does not hold here[/red]"
        console.print(
            f"- {verdict}: {claim.statement}.\n  [dim]{claim.evidence}.[/dim]", highlight=False
        )
    console.print(f"- {success}", highlight=False)


def write_json(
    path: Path,
    digits: Digits,
    settings: Settings,
    comparison: Comparison,
    claims: list[Claim],
    few: FewLabels | None,
) -> None:
    """Write everything measured as strict JSON; null stands for a number that overflowed."""
    results = {
        "versions": {"torch_init": torch_init.__version__, "torch": torch.__version__},
        "data": {
            "name": digits.name,
            "training_examples": len(digits.x_train),
            "test_examples": len(digits.x_test),
            "pixels": digits.x_train.shape[1],
            "classes": digits.classes,
            "probe_class_entropy": comparison.class_entropy,
        },
        "settings": asdict(settings)
        | {"epochs": settings.epochs_for(digits), "momentum": MOMENTUM},
        "runs": [
            asdict(run)
            | {
                "gradient_per_layer": comparison.factor(run),
                "expected_gradient_per_layer": comparison.expected_factor(run),
            }
            for run in comparison.runs
        ],
        "few_labels": None if few is None else few.as_json(),
        "claims": [asdict(claim) for claim in claims],
    }
    text = json.dumps(_without_overflow(results), indent=1, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def _without_overflow(value: Any) -> Any:
    """``value`` with None for NaN and infinity, which JSON lacks."""
    if isinstance(value, dict):
        return {key: _without_overflow(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_overflow(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
