# SPDX-License-Identifier: Apache-2.0
"""A layer's weights in fixed point, for Gibbs chains: a part of _ops.py. docs/gibbs.md."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from torch_init import _C
from torch_init._descriptors import check_memory
from torch_init._ops_device import launch, takes_kernels
from torch_init.errors import describe


@dataclass(frozen=True, eq=False)
class GibbsWeights:
    """A layer in fixed point: an integer w stands for w / 2**shift.

    Args:
        by_visible: int32 [visible, hidden padded to 16], rows of the visible units' weights.
        by_hidden: int32 [hidden, visible padded to 16], the same weights transposed.
        biases, sums: int32, of the visible and of the hidden side, padded; sums of each unit's
            weights.
        limbs: uint8, the weights of the two sides again, as the tensor cores of a GPU read them
            (csrc/gibbs/limbs.h); None on a CPU.
        scale: int32 [2], the shift and whether all numbers were fit, as a GPU found out; None on a
            CPU.
        room: what finding out needs; None on a CPU.
    """

    visible: int
    hidden: int
    known_shift: int | None
    by_visible: Tensor
    by_hidden: Tensor
    biases: tuple[Tensor, Tensor]
    sums: tuple[Tensor, Tensor]
    limbs: tuple[Tensor, Tensor] | None = None
    scale: Tensor | None = None
    room: Tensor | None = None

    @property
    def shift(self) -> int:
        """The shift, for which a GPU must be waited for."""
        if self.known_shift is not None:
            return self.known_shift
        assert self.scale is not None
        return int(self.scale[0])

    @property
    def device(self) -> torch.device:
        return self.by_visible.device

    def exchanged(self) -> GibbsWeights:
        """Return the layer in which the visible units are the hidden ones."""
        return GibbsWeights(
            self.hidden,
            self.visible,
            self.known_shift,
            self.by_hidden,
            self.by_visible,
            self.biases[::-1],
            self.sums[::-1],
            None if self.limbs is None else self.limbs[::-1],
            self.scale,
            self.room,
        )

    def cpu(self) -> GibbsWeights:
        """Return the weights in the CPU's memory."""
        return GibbsWeights(
            self.visible,
            self.hidden,
            self.shift,
            self.by_visible.cpu(),
            self.by_hidden.cpu(),
            (self.biases[0].cpu(), self.biases[1].cpu()),
            (self.sums[0].cpu(), self.sums[1].cpu()),
        )

    def dequantized(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return (weight, visible bias, hidden bias) that the integers stand for, in float64."""
        scale = 2.0**-self.shift
        weight = self.by_visible[:, : self.hidden].double() * scale
        visible, hidden = (bias.double() * scale for bias in self.biases)
        return weight, visible[: self.visible], hidden[: self.hidden]

    def addresses(self) -> list[int]:
        tensors = (self.by_visible, self.by_hidden, *self.biases, *self.sums)
        return [tensor.data_ptr() for tensor in tensors]


def quantize(
    weight: Tensor,
    visible_bias: Tensor,
    hidden_bias: Tensor,
    function: str = "rbm",
    out: GibbsWeights | None = None,
    check: bool = True,
) -> GibbsWeights:
    """Return a layer's weights [visible, hidden] and biases in fixed point.

    The scale is the greatest 2**shift, shift <= 26, that keeps every weight within 24 bits and the
    sum of magnitudes that any unit can meet within 31, so that no chain overflows.

    Args:
        function: named in errors.
        out: a layer of the same size that is no longer needed, whose memory is used again: new
            memory takes longer to get than to fill.
        check: False: do not wait for a GPU to say whether the numbers are fit; if they are not, all
            integers are 0. A CPU is never waited for.

    Raises:
        ValueError: a number is not finite, or its magnitude is 2**64 or more; biases of other sizes
            than the weights', or elsewhere; no memory.
    """
    _check(function, weight, visible_bias, hidden_bias)
    if weight.T.is_contiguous() and not weight.is_contiguous():
        # The sides' roles are alike: what lies transposed is the layer with the sides exchanged.
        out = None if out is None else out.exchanged()
        return quantize(weight.T, hidden_bias, visible_bias, function, out, check).exchanged()
    # Narrower types are rounded already: float32 holds their values.
    dtype = torch.float64 if weight.dtype == torch.float64 else torch.float32
    weight, visible_bias, hidden_bias = (
        x.detach().to(dtype).contiguous() for x in (weight, visible_bias, hidden_bias)
    )
    layer = _layer_tensors(weight, out)
    if takes_kernels(weight):
        quantized = _quantize_with_kernels((weight, visible_bias, hidden_bias), layer, out)
        assert quantized.scale is not None
        is_fit = not check or bool(quantized.scale[1])
    else:
        shift = _quantize_now(weight, visible_bias, hidden_bias, layer)
        is_fit = shift is not None
        visible, hidden = weight.shape
        quantized = _layer(visible, hidden, shift, layer)
    if not is_fit:
        expected = "finite numbers of magnitudes below 2**64"
        got = "a parameter that is not"
        raise ValueError(describe(function, "weights and biases", got, expected))
    return quantized


def _check(function: str, weight: Tensor, visible_bias: Tensor, hidden_bias: Tensor) -> None:
    """Raise unless the parameters are a layer's, in memory that the native code can read."""
    check_memory(function, "weights and biases", weight)
    for side, bias, units in zip(
        ("visible", "hidden"), (visible_bias, hidden_bias), weight.shape, strict=True
    ):
        check_memory(function, f"{side} bias", bias)
        if bias.shape != (units,) or bias.device != weight.device:
            got = f"shape {tuple(bias.shape)} on {bias.device}"
            expected = f"shape ({units},) on {weight.device}, as the weights"
            raise ValueError(describe(function, f"{side} bias", got, expected))


def _quantize_now(
    weight: Tensor, visible_bias: Tensor, hidden_bias: Tensor, layer: list[Tensor]
) -> int | None:
    visible, hidden = weight.shape
    return _C.quantize_layer(
        weight.data_ptr(),
        visible_bias.data_ptr(),
        hidden_bias.data_ptr(),
        weight.dtype == torch.float64,
        visible,
        hidden,
        torch.get_num_threads(),
        [tensor.data_ptr() for tensor in layer],
    )


def _quantize_with_kernels(
    parameters: tuple[Tensor, Tensor, Tensor], layer: list[Tensor], out: GibbsWeights | None
) -> GibbsWeights:
    """Quantise without a word to the host."""
    weight = parameters[0]
    (visible, hidden), device = weight.shape, weight.device
    if out is None or out.limbs is None or out.scale is None or out.room is None:
        limbs = _empty_limbs(visible, hidden, device)
        scale = torch.empty(2, dtype=torch.int32, device=device)
        room = torch.zeros(_C.quantize_room_size(visible, hidden), dtype=torch.uint8, device=device)
    else:
        limbs, scale, room = out.limbs, out.scale, out.room
    addresses = [x.data_ptr() for x in (*parameters, *layer, *limbs, scale, room)]
    launch("quantize", device, addresses, weight.dtype == torch.float64, (visible, hidden))
    quantized = _layer(visible, hidden, None, layer)
    return replace(quantized, limbs=limbs, scale=scale, room=room)


def with_limbs(weights: GibbsWeights) -> GibbsWeights:
    """Return weights in a CPU's memory that the body of a GPU's kernels can read."""
    visible, hidden = weights.visible, weights.hidden
    limbs = _empty_limbs(visible, hidden, weights.device)
    sides = ((visible, hidden), (hidden, visible))
    for by_unit, side, out in zip(
        (weights.by_visible, weights.by_hidden), sides, limbs, strict=True
    ):
        _C.make_limbs_with_cuda_body_on_host(by_unit.data_ptr(), *side, out.data_ptr())
    return replace(weights, limbs=limbs)


def _empty_limbs(visible: int, hidden: int, device: torch.device) -> tuple[Tensor, Tensor]:
    sizes = _C.limbs_size(visible, hidden), _C.limbs_size(hidden, visible)
    first, second = (torch.empty(size, dtype=torch.uint8, device=device) for size in sizes)
    return first, second


def _layer(visible: int, hidden: int, shift: int | None, layer: list[Tensor]) -> GibbsWeights:
    by_visible, by_hidden, *rest = layer
    return GibbsWeights(
        visible, hidden, shift, by_visible, by_hidden, (rest[0], rest[1]), (rest[2], rest[3])
    )


def _layer_tensors(weight: Tensor, out: GibbsWeights | None) -> list[Tensor]:
    visible, hidden = weight.shape
    if out is not None:
        if (out.visible, out.hidden, out.device) != (visible, hidden, weight.device):
            got = f"{out.visible} x {out.hidden} on {out.device}"
            expected = f"a layer of {visible} x {hidden} on {weight.device}"
            raise ValueError(describe("quantize", "out", got, expected))
        return [out.by_visible, out.by_hidden, *out.biases, *out.sums]

    def empty(*sizes: int) -> Tensor:
        return torch.empty(sizes, dtype=torch.int32, device=weight.device)

    v, h = (-(-units // 16) * 16 for units in (visible, hidden))
    return [empty(visible, h), empty(hidden, v), *(empty(n) for n in (v, h, v, h))]
