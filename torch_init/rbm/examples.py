# SPDX-License-Identifier: Apache-2.0
"""What rbm_pretrain learns from: examples as the model takes them, and features of its layers."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from torch_init.errors import describe
from torch_init.rbm.chain import Layer, capturing
from torch_init.rbm.data import EXPECTED, to_tensor

_FUNCTION = "rbm_pretrain"
_PROBE = 8
_LEAST_HELD_OUT = 20
_CHUNK = 2048


class Examples:
    """Unlabelled examples as the model takes them, in chunks, checked and on its device."""

    def __init__(self, data: Any, device: torch.device) -> None:
        self.description = f"the caller's {type(data).__name__}"
        if data is None:
            data, self.description = _digits(), "scikit-learn's digits, 1,797 of 8 x 8, in [0, 1]"
        has_rows = hasattr(data, "__getitem__") and hasattr(data, "__len__")
        if isinstance(data, (str, bytes, dict)) or not (has_rows or hasattr(data, "__iter__")):
            raise TypeError(describe(_FUNCTION, "data", type(data).__name__, EXPECTED))
        if isinstance(data, Iterator):
            got = "an iterator, which can be read only once"
            raise TypeError(describe(_FUNCTION, "data", got, EXPECTED))
        self._data, self._device = data, device
        self._is_array = isinstance(data, (Tensor, np.ndarray))
        is_list = isinstance(data, (list, tuple))
        self.finite = self._is_array or (has_rows and not is_list)
        if self.finite and len(data) == 0:
            raise ValueError(describe(_FUNCTION, "data", "no rows", "at least one"))

    def __iter__(self) -> Iterator[Tensor]:
        count = 0
        for chunk in self._chunks():
            count += len(chunk)
            yield self._prepared(chunk)
        if count == 0:
            raise ValueError(describe(_FUNCTION, "data", "no batches", "at least one"))

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
                part = self._data[first : first + _CHUNK]
                yield part if isinstance(part, Tensor) else torch.from_numpy(np.array(part))
            else:
                last = min(first + _CHUNK, len(self._data))
                items = [to_tensor(_FUNCTION, self._data[i]) for i in range(first, last)]
                yield torch.stack(items)

    def _prepared(self, chunk: Tensor) -> Tensor:
        if chunk.is_complex() or chunk.dim() < 2:
            got = f"{chunk.dtype} of shape {tuple(chunk.shape)}"
            raise ValueError(describe(_FUNCTION, "data", got, "examples as the model takes them"))
        inputs = chunk.to(self._device, torch.float32)
        if not inputs.isfinite().all():
            raise ValueError(describe(_FUNCTION, "data", "values that are not finite", "numbers"))
        return inputs / 255 if chunk.dtype == torch.uint8 else inputs


class Features:
    """What a layer gets of all examples: one tensor, or of a loader a pass over it each time."""

    def __init__(self, model: nn.Module, layer: Layer, examples: Examples) -> None:
        self._model, self._layer, self._examples = model, layer, examples
        self.scale = 1.0
        self._rows = torch.cat(list(self)) if examples.finite else None
        low, high, total, squares, count = float("inf"), float("-inf"), 0.0, 0.0, 0
        for part in [self._rows] if self._rows is not None else self:
            low, high = min(low, part.min().item()), max(high, part.max().item())
            total += part.double().sum().item()
            squares += part.double().square().sum().item()
            count += part.numel()
        variance = max(squares / count - (total / count) ** 2, 0.0)
        self._range = low, high, variance**0.5

    def range(self) -> tuple[float, float, float]:
        """Least and greatest value, and the standard deviation of all values together."""
        return self._range

    def __iter__(self) -> Iterator[Tensor]:
        with capturing(self._layer) as capture:
            for inputs in self._examples:
                yield capture(self._model, inputs) * self.scale

    def split(self, holdout: float) -> tuple[Any, Tensor | None]:
        """Return training rows and held-out rows, or None."""
        if self._rows is None:
            return self, None
        rows = self._rows * self.scale
        held = round(len(rows) * holdout) if len(rows) >= _LEAST_HELD_OUT else 0
        order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))
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
