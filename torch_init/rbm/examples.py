# SPDX-License-Identifier: Apache-2.0
"""What rbm_pretrain learns from: examples as the model takes them, and features of its layers."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from torch_init.errors import describe
from torch_init.rbm.chain import Layer, input_of
from torch_init.rbm.states import (
    EXPECTED,
    check_dense,
    greatest_byte,
    refuse_binary_bytes,
    to_tensor,
)

_FUNCTION = "rbm_pretrain"
_PROBE = 8
_LEAST_HELD_OUT = 20
_CHUNK = 2048


class Examples:
    """Unlabelled examples as the model takes them, in chunks, checked and on its device."""

    def __init__(self, data: Any, device: torch.device, argument: str = "data") -> None:
        self.description = f"the caller's {type(data).__name__}"
        self._argument = argument
        has_rows = hasattr(data, "__getitem__") and hasattr(data, "__len__")
        if isinstance(data, (str, bytes, dict)) or not (has_rows or hasattr(data, "__iter__")):
            raise TypeError(describe(_FUNCTION, argument, type(data).__name__, EXPECTED))
        if isinstance(data, Iterator):
            got = "an iterator, which can be read only once"
            raise TypeError(describe(_FUNCTION, argument, got, EXPECTED))
        if isinstance(data, Tensor):
            check_dense(_FUNCTION, argument, data)
        self._data, self._device = data, device
        self._is_array = isinstance(data, (Tensor, np.ndarray))
        is_list = isinstance(data, (list, tuple))
        self.finite = self._is_array or (has_rows and not is_list)
        if self.finite and len(data) == 0:
            raise ValueError(describe(_FUNCTION, argument, "no rows", "at least one"))

    def __iter__(self) -> Iterator[Tensor]:
        count = greatest = 0
        for chunk in self._chunks():
            check_dense(_FUNCTION, self._argument, chunk)
            count, greatest = count + len(chunk), max(greatest, greatest_byte(chunk))
            yield self._prepared(chunk)
        if count == 0:
            raise ValueError(describe(_FUNCTION, self._argument, "no batches", "at least one"))
        refuse_binary_bytes(_FUNCTION, self._argument, greatest)

    def few(self) -> Tensor:
        """Return the first few examples."""
        return next(iter(self))[:_PROBE]

    def _chunks(self) -> Iterator[Tensor]:
        if not self.finite:
            for batch in self._data:
                yield to_tensor(_FUNCTION, batch)
            return
        for first in range(0, len(self._data), _CHUNK):
            if self._is_array:
                yield to_tensor(_FUNCTION, self._data[first : first + _CHUNK])
            else:
                last = min(first + _CHUNK, len(self._data))
                items = [to_tensor(_FUNCTION, self._data[i]) for i in range(first, last)]
                yield torch.stack(items)

    def _prepared(self, chunk: Tensor) -> Tensor:
        if chunk.dim() < 2:
            got = f"{chunk.dtype} of shape {tuple(chunk.shape)}"
            expected = "examples as the model takes them"
            raise ValueError(describe(_FUNCTION, self._argument, got, expected))
        # A copy, as the model's first operation may work in place.
        inputs = chunk.to(self._device, torch.float32, copy=True)
        if not inputs.isfinite().all():
            got = "values that are not finite"
            raise ValueError(describe(_FUNCTION, self._argument, got, "numbers"))
        return inputs / 255 if chunk.dtype == torch.uint8 else inputs


def bundled(images: bool, device: torch.device) -> Examples:
    """Return scikit-learn's digits, as rows of 64 pixels or as images of one channel."""
    digits = _digits()
    examples = Examples(digits.view(-1, 1, 8, 8) if images else digits, device)
    examples.description = "scikit-learn's digits, 1,797 of 8 x 8, in [0, 1]"
    return examples


@dataclass(frozen=True)
class Survey:
    """All features of a layer at a glance: their range, their spread, and the mean of each.

    Attributes:
        low, high: the least and the greatest value.
        std: of all values together.
        means: of each feature, (features,), float64.
        count: number of rows.
    """

    low: float
    high: float
    std: float
    means: Tensor
    count: int


class Features:
    """What a layer gets of all examples: one tensor, or of a loader a pass over it each time.

    Attributes:
        scale: of the features that are handed out.
        is_stream: whether they come from a loader.
    """

    def __init__(self, model: nn.Module, layer: Layer, examples: Examples) -> None:
        self._model, self._layer, self._examples = model, layer, examples
        self.scale, self.is_stream = 1.0, not examples.finite
        self._rows = None if self.is_stream else torch.cat(list(self))

    def __iter__(self) -> Iterator[Tensor]:
        for inputs in self._examples:
            yield input_of(self._layer, self._model, inputs) * self.scale

    def survey(self) -> Survey:
        """Look at all features, of scale 1 as yet."""
        low, high, count = math.inf, -math.inf, 0
        total: Tensor | float = 0.0
        squares = 0.0
        for part in self if self._rows is None else [self._rows]:
            low, high = min(low, part.min().item()), max(high, part.max().item())
            total = total + part.double().sum(0)
            squares += part.double().square().sum().item()
            count += len(part)
        assert isinstance(total, Tensor)
        means = total / count
        variance = squares / (count * len(means)) - means.mean().item() ** 2
        return Survey(low, high, max(variance, 0.0) ** 0.5, means, count)

    def rows(self) -> Tensor:
        """Return all of them, (N, features)."""
        if self._rows is None:
            return torch.cat(list(self))
        return self._rows if self.scale == 1 else self._rows * self.scale

    def split(self, holdout: float) -> tuple[Any, Tensor | None]:
        """Return training rows and held-out rows, or None."""
        if self.is_stream:
            return self, None
        rows = self.rows()
        held = round(len(rows) * holdout) if len(rows) >= _LEAST_HELD_OUT else 0
        held = min(held, len(rows) - 1)
        generator = torch.Generator().manual_seed(0)
        order = torch.randperm(len(rows), generator=generator, device="cpu")
        order = order.to(rows.device)
        return rows[order[held:]], rows[order[:held]] if held else None


def _digits() -> Tensor:
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        fix = "Install it: pip install scikit-learn; or give data="
        expected = "the package scikit-learn, whose digits are the default"
        raise ImportError(describe(_FUNCTION, "data", "None", expected, fix)) from error
    return torch.from_numpy(load_digits().data).float() / 16
