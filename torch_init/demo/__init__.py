# SPDX-License-Identifier: Apache-2.0
"""``torch-init demo``: deep networks on handwritten digits, trained from different starts.

The same sigmoid, tanh and ReLU multilayer perceptrons are trained from zero, N(0, 1), N(0, 0.01^2),
LeCun, Xavier and He starts: same examples in the same order, same optimiser, same learning rate. A
table, a figure, TensorBoard event files and a JSON file show side by side which of them learn and
how the gradient changes from layer to layer; every claim printed is checked against the numbers.

``docs/images/demo.png`` is the figure of the default run, ``torch-init demo``, which writes it to
``torch_init_demo/demo.png``.

``few_labels.png`` compares plain starts with one that restricted Boltzmann machines learned from
examples without labels, where only a hundred have one.

``gradient_flow.png`` and the web pages in ``gradient_flow/`` show the networks before training as
torch_init.check sees them, each with its verdict.

Rooms: ``data`` (digits), ``models`` (network, activations, the registry of starts), ``training``,
``measurement`` (gradients, theory), ``claims``, ``few_labels``, and the outputs ``report``,
``figure``, ``events``, ``flow``.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import DemoError

if TYPE_CHECKING:
    import torch

__all__ = ["DemoError", "add_arguments", "run"]

_INSTALL = "pip install 'torch_init[demo]'"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the demo to ``parser``."""
    parser.add_argument(
        "--data",
        metavar="PATH",
        help="an .npz file with uint8 arrays X, y, Xt, yt, or a folder with MNIST's IDX files "
        "(default: scikit-learn's 8x8 digits)",
    )
    parser.add_argument(
        "--epochs", type=int, help="passes over the training set (default: about 400 updates)"
    )
    parser.add_argument(
        "--depth", type=int, default=10, help="hidden layers (default: %(default)s)"
    )
    parser.add_argument(
        "--width", type=int, default=128, help="units per hidden layer (default: %(default)s)"
    )
    parser.add_argument(
        "--batch-size", type=int, default=64, help="examples per update (default: %(default)s)"
    )
    parser.add_argument(
        "--lr", type=float, default=0.01, help="learning rate of all runs (default: %(default)s)"
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of weights and data order (default: %(default)s)"
    )
    parser.add_argument(
        "--activations", nargs="+", metavar="NAME", help="any of sigmoid tanh relu (default: all)"
    )
    parser.add_argument(
        "--inits",
        nargs="+",
        metavar="NAME",
        help="any of zero normal-1 normal-0.01 lecun xavier he (default: all)",
    )
    parser.add_argument(
        "--few-labels",
        type=int,
        default=100,
        metavar="N",
        help="labelled examples of the comparison with RBM pre-training, 0 for none "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--output", default="torch_init_demo", metavar="DIR", help="folder for the results"
    )
    parser.add_argument(
        "--no-tensorboard", action="store_true", help="write no TensorBoard event files"
    )
    parser.add_argument(
        "--device", default="cpu", help="torch device to train on (default: %(default)s)"
    )


def run(args: argparse.Namespace) -> int:
    """Run the comparison that ``args`` (of :func:`add_arguments`) asks for.

    Returns:
        0, or 2 after one line on stderr that says what is wrong with the input.

    Example::

        >>> parser = argparse.ArgumentParser()
        >>> add_arguments(parser)
        >>> run(parser.parse_args(["--activations", "relu", "--inits", "xavier", "he"]))
        0
    """
    try:
        _require_extras(args)
        _compare(args)
    except DemoError as error:
        print("torch-init demo: error:", " ".join(str(error).split()), file=sys.stderr)
        return 2
    return 0


def _require_extras(args: argparse.Namespace) -> None:
    needed = {"rich": "rich", "matplotlib": "matplotlib", "tqdm": "tqdm"}
    if args.data is None:
        needed["sklearn"] = "scikit-learn"
    if not args.no_tensorboard:
        needed["tensorboard"] = "tensorboard"
    missing = [
        package for module, package in needed.items() if importlib.util.find_spec(module) is None
    ]
    if missing:
        raise DemoError(f"needs {', '.join(missing)}; install with: {_INSTALL}")


