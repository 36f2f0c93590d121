# SPDX-License-Identifier: Apache-2.0
"""The model's phase: contrastive divergence, persistent chains, fast weights, tempering."""

import copy
from dataclasses import replace

import torch
from torch import Tensor

from torch_init.distributions import Uniform
from torch_init.rbm.gradient import Gradient
from torch_init.rbm.machine import RBM
from torch_init.rbm.options import Options
from torch_init.rbm.parallel import Processes
from torch_init.rbm.sampling import IntegerMachine, Noise


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

    def states(
        self,
        hidden: Tensor,
        first_row: int,
        update: int,
        mask: Tensor | None,
        integers: IntegerMachine | None,
    ) -> tuple[Tensor, Tensor]:
        """Return (visible, hidden) of the model's phase, given sampled hidden states of the data.

        Args:
            hidden: (N, hidden), of rows first_row, ... of the batch.
            mask: (N, hidden), 0 where dropout took a unit out.
            integers: the machine's, made once for each update.
        """
        machine, options = self._machine, self._options
        noise = self._noise.from_chain(first_row)
        first, last = update * options.k, (update + 1) * options.k
        if integers is not None and mask is None and options.reconstruction == "samples":
            if options.k > 1:
                _, hidden = integers.run(None, hidden, noise, first, options.k - 1)
            visible = integers.sample("v", hidden, noise, last - 1)
            return visible, last_hidden(machine, visible, noise, last, options, integers)
        visible = self._reconstruct(hidden, noise, first)
        for step in range(first + 1, last):
            hidden = machine.sample_hidden(visible, noise, step)
            visible = self._reconstruct(hidden if mask is None else hidden * mask, noise, step)
        hidden = last_hidden(machine, visible, noise, last, options, integers)
        return visible, hidden if mask is None else hidden * mask

    def _reconstruct(self, hidden: Tensor, noise: Noise, step: int) -> Tensor:
        if self._options.reconstruction == "means":
            with torch.no_grad():
                return self._machine.visible_mean(hidden)
        return self._machine.sample_visible(hidden, noise, step)

    def after(self, gradient: Gradient) -> None:
        """Told of each update's gradient."""


class Persistent:
    """PCD-k, or stochastic maximum likelihood (Tieleman 2008): chains that go on."""

    def __init__(
        self, machine: RBM, options: Options, noise: Noise, start: Tensor, processes: Processes
    ) -> None:
        self._machine, self._options, self._processes = machine, options, processes
        self.count = len(start)
        own = processes.share(self.count)
        self._noise = noise.from_chain(own.start)
        self.visible = start[own].clone()

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint keeps: the chains of all processes."""
        return {"chains": self._processes.gather_rows(self.visible, self.count)}

    def load(self, state: dict[str, Tensor]) -> None:
        """Take a checkpoint's chains over."""
        self.visible = state["chains"][self._processes.share(self.count)].to(self.visible)

    def states(
        self,
        hidden: Tensor,
        first_row: int,
        update: int,
        mask: Tensor | None,
        integers: IntegerMachine | None,
    ) -> tuple[Tensor, Tensor]:
        """Run the chains for k sweeps and return their (visible, hidden)."""
        first, k = update * self._options.k, self._options.k
        noise = self._noise
        self.visible, _ = self._run(self.visible, noise, first, integers)
        hidden = last_hidden(self._machine, self.visible, noise, first + k, self._options, integers)
        return self.visible, hidden

    def _run(
        self, visible: Tensor, noise: Noise, first: int, integers: IntegerMachine | None
    ) -> tuple[Tensor, Tensor]:
        k = self._options.k
        if integers is not None:
            return integers.run(visible, None, noise, first, k)
        return self._machine.run_chains(visible, noise, first, k)

    def after(self, gradient: Gradient) -> None:
        """Told of each update's gradient."""


class FastPersistent(Persistent):
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
        self._fast = {name: torch.zeros_like(getattr(machine, name).detach()) for name in names}
        self._shifted = copy.deepcopy(machine)

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint keeps: the chains and the fast weights."""
        return super().state() | {f"fast_{name}": value for name, value in self._fast.items()}

    def load(self, state: dict[str, Tensor]) -> None:
        """Take a checkpoint's chains and fast weights over."""
        super().load(state)
        for name, value in self._fast.items():
            value.copy_(state[f"fast_{name}"])

    def _run(
        self, visible: Tensor, noise: Noise, first: int, integers: IntegerMachine | None
    ) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            for name, parameter in self._shifted.named_parameters():
                parameter.copy_(getattr(self._machine, name))
                if name in self._fast:
                    parameter.add_(self._fast[name])
        return self._shifted.run_chains(visible, noise, first, self._options.k)

    def after(self, gradient: Gradient) -> None:
        """Move the fast weights."""
        for name, fast in self._fast.items():
            fast.mul_(self.DECAY).add_(getattr(gradient, name), alpha=self._rate)


