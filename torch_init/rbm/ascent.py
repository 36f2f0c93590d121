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
        """Do as along_statistics, in one native pass over weights that are float32 on a CPU.

        The gradient that is returned lacks the weights' if nobody needs them.
        """
        weight = self._masters["weight"]
        if not weight.is_cpu or weight.dtype != torch.float32 or not weight.is_contiguous():
            return self.along_statistics(*difference.statistics(), pace)
        options, machine = self._options, self._machine
        offsets = self._centring(*difference.data)
        visible, hidden = difference.change
        slope = _ops.Slope(
            difference.pairs,
            difference.scale,
            visible,
            hidden,
            *(self._zeros if offsets is None else (offsets.visible, offsets.hidden)),
        )
        pull = self._pull(difference.data[1], pace)
        is_trained = machine.weight.requires_grad
        native = _ops.Pace(
            pace.rate if is_trained else 0.0,
            pace.momentum,
            options.weight_decay,
            options.l1,
            self._zeros[1] if pull is None else pull,
            difference.data[0],
        )
        has_momentum = is_trained and any(options.momenta())
        needed = pace.wants_norm or options.algorithm == "fpcd"
        gradient = torch.empty_like(weight) if needed else None
        velocity = self._velocity["weight"] if has_momentum else None
        of_visible, of_hidden = _ops.ascend(weight, velocity, slope, native, gradient)
        if weight.dtype != machine.weight.dtype:
            machine.weight.copy_(weight)
        gradient = weight.new_empty(0) if gradient is None else gradient
        found = Gradient(gradient, visible - of_visible, hidden - of_hidden, None)
        if pace.wants_norm:
            self.gradient_norm = found.norm()
        self._move_biases(found, pull, pace)
        return found

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
