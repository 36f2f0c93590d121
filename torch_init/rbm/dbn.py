# SPDX-License-Identifier: Apache-2.0
"""Deep belief nets: machines stacked greedily, fine-tuned up and down, unrolled."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from torch_init.errors import check_not_negative, check_positive_int, check_type, describe
from torch_init.keys import check_seed, draw_seed
from torch_init.rbm.ancestral import draw
from torch_init.rbm.data import Rows, as_source
from torch_init.rbm.greedy import check_options, train_greedily
from torch_init.rbm.history import History
from torch_init.rbm.labelled import Labelled, as_labels, one_hot
from torch_init.rbm.machine import RBM
from torch_init.rbm.sampling import Noise
from torch_init.rbm.units import Bernoulli, Gaussian, NReLU, Units, as_units
from torch_init.rbm.unrolled import unroll
from torch_init.rbm.updown import check_units, up_down


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
        check_type("DBN", "layers", layers, (list, tuple), "a list of numbers of units, or Units")
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

    def each(self) -> Iterator[RBM]:
        """Yield the machines, bottom first."""
        return (self._machine(number) for number in range(len(self.machines)))

    def _machine(self, number: int) -> RBM:
        machine = self.machines[number]
        assert isinstance(machine, RBM)
        return machine

    def fit(
        self, data: Any, labels: Any = None, *, validation: Any = None, **options: Any
    ) -> list[History]:
        """Train the machines greedily, each on the means of the one below.

        A machine whose layers mirror those of the one below starts from its weights transposed,
        which cannot lower the variational bound (Hinton et al. 2006). What up_down has learned of
        generative weights is forgotten.

        Args:
            data: rows, as torch_init.rbm.fit takes them (no loader).
            labels: (N,) class numbers, needed if the net has classes.
            validation: held-out rows for the monitors; if the net has classes, (rows, labels).
            options: of torch_init.rbm.fit, for every machine; each has its own folder in
                `checkpoint`.

        Returns:
            The history of each machine.

        Raises:
            TypeError, ValueError: data, labels or options that a machine of the net cannot take,
                before any of them is changed.
        """
        check_options("DBN.fit", self, options)
        examples = self._examples("DBN.fit", "data", data, labels)
        held_out = None
        if validation is not None:
            pair = (validation, None) if self.classes is None else validation
            if not isinstance(pair, (tuple, list)) or len(pair) != 2:
                got = type(pair).__name__
                raise TypeError(describe("DBN.fit", "validation", got, "a pair (rows, labels)"))
            held_out = self._examples("DBN.fit", "validation", *pair)
        self.generative = nn.ParameterList()
        return train_greedily(self, examples, held_out, options)

    def _examples(
        self, function: str, argument: str, data: Any, labels: Any
    ) -> tuple[Tensor, Tensor | None]:
        """Return all rows, and their labels one-hot if the net has classes."""
        source = as_source(function, data, self._machine(0), argument)
        if not isinstance(source, Rows):
            got = f"a {type(data).__name__}"
            raise TypeError(describe(function, argument, got, "a tensor, NumPy array or Dataset"))
        return source.whole(), self._one_hot(function, labels, source.count)

    def _one_hot(self, function: str, labels: Any, count: int) -> Tensor | None:
        if self.classes is not None:
            return one_hot(function, labels, count, self.classes).to(self.top.weight)
        if labels is not None:
            fix = "Make the net with classes="
            raise ValueError(describe(function, "labels", "labels", "None", fix))
        return None

    def up_down(
        self,
        data: Any,
        labels: Any = None,
        *,
        epochs: int = 10,
        batch_size: int = 100,
        learning_rate: float = 0.01,
        k: int = 3,
        seed: int | None = None,
    ) -> None:
        """Fine-tune all weights by the up-down algorithm (Hinton, Osindero, Teh 2006, appendix B).

        Recognition and generative weights, tied until then, part. Wake: states are drawn from the
        data up, and the generative weights learn to predict each layer from the one above. Top: k
        sweeps of the top machine, contrastively. Sleep: states are drawn down from there, and the
        recognition weights learn to predict each layer from the one below.

        Args:
            data, labels: as fit takes them.
            epochs, batch_size, learning_rate, k: of the fine-tuning.
            seed: of its noise and the order of rows; None: the net's.

        Raises:
            TypeError, ValueError: layers of other than Bernoulli units, bad arguments, data or
                labels, before the net is changed.
            FloatingPointError: the parameters diverged.

        Example:
            >>> dbn = torch_init.rbm.DBN([6, 4, 3], seed=0)
            >>> dbn.up_down(torch.eye(6), epochs=1)
            >>> len(dbn.generative)
            1
        """
        check_units("DBN.up_down", self)
        for name, value in (("epochs", epochs), ("batch_size", batch_size), ("k", k)):
            check_positive_int("DBN.up_down", name, value)
        rate = check_not_negative("DBN.up_down", "learning_rate", learning_rate)
        seed = self.seed if seed is None else int(check_seed("DBN.up_down", seed))
        features, one_hot_labels = self._examples("DBN.up_down", "data", data, labels)
        if not self.generative:
            self._untie()
        up_down(self, features, one_hot_labels, epochs, batch_size, rate, k, Noise(seed, self.name))

    def _untie(self) -> None:
        lower = list(self.each())[:-1]
        weights = (nn.Parameter(machine.weight.detach().clone()) for machine in lower)
        self.generative = nn.ParameterList(weights)

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        # Whether the weights are tied is part of the state.
        is_untied = any(name.startswith(f"{prefix}generative.") for name in state_dict)
        if is_untied and not self.generative:
            self._untie()
        elif not is_untied:
            self.generative = nn.ParameterList()
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def forward(self, visible: Tensor) -> Tensor:
        """Return what transform does."""
        return self.transform(visible)

    def _check_rows(self, function: str, visible: Tensor) -> None:
        bottom = self._machine(0)
        bottom.check_layer(f"DBN.{function}", "visible", visible, bottom.visible, is_matrix=True)

    def below_top(self, visible: Tensor) -> Tensor:
        """Return the means of the layer under the top machine, (N, units)."""
        for number in range(len(self.machines) - 1):
            visible = self._machine(number).hidden_mean(visible)
        return visible

    def transform(self, visible: Tensor) -> Tensor:
        """Return the means of the top layer, (N, units); a label that is not known is uniform."""
        self._check_rows("transform", visible)
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
        self._check_rows("predict", visible)
        features = self.below_top(visible)
        energies = []
        for label in torch.eye(self.classes, device=features.device, dtype=features.dtype):
            rows = torch.cat([features, label.expand(len(features), -1)], 1)
            energies.append(self.top.free_energy(rows))
        return torch.stack(energies).argmin(0)

    @torch.no_grad()
    def sample(
        self,
        num: int,
        steps: int = 1000,
        *,
        label: int | Tensor | None = None,
        seed: int | None = None,
    ) -> Tensor:
        """Return the visible means of num samples, (num, visible): a chain at the top, then down.

        Args:
            steps: sweeps of the top machine.
            label: a class, or (num,) of them, whose units are clamped while the chains run.
            seed: None draws one from torch's default generator.

        Example:
            >>> dbn = torch_init.rbm.DBN([6, 4, 3], classes=2, seed=0)
            >>> dbn.sample(2, steps=5, label=torch.tensor([0, 1]), seed=0).shape
            torch.Size([2, 6])
        """
        check_positive_int("DBN.sample", "num", num)
        check_positive_int("DBN.sample", "steps", steps)
        wanted = None
        if label is not None:
            labels = as_labels("DBN.sample", "label", label)
            labels = labels.expand(num) if labels.dim() == 0 else labels
            wanted = self._one_hot("DBN.sample", labels, num)
        seed = draw_seed(None) if seed is None else int(check_seed("DBN.sample", seed))
        return draw(self, num, steps, wanted, Noise(seed, f"{self.name}.sample"))

    def down_field(self, number: int, states: Tensor) -> Tensor:
        """Return the fields of machine `number`'s visible units by the generative weights."""
        bias = self._machine(number).visible_bias
        return torch.addmm(bias, states, self.weight_down(number))

    def weight_down(self, number: int) -> Tensor:
        """Return the generative weights of machine `number`, (hidden, visible)."""
        if number < len(self.generative):
            weight: Tensor = self.generative[number]
            return weight
        return self._machine(number).weight

    def autoencoder(self) -> tuple[nn.Sequential, nn.Sequential]:
        """Return (encoder, decoder), the net unrolled (Hinton & Salakhutdinov 2006).

        Both have parameters of their own, copied from the net, ready for fine-tuning by
        back-propagation. The code is the top layer's means. NReLU features are Gaussian data to
        the machine above, so a layer of the decoder that gives them is linear.

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
        return unroll(self)
