# SPDX-License-Identifier: Apache-2.0
"""Deep belief nets: machines stacked greedily, fine-tuned up and down, unrolled."""

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from torch_init.errors import check_positive_int, describe
from torch_init.keys import check_seed, draw_seed
from torch_init.rbm.checkpoint import of_layer
from torch_init.rbm.data import Rows, as_source
from torch_init.rbm.history import History
from torch_init.rbm.labelled import Labelled
from torch_init.rbm.machine import RBM
from torch_init.rbm.sampling import Noise
from torch_init.rbm.units import Bernoulli, Gaussian, NReLU, Spin, Units, as_units
from torch_init.rbm.updown import up_down

_CHUNK = 2048


class DBN(nn.Module):
    """A deep belief net (Hinton, Osindero, Teh 2006): RBMs, each on the one below's features.

    Args:
        layers: units from the data up; an int is so many Bernoulli units.
        classes: if given, the top machine also sees a label of so many classes.
        seed, name: of weights and noise; machine l is called ``name.l``.
        device: of the parameters, which are float32.

    Attributes:
        machines: the RBMs, bottom first. Their weights are the recognition weights.
        generative: after up_down, the weights that go down, one for each machine but the top one;
            before that, the machines' own serve both ways and it is empty.

    Example:
        >>> dbn = torch_init.rbm.DBN([12, 8, 6], seed=0)
        >>> histories = dbn.fit(torch.eye(12), epochs=2, batch_size=4)
        >>> dbn.transform(torch.eye(12)).shape
        torch.Size([12, 6])
    """

    def __init__(
        self,
        layers: Sequence[int | Units],
        *,
        classes: int | None = None,
        seed: int = 0,
        name: str = "dbn",
        device: Any = None,
    ) -> None:
        super().__init__()
        if len(layers) < 2:
            raise ValueError(describe("DBN", "layers", f"{len(layers)}", "two or more"))
        units = [as_units("DBN", "layers", layer) for layer in layers]
        if classes is not None:
            check_positive_int("DBN", "classes", classes)
            if len(units) < 3 or not isinstance(units[-2], Bernoulli):
                expected = "Bernoulli units below the top layer, above the data"
                raise ValueError(describe("DBN", "classes", f"{classes}", expected))
        self.classes, self.seed, self.name = classes, int(check_seed("DBN", seed)), name
        self.machines = nn.ModuleList()
        for number, (below, above) in enumerate(itertools.pairwise(units)):
            if number and isinstance(below, NReLU):
                below = Gaussian(below.size)
            if classes is not None and number == len(units) - 2:
                below = Labelled(below.size + classes, classes)
            self.machines.append(
                RBM(below, above, seed=self.seed, name=f"{name}.{number}", device=device)
            )
        self.generative = nn.ParameterList()

    @property
    def top(self) -> RBM:
        """The top machine, an undirected model."""
        return self._machine(len(self.machines) - 1)

    def _machine(self, number: int) -> RBM:
        machine = self.machines[number]
        assert isinstance(machine, RBM)
        return machine

    def fit(self, data: Any, labels: Any = None, **options: Any) -> list[History]:
        """Train the machines greedily, each on the means of the one below.

        A machine whose layers mirror those of the one below starts from its weights transposed,
        which cannot lower the variational bound (Hinton et al. 2006).

        Args:
            data: rows, as torch_init.rbm.fit takes them (no loader).
            labels: (N,) class numbers, needed if the net has classes.
            options: of torch_init.rbm.fit, for every machine; each has its own folder in
                `checkpoint`.

        Returns:
            The history of each machine.
        """
        features = self._rows("DBN.fit", data)
        one_hot = self._one_hot("DBN.fit", labels, len(features))
        histories = []
        for number in range(len(self.machines)):
            machine, below = self._machine(number), self._machine(max(number - 1, 0))
            start = {} if number == 0 else self._mirror(below, machine)
            if machine is self.top and one_hot is not None:
                features = torch.cat([features, one_hot], 1)
            histories.append(machine.fit(features, **(start | of_layer(options, number))))
            features = _in_chunks(machine.hidden_mean, features)
        return histories

    @staticmethod
    @torch.no_grad()
    def _mirror(below: RBM, machine: RBM) -> dict[str, str]:
        mirrored = below.visible.size == machine.hidden.size
        same = type(below.visible) is type(machine.hidden)
        if not (mirrored and same and type(below.hidden) is type(machine.visible)):
            return {}
        machine.weight.copy_(below.weight.T)
        machine.visible_bias.copy_(below.hidden_bias)
        machine.hidden_bias.copy_(below.visible_bias)
        return {"visible_bias": "keep"}

    def _rows(self, function: str, data: Any) -> Tensor:
        source = as_source(function, data, self._machine(0))
        if not isinstance(source, Rows):
            got = f"a {type(data).__name__}"
            raise TypeError(describe(function, "data", got, "a tensor, NumPy array or Dataset"))
        source.scan()
        return torch.cat([source.pick(part) for part in torch.arange(source.count).split(_CHUNK)])

    def _one_hot(self, function: str, labels: Any, count: int) -> Tensor | None:
        if self.classes is None:
            if labels is not None:
                fix = "Make the net with classes="
                raise ValueError(describe(function, "labels", "labels", "None", fix))
            return None
        if labels is None:
            raise ValueError(describe(function, "labels", "None", f"{count} class numbers"))
        labels = torch.as_tensor(labels).long()
        if labels.shape != (count,) or not bool(((labels >= 0) & (labels < self.classes)).all()):
            got = f"shape {tuple(labels.shape)}"
            expected = f"({count},) numbers in [0, {self.classes})"
            raise ValueError(describe(function, "labels", got, expected))
        like = self.top.weight
        return functional.one_hot(labels, self.classes).to(like)

    def up_down(self, data: Any, labels: Any = None, **options: Any) -> None:
        """Fine-tune all weights by the contrastive wake-sleep algorithm; see rbm.updown.up_down."""
        features = self._rows("DBN.up_down", data)
        one_hot = self._one_hot("DBN.up_down", labels, len(features))
        if not self.generative:
            weights = [self._machine(n).weight.detach() for n in range(len(self.machines) - 1)]
            self.generative.extend(nn.Parameter(weight.clone()) for weight in weights)
        up_down(self, features, one_hot, **options)

    def forward(self, visible: Tensor) -> Tensor:
        """Return what transform does."""
        return self.transform(visible)

    def below_top(self, visible: Tensor) -> Tensor:
        """Return the means of the layer under the top machine, (N, units)."""
        for number in range(len(self.machines) - 1):
            visible = self._machine(number).hidden_mean(visible)
        return visible

    def transform(self, visible: Tensor) -> Tensor:
        """Return the means of the top layer, (N, units); a label that is not known is uniform."""
        features = self.below_top(visible)
        if self.classes is not None:
            label = features.new_full((len(features), self.classes), 1 / self.classes)
            features = torch.cat([features, label], 1)
        return self.top.hidden_mean(features)

    @torch.no_grad()
    def predict(self, visible: Tensor) -> Tensor:
        """Return the class of least free energy in the top machine, (N,).

        Example:
            >>> dbn = torch_init.rbm.DBN([4, 3, 3], classes=2)
            >>> dbn.predict(torch.zeros(5, 4)).shape
            torch.Size([5])
        """
        if self.classes is None:
            raise TypeError(describe("DBN.predict", "self", "no classes", "a net with classes="))
        features = self.below_top(visible)
        energies = []
        for label in torch.eye(self.classes, device=features.device, dtype=features.dtype):
            rows = torch.cat([features, label.expand(len(features), -1)], 1)
            energies.append(self.top.free_energy(rows))
        return torch.stack(energies).argmin(0)

    @torch.no_grad()
    def sample(
        self, num: int, steps: int = 1000, *, label: int | None = None, seed: int | None = None
    ) -> Tensor:
        """Return the visible means of num samples, (num, visible): a chain at the top, then down.

        Args:
            steps: sweeps of the top machine.
            label: a class whose units are clamped while the chain runs.
            seed: None draws one from torch's default generator.
        """
        check_positive_int("DBN.sample", "num", num)
        seed = draw_seed(None) if seed is None else int(check_seed("DBN.sample", seed))
        top = self.top
        noise = Noise(seed, f"{self.name}.sample")
        start = top.visible_bias.detach().expand(num, -1).contiguous()
        states = top.visible.sample(start, top.log_variance, noise.at("start", 0, start))
        clamp = None
        if label is not None:
            if self.classes is None or not 0 <= label < self.classes:
                expected = f"None or a class of {self.classes}"
                raise ValueError(describe("DBN.sample", "label", f"{label}", expected))
            states[:, -self.classes :] = 0
            states[:, label - self.classes] = 1
            clamp = torch.arange(states.shape[1], device=states.device) >= (
                states.shape[1] - self.classes
            )
        states, _ = top.run_chains(states, noise, 0, steps, clamp=clamp)
        if self.classes is not None:
            states = states[:, : -self.classes]
        for number in reversed(range(len(self.machines) - 1)):
            field = self.down_field(number, states)
            machine = self._machine(number)
            draw = noise.at(f"down{number}.", 0, field)
            is_data = number == 0
            states = (
                machine.visible.mean(field)
                if is_data
                else machine.visible.sample(field, machine.log_variance, draw)
            )
        return states

    def down_field(self, number: int, states: Tensor) -> Tensor:
        """Return the fields of machine `number`'s visible units by the generative weights."""
        machine = self._machine(number)
        weight = self.generative[number] if len(self.generative) else machine.weight
        return torch.addmm(machine.visible_bias, states, weight)

    def autoencoder(self) -> tuple[nn.Sequential, nn.Sequential]:
        """Return (encoder, decoder), the net unrolled (Hinton & Salakhutdinov 2006).

        Both have parameters of their own, copied from the net, ready for fine-tuning by
        back-propagation. The code is the top layer's means.

        Raises:
            TypeError: the net has classes.

        Example:
            >>> encoder, decoder = torch_init.rbm.DBN([12, 8, 2]).autoencoder()
            >>> decoder(encoder(torch.zeros(3, 12))).shape
            torch.Size([3, 12])
        """
        if self.classes is not None:
            fix = "Train a net without classes"
            raise TypeError(describe("DBN.autoencoder", "self", "classes", "none", fix))
        up: list[nn.Module] = []
        down: list[nn.Module] = []
        for number in range(len(self.machines)):
            machine = self._machine(number)
            with torch.no_grad():
                scale = 1.0 if machine.log_variance is None else (-machine.log_variance).exp()
                last = number >= len(self.generative)
                back = machine.weight if last else self.generative[number]
                up += _layer(machine.weight * scale, machine.hidden_bias, machine.hidden)
                down[:0] = _layer(back.T, machine.visible_bias, machine.visible)
        return nn.Sequential(*up), nn.Sequential(*down)


def _layer(weight: Tensor, bias: Tensor, units: Units) -> list[nn.Module]:
    linear = nn.Linear(weight.shape[1], weight.shape[0], device=weight.device)
    with torch.no_grad():
        linear.weight.copy_(weight)
        linear.bias.copy_(bias)
    if isinstance(units, Bernoulli):
        return [linear, nn.Sigmoid()]
    if isinstance(units, Spin):
        return [linear, nn.Tanh()]
    if isinstance(units, NReLU):
        return [linear, nn.Softplus()]
    if isinstance(units, Gaussian):
        return [linear]
    expected = "Bernoulli, Spin, Gaussian or NReLU units"
    raise TypeError(describe("DBN.autoencoder", "units", type(units).__name__, expected))


@torch.no_grad()
def _in_chunks(function: Any, rows: Tensor) -> Tensor:
    return torch.cat([function(part) for part in rows.split(_CHUNK)])
