# SPDX-License-Identifier: Apache-2.0
"""fit(): training a machine."""

from collections.abc import Callable
from dataclasses import fields, replace
from os import PathLike
from pathlib import Path
from typing import Any

from torch_init.errors import check_positive_int, check_type, describe
from torch_init.rbm.checkpoint import warn_if_replaced
from torch_init.rbm.data import as_source
from torch_init.rbm.energy import check_finite_parameters, check_machine
from torch_init.rbm.history import History
from torch_init.rbm.machine import RBM
from torch_init.rbm.monitors import check_monitors
from torch_init.rbm.options import Options, check_bool
from torch_init.rbm.parallel import Processes
from torch_init.rbm.resume import load, restore
from torch_init.rbm.run import Training, check_sampled, warn_of_bits
from torch_init.rbm.units import Spin


def fit(
    machine: RBM,
    data: Any,
    *,
    validation: Any = None,
    progress: bool | None = None,
    callback: Callable[[RBM, dict[str, Any]], object] | None = None,
    checkpoint: str | Path | None = None,
    checkpoint_every: int = 1000,
    resume: bool = False,
    process_group: Any = None,
    **options: Any,
) -> History:
    """Train a machine on unlabelled data by stochastic ascent of the log-likelihood.

    The defaults follow Hinton (2010), "A practical guide to training RBMs", with centring
    (Melchior et al. 2016) added. The run is a function of the data, the options and the seed.

    Args:
        machine: trained in place.
        data: a tensor on any device, a NumPy array or memory map, a DataFrame, a Dataset (of
            inputs, or of tuples that begin with the input), a DataLoader or another iterable of
            batches. An example may have any shape of `visible` elements. uint8 is grey levels,
            divided by 255; Bernoulli units take values in [0, 1], softmax units one-hot groups,
            spin units in [-1, 1] (0 and 1 alone give a warning: they look like bits),
            Gaussian units anything finite, best of unit variance. Constant columns are allowed.
            All rows of arrays are checked before the run, others as they are read.
        validation: held-out data for the monitors, which look at 512 rows: evenly spaced ones, of a
            loader the first. So do they at data, if nothing is held out.
        progress: a bar; None: if tqdm is there and stderr is a terminal.
        callback: called with the machine and the record of each monitored epoch.
        checkpoint: a folder, written every checkpoint_every updates and at the end. A checkpoint
            that is there is replaced, with a warning, unless it is resumed.
        resume: go on from the folder's checkpoint, with the same data and options (only epochs
            may be raised, with a constant schedule): the bits are those of one uninterrupted run,
            if the data come in the same order again. Of a DataLoader that shuffles they do if it
            has a generator, whose state the checkpoint keeps; what it read before is read again.
            That the data are the same is trusted: only the number of rows is compared. Fewer epochs
            than the checkpoint's run had give a warning.
        process_group: a group of torch.distributed that shares the batches and chains; all its
            processes pass the same data (of a DataLoader each its own part of every batch) and
            options. Where statistics are integers the run has the same bits for any number of them.

    Options:
        epochs (10), batch_size (100), shuffle (True), seed (None: the machine's).
        algorithm: "cd" (default), "pcd", "fpcd" or "pt" (parallel tempering); k (1): sweeps an
            update; chains (None: batch_size) of the last three; temperatures (10) of "pt", evenly
            spaced inverse ones from 1 to 0, or, with adapt_temperatures (False), such that all
            neighbours come to swap about as often.
        learning_rate: None: 0.05 for CD, 0.01 for the others, 0.001 with Gaussian or NReLU units.
        schedule: "constant" (default), "linear" (to 0), "cosine" (to 0), "exponential" (to 1 %), or
            a function of the part of the updates that is done, in [0, 1], giving a factor.
        momentum: a number, or two, before and from epoch 5. None: (0.5, 0.9) for CD, else 0.
        weight_decay (2e-4) and l1 (0): of the weights only. sparsity_target (None) of the hidden
            means, with sparsity_cost (0.01).
        centered: the centred gradient, whose offsets follow the data's means. None: True, but False
            of a ConvRBM. dropout (0): of hidden units, in CD (Srivastava et al. 2014, section 8).
            No weight is rescaled: the hidden means stay those of training, but all units together
            send 1 / (1 - dropout) times as much down.
        statistics: "means" of the hidden units (default; less variance) or "samples". Where all
            units are binary and the data are states or grey levels u / 255, both are integers: the
            means are rounded to 2^-16 (docs/gibbs.md, section 6). On a CPU so are other data of
            Bernoulli units.
        reconstruction: "samples" (default) or "means" of the visible units, in CD.
        binarize: None, "threshold" (> 0.5; of spins > 0) or "sample" (anew in each epoch).
        visible_bias: "data": log(p / (1 - p)) of the data's means at the start; "keep". None:
            "data" while the biases are all 0 and require a gradient, so a second fit goes on. The
            means are of all rows of an array, of at most 4,096 of others: evenly spaced ones of a
            Dataset, the first batches of a loader.
        monitors: of MONITORS, default reconstruction and gradient_norm; monitor_every (1) epochs;
            patience (None): epochs without a better first monitor after which to stop.

    Raises:
        TypeError, ValueError: bad options or data, or parameters that are not finite, before the
            machine is changed, save by rows of datasets and loaders, which are met later; the first
            bad row is named.
        FloatingPointError: the parameters diverged. On a GPU this is noticed when figures are
            recorded or a checkpoint is written: updates do not wait to learn it.

    Example:
        >>> rbm = torch_init.rbm.RBM(4, 8, seed=0)
        >>> bars = torch.tensor([[1.0, 1, 0, 0], [0, 0, 1, 1], [1, 0, 1, 0], [0, 1, 0, 1]])
        >>> history = torch_init.rbm.fit(rbm, bars.repeat(25, 1), epochs=20, batch_size=10)
        >>> history["reconstruction"][-1] < history["reconstruction"][0]
        True
    """
    check_machine("fit", "machine", machine)
    check_bool("fit", "resume", resume)
    if progress is not None:
        check_bool("fit", "progress", progress)
    if callback is not None:
        check_type("fit", "callback", callback, Callable, "a function of the machine and a record")
    if checkpoint is not None:
        check_type("fit", "checkpoint", checkpoint, (str, PathLike), "a folder's path")
    try:
        chosen = Options(**options)
    except TypeError as error:
        names = [field.name for field in fields(Options)]
        unknown = ", ".join(sorted(set(options) - set(names))) or str(error)
        raise TypeError(describe("fit", "options", unknown, ", ".join(names))) from error
    chosen.check(machine.visible, machine.hidden, machine.exact)
    if chosen.centered is None:
        chosen = replace(chosen, centered=machine.can_be_centred)
    elif chosen.centered and not machine.can_be_centred:
        got = f"True with a {type(machine).__name__}, whose units share their biases"
        raise ValueError(describe("fit", "centered", got, "False"))
    has_validation = validation is not None
    check_monitors("fit", chosen.monitors, chosen.patience, machine.visible, has_validation)
    check_positive_int("fit", "checkpoint_every", checkpoint_every)
    if resume and checkpoint is None:
        raise ValueError(describe("fit", "resume", "True without checkpoint", "a folder"))
    source = as_source("fit", data, machine)
    means = source.scan()
    held_out = None
    if validation is not None:
        held_out = as_source("fit", validation, machine, "validation").probe()
    if chosen.statistics == "samples" and chosen.binarize is None and not source.are_states:
        check_sampled(machine, source.probe())
    if isinstance(machine.visible, Spin) and chosen.binarize != "threshold":
        warn_of_bits(source.probe())
    training = Training(machine, source, held_out, chosen, Processes.of(process_group))
    folder = None if checkpoint is None else Path(checkpoint)
    stored = load(training, folder) if resume and folder is not None else None
    if folder is not None and not resume:
        warn_if_replaced(folder)
    if not any(parameter.requires_grad for parameter in machine.parameters()):
        got, fix = "parameters none of which requires a gradient", "Call requires_grad_(True)"
        raise ValueError(describe("fit", "machine", got, "one that can learn", fix))
    if stored is None:
        check_finite_parameters("fit", "machine", machine)
    training.begin(means)
    if stored is not None:
        restore(training, *stored)
    training.run(folder, checkpoint_every, progress, callback)
    return training.history
