# SPDX-License-Identifier: Apache-2.0
"""The model's phase: contrastive divergence, persistent chains, fast weights."""

import copy
from dataclasses import replace

import torch
from torch import Tensor

from torch_init.rbm.exact import Phase
from torch_init.rbm.gradient import Gradient, wide
from torch_init.rbm.machine import RBM
from torch_init.rbm.options import Options
from torch_init.rbm.parallel import Processes
from torch_init.rbm.sampling import IntegerMachine, Noise, to_bytes


class ContrastiveDivergence:
    """CD-k (Hinton 2002): k sweeps from the data's hidden states.

    The hidden states are sampled, those of the last half-step are means (Hinton 2010, 3.1-3.2).
    """

    def __init__(self, machine: RBM, options: Options, noise: Noise) -> None:
        self._machine, self._options, self._noise = machine, options, noise

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint keeps: nothing."""
        return {}

    def load(self, state: dict[str, Tensor]) -> None:
        """Take a checkpoint's state over."""

    def phase(
        self,
        hidden: Tensor,
        first_row: int,
        update: int,
        mask: Tensor | None,
        integers: IntegerMachine,
    ) -> Phase:
        """Return the model's phase, given the data's sampled hidden states.

        Args:
            hidden: uint8 (N, hidden), of rows first_row, ... of the batch; written over, unless
                statistics are made of them.
            mask: (N, hidden), 0 where dropout took a unit out.
        """
        k, noise = self._options.k, self._noise.from_chain(first_row)
        sampled = self._options.statistics == "samples"
        sweeps = [(update * k, k)] if mask is None else [(update * k + i, 1) for i in range(k)]
        hidden = hidden.clone() if sampled else hidden
        for first, count in sweeps:
            is_last = (first, count) == sweeps[-1]
            means = is_last and not sampled
            visible, hidden, out = integers.sweep(hidden, noise, first, count, means, means)
            last = hidden if out is None else out
            last = last if mask is None else last * mask.to(last.dtype)
            hidden = hidden if out is not None else last
        return Phase(visible, last)

    def states(
        self,
        hidden: Tensor,
        first_row: int,
        update: int,
        mask: Tensor | None,
        integers: IntegerMachine | None,
    ) -> tuple[Tensor, Tensor]:
        """Return (visible, mean hidden) of the model's phase, as phase does, in floating point.

        The visible units' means take the place of states if the options say so.
        """
        machine, options = self._machine, self._options
        noise = self._noise.from_chain(first_row)
        means = options.reconstruction == "means"
        first, last = update * options.k, (update + 1) * options.k
        for step in range(first, last):
            if means:
                with torch.no_grad():
                    visible = machine.visible_mean(hidden)
            else:
                visible = machine.sample_visible(hidden, noise, step, integers=integers)
            if step < last - 1:
                hidden = machine.sample_hidden(visible, noise, step, integers=integers)
                hidden = hidden if mask is None else hidden * mask
        with torch.no_grad():
            hidden = machine.hidden_mean(visible)
        return visible, hidden if mask is None else hidden * mask

    def after(self, gradient: Gradient) -> None:
        """Told of each update's gradient of the likelihood."""


class Chains:
    """Chains that go on from update to update, each process with its share of them.

    Attributes:
        count: their number.
        chains: what is kept of them: this process's rows.
    """

    def __init__(
        self, machine: RBM, options: Options, noise: Noise, start: Tensor, processes: Processes
    ) -> None:
        self._machine, self._options, self._processes = machine, options, processes
        self.count = len(start)
        own = processes.share(self.count)
        self._noise = noise.from_chain(own.start)
        self.chains = start[own].clone()

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint keeps: the chains of all processes."""
        return {"chains": self._processes.gather_rows(self.chains, self.count)}

    def load(self, state: dict[str, Tensor]) -> None:
        """Take a checkpoint's chains over."""
        self.chains = state["chains"][self._processes.share(self.count)].to(self.chains)

    def advance(self, update: int, integers: IntegerMachine | None) -> Tensor:
        """Run the chains for k sweeps and return their visible states."""
        raise NotImplementedError

    def phase(
        self,
        hidden: Tensor,
        first_row: int,
        update: int,
        mask: Tensor | None,
        integers: IntegerMachine,
    ) -> Phase:
        """Run the chains for k sweeps and return the model's phase."""
        visible = to_bytes(self._machine.visible, self.advance(update, integers))
        if self._options.statistics == "means":
            return Phase(visible, integers.hidden_means(visible))
        noise = replace(self._noise, name=f"{self._noise.name}.last")
        return Phase(visible, integers.hidden(visible, noise, (update + 1) * self._options.k)[0])

    def states(
        self,
        hidden: Tensor,
        first_row: int,
        update: int,
        mask: Tensor | None,
        integers: IntegerMachine | None,
    ) -> tuple[Tensor, Tensor]:
        """Run the chains for k sweeps and return their (visible, mean hidden)."""
        visible = self.advance(update, integers)
        with torch.no_grad():
            return visible, self._machine.hidden_mean(visible)

    def after(self, gradient: Gradient) -> None:
        """Told of each update's gradient of the likelihood."""


