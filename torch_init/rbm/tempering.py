# SPDX-License-Identifier: Apache-2.0
"""The model's phase by parallel tempering: replicas at inverse temperatures that swap states."""

from dataclasses import replace

import torch
from torch import Tensor

from torch_init.distributions import Uniform
from torch_init.rbm.machine import RBM
from torch_init.rbm.negative import Chains
from torch_init.rbm.options import Options
from torch_init.rbm.parallel import Processes
from torch_init.rbm.sampling import IntegerMachine, Noise

_ADAPTATION = 0.02
"""Of the temperatures: a rate at which swaps' noise averages out, and a thousand updates do."""
_LEAST_GAP = 1e-3
"""Between inverse temperatures: no two of them meet."""


class Tempered(Chains):
    """Parallel tempering (Desjardins et al. 2010; Cho et al. 2010).

    Each chain has replicas at inverse temperatures from 1 to 0. After k sweeps, neighbours swap
    states by Metropolis' rule, pairs from an even and from an odd temperature in turn. The replicas
    at beta = 1 are the model's phase.

    Attributes:
        betas: (temperatures,), falling from 1 to 0, float64 on the CPU: evenly spaced. If the
            options ask for it, gaps grow where more swaps than on average are accepted, until all
            pairs accept as many.
        accepted: (temperatures - 1,), the running share of accepted swaps of each pair.
    """

    def __init__(
        self, machine: RBM, options: Options, noise: Noise, start: Tensor, processes: Processes
    ) -> None:
        super().__init__(machine, options, noise, start, processes)
        self._rungs = options.temperatures
        self.chains = self.chains.repeat(self._rungs, 1)
        betas = torch.linspace(1, 0, self._rungs, dtype=torch.float64, device="cpu")
        self.betas = betas if self._rungs > 1 else torch.ones_like(betas)
        self.accepted = betas.new_full((self._rungs - 1,), 0.5)

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint keeps: replicas, (temperatures, chains, visible), and their betas."""
        rungs = [self._processes.gather_rows(rung, self.count) for rung in self._by_rung()]
        return {"chains": torch.stack(rungs), "betas": self.betas, "accepted": self.accepted}

    def load(self, state: dict[str, Tensor]) -> None:
        """Take a checkpoint's replicas and betas over."""
        own = state["chains"][:, self._processes.share(self.count)]
        self.chains = own.flatten(0, 1).to(self.chains)
        self.betas, self.accepted = state["betas"].clone(), state["accepted"].clone()

    def _by_rung(self) -> Tensor:
        return self.chains.view(self._rungs, -1, self.chains.shape[1])

    def advance(self, update: int, integers: IntegerMachine | None) -> Tensor:
        """Sweep all replicas, swap, and return the visible states of those at beta = 1."""
        machine, k = self._machine, self._options.k
        rungs = list(self._by_rung())
        for rung, (visible, beta) in enumerate(zip(rungs, self.betas.tolist(), strict=True)):
            noise = replace(self._noise, name=f"{self._noise.name}.{rung}")
            rungs[rung], _ = machine.run_chains(
                visible, noise, update * k, k, beta, integers=integers
            )
        swapped = swap_(machine, rungs, self.betas, self._noise, update)
        self.chains = torch.cat(rungs)
        if self._options.adapt_temperatures and len(swapped):
            self._adapt(update % 2, self._processes.sum_(swapped).cpu().double() / self.count)
        return rungs[0]

    def _adapt(self, first: int, shares: Tensor) -> None:
        """Widen the gaps over which more swaps than on average are accepted, given new shares."""
        # Sums, products and quotients alone, which are the same everywhere.
        self.accepted[first::2].lerp_(shares, _ADAPTATION)
        gaps = -self.betas.diff() * (1 + _ADAPTATION * (self.accepted - self.accepted.mean()))
        gaps = gaps.clamp(min=_LEAST_GAP)
        below = (gaps / gaps.sum()).flip(0).cumsum(0).flip(0)
        self.betas[1:-1] = below[1:]


@torch.no_grad()
def swap_(machine: RBM, rungs: list[Tensor], betas: Tensor, noise: Noise, update: int) -> Tensor:
    """Swap states of neighbouring temperatures by Metropolis' rule, in place of the list's items.

    On states v alone the rule has free energies at each temperature, with h summed out:
    min(1, exp(F_i(v_i) + F_j(v_j) - F_i(v_j) - F_j(v_i))).

    Args:
        rungs: the visible states at each temperature, (chains, visible).
        betas: the temperatures' inverses.

    Returns:
        How many chains swapped in each pair that was tried: i, i + 1 of i = update % 2, + 2, ...
    """
    swapped = [torch.zeros(0, dtype=torch.int64, device=rungs[0].device)]
    for i in range(update % 2, len(rungs) - 1, 2):
        upper, lower = rungs[i], rungs[i + 1]
        (upper_i, upper_j), (lower_i, lower_j) = (
            _log_p(machine, visible, betas[i : i + 2].tolist()) for visible in (upper, lower)
        )
        word = noise.at(f"swap{i}.", update, upper)(Uniform(0.0, 1.0), 1)
        swap = word.log() < (lower_i + upper_j - upper_i - lower_j).unsqueeze(1)
        rungs[i], rungs[i + 1] = torch.where(swap, lower, upper), torch.where(swap, upper, lower)
        swapped.append(swap.sum(0))
    return torch.cat(swapped)


def _log_p(machine: RBM, visible: Tensor, betas: list[float]) -> list[Tensor]:
    """log of the unnormalised p(v) at each inverse temperature, with h summed out."""
    field = machine.hidden_field(visible).double()
    visible_bias, hidden_bias = machine.unit_biases()
    energy = machine.visible.energy(visible, visible_bias, machine.log_variance).double()
    return [
        machine.hidden.log_partition(beta * field, beta * hidden_bias, None) - beta * energy
        for beta in betas
    ]
