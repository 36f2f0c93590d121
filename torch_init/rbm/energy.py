# SPDX-License-Identifier: Apache-2.0
"""What a machine is: its units' energy, and each side's law given the other."""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from torch_init.errors import check_type, describe
from torch_init.rbm.units import Units


def check_machine(function: str, argument: str, value: object) -> None:
    """Raise unless value is a machine, and its parameters are numbers."""
    check_type(function, argument, value, Energy, "a torch_init.rbm.RBM")
    assert isinstance(value, Energy)
    _check_memory(function, argument, value)


def _check_memory(function: str, argument: str, machine: "Energy") -> None:
    if any(parameter.is_meta for parameter in machine.parameters()):
        expected = "a machine whose parameters are in memory"
        raise ValueError(describe(function, argument, "one on the meta device", expected))


@torch.no_grad()
def check_finite_parameters(function: str, argument: str, machine: "Energy") -> None:
    """Raise unless a machine's parameters are finite; the first that is not is named.

    A GPU is waited for once.
    """
    _check_memory(function, argument, machine)
    named = machine.state_dict()
    finite = torch.stack([value.isfinite().all() for value in named.values()]).tolist()
    for name, is_finite in zip(named, finite, strict=True):
        if not is_finite:
            got = "values that are not finite"
            fix = "Load finite parameters, or call reset_parameters()"
            raise ValueError(describe(function, f"{argument}.{name}", got, "finite numbers", fix))


def check_tensor(function: str, argument: str, value: object, shape: str) -> None:
    """Raise unless value is a tensor that is not sparse."""
    expected = f"a tensor of {shape}"
    if not isinstance(value, Tensor):
        got, fix = type(value).__name__, ""
        if isinstance(value, np.ndarray):
            fix = "Convert it: torch.from_numpy(...)"
        raise TypeError(describe(function, argument, got, expected, fix))
    if value.layout != torch.strided:
        raise TypeError(describe(function, argument, f"a {value.layout} tensor", expected))


