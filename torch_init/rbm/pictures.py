# SPDX-License-Identifier: Apache-2.0
"""Pictures: receptive fields, samples and fantasy chains, learning curves."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from torch_init.errors import check_positive_int, check_type, describe
from torch_init.rbm.convolution import ConvRBM
from torch_init.rbm.energy import check_machine, check_tensor
from torch_init.rbm.history import History
from torch_init.rbm.machine import RBM


def mosaic(
    rows: Tensor, shape: Sequence[int] | None = None, *, columns: int | None = None
) -> Tensor:
    """Return pictures side by side as one, (height, width), float32 in [0, 1], each scaled alone.

    Args:
        rows: (N, pixels).
        shape: of a picture; None: square.
        columns: pictures in a row; None: about as many as rows of them.

    Raises:
        ValueError: pixels that make no picture of that shape.

    Example:
        >>> torch_init.rbm.mosaic(torch.rand(6, 9)).shape      # 2 x 3 pictures with a border of 1
        torch.Size([9, 13])
    """
    check_tensor("mosaic", "rows", rows, "shape (N, pixels)")
    if rows.is_meta or rows.is_complex():
        got = f"a {rows.device.type} tensor of {rows.dtype}"
        raise TypeError(describe("mosaic", "rows", got, "real numbers in memory"))
    rows = rows.detach().float().cpu()
    if rows.dim() != 2 or len(rows) == 0:
        got = f"shape {tuple(rows.shape)}"
        raise ValueError(describe("mosaic", "rows", got, "(N, pixels) with N >= 1"))
    side = math.isqrt(rows.shape[1])
    height, width = (side, side) if shape is None else _two(shape)
    if height * width != rows.shape[1]:
        got = f"{rows.shape[1]} pixels for {height} x {width}"
        raise ValueError(describe("mosaic", "shape", got, "a shape of as many pixels"))
    columns = math.ceil(math.sqrt(len(rows))) if columns is None else columns
    check_positive_int("mosaic", "columns", columns)
    low, high = rows.amin(1, keepdim=True), rows.amax(1, keepdim=True)
    tiles = ((rows - low) / (high - low).clamp(min=1e-12)).view(-1, height, width)
    lines = math.ceil(len(rows) / columns)
    picture = rows.new_zeros(lines * (height + 1) + 1, columns * (width + 1) + 1)
    for number, tile in enumerate(tiles):
        top = (number // columns) * (height + 1) + 1
        left = (number % columns) * (width + 1) + 1
        picture[top : top + height, left : left + width] = tile
    return picture


def receptive_fields(rbm: RBM, shape: tuple[int, int] | None = None, *, count: int = 100) -> Any:
    """Draw the weights of the first hidden units as pictures; return the matplotlib figure.

    Of a ConvRBM those of the first channels: a row of kernels for each, one for each input channel.

    Example:
        >>> figure = torch_init.rbm.receptive_fields(torch_init.rbm.RBM(16, 9))
    """
    check_machine("receptive_fields", "rbm", rbm)
    weight = rbm.weight[: check_positive_int("receptive_fields", "count", count)]
    if isinstance(rbm, ConvRBM):
        columns = weight.shape[1] if weight.shape[1] > 1 else None
        picture = mosaic(weight.flatten(0, 1).flatten(1), weight.shape[2:], columns=columns)
        return _draw(picture, f"kernels of {len(weight)} channels")
    return _draw(mosaic(weight, shape), f"receptive fields of {len(weight)} hidden units")


def fantasies(
    rbm: RBM,
    shape: tuple[int, int] | None = None,
    *,
    chains: int = 8,
    steps: tuple[int, ...] = (1, 10, 100, 1000),
    seed: int = 0,
) -> Any:
    """Draw chains (rows) after so many sweeps (columns); return the matplotlib figure.

    The pictures are the visible units' means given the chain's hidden states; channels of images
    stand below each other.

    Example:
        >>> figure = torch_init.rbm.fantasies(torch_init.rbm.RBM(16, 9), steps=(1, 5))
    """
    check_machine("fantasies", "rbm", rbm)
    if not isinstance(steps, (tuple, list)) or not steps:
        got = type(steps).__name__
        raise TypeError(describe("fantasies", "steps", got, "a tuple of numbers of sweeps"))
    for until in steps:
        check_positive_int("fantasies", "steps", until)
    states = rbm.sample(chains, steps=1, seed=seed)
    done, shown = 1, []
    for until in steps:
        if until > done:
            states, _ = rbm.gibbs(states, until - done, seed=seed, first_step=done)
            done = until
        with torch.no_grad():
            shown.append(rbm.visible_mean(rbm.hidden_mean(states)))
    rows = torch.stack(shown, 1).flatten(0, 1)
    if shape is None and isinstance(rbm, ConvRBM):
        channels, height, width = rbm.visible_shape
        shape = channels * height, width
    picture = mosaic(rows, shape, columns=len(steps))
    return _draw(picture, "chains after " + ", ".join(map(str, steps)) + " sweeps")


def learning_curves(history: History) -> Any:
    """Draw each monitor over the epochs; return the matplotlib figure.

    Example:
        >>> history = torch_init.rbm.RBM(6, 4).fit(torch.eye(6), epochs=3)
        >>> figure = torch_init.rbm.learning_curves(history)
    """
    check_type("learning_curves", "history", history, History, "what fit() returns")
    if not history.records:
        raise ValueError(describe("learning_curves", "history", "no records", "one or more"))
    names = [name for name in history.records[0] if name not in ("epoch", "update")]
    figure = _figure((4 * max(len(names), 1), 3))
    for number, name in enumerate(names):
        axes = figure.add_subplot(1, len(names), number + 1)
        axes.plot(history["epoch"], history[name], marker=".")
        axes.set(title=name.replace("_", " "), xlabel="epoch")
    return figure


def write_history(writer: Any, history: History, tag: str = "rbm") -> None:
    """Write every record to a torch.utils.tensorboard.SummaryWriter, or one like it.

    Example:
        >>> class Writer:
        ...     def add_scalar(self, tag, value, step): print(tag, step)
        >>> history = torch_init.rbm.RBM(6, 4).fit(torch.eye(6), epochs=1)
        >>> torch_init.rbm.write_history(Writer(), history)
        rbm/reconstruction 1
        rbm/gradient_norm 1
    """
    for record in history.records:
        for name, value in record.items():
            if name not in ("epoch", "update"):
                writer.add_scalar(f"{tag}/{name}", value, record["epoch"])


def _two(shape: Any) -> tuple[int, int]:
    if not isinstance(shape, (tuple, list)) or len(shape) != 2:
        raise TypeError(describe("mosaic", "shape", f"{shape!r}", "a height and a width"))
    height, width = (check_positive_int("mosaic", "shape", side) for side in shape)
    return height, width


def _figure(size: tuple[float, float]) -> Any:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        fix = "Install it: pip install matplotlib"
        text = describe("rbm", "pictures", "no matplotlib", "the package matplotlib", fix)
        raise ImportError(text) from error
    return Figure(figsize=size, layout="constrained")


def _draw(picture: Tensor, title: str) -> Any:
    figure = _figure((6, 6 * picture.shape[0] / picture.shape[1] + 0.5))
    axes = figure.add_subplot()
    axes.imshow(picture.numpy(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.set(title=title, xticks=[], yticks=[])
    return figure