class Persistent(Chains):
    """PCD-k, or stochastic maximum likelihood (Tieleman 2008): chains that go on.

    What is kept of them is hidden states, drawn with the means that the statistics need.
    """

    def __init__(
        self, machine: RBM, options: Options, noise: Noise, start: Tensor, processes: Processes
    ) -> None:
        super().__init__(machine, options, noise, start, processes)
        noise = replace(self._noise, name=f"{noise.name}.first")
        self.chains = machine.sample_hidden(self.chains, noise, 0, integers=machine.integers())
        if machine.exact:
            self.chains = to_bytes(machine.hidden, self.chains)

    def phase(
        self,
        hidden: Tensor,
        first_row: int,
        update: int,
        mask: Tensor | None,
        integers: IntegerMachine,
    ) -> Phase:
        """Run the chains for k sweeps and return the model's phase."""
        k, means = self._options.k, self._options.statistics == "means"
        visible, self.chains, out = integers.sweep(
            self.chains, self._noise, update * k, k, means, only=False
        )
        return Phase(visible, self.chains if out is None else out)

    def states(
        self,
        hidden: Tensor,
        first_row: int,
        update: int,
        mask: Tensor | None,
        integers: IntegerMachine | None,
    ) -> tuple[Tensor, Tensor]:
        """Run the chains for k sweeps and return their (visible, mean hidden)."""
        machine, k = self._machine, self._options.k
        if integers is not None:
            phase = self.phase(hidden, first_row, update, mask, integers)
            visible = integers.states("v", phase.visible)
            with torch.no_grad():
                return visible, machine.hidden_mean(visible)
        for step in range(update * k, (update + 1) * k):
            visible = machine.sample_visible(self.chains, self._noise, step)
            with torch.no_grad():
                field = machine.hidden_field(visible)
            self.chains = machine.draw("h", field, self._noise, step)
        return visible, machine.hidden.mean(field)


class FastPersistent(Chains):
    """FPCD (Tieleman & Hinton 2009): fast weights, which decay, drive the chains on.

    fast = 19/20 fast + rate * gradient; the chains see the weights plus the fast ones.
    """

    DECAY = 0.95

    def __init__(
        self, machine: RBM, options: Options, noise: Noise, start: Tensor, processes: Processes
    ) -> None:
        super().__init__(machine, options, noise, start, processes)
        self._rate = options.rate(machine.visible, machine.hidden)
        names = ("weight", "visible_bias", "hidden_bias")
        self._fast = {
            name: wide(torch.zeros_like(getattr(machine, name).detach())) for name in names
        }
        self._shifted = copy.deepcopy(machine)
        self._integers: IntegerMachine | None = None

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint keeps: the chains and the fast weights."""
        return super().state() | {f"fast_{name}": value for name, value in self._fast.items()}

    def load(self, state: dict[str, Tensor]) -> None:
        """Take a checkpoint's chains and fast weights over."""
        super().load(state)
        for name, value in self._fast.items():
            value.copy_(state[f"fast_{name}"])

    def advance(self, update: int, integers: IntegerMachine | None) -> Tensor:
        """Run the chains, with the fast weights, for k sweeps and return their visible states."""
        with torch.no_grad():
            for name, parameter in self._shifted.named_parameters():
                parameter.copy_(getattr(self._machine, name))
                if name in self._fast:
                    parameter.add_(self._fast[name])
        k, own = self._options.k, self._shifted.integers(self._integers, check=False)
        if own is None:
            self.chains, _ = self._shifted.run_chains(self.chains, self._noise, update * k, k)
        else:
            self.chains, _ = own.run(self.chains, self._noise, update * k, k)
            self._integers = own
        return self.chains

    def after(self, gradient: Gradient) -> None:
        """Move the fast weights."""
        for name, fast in self._fast.items():
            fast.mul_(self.DECAY).add_(getattr(gradient, name), alpha=self._rate)