class Energy(nn.Module):
    """The energy of two layers of units and all that follows from it; RBM adds the chains.

    A machine of another coupling answers otherwise: which fields the states of one layer give the
    other, which parameters units share, and what the gradient is made of.
    """

    visible: Units
    hidden: Units
    weight: nn.Parameter
    visible_bias: nn.Parameter
    hidden_bias: nn.Parameter
    log_variance: Tensor | None
    can_be_centred = True

    def parameter_shapes(self) -> tuple[tuple[int, ...], int, int]:
        """Return the shapes of weight, visible_bias and hidden_bias."""
        return (self.hidden.size, self.visible.size), self.visible.size, self.hidden.size

    def coupling(self) -> str:
        """Return how the layers are connected, for a checkpoint to be compared with."""
        return "all to all"

    def statistic(self, visible: Tensor) -> Tensor:
        """Return s(v), which the weights multiply, shape (N, visible)."""
        return self.visible.statistic(visible, self.log_variance)

    def unit_biases(self) -> tuple[Tensor, Tensor]:
        """Return the bias of each visible and of each hidden unit, (visible,) and (hidden,)."""
        return self.visible_bias, self.hidden_bias

    def hidden_input(self, visible: Tensor) -> Tensor:
        """Return W s(v), shape (N, hidden)."""
        return functional.linear(self.statistic(visible), self.weight)

    def hidden_input_of(self, unit: Tensor) -> Tensor:
        """Return W s(v) of one visible unit for each row, numbers (N,), in state 1: (N, hidden)."""
        return self.weight.T[unit]

    def hidden_field(self, visible: Tensor) -> Tensor:
        """Return c + W s(v), shape (N, hidden)."""
        return functional.linear(self.statistic(visible), self.weight, self.hidden_bias)

    def visible_field(self, hidden: Tensor) -> Tensor:
        """Return b + W^T h, shape (N, visible)."""
        return torch.addmm(self.visible_bias, hidden, self.weight)

    def hidden_mean(self, visible: Tensor) -> Tensor:
        """Return E[h | v], shape (N, hidden); softplus of the field for NReLU units."""
        self.check_layer("hidden_mean", "visible", visible, self.visible)
        return self.hidden.mean(self.hidden_field(visible))

    def visible_mean(self, hidden: Tensor) -> Tensor:
        """Return E[v | h], shape (N, visible)."""
        self.check_layer("visible_mean", "hidden", hidden, self.hidden, is_matrix=True)
        return self.visible.mean(self.visible_field(hidden))

    def energy(self, visible: Tensor, hidden: Tensor) -> Tensor:
        """Return E(v, h) of each row, shape (N,).

        Raises:
            TypeError: hidden units are NReLU, whose copies have no joint energy with h.
        """
        self.check_layer("energy", "visible", visible, self.visible)
        self.check_layer("energy", "hidden", hidden, self.hidden)
        visible_bias, hidden_bias = self.unit_biases()
        if visible.shape[:-1] != hidden.shape[:-1]:
            got, expected = f"{len(hidden)} rows", f"{len(visible)}, as visible has"
            raise ValueError(describe("RBM.energy", "hidden", got, expected))
        own = self.visible.energy(visible, visible_bias, self.log_variance)
        own = own + self.hidden.energy(hidden, hidden_bias, None)
        return own - (self.hidden_input(visible) * hidden).sum(-1)

    def free_energy(self, visible: Tensor) -> Tensor:
        """Return F(v) = -log sum_h exp(-E(v, h)) of each row, shape (N,).

        Differentiable, and finite for fields of any size. Parameters that are not finite give NaN
        or infinities, as in torch: to refuse them would be to wait for a GPU, and to break vmap.

        Example:
            >>> rbm = torch_init.rbm.RBM(2, 3, std=0.0)
            >>> rbm.free_energy(torch.zeros(1, 2))          # -3 log 2
            tensor([-2.0794], grad_fn=<SubBackward0>)
        """
        self.check_layer("free_energy", "visible", visible, self.visible)
        visible_bias, hidden_bias = self.unit_biases()
        own = self.visible.energy(visible, visible_bias, self.log_variance)
        return own - self.hidden.log_partition(self.hidden_field(visible), hidden_bias, None)

    def hidden_free_energy(self, hidden: Tensor) -> Tensor:
        """Return -log sum_v exp(-E(v, h)) of each row, shape (N,)."""
        self.check_layer("hidden_free_energy", "hidden", hidden, self.hidden, is_matrix=True)
        visible_bias, hidden_bias = self.unit_biases()
        own = self.hidden.energy(hidden, hidden_bias, None)
        return own - self.visible.log_partition(
            self.visible_field(hidden), visible_bias, self.log_variance
        )

    def means_of_biases(self, means: Tensor) -> Tensor:
        """Return the means that the visible biases stand for, given the units', (visible,)."""
        return means

    def sums(self, statistic: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the sums over rows of h s(v), s(v) and h: what the gradient is made of."""
        return hidden.T @ statistic, statistic.sum(0), hidden.sum(0)

    def check_layer(
        self, function: str, argument: str, states: Tensor, units: Units, *, is_matrix: bool = False
    ) -> None:
        """Raise unless states of units, (..., units), are such as the parameters multiply.

        is_matrix: whether they must be rows, (N, units).
        """
        name, weight = f"{type(self).__name__}.{function}", self.weight
        check_tensor(name, argument, states, f"shape (N, {units.size})")
        shape = tuple(states.shape)
        if shape[-1:] != (units.size,) or (is_matrix and len(shape) != 2):
            raise ValueError(describe(name, argument, f"shape {shape}", f"shape (N, {units.size})"))
        if states.device != weight.device:
            got, expected = f"a tensor on {states.device}", f"one on {weight.device}"
            raise ValueError(describe(name, argument, got, expected))
        if states.dtype != weight.dtype and not (
            states.is_floating_point() and torch.is_autocast_enabled(states.device.type)
        ):
            fix = f"Convert it: .to({weight.dtype})"
            if states.dtype == torch.uint8:
                fix += ", and divide grey levels by 255"
            got = f"a tensor of {states.dtype}"
            raise TypeError(describe(name, argument, got, f"one of {weight.dtype}", fix))

    def check_states(self, function: str, argument: str, visible: Tensor) -> None:
        """Raise unless visible is (N, visible), finite and in the range of the visible units."""
        check_tensor(function, argument, visible, f"shape (N, {self.visible.size})")
        if visible.is_meta or visible.is_complex():
            got = f"a {visible.device.type} tensor of {visible.dtype}"
            raise TypeError(describe(function, argument, got, "real numbers in memory"))
        shape = tuple(visible.shape)
        if visible.dim() != 2 or shape[1] != self.visible.size:
            raise ValueError(
                describe(function, argument, f"shape {shape}", f"shape (N, {self.visible.size})")
            )
        if self.visible.are_states(visible):
            return
        if not visible.isfinite().all():
            raise ValueError(describe(function, argument, "values that are not finite", "numbers"))
        problem = self.visible.problem(visible)
        if problem is not None:
            expected = f"states of {type(self.visible).__name__} units"
            fix = "Scale the data, or choose other visible units"
            raise ValueError(describe(function, argument, problem, expected, fix))
