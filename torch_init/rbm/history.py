# SPDX-License-Identifier: Apache-2.0
"""What a training run records."""

from dataclasses import dataclass, field
from typing import Any


@dataclass
class History:
    """The records of fit(), one for each monitored epoch.

    Attributes:
        records: dicts with "epoch", "update" and the monitors' figures.
        stopped_early: whether patience ran out before the last epoch.

    Example:
        >>> history = torch_init.rbm.RBM(6, 4).fit(torch.eye(6), epochs=3)
        >>> [record["epoch"] for record in history.records], len(history["reconstruction"])
        ([1, 2, 3], 3)
    """

    records: list[dict[str, Any]] = field(default_factory=list)
    stopped_early: bool = False

    def __getitem__(self, name: str) -> list[Any]:
        """Return one monitor's figures, epoch by epoch."""
        return [record[name] for record in self.records]

    def __str__(self) -> str:
        lines = []
        for record in self.records:
            figures = [f"{k} {v:.4g}" for k, v in record.items() if k not in ("epoch", "update")]
            lines.append(f"epoch {record['epoch']}: " + ", ".join(figures))
        return "\n".join(lines)
