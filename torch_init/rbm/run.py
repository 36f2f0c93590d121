# SPDX-License-Identifier: Apache-2.0
"""One run of fit(): the loop over batches, what an update is made of, and the records."""

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from torch_init.distributions import Uniform
from torch_init.errors import describe
from torch_init.rbm.ascent import Ascent, Pace
from torch_init.rbm.biases import set_visible_bias
from torch_init.rbm.data import Rows, Source
from torch_init.rbm.divergence import check_parameters
from torch_init.rbm.exact import Difference, Phase, exact_rows
from torch_init.rbm.gradient import statistics
from torch_init.rbm.history import History
from torch_init.rbm.machine import RBM
from torch_init.rbm.monitors import HIGHER_IS_BETTER, Moment, look
from torch_init.rbm.negative import Chains, ContrastiveDivergence, FastPersistent, Persistent
from torch_init.rbm.options import MOMENTUM_EPOCH, Options
from torch_init.rbm.parallel import Processes
from torch_init.rbm.progress import make_bar
from torch_init.rbm.resume import save
from torch_init.rbm.sampling import IntegerMachine, Noise
from torch_init.rbm.tempering import Tempered
from torch_init.rbm.units import Spin

_PERSISTENT = {"pcd": Persistent, "fpcd": FastPersistent, "pt": Tempered}


def check_sampled(machine: RBM, rows: Tensor) -> None:
    """Raise unless rows are states, of which integer statistics are made."""
    if not machine.visible.are_states(rows):
        fix = 'Use binarize="sample" or "threshold", or statistics="means"'
        expected = "states, of which integer statistics are made"
        raise ValueError(describe("fit", "data", "means of states", expected, fix))


def warn_of_bits(rows: Tensor) -> None:
    """Warn if rows of spins are made of 0 and 1, where 0 is a mean: as likely -1 as 1."""
    if torch.equal(rows, rows.bool().to(rows.dtype)) and rows.min() < rows.max():
        fix = "Pass 2 * data - 1, or use Bernoulli units"
        text = describe("fit", "data", "only 0 and 1", "spins, which are -1 and 1", fix)
        warnings.warn(text, UserWarning, stacklevel=3)


