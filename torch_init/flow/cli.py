# SPDX-License-Identifier: Apache-2.0
"""`torch-init check MODULE:FACTORY`: a model's verdict from the command line."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn

from torch_init.errors import check_choice, describe
from torch_init.flow.checking import check, default_inputs
from torch_init.flow.report import Report
from torch_init.flow.thresholds import KINDS
from torch_init.model.command import find_named


def add_parser(commands: Any) -> None:
    """Add the subcommand to the subparsers of `torch-init`."""
    parser = commands.add_parser(
        "check", help="run one forward and backward pass through a model and say what is wrong"
    )
    parser.add_argument(
        "factory",
        metavar="MODULE:FACTORY",
        help="a function without arguments that returns the model, or (model, inputs), or "
        "(model, inputs, loss or targets); MODULE is importable or the path of a .py file",
    )
    parser.add_argument("--shape", metavar="N,...", help="of normal inputs: 64,3,32,32")
    parser.add_argument("--seed", type=int, default=0, help="of torch (default: %(default)s)")
    parser.add_argument("--device", default="cpu", help="where to run (default: %(default)s)")
    parser.add_argument("--html", metavar="FILE", help="write the report as a web page")
    parser.add_argument("--json", metavar="FILE", help="write the report as JSON")
    parser.add_argument(
        "--ignore", nargs="+", default=[], metavar="KIND", help="verdicts that are no failure"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Check what args name; return 0 if it is healthy, 1 if not, 2 if it cannot be checked."""
    try:
        _check_arguments(args)
        torch.manual_seed(args.seed)
        report = _check(args)
        if args.html:
            report.to_html(args.html, args.factory)
        if args.json:
            report.to_json(args.json)
    except Exception as error:  # whatever the user's factory and model raise
        text = " ".join(f"{type(error).__name__}: {error}".split())
        print(f"torch-init check: error: {text}", file=sys.stderr)
        return 2
    return int(any(not v.is_healthy and v.kind not in args.ignore for v in report.verdicts))


def _check_arguments(args: argparse.Namespace) -> None:
    """Before the model is run, which may take long."""
    for kind in args.ignore:
        check_choice("check", "--ignore", kind, KINDS)
    for option, path in (("--html", args.html), ("--json", args.json)):
        if path and (Path(path).is_dir() or not Path(path).parent.is_dir()):
            raise ValueError(
                describe("check", option, repr(path), "a file in a folder that exists")
            )


def _shape(text: str) -> list[int]:
    try:
        return [int(size) for size in text.split(",")]
    except ValueError:
        raise ValueError(describe("check", "--shape", repr(text), "sizes such as 64,20")) from None


def _check(args: argparse.Namespace) -> Report:
    made = _call(find_named("check", args.factory), args.factory)
    model, inputs, loss = (*made, None, None)[:3] if isinstance(made, tuple) else (made, None, None)
    if not isinstance(model, nn.Module):
        raise TypeError(f"{args.factory} returned {type(model).__name__}, no torch.nn.Module")
    model.to(args.device)
    if args.shape:
        inputs = torch.randn(_shape(args.shape))
    if inputs is None:
        inputs = default_inputs("check", model)
    return check(model, _move(inputs, args.device), _move(loss, args.device))


def _call(factory: Any, name: str) -> Any:
    if isinstance(factory, nn.Module):
        return factory
    if not callable(factory):
        got = f"{name}, a {type(factory).__name__}"
        raise TypeError(describe("check", "FACTORY", got, "a class or a function"))
    return factory()


def _move(value: Any, device: str) -> Any:
    if isinstance(value, torch.Tensor):
        return value.to(device)
    if isinstance(value, (tuple, list)):
        return tuple(_move(item, device) for item in value)
    if isinstance(value, dict):
        return {key: _move(item, device) for key, item in value.items()}
    return value
