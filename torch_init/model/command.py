# SPDX-License-Identifier: Apache-2.0
"""`torch-init plan`: the plan of anybody's model, made on the meta device."""

import argparse
import importlib
import importlib.util
import inspect
import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn

from torch_init.errors import describe
from torch_init.model.planning import make_plan
from torch_init.model.table import Plan


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `torch-init plan`."""
    parser.add_argument(
        "factory",
        metavar="MODULE:FACTORY",
        help="what makes the model, called without arguments: package.module:Class, or "
        "path/to/file.py:function; of a tuple that it returns, the first. It runs on the meta "
        "device, and allocates nothing",
    )
    parser.add_argument(
        "--recipe",
        default="torch-default",
        help="a recipe's name, such as gpt2 or gpt2@1 (default: %(default)s); "
        "`torch-init recipes` lists them",
    )
    parser.add_argument(
        "--rules",
        metavar="MODULE:NAME",
        help="a rule, or a list of rules, that comes after the recipe; named as the factory is",
    )
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument("--dtype", help="of the parameters, such as bfloat16")
    parser.add_argument(
        "--no-strict",
        action="store_true",
        help="list parameters that no rule matches as left alone (strict=False)",
    )
    parser.add_argument("--all", action="store_true", help="a line for each layer, also if alike")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Print the plan that the arguments ask for; return 0, or 2 if there is none."""
    try:
        plan = _plan(args)
    except (ImportError, TypeError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    if args.json:
        print(plan.to_json())
    elif args.all or not sys.stdout.isatty():
        print(plan.to_text(fold=not args.all))
    else:
        _print_in_terminal(plan)
    return 0


def run_recipes(args: argparse.Namespace) -> int:
    """Print what each recipe does, as its function in torch_init.recipes says."""
    from torch_init import recipes

    for name in recipes.available():
        function = getattr(recipes, name.partition("@")[0].replace("-", "_"))
        paragraph = (inspect.getdoc(function) or "").partition("\n\n")[0]
        print(f"{name}\n  " + " ".join(paragraph.split()).partition(": ")[2])
    return 0


def _plan(args: argparse.Namespace) -> Plan:
    dtype = None if args.dtype is None else getattr(torch, args.dtype, None)
    if args.dtype is not None and not isinstance(dtype, torch.dtype):
        raise ValueError(describe("plan", "--dtype", repr(args.dtype), "a dtype's name in torch"))
    model = make_model("plan", args.factory)
    rules = [args.recipe, *([] if args.rules is None else [find_named("plan", args.rules)])]
    return make_plan("plan", model, rules, args.seed, not args.no_strict, (), None, dtype)


def make_model(command: str, factory: str) -> nn.Module:
    """Return the model that "module:attribute" or "file.py:attribute" makes on the meta device."""
    make = find_named(command, factory)
    if isinstance(make, nn.Module) or not callable(make):
        got = f"{factory}, a {type(make).__name__}"
        raise TypeError(describe(command, "FACTORY", got, "a class or a function"))
    with torch.device("meta"):
        try:
            model = make()
        except TypeError as error:
            fix = "Name a function without arguments that makes the model"
            text = describe(command, "FACTORY", str(error), "what can be called without arguments")
            raise TypeError(f"{text}. {fix}") from error
    if isinstance(model, tuple) and model:  # with inputs and targets, as `torch-init check` has it
        model = model[0]
    if not isinstance(model, nn.Module):
        got = f"{factory}, which makes a {type(model).__name__}"
        raise TypeError(describe(command, "FACTORY", got, "what makes a torch.nn.Module"))
    return model


def find_named(command: str, text: str) -> Any:
    """Return what "module:attribute" or "file.py:attribute" names."""
    place, separator, attribute = text.rpartition(":")
    if not separator:
        expected = "package.module:attribute or path/to/file.py:attribute"
        raise ValueError(describe(command, "MODULE:NAME", repr(text), expected))
    if place.endswith(".py"):
        path = Path(place)
        if not path.is_file():
            raise ValueError(describe(command, "MODULE", repr(place), "a file that exists"))
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec is not None and spec.loader is not None
        found: Any = importlib.util.module_from_spec(spec)
        sys.path.insert(0, str(path.resolve().parent))
        sys.modules.setdefault(path.stem, found)  # dataclasses look their module up
        spec.loader.exec_module(found)
    else:
        sys.path.insert(0, "")  # as python -m has it
        found = importlib.import_module(place)
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise ValueError(describe(command, "NAME", repr(attribute), f"a name in {place}"))
        found = getattr(found, part)
    return found


def _print_in_terminal(plan: Plan) -> None:
    try:
        import rich
    except ImportError:
        print(plan)
    else:
        rich.print(plan)