class Tempered(Persistent):
    """Parallel tempering (Desjardins et al. 2010; Cho et al. 2010).

    Each chain has replicas at inverse temperatures from 1 to 0, evenly spaced. After k sweeps,
    neighbours swap with probability min(1, exp((beta_i - beta_j) (E_i - E_j))), pairs from an
    even and from an odd temperature in turn. The replicas at beta = 1 are the model's phase.
    """

    def __init__(
        self, machine: RBM, options: Options, noise: Noise, start: Tensor, processes: Processes
    ) -> None:
        super().__init__(machine, options, noise, start, processes)
        self._rungs = options.temperatures
        self.visible = self.visible.repeat(self._rungs, 1)
        dtype = self.visible.dtype
        self.betas = torch.linspace(1, 0, self._rungs, dtype=dtype) if self._rungs > 1 else None

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint keeps: all replicas, (temperatures, chains, visible)."""
        rungs = [self._processes.gather_rows(rung, self.count) for rung in self._by_rung()]
        return {"chains": torch.stack(rungs)}

    def load(self, state: dict[str, Tensor]) -> None:
        """Take a checkpoint's replicas over."""
        own = state["chains"][:, self._processes.share(self.count)]
        self.visible = own.flatten(0, 1).to(self.visible)

    def _by_rung(self) -> Tensor:
        return self.visible.view(self._rungs, -1, self.visible.shape[1])

    def states(
        self,
        hidden: Tensor,
        first_row: int,
        update: int,
        mask: Tensor | None,
        integers: IntegerMachine | None,
    ) -> tuple[Tensor, Tensor]:
        """Sweep all replicas, swap, and return (visible, hidden) of those at beta = 1."""
        machine, options = self._machine, self._options
        first, rungs = update * options.k, list(self._by_rung())
        for rung, visible in enumerate(rungs):
            beta = 1.0 if self.betas is None else self.betas[rung].item()
            noise = replace(self._noise, name=f"{self._noise.name}.{rung}")
            rungs[rung], _ = machine.run_chains(
                visible, noise, first, options.k, beta, integers=integers
            )
        swap_(machine, rungs, self.betas, self._noise, update)
        self.visible = torch.cat(rungs)
        noise, last = self._noise, first + options.k
        return rungs[0], last_hidden(machine, rungs[0], noise, last, options, integers)


@torch.no_grad()
def swap_(
    machine: RBM, rungs: list[Tensor], betas: Tensor | None, noise: Noise, update: int
) -> float:
    """Swap states of neighbouring temperatures by Metropolis' rule; return the share swapped.

    On states v alone the rule has free energies at each temperature, with h summed out:
    exp(F_i(v_i) + F_j(v_j) - F_i(v_j) - F_j(v_i)).
    """
    if betas is None:
        return 0.0
    swapped = []
    for i in range(update % 2, len(rungs) - 1, 2):
        upper, lower = rungs[i], rungs[i + 1]
        log_ratio = (
            _log_p(machine, lower, betas[i])
            + _log_p(machine, upper, betas[i + 1])
            - _log_p(machine, upper, betas[i])
            - _log_p(machine, lower, betas[i + 1])
        )
        word = noise.at(f"swap{i}.", update, upper)(Uniform(0.0, 1.0), 1)
        swap = word.log() < log_ratio.unsqueeze(1)
        rungs[i], rungs[i + 1] = torch.where(swap, lower, upper), torch.where(swap, upper, lower)
        swapped.append(swap.double().mean().item() if len(swap) else 0.0)
    return sum(swapped) / max(len(swapped), 1)


def _log_p(machine: RBM, visible: Tensor, beta: Tensor) -> Tensor:
    """log of the unnormalised p(v) at an inverse temperature, with h summed out."""
    field = machine.hidden_field(visible).double()
    visible_bias, hidden_bias = machine.unit_biases()
    energy = machine.visible.energy(visible, visible_bias, machine.log_variance).double()
    summed = machine.hidden.log_partition(beta * field, beta * hidden_bias, None)
    return summed - beta * energy


def last_hidden(
    machine: RBM,
    visible: Tensor,
    noise: Noise,
    step: int,
    options: Options,
    integers: IntegerMachine | None,
) -> Tensor:
    """The hidden side of a phase's statistics: means, or states drawn in integers."""
    if options.statistics == "means":
        with torch.no_grad():
            return machine.hidden_mean(visible)
    assert integers is not None  # Options.check: such statistics are of binary units
    return integers.sample("h", visible, replace(noise, name=f"{noise.name}.last"), step)
