# SPDX-License-Identifier: Apache-2.0
"""How the parameters move: along the gradient, the penalties and the momentum."""

from dataclasses import dataclass

import torch
from torch import Tensor

from torch_init import _ops
from torch_init.rbm.exact import Difference
from torch_init.rbm.gradient import (
    Gradient,
    Offsets,
    Statistics,
    add_outer_,
    likelihood_gradient,
    wide,
)
from torch_init.rbm.machine import RBM
from torch_init.rbm.options import Options

_SPARSITY_DECAY = 0.9
_LOG_VARIANCES = (-8.0, 8.0)


@dataclass(frozen=True)
class Pace:
    """What one update needs to know besides its statistics."""

    rate: float
    momentum: float
    is_first: bool
    wants_norm: bool


class Ascent:
    """Moves a machine's parameters; keeps what moves depend on besides them.

    Attributes:
        gradient_norm: of the last gradient of which it was wanted.
    """

    def __init__(self, machine: RBM, options: Options) -> None:
        self._machine, self._options = machine, options
        # Of a machine of half precision, parameters move by less than it can tell apart.
        self._masters = {name: wide(p.detach()) for name, p in machine.named_parameters()}
        self._velocity = {name: torch.zeros_like(p) for name, p in self._masters.items()}
        self._offsets = Offsets(machine)
        self._zeros = [torch.zeros_like(x) for x in (self._offsets.visible, self._offsets.hidden)]
        self._activity = torch.zeros_like(self._offsets.hidden)
        self.gradient_norm: Tensor | float = 0.0

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint keeps."""
        offsets = self._offsets
        state = {"mu": offsets.visible, "lambda": offsets.hidden, "centred": offsets.started}
        state |= {f"velocity.{name}": value for name, value in self._velocity.items()}
        if self._masters["weight"].dtype != self._machine.weight.dtype:
            state |= {f"master.{name}": value for name, value in self._masters.items()}
        return state | {"activity": self._activity}

    def load(self, state: dict[str, Tensor]) -> None:
        """Take a checkpoint's state over."""
        for name, value in self.state().items():
            value.copy_(state[name])

    def along_statistics(self, data: Statistics, model: Statistics, pace: Pace) -> Gradient:
        """Move along the gradient of the likelihood, and return it."""
        means = data.visible / data.count, data.hidden / data.count
        slope = likelihood_gradient(data, model, self._centring(*means))
        if pace.wants_norm:
            self.gradient_norm = slope.norm()
        pull = self._pull(means[1], pace)
        options, weight = self._options, self._masters["weight"]
        change = slope.weight - options.weight_decay * weight
        if options.l1:
            change.add_(weight.sign(), alpha=-options.l1)
        if pull is not None:
            add_outer_(change, pull, means[0])
        self._move("weight", change, pace)
        self._move_biases(slope, pull, pace)
        machine = self._machine
        if isinstance(machine.log_variance, torch.nn.Parameter):
            assert slope.log_variance is not None
            self._move("log_variance", slope.log_variance, pace)
            master = self._masters["log_variance"].clamp_(*_LOG_VARIANCES)
            machine.log_variance.copy_(master)
        return slope

    def along_difference(self, difference: Difference, pace: Pace) -> Gradient:
        """Do as along_statistics, natively in one pass over parameters that are float32.

        The gradient that is returned lacks what nobody needs of it.
        """
        weight = self._masters["weight"]
        by_kernels = _ops.takes_kernels(weight)
        # On a GPU biases move natively, too.
        natively = self._masters.values() if by_kernels else [weight]
        if not all(map(_ops.can_ascend, natively)):
            return self.along_statistics(*difference.statistics(), pace)
        needed = pace.wants_norm or self._options.algorithm == "fpcd"
        gradient = torch.empty_like(weight) if needed else None
        if by_kernels:
            found = self._ascend_by_kernels(difference, pace, gradient)
        else:
            found = self._ascend(difference, pace, gradient)
        if weight.dtype != self._machine.weight.dtype:
            self._machine.weight.copy_(weight)
        if pace.wants_norm:
            self.gradient_norm = found.norm()
        return found

    def _ascend(self, difference: Difference, pace: Pace, gradient: Tensor | None) -> Gradient:
        """Move the weights natively, the biases by torch."""
        means = difference.data
        offsets = self._centring(*means)
        visible, hidden = difference.change
        centre = self._zeros if offsets is None else (offsets.visible, offsets.hidden)
        slope = _ops.Slope(difference.pairs, difference.scale, visible, hidden, *centre)
        pull = self._pull(means[1], pace)
        native = self._native_pace(pace, self._zeros[1] if pull is None else pull, means[0])
        of_visible, of_hidden = _ops.ascend(
            self._masters["weight"], self._velocity_of_weight(), slope, native, gradient
        )
        gradient = visible.new_empty(0) if gradient is None else gradient
        found = Gradient(gradient, visible - of_visible, hidden - of_hidden, None)
        self._move_biases(found, pull, pace)
        return found

    def _ascend_by_kernels(
        self, difference: Difference, pace: Pace, gradient: Tensor | None
    ) -> Gradient:
        """Move everything in two launches."""
        offsets, rate = None, 0.0
        if self._options.centered:
            offsets = self._offsets.visible, self._offsets.hidden
            rate = self._offsets.next_rate()
        of_machine = difference.units, difference.counts, difference.spins
        means, changes = _ops.differences(difference.sums, *of_machine, offsets, rate)
        of_visible, of_hidden = means.split(difference.units)
        visible, hidden = changes.split(difference.units)
        centre = (None, None) if offsets is None else offsets
        slope = _ops.Slope(difference.pairs, difference.scale, visible, hidden, *centre)
        native = self._native_pace(pace, self._pull(of_hidden, pace), of_visible)
        biases = self._bias("visible_bias", pace), self._bias("hidden_bias", pace)
        shifts = _ops.ascend(
            self._masters["weight"], self._velocity_of_weight(), slope, native, gradient, biases
        )
        for name in ("visible_bias", "hidden_bias"):
            parameter, master = getattr(self._machine, name), self._masters[name]
            if parameter.requires_grad and master.dtype != parameter.dtype:
                parameter.copy_(master)
        if gradient is None:
            none = visible.new_empty(0)
            return Gradient(none, none, none, None)
        return Gradient(gradient, visible - shifts[0], hidden - shifts[1], None)

    def _bias(self, name: str, pace: Pace) -> _ops.Bias | None:
        if not getattr(self._machine, name).requires_grad:
            return None
        return _ops.Bias(self._masters[name], self._velocity[name], pace.rate)

    def _native_pace(self, pace: Pace, pull: Tensor | None, visible_mean: Tensor) -> _ops.Pace:
        """What a step of the weights needs to know; those that are frozen go nowhere."""
        rate = pace.rate if self._machine.weight.requires_grad else 0.0
        options = self._options
        penalties = options.weight_decay, options.l1
        return _ops.Pace(rate, pace.momentum, *penalties, pull, visible_mean)

    def _velocity_of_weight(self) -> Tensor | None:
        """The weight's velocity, if it is anything but the last change."""
        has_momentum = self._machine.weight.requires_grad and any(self._options.momenta())
        return self._velocity["weight"] if has_momentum else None

    def _centring(self, visible: Tensor, hidden: Tensor) -> Offsets | None:
        """The offsets, after they have moved towards the data's means; None without centring."""
        if not self._options.centered:
            return None
        self._offsets.follow_(visible, hidden)
        return self._offsets

    def _pull(self, hidden: Tensor, pace: Pace) -> Tensor | None:
        """What the sparsity target adds to the slope in a hidden unit's total input."""
        options = self._options
        if options.sparsity_target is None:
            return None
        # Hinton (2010), section 11: the cross-entropy's slope.
        self._activity.lerp_(hidden, 1.0 if pace.is_first else 1 - _SPARSITY_DECAY)
        return options.sparsity_cost * (options.sparsity_target - self._activity)

    def _move_biases(self, slope: Gradient, pull: Tensor | None, pace: Pace) -> None:
        self._move("visible_bias", slope.visible_bias, pace)
        hidden = slope.hidden_bias if pull is None else slope.hidden_bias + pull
        self._move("hidden_bias", hidden, pace)

    def _move(self, name: str, slope: Tensor, pace: Pace) -> None:
        """Move a parameter along its slope; one that does not require a gradient stays."""
        parameter = getattr(self._machine, name)
        if not parameter.requires_grad:
            return
        velocity = self._velocity[name].mul_(pace.momentum).add_(slope, alpha=pace.rate)
        master = self._masters[name].add_(velocity)
        if master.dtype != parameter.dtype:
            parameter.copy_(master)