def _compare(args: argparse.Namespace) -> None:
    from rich.console import Console
    from tqdm import tqdm

    from . import data, few_labels, figure, flow, measurement, report, training
    from .claims import Comparison, check_claims, summarise
    from .models import ACTIVATIONS, MLP, STARTS

    settings = training.Settings(
        args.epochs, args.depth, args.width, args.batch_size, args.lr, args.seed, args.device
    )
    settings.check()
    activations = _chosen("--activations", args.activations, list(ACTIVATIONS))
    starts = _chosen("--inits", args.inits, list(STARTS))
    device = _usable_device(args.device)
    output = _writable_folder(args.output)
    digits = data.load(args.data, settings.seed)
    labels = args.few_labels
    if not 0 <= labels <= len(digits.x_train):
        raise DemoError(f"--few-labels: got {labels}; expected 0 to {len(digits.x_train)}")

    console = Console()
    console.print(report.describe(digits, settings), highlight=False)
    digits = digits.to(device)
    pairs = [(activation, start) for activation in activations for start in starts]
    runs = []
    reports: flow.Reports = {}
    # disable=None: no bar where stderr is not a terminal.
    total = len(pairs) * settings.updates_for(digits)
    total += few_labels.total_updates(settings, labels) if labels else 0
    with tqdm(total=total, unit="update", disable=None) as bar:
        for activation, start in pairs:
            bar.set_description(f"{ACTIVATIONS[activation].label} {STARTS[start].label}")

            def inspect(model: MLP, pair: tuple[str, str] = (activation, start)) -> None:
                reports[pair] = flow.measure(model, digits)

            runs.append(training.train(activation, start, digits, settings, bar.update, inspect))
        few = None
        if labels:
            bar.set_description("few labels")
            few = few_labels.compare(digits, settings, labels, bar.update)

    entropy = measurement.class_entropy(training.probe(digits)[1], digits.classes)
    comparison = Comparison(runs, digits.classes, entropy, settings.depth, settings.width)
    claims = check_claims(comparison)
    claims += few.claims() if few is not None else []
    tables = [few_labels.build_table(few)] if few is not None else []
    report.print_report(console, comparison, claims, summarise(comparison), tables)
    try:
        drawing = figure.draw(comparison)
        drawing.savefig(output / "demo.png")
        report.write_json(output / "results.json", digits, settings, comparison, claims, few)
        flow.draw(reports).savefig(output / "gradient_flow.png")
        flow.write_pages(reports, output / "gradient_flow")
        written = "demo.png, results.json, gradient_flow.png, gradient_flow/ (web pages)"
        if few is not None:
            few_labels.draw(few).savefig(output / "few_labels.png")
            written += ", few_labels.png"
        if not args.no_tensorboard:
            from .events import write_events

            write_events(output / "tensorboard", runs, figure.to_image(drawing))
            written += f", tensorboard/ (tensorboard --logdir {output / 'tensorboard'})"
    except OSError as error:
        raise DemoError(f"--output: cannot write to {args.output}: {error}") from error
    console.print(f"\nWritten to {args.output}: {written}", highlight=False, soft_wrap=True)


def _chosen(option: str, names: list[str] | None, known: list[str]) -> list[str]:
    """The wanted names in the order of ``known``; all of them for None."""
    unknown = [name for name in names or () if name not in known]
    if unknown:
        raise DemoError(
            f"{option}: unknown {', '.join(unknown)}; expected any of {' '.join(known)}"
        )
    return [name for name in known if names is None or name in names]


def _usable_device(name: str) -> torch.device:
    import torch

    import torch_init

    try:
        device = torch.device(name)
        if device.type not in ("cpu", "cuda"):
            raise ValueError("expected cpu or cuda")
        torch_init.normal_(torch.empty(1, device=device), seed=0, name="device")
    except (RuntimeError, AssertionError, TypeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise DemoError(f"--device: cannot use {name!r}: {reason}") from error
    return device


def _writable_folder(name: str) -> Path:
    folder = Path(name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise DemoError(f"--output: cannot write to {name}: {error.strerror or error}") from error
    return folder
