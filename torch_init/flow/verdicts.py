# SPDX-License-Identifier: Apache-2.0
"""A verdict: one sentence on what is wrong, where, why, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass

from torch_init.flow.thresholds import KINDS

SEVERITIES = ("error", "warning", "info", "ok")


@dataclass(frozen=True)
class Verdict:
    """What is wrong with a layer.

    Attributes:
        kind: one of vanishing, exploding, dead, saturated, collapsed, symmetric, zero_signal,
            zero_gradient, no_grad, non_finite, underflow, update_too_small, update_too_large,
            init_mismatch, initial_loss, loss_mismatch, no_nonlinearity, no_data, ok.
        severity: error, warning, info or ok.
        layer: the layer's name; "" for the whole model.
        measured: what was measured, in words with numbers.
        expected: what this initialisation should have given, or what is usual.
        cause: why.
        suggestion: what to do, in torch_init's own calls where one helps.
    """

    kind: str
    severity: str
    layer: str
    measured: str
    expected: str = ""
    cause: str = ""
    suggestion: str = ""

    def __str__(self) -> str:
        where = f" at `{self.layer}`" if self.layer else ""
        expected = f" (expected: {self.expected})" if self.expected else ""
        text = f"{self.kind}{where}: {self.measured}{expected}."
        for sentence in (self.cause, self.suggestion):
            text += f" {sentence[0].upper()}{sentence[1:]}." if sentence else ""
        return text

    @property
    def is_healthy(self) -> bool:
        """Whether there is nothing to mend."""
        return self.severity in ("ok", "info")


def in_order(verdicts: list[Verdict]) -> list[Verdict]:
    """Errors before warnings, causes before consequences."""
    return sorted(verdicts, key=lambda v: (SEVERITIES.index(v.severity), KINDS.index(v.kind)))