class Training:
    """One run of fit: the machine, and all that its training moves besides it.

    resume.py keeps it in checkpoints: `update` of them are done, `negative` and `ascent` have a
    state of their own, and `history` holds the records.
    """

    def __init__(
        self,
        machine: RBM,
        source: Source,
        validation: Tensor | None,
        options: Options,
        processes: Processes,
    ) -> None:
        self.machine, self.source, self.options = machine, source, options
        self.validation, self.processes = validation, processes
        self.seed = machine.seed if options.seed is None else options.seed % 2**64
        self.noise = Noise(self.seed, f"{machine.name}.data")
        self.history = History()
        self.update = 0
        self.integers: IntegerMachine | None = None
        self.difference: Difference | None = None

    def begin(self, means: Tensor) -> None:
        """Set the visible biases and make everything at its start."""
        machine, options = self.machine, self.options
        bias, wanted = machine.visible_bias, options.visible_bias
        untouched = bias.requires_grad and not bias.detach().any()
        if wanted == "data" or (wanted is None and untouched):
            set_visible_bias(machine, means, self.source.scanned)
        for parameter in machine.parameters():
            self.processes.from_first_(parameter.data)
        self.ascent = Ascent(machine, options)
        chains = Noise(self.seed, f"{machine.name}.chains")
        self.negative: ContrastiveDivergence | Chains
        if options.algorithm == "cd":
            self.negative = ContrastiveDivergence(machine, options, chains)
            return
        count = options.chains or options.batch_size
        field = machine.unit_biases()[0].detach().expand(count, -1).contiguous()
        draw = chains.at("start", 0, field)
        start = machine.visible.sample(field, machine.log_variance, draw).to(field.dtype).detach()
        kind = _PERSISTENT[options.algorithm]
        self.negative = kind(machine, options, chains, start, self.processes)

    @property
    def _can_be_exact(self) -> bool:
        """Whether updates are made of integers where the rows are states or levels."""
        # A byte of 0 is a spin of -1: only in floating point can dropout take one out.
        drops_spins = self.options.dropout > 0 and isinstance(self.machine.hidden, Spin)
        samples = self.options.reconstruction == "samples"
        return self.machine.exact and samples and not drops_spins

    @property
    def updates_per_epoch(self) -> int | None:
        """None if the data do not say how many rows they have."""
        if self.source.count is None:
            return None
        return -(-self.source.count // self.options.batch_size)

    def run(
        self,
        folder: Path | None,
        every: int,
        progress: bool | None,
        callback: Callable[[RBM, dict[str, Any]], object] | None,
    ) -> None:
        """Train from self.update on to the end."""
        total = self.updates_per_epoch and self.updates_per_epoch * self.options.epochs
        bar = make_bar(progress and self.processes.rank == 0, total, self.update)
        done = 0
        try:
            for epoch in range(self.options.epochs):
                for rows, first_row, count in self._batches(epoch, done):
                    done += 1
                    if done <= self.update:
                        continue
                    assert rows is not None
                    try:
                        self._step(rows, first_row, count, epoch)
                    except ValueError:
                        # Chains refuse parameters that have diverged, too.
                        check_parameters("fit", self.machine, epoch + 1)
                        raise
                    self.update = done
                    bar.update(1)
                    if folder is not None and done % every == 0:
                        save(self, folder, epoch + 1)
                if self._finish_epoch(epoch + 1, bar, callback):
                    break
            if folder is not None:
                save(self, folder, epoch + 1)
        finally:
            bar.close()

    @property
    def _wants_bytes(self) -> bool:
        """Whether updates read the rows as bytes of states, and nothing else of them."""
        as_they_are = self.options.binarize is None and self.source.are_states
        return self._can_be_exact and as_they_are

    def _batches(self, epoch: int, done: int) -> Iterator[tuple[Tensor | None, int, int]]:
        """Yield this process's rows of each batch, the first one's number in it, all rows' number.

        Batches that an earlier run has done are not read from data that can be picked by number.
        """
        options = self.options
        if isinstance(self.source, Rows):
            pick = self.source.pick_bytes if self._wants_bytes else self.source.pick
            for numbers in self.source.batches(
                epoch, options.batch_size, options.shuffle, self.seed
            ):
                done += 1
                own = self.processes.share(len(numbers))
                rows = pick(numbers[own]) if done > self.update else None
                yield rows, own.start, len(numbers)
            return
        yield from self.processes.together(self.source)

    def _progress(self, epoch: int) -> float:
        per_epoch = self.updates_per_epoch
        if per_epoch is None:
            return epoch / self.options.epochs
        return self.update / (per_epoch * self.options.epochs)

    def _may_be_recorded(self, epoch: int) -> bool:
        """Whether this update can be the last one before the monitors look."""
        per_epoch, options = self.updates_per_epoch, self.options
        if epoch % options.monitor_every and epoch != options.epochs:
            return False
        return per_epoch is None or (self.update + 1) % per_epoch == 0

    @torch.no_grad()
    def _step(self, rows: Tensor, first_row: int, count: int, epoch: int) -> None:
        """One update from one batch."""
        machine, options = self.machine, self.options
        noise = self.noise.from_chain(first_row)
        visible = self._binarized(rows, noise)
        mask = None
        if options.dropout:
            field = machine.weight.new_empty(len(rows), machine.hidden.size)
            drawn = noise.at("dropout", self.update, field)(Uniform(0.0, 1.0), field.shape[1])
            mask = (drawn >= options.dropout).to(field.dtype)
        # Of a GPU nobody asks whether they are finite before the epoch is over.
        integers = self.integers = machine.integers(self.integers, check=False)
        exact = None
        if self._can_be_exact:
            are_states = self.source.are_states or options.binarize is not None
            exact = exact_rows(machine, visible, self.processes, are_states)
        if exact is not None and integers is not None:
            self._exact_update(exact, (first_row, count, epoch), noise, mask, integers)
        else:
            self._float_update(visible, (first_row, count, epoch), noise, mask)

    def _exact_update(
        self,
        rows: tuple[Tensor, int],
        where: tuple[int, int, int],
        noise: Noise,
        mask: Tensor | None,
        integers: IntegerMachine,
    ) -> None:
        """From statistics in integers. where: first row, rows of all processes, epoch."""
        machine, options = self.machine, self.options
        (visible, levels), (first_row, count, epoch) = rows, where
        wants_means = options.statistics == "means"
        start, means = visible, None
        if options.algorithm == "cd" or not wants_means:
            start, means = integers.hidden(visible, noise, self.update, levels, means=wants_means)
        else:
            means = integers.hidden_means(visible, levels)
        hidden = start if means is None else means
        if mask is not None:
            start, hidden = start * mask.to(start.dtype), hidden * mask.to(hidden.dtype)
        data = Phase(visible, hidden, levels)
        model = self.negative.phase(start, first_row, self.update, mask, integers)
        counts = (count, self._model_count(count))
        spent = self.difference
        difference = Difference(machine, (data, model), counts, self.processes, spent)
        self.difference = difference
        self.negative.after(self.ascent.along_difference(difference, self._pace(epoch)))

    def _float_update(
        self, visible: Tensor, where: tuple[int, int, int], noise: Noise, mask: Tensor | None
    ) -> None:
        """From statistics in floating point, of hidden means."""
        machine, options, integers = self.machine, self.options, self.integers
        first_row, count, epoch = where
        hidden = machine.hidden_mean(visible)
        hidden = hidden if mask is None else hidden * mask
        data = statistics(machine, visible, hidden, count, self.processes)
        start = hidden
        if options.algorithm == "cd":
            start = machine.sample_hidden(visible, noise, self.update, 1.0, integers)
            start = start if mask is None else start * mask
        phase = self.negative.states(start, first_row, self.update, mask, integers)
        model = statistics(machine, *phase, self._model_count(count), self.processes)
        self.negative.after(self.ascent.along_statistics(data, model, self._pace(epoch)))

    def _model_count(self, count: int) -> int:
        return count if isinstance(self.negative, ContrastiveDivergence) else self.negative.count

    def _pace(self, epoch: int) -> Pace:
        """The learning rate, the momentum and so on of this update."""
        machine, options = self.machine, self.options
        rate = options.rate(machine.visible, machine.hidden) * options.factor(self._progress(epoch))
        momentum = options.momenta()[epoch >= MOMENTUM_EPOCH]
        wants_norm = "gradient_norm" in options.monitors and self._may_be_recorded(epoch + 1)
        return Pace(rate, momentum, self.update == 0, wants_norm)

    def _binarized(self, rows: Tensor, noise: Noise) -> Tensor:
        if self.options.binarize is None:
            if self.options.statistics == "samples" and not self.source.are_states:
                check_sampled(self.machine, rows)
            return rows
        is_spin = isinstance(self.machine.visible, Spin)
        mean = (rows + 1) / 2 if is_spin else rows
        limit: Tensor | float = 0.5
        if self.options.binarize == "sample":
            limit = noise.at("binarize", self.update, rows)(Uniform(0.0, 1.0), rows.shape[1])
        on = (mean > limit).to(rows.dtype)
        return 2 * on - 1 if is_spin else on

    def _finish_epoch(
        self, epoch: int, bar: Any, callback: Callable[[RBM, dict[str, Any]], object] | None
    ) -> bool:
        """Record the monitors if it is their turn; return whether to stop."""
        records, options = self.history.records, self.options
        if epoch <= (records[-1]["epoch"] if records else 0):
            return self.history.stopped_early
        if epoch % options.monitor_every and epoch != options.epochs:
            return False
        check_parameters("fit", self.machine, epoch)
        moment = Moment(
            self.machine,
            self.source.probe(),
            self.validation,
            float(self.ascent.gradient_norm),
            epoch,
        )
        figures = look(list(options.monitors), moment)
        records.append({"epoch": epoch, "update": self.update, **figures})
        bar.set_postfix({name: f"{figure:.4g}" for name, figure in figures.items()})
        if callback is not None:
            callback(self.machine, records[-1])
        self.history.stopped_early = self._is_out_of_patience()
        return self.history.stopped_early

    def _is_out_of_patience(self) -> bool:
        if self.options.patience is None:
            return False
        name, epochs = self.options.monitors[0], self.history["epoch"]
        figures = self.history[name]
        if name in HIGHER_IS_BETTER:
            figures = [-figure for figure in figures]
        return epochs[-1] - epochs[figures.index(min(figures))] >= self.options.patience
