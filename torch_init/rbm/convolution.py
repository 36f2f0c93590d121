# SPDX-License-Identifier: Apache-2.0
"""The convolutional restricted Boltzmann machine: units of one channel share their weights."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn import grad as convolution_gradients

from torch_init.errors import check_positive_int, describe
from torch_init.rbm.energy import check_tensor
from torch_init.rbm.machine import RBM
from torch_init.rbm.units import Bernoulli, Gaussian, NReLU, Spin, Units

_FUNCTION = "ConvRBM"
Pair = int | Sequence[int]


@dataclass(frozen=True)
class Convolution:
    """What nn.Conv2d computes without its bias, the adjoint of it, and its gradient.

    States are flat rows, (N, units), in the order of (channels, height, width).

    Attributes:
        weight_shape: (out channels, in channels, height, width), that of nn.Conv2d.
        size: height and width of the images.
        stride, dilation: (vertical, horizontal).
        pads: zeros at the left, right, top and bottom, in the order of functional.pad.
    """

    weight_shape: tuple[int, int, int, int]
    size: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    pads: tuple[int, int, int, int]

    @property
    def visible_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of the images."""
        return (self.weight_shape[1], *self.size)

    @property
    def hidden_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of the maps."""
        spans = zip(self._padded, self._reach, self.stride, strict=True)
        height, width = ((padded - reach) // stride + 1 for padded, reach, stride in spans)
        return (self.weight_shape[0], height, width)

    @property
    def _padded(self) -> tuple[int, int]:
        left, right, top, bottom = self.pads
        return self.size[0] + top + bottom, self.size[1] + left + right

    @property
    def _reach(self) -> tuple[int, int]:
        """Pixels from the first to the last that a unit sees."""
        height, width = self.weight_shape[2:]
        return self.dilation[0] * (height - 1) + 1, self.dilation[1] * (width - 1) + 1

    def _images(self, rows: Tensor) -> Tensor:
        return functional.pad(rows.unflatten(1, self.visible_shape), self.pads)

    def up(self, rows: Tensor, weight: Tensor) -> Tensor:
        """Return the maps of images."""
        maps = functional.conv2d(self._images(rows), weight, None, self.stride, 0, self.dilation)
        return maps.flatten(1)

    def down(self, rows: Tensor, weight: Tensor) -> Tensor:
        """Return the adjoint of up: images of maps."""
        spans = zip(self._padded, self._reach, self.stride, strict=True)
        unseen = tuple((padded - reach) % stride for padded, reach, stride in spans)
        maps = rows.unflatten(1, self.hidden_shape)
        images = functional.conv_transpose2d(
            maps, weight, None, self.stride, 0, unseen, 1, self.dilation
        )
        left, _, top, _ = self.pads
        height, width = self.size
        return images[:, :, top : top + height, left : left + width].flatten(1)

    def pairs(self, hidden: Tensor, visible: Tensor) -> Tensor:
        """Return the sum over rows and positions of a map's unit times what it sees."""
        return convolution_gradients.conv2d_weight(
            self._images(visible),
            self.weight_shape,
            hidden.unflatten(1, self.hidden_shape),
            self.stride,
            0,
            self.dilation,
        )


