# SPDX-License-Identifier: Apache-2.0
"""What the graph alone shows, whatever the weights: layers without a purpose, a loss misused."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch_init.flow.verdicts import Verdict

if TYPE_CHECKING:
    from torch_init.flow.report import Report


def no_nonlinearity(report: Report) -> list[Verdict]:
    """Several layers that are one linear map."""
    if not report.is_linear or len(report.weighted) < 2:
        return []
    first, last = report.weighted[0].layer, report.weighted[-1].layer
    return [
        Verdict(
            "no_nonlinearity",
            "warning",
            first,
            f"no nonlinearity lies between `{first}` and `{last}`: together they are one linear "
            "map, which a single layer is as well",
            "one after each layer but the last",
            "activations were forgotten, in __init__ or in forward()",
            "add torch.nn.ReLU() after each layer but the last, with torch_init.he_(weight)",
        )
    ]


def loss_mismatch(report: Report) -> list[Verdict]:
    """Probabilities where the loss wants logits, or their logarithms."""
    found = report.loss_mismatch
    if found is None:
        return []
    last = report.rows[-1] if report.rows else None
    layer = last.layer if last and last.type.lower().startswith(found.applied) else ""
    if found.loss == "nll_loss":
        expected = "log-probabilities"
        cause = "it takes no logarithm: what is minimised is -p, not -log p"
        mend = "return logits and use torch.nn.functional.cross_entropy, or apply log_softmax"
    else:
        again = "softmax" if found.loss == "cross_entropy" else "sigmoid"
        expected = "logits"
        cause = (
            f"it applies {again} itself, and with numbers in [0, 1] its loss stays far from 0 and "
            "its gradients small"
        )
        mend = f"remove {found.applied} from the model, and apply it where probabilities are read"
    return [
        Verdict(
            "loss_mismatch",
            "warning",
            layer,
            f"{found.loss} is given what {found.applied} returned",
            expected,
            cause,
            mend,
        )
    ]
