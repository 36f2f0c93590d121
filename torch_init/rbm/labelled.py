# SPDX-License-Identifier: Apache-2.0
"""The visible layer of a deep belief net's top machine: features and a label, side by side."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from torch_init import _ops
from torch_init.errors import check_positive_int, describe
from torch_init.keys import part_name
from torch_init.rbm.units import Bernoulli, Draw, Softmax, Units


@dataclass(frozen=True)
class Labelled(Units):
    """Bernoulli units followed by one group of softmax units, the label (Hinton et al. 2006).

    Args:
        size: of both together.
        classes: how many of them are the label's.

    Example:
        >>> units = torch_init.rbm.Labelled(5, classes=3)
        >>> units.mean(torch.zeros(5))
        tensor([0.5000, 0.5000, 0.3333, 0.3333, 0.3333])
    """

    classes: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive_int("Labelled", "classes", self.classes)
        if self.classes >= self.size:
            expected = f"more than classes={self.classes}"
            raise ValueError(describe("Labelled", "size", self.size, expected))

    def _split(self, tensor: Tensor) -> tuple[Tensor, Tensor]:
        return tensor[..., : -self.classes], tensor[..., -self.classes :]

    @property
    def _units(self) -> tuple[Bernoulli, Softmax]:
        return Bernoulli(self.size - self.classes), Softmax(self.classes, self.classes)

    def parts(self, tensor: Tensor) -> list[tuple[Units, Tensor]]:
        """Return the features' units and the label's, each with its part of the tensor."""
        return list(zip(self._units, self._split(tensor), strict=True))

    def log_partition(self, field: Tensor, bias: Tensor, log_variance: Tensor | None) -> Tensor:
        features, label = self._split(field)
        return functional.softplus(features, threshold=50.0).sum(-1) + label.logsumexp(-1)

    def mean(self, field: Tensor) -> Tensor:
        features, label = self._split(field)
        return torch.cat([torch.sigmoid(features), torch.softmax(label, -1)], -1)

    def sample(
        self, field: Tensor, log_variance: Tensor | None, draw: Draw, beta: Tensor | float = 1.0
    ) -> Tensor:
        field = field * beta
        features, label = self._split(field)
        words = draw.words
        states = _ops.sample_bernoulli(features, **words)
        words |= {"name": part_name(words["name"], "label")}
        chosen = _ops.sample_softmax(label.unsqueeze(1), **words).squeeze(1)
        return torch.cat([states, chosen], -1).to(field.dtype)

    def states(self) -> Tensor:
        bernoulli, softmax = (part.states() for part in self._units)
        rows = [bernoulli.repeat_interleave(len(softmax), 0), softmax.repeat(len(bernoulli), 1)]
        return torch.cat(rows, 1)

    @property
    def num_states(self) -> float:
        return self._units[0].num_states * self.classes

    def problem(self, data: Tensor) -> str | None:
        problems = [units.problem(part) for units, part in self.parts(data)]
        return problems[0] or problems[1]


def as_labels(function: str, argument: str, labels: Any) -> Tensor:
    """Return labels as a tensor; its numbers are not looked at."""
    if isinstance(labels, Tensor):
        return labels
    if isinstance(labels, np.ndarray):
        labels = labels.copy()  # torch takes no negative strides
    try:
        return torch.as_tensor(labels, device="cpu")
    except (TypeError, ValueError, RuntimeError) as error:
        got = type(labels).__name__
        raise TypeError(describe(function, argument, got, "class numbers")) from error


def one_hot(function: str, labels: Any, count: int, classes: int) -> Tensor:
    """Return count class numbers as rows of a label's units, (count, classes), int64.

    Raises:
        TypeError, ValueError: labels that are not count ints in [0, classes).
    """
    expected = f"({count},) numbers in [0, {classes})"
    if labels is None:
        raise ValueError(describe(function, "labels", "None", expected))
    labels = as_labels(function, "labels", labels)
    if labels.is_meta or labels.layout != torch.strided:
        got = f"a {labels.device.type} tensor, {labels.layout}"
        raise TypeError(describe(function, "labels", got, f"{expected}, in memory"))
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise TypeError(describe(function, "labels", f"{labels.dtype}", f"{expected}, of ints"))
    if labels.shape != (count,) or not bool(((labels >= 0) & (labels < classes)).all()):
        got = f"shape {tuple(labels.shape)}"
        if labels.numel():
            got += f", values in [{int(labels.min())}, {int(labels.max())}]"
        raise ValueError(describe(function, "labels", got, expected))
    return functional.one_hot(labels.long(), classes)