class ConvRBM(RBM):
    r"""A convolutional restricted Boltzmann machine (Lee et al. 2009; Norouzi et al. 2009).

    .. math:: E(v, h) = U_v(v) + U_h(h) - \sum_{k, x} h_{kx} (W * s(v))_{kx}

    with :math:`W * v` as nn.Conv2d computes it: hidden units of one channel share their weights and
    their bias, visible units of one channel their bias. Given v, the hidden field is the output of
    that layer; given h, the visible one is the transposed convolution of h, plus the bias.

    It is an RBM: states are rows, (N, units), images flattened in the order of (channels, height,
    width), and all that takes an RBM takes it, but exact integers, learned variances and the
    centred gradient. The gradient is a mean over positions, so learning rates mean what they mean
    elsewhere. A machine of many channels has far more hidden than visible units: Lee et al. keep
    them sparse: sparsity_target=0.1 and sparsity_cost=1, say.

    Parameters: ``weight`` (out_channels, in_channels, height, width), as that of nn.Conv2d,
    ``visible_bias`` (in_channels,) and ``hidden_bias`` (out_channels,).

    Args:
        in_channels, out_channels, kernel_size, stride, padding, dilation: as nn.Conv2d takes them;
            padding is of zeros, or "same" or "valid".
        size: height and width of the images.
        visible, hidden: the kind of units: Bernoulli, Spin, Gaussian or NReLU, or a function of
            their number.
        std, seed, name, device, dtype: as RBM takes them.

    Raises:
        TypeError, ValueError: arguments that make no machine.

    Example:
        >>> machine = torch_init.rbm.ConvRBM(1, 4, 3, size=(8, 8), padding="same")
        >>> machine.visible_shape, machine.hidden_shape
        ((1, 8, 8), (4, 8, 8))
        >>> machine(torch.zeros(5, 1, 8, 8)).shape
        torch.Size([5, 4, 8, 8])
    """

    can_be_centred = False  # the offsets would go into biases that differ from unit to unit

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Pair,
        *,
        size: Pair,
        stride: Pair = 1,
        padding: Pair | str = 0,
        dilation: Pair = 1,
        visible: Callable[[int], Units] = Bernoulli,
        hidden: Callable[[int], Units] = Bernoulli,
        std: float = 0.01,
        seed: int = 0,
        name: str = "rbm",
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        check_positive_int(_FUNCTION, "in_channels", in_channels)
        check_positive_int(_FUNCTION, "out_channels", out_channels)
        kernel = _pair("kernel_size", kernel_size)
        # Before RBM makes the parameters, which have its shapes.
        self.convolution = Convolution(
            (out_channels, in_channels, *kernel),
            _pair("size", size),
            _pair("stride", stride),
            _pair("dilation", dilation),
            _pads(padding, kernel, _pair("stride", stride), _pair("dilation", dilation)),
        )
        if min(self.hidden_shape) < 1:
            got = f"{kernel}, which is more than the images' {self.convolution.size}"
            raise ValueError(describe(_FUNCTION, "kernel_size", got, "a kernel that fits in"))
        super().__init__(
            _units("visible", visible, self.visible_shape),
            _units("hidden", hidden, self.hidden_shape),
            std=std,
            seed=seed,
            name=name,
            exact=False,
            device=device,
            dtype=dtype,
        )

    @property
    def visible_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of a row of visible states."""
        return self.convolution.visible_shape

    @property
    def hidden_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of a row of hidden states."""
        return self.convolution.hidden_shape

    def parameter_shapes(self) -> tuple[tuple[int, ...], int, int]:
        weight = self.convolution.weight_shape
        return weight, weight[1], weight[0]

    def extra_repr(self) -> str:
        return f"{self.visible}, {self.hidden}, {self.coupling()}"

    def coupling(self) -> str:
        """Return how the layers are connected, for a checkpoint to be compared with."""
        return str(self.convolution)

    def forward(self, visible: Tensor) -> Tensor:
        """Return the hidden units' means, (N, *hidden_shape), of images (N, *visible_shape)."""
        check_tensor("ConvRBM.forward", "visible", visible, f"shape (N, *{self.visible_shape})")
        rows = visible.flatten(1) if visible.dim() > 1 else visible
        self.check_layer("forward", "visible", rows, self.visible, is_matrix=True)
        return self.hidden_mean(rows).unflatten(1, self.hidden_shape)

    def unit_biases(self) -> tuple[Tensor, Tensor]:
        """Return the bias of each visible and of each hidden unit, (visible,) and (hidden,)."""
        return (
            self.visible_bias.repeat_interleave(_product(self.visible_shape[1:])),
            self.hidden_bias.repeat_interleave(_product(self.hidden_shape[1:])),
        )

    def hidden_input(self, visible: Tensor) -> Tensor:
        """Return W * s(v), shape (N, hidden)."""
        return self.convolution.up(self.statistic(visible), self.weight)

    def hidden_input_of(self, unit: Tensor) -> Tensor:
        """Return W * s(v) of one visible unit for each row, numbers (N,), in state 1."""
        rows = functional.one_hot(unit, self.visible.size).to(self.weight.dtype)
        return self.convolution.up(rows, self.weight)

    def hidden_field(self, visible: Tensor) -> Tensor:
        """Return c + W * s(v), shape (N, hidden)."""
        return self.hidden_input(visible) + self.unit_biases()[1]

    def visible_field(self, hidden: Tensor) -> Tensor:
        """Return b plus the transposed convolution of h, shape (N, visible)."""
        return self.convolution.down(hidden, self.weight) + self.unit_biases()[0]

    def means_of_biases(self, means: Tensor) -> Tensor:
        """Return the mean of each channel, given those of the visible units, (visible,)."""
        return means.view(self.visible_shape).mean((1, 2))

    def sums(self, statistic: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the sums over rows, and means over positions, of h s(v), s(v) and h."""
        pairs = self.convolution.pairs(hidden, statistic) / _product(self.hidden_shape[1:])
        visible, hidden = statistic.sum(0), hidden.sum(0)
        return (
            pairs,
            visible.view(self.visible_shape).mean((1, 2)),
            hidden.view(self.hidden_shape).mean((1, 2)),
        )


def _product(shape: tuple[int, ...]) -> int:
    return int(torch.Size(shape).numel())


def _units(argument: str, kind: Any, shape: tuple[int, ...]) -> Units:
    expected = "Bernoulli, Spin, NReLU, Gaussian, or a function of the number of units"
    if not callable(kind):
        raise TypeError(describe(_FUNCTION, argument, repr(kind), expected))
    units = kind(_product(shape))
    known = isinstance(units, (Bernoulli, Spin, Gaussian, NReLU))
    if not known or getattr(units, "learn_variance", False) or units.size != _product(shape):
        expected = f"{_product(shape)} Bernoulli, Spin, NReLU or Gaussian units, of fixed variance"
        raise ValueError(describe(_FUNCTION, argument, repr(units), expected))
    return units


def _pair(argument: str, value: Any) -> tuple[int, int]:
    values = value if isinstance(value, (tuple, list)) else (value, value)
    if len(values) != 2:
        raise ValueError(describe(_FUNCTION, argument, value, "an int or two"))
    first, second = (check_positive_int(_FUNCTION, argument, one) for one in values)
    return first, second


def _pads(
    padding: Any, kernel: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int]
) -> tuple[int, int, int, int]:
    """Return the zeros at the left, right, top and bottom, as nn.Conv2d adds them."""
    if isinstance(padding, str) and padding == "valid":
        return 0, 0, 0, 0
    if isinstance(padding, str) and padding == "same":
        if stride != (1, 1):
            raise ValueError(describe(_FUNCTION, "stride", stride, '1 with padding="same"'))
        vertical, horizontal = (d * (k - 1) for d, k in zip(dilation, kernel, strict=True))
        # The odd one goes to the right and to the bottom.
        left, top = horizontal // 2, vertical // 2
        return left, horizontal - left, top, vertical - top
    values = padding if isinstance(padding, (tuple, list)) else (padding, padding)
    whole = all(type(v) is int and 0 <= v < 2**31 for v in values)
    if len(values) != 2 or not whole:
        expected = 'an int >= 0, two of them, "same" or "valid"'
        raise ValueError(describe(_FUNCTION, "padding", repr(padding), expected))
    vertical, horizontal = values
    return horizontal, horizontal, vertical, vertical
