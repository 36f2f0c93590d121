# SPDX-License-Identifier: Apache-2.0
"""How the modules of torch and of transformers lay out their weights: fans and packed blocks."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from torch_init.errors import describe
from torch_init.schemes import FanLayout

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_GATES: dict[type[nn.Module], int] = {nn.LSTM: 4, nn.GRU: 3, nn.LSTMCell: 4, nn.GRUCell: 3}


def fan_layout(module: nn.Module, leaf: str) -> FanLayout:
    """Return how module reads its parameter called leaf; empty for torch's (out, in, *kernel)."""
    if leaf != "weight":
        return {}
    if isinstance(module, _TRANSPOSED):
        return {"transposed": True, "groups": module.groups}
    if isinstance(module, _CONVOLUTIONS):
        return {"groups": module.groups} if module.groups > 1 else {}
    if isinstance(module, (nn.Embedding, nn.EmbeddingBag)):
        return {"embedding": True}
    if is_transformers_conv1d(module):
        return {"transposed": True}
    return {}


def default_split(module: nn.Module, leaf: str) -> int:
    """Return how many tensors module packs along dimension 0 of its parameter called leaf."""
    if isinstance(module, nn.MultiheadAttention) and leaf in ("in_proj_weight", "in_proj_bias"):
        return 3
    if leaf.startswith(("weight_ih", "weight_hh", "bias_ih", "bias_hh")):
        return next((n for kind, n in _GATES.items() if isinstance(module, kind)), 1)
    return 1


def padding_row(module: nn.Module, leaf: str) -> int | None:
    """Return the row of an embedding that must stay zero, if it has one."""
    if leaf == "weight" and isinstance(module, (nn.Embedding, nn.EmbeddingBag)):
        return module.padding_idx
    return None


def is_split_weight(module: nn.Module, leaf: str) -> bool:
    """Whether this is what hooks put in place of a weight, which they compute from it.

    torch.nn.utils.weight_norm leaves a weight_g and a weight_v; torch.nn.utils.spectral_norm and
    torch.nn.utils.prune a weight_orig.
    """
    stem, _, end = leaf.rpartition("_")
    if end in ("g", "v"):
        return {f"{stem}_g", f"{stem}_v"} <= module._parameters.keys()
    return end == "orig" and stem not in module._parameters


def is_transformers_conv1d(module: nn.Module) -> bool:
    """Whether module is transformers' Conv1D, a linear layer whose weight is (in, out).

    Told by its name: transformers need not be installed.
    """
    kind = type(module)
    return kind.__name__ == "Conv1D" and kind.__module__.startswith("transformers.")


@dataclass(frozen=True, slots=True)
class Block:
    """A piece of a parameter that is a tensor of its own, with fans and a stream of its own."""

    offset: tuple[int, ...]
    size: tuple[int, ...]
    index: int
    """Which of the tensors that are packed side by side it is."""
    part: str
    """What tells its stream apart from those of the other blocks; empty for a whole parameter."""
    drops_first: bool
    """Whether the block is one of a stack, so that its dimension 0, of size 1, is not its own."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the block as a tensor of its own."""
        return self.size[1:] if self.drops_first else self.size


def blocks(
    shape: Sequence[int], split: int | Sequence[int], split_axis: int, stacked: bool
) -> list[Block]:
    """Return the blocks of a parameter, in row-major order.

    Args:
        split: sizes along split_axis, or the number of equal parts.
        split_axis: a dimension of one tensor of the stack, if stacked.
        stacked: whether dimension 0 counts independent tensors.

    Raises:
        ValueError: sizes that do not add up to the dimension, an axis out of range.
    """
    shape = tuple(shape)
    inner = shape[1:] if stacked else shape
    if stacked and len(shape) < 2:
        raise _error("stacked", f"shape {shape}", "at least 2 dimensions")
    if split == 1:
        cuts, axis = [(0, inner[0] if inner else 1)], 0
    else:
        axis = _check_axis(split_axis, len(inner))
        cuts = _cuts(split, inner[axis])
    found = []
    for layer in range(shape[0] if stacked else 1):
        for i, (begin, length) in enumerate(cuts):
            offset, size = [0] * len(inner), list(inner)
            if inner:
                offset[axis], size[axis] = begin, length
            if stacked:
                offset, size = [layer, *offset], [1, *size]
            whole = not stacked and len(cuts) == 1
            part = "" if whole else f"block {layer * len(cuts) + i}"
            found.append(Block(tuple(offset), tuple(size), i, part, stacked))
    return found


def _check_axis(axis: Any, ndim: int) -> int:
    if isinstance(axis, bool) or not isinstance(axis, int) or not -ndim <= axis < ndim:
        raise _error("split_axis", f"{axis!r}", f"an int in [{-ndim}, {ndim})")
    return axis % ndim


def _cuts(split: Any, length: int) -> list[tuple[int, int]]:
    if isinstance(split, int):
        if split < 1 or length % split != 0:
            raise _error("split", f"{split}", f"a divisor of the dimension's size, {length}")
        return [(i * (length // split), length // split) for i in range(split)]
    sizes = list(split)
    if sum(sizes) != length or not all(isinstance(n, int) and n > 0 for n in sizes):
        got = f"{tuple(sizes)}, {sum(sizes)} in all"
        raise _error("split", got, f"positive sizes that add up to the dimension's, {length}")
    return [(sum(sizes[:i]), sizes[i]) for i in range(len(sizes))]


def _error(argument: str, got: str, expected: str) -> ValueError:
    return ValueError(describe("rule", argument, got, expected))
