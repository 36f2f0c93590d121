# SPDX-License-Identifier: Apache-2.0
"""A layer's weights in fixed point, for Gibbs chains: a part of _ops.py. docs/gibbs.md."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from torch_init import _C
from torch_init.errors import describe

_MOST_SHIFT = 26
_MOST_WEIGHT = 2**23 - 2**16
_MOST_SUM = 2**30 - 1
_MOST_MAGNITUDE = 2.0**64


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
    """

    visible: int
    hidden: int
    shift: int
    by_visible: Tensor
    by_hidden: Tensor
    biases: tuple[Tensor, Tensor]
    sums: tuple[Tensor, Tensor]
    limbs: tuple[Tensor, Tensor] | None = None

    @property
    def device(self) -> torch.device:
        return self.by_visible.device

    def exchanged(self) -> GibbsWeights:
        """Return the layer in which the visible units are the hidden ones."""
        return GibbsWeights(
            self.hidden,
            self.visible,
            self.shift,
            self.by_hidden,
            self.by_visible,
            self.biases[::-1],
            self.sums[::-1],
            None if self.limbs is None else self.limbs[::-1],
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
) -> GibbsWeights:
    """Return a layer's weights [visible, hidden] and biases in fixed point.

    The scale is the greatest 2**shift, shift <= 26, that keeps every weight within 24 bits and the
    sum of magnitudes that any unit can meet within 31, so that no chain overflows.

    Args:
        function: named in errors.
        out: a layer of the same size that is no longer needed, whose memory is used again: new
            memory takes longer to get than to fill.

    Raises:
        ValueError: a number is not finite, or its magnitude is 2**64 or more.
    """
    if weight.T.is_contiguous() and not weight.is_contiguous():
        # The sides' roles are alike: what lies transposed is the layer with the sides exchanged.
        out = None if out is None else out.exchanged()
        return quantize(weight.T, hidden_bias, visible_bias, function, out).exchanged()
    # Narrower types are rounded already: float32 holds their values.
    dtype = torch.float64 if weight.dtype == torch.float64 else torch.float32
    weight, visible_bias, hidden_bias = (
        x.detach().to(dtype).contiguous() for x in (weight, visible_bias, hidden_bias)
    )
    layer = _layer_tensors(weight, out)
    quantized = (_quantize_now if weight.is_cpu else quantize_with_torch)(
        weight, visible_bias, hidden_bias, layer
    )
    if quantized is None:
        expected = "finite numbers of magnitudes below 2**64"
        got = "a parameter that is not"
        raise ValueError(describe(function, "weights and biases", got, expected))
    return quantized if weight.is_cpu else with_limbs(quantized, None if out is None else out.limbs)


def _quantize_now(
    weight: Tensor, visible_bias: Tensor, hidden_bias: Tensor, layer: list[Tensor]
) -> GibbsWeights | None:
    visible, hidden = weight.shape
    shift = _C.quantize_layer(
        weight.data_ptr(),
        visible_bias.data_ptr(),
        hidden_bias.data_ptr(),
        weight.dtype == torch.float64,
        visible,
        hidden,
        torch.get_num_threads(),
        [tensor.data_ptr() for tensor in layer],
    )
    return None if shift is None else _layer(visible, hidden, shift, layer)


def quantize_with_torch(
    weight: Tensor,
    visible_bias: Tensor,
    hidden_bias: Tensor,
    layer: list[Tensor] | None = None,
) -> GibbsWeights | None:
    """Quantise where the weights are, on a GPU for one, to the same bits."""
    values = [x.double() for x in (weight, visible_bias, hidden_bias)]
    greatest = [float(x.abs().max()) if x.numel() else 0.0 for x in values]
    if not all(x < _MOST_MAGNITUDE for x in greatest):
        return None
    shift = _MOST_SHIFT
    for magnitude, limit in zip(greatest, (_MOST_WEIGHT, _MOST_SUM, _MOST_SUM), strict=True):
        if magnitude > 0:
            shift = min(shift, math.frexp(limit)[1] - math.frexp(magnitude)[1] + 1)
    while True:
        w, b, c = ((x * 2.0**shift).round() for x in values)
        sums = torch.cat([b.abs() + w.abs().sum(1), c.abs() + w.abs().sum(0), b.new_zeros(1)])
        weights_fit = not w.numel() or float(w.abs().max()) <= _MOST_WEIGHT
        if weights_fit and float(sums.max()) <= _MOST_SUM:
            break
        shift -= 1
    visible, hidden = weight.shape
    layer = [tensor.zero_() for tensor in layer or _layer_tensors(weight, None)]
    layer[0][:, :hidden] = w.to(torch.int32)
    layer[1][:, :visible] = w.T.to(torch.int32)
    for tensor, x in zip(layer[2:], (b, c, w.sum(1), w.sum(0)), strict=True):
        tensor[: len(x)] = x.to(torch.int32)
    return _layer(visible, hidden, shift, layer)


def with_limbs(weights: GibbsWeights, out: tuple[Tensor, Tensor] | None = None) -> GibbsWeights:
    """Return weights that chains on a GPU can read, or on a CPU the body of their kernels."""
    visible, hidden = weights.visible, weights.hidden
    sides = ((visible, hidden), (hidden, visible))
    if out is None:
        first, second = (
            torch.empty(_C.limbs_size(*side), dtype=torch.uint8, device=weights.device)
            for side in sides
        )
        out = first, second
    for by_unit, side, limbs in zip(
        (weights.by_visible, weights.by_hidden), sides, out, strict=True
    ):
        addresses = (by_unit.data_ptr(), *side, limbs.data_ptr())
        if weights.device.type == "cuda":
            with torch.cuda.device(weights.device):
                stream = torch.cuda.current_stream().cuda_stream
                _C.make_limbs_on_cuda(*addresses, weights.device.index, stream)
        else:
            _C.make_limbs_with_cuda_body_on_host(*addresses)
    return replace(weights, limbs=out)


def _layer(visible: int, hidden: int, shift: int, layer: list[Tensor]) -> GibbsWeights:
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
