# SPDX-License-Identifier: Apache-2.0
"""The command line: `torch-init`, also `python -m torch_init`."""

import argparse
import io
import os
import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand and return its exit status.

    Args:
        argv: the arguments after the program's name; sys.argv's by default.
    """
    args = _parser().parse_args(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):  # a terminal may know no exponents
        sys.stdout.reconfigure(errors="replace")
    try:
        status: int = args.run(args)
        sys.stdout.flush()
    except BrokenPipeError:  # whoever was reading, such as head, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="torch-init",
        description="Weight initialisation with the same bits on every CPU and GPU.",
    )
    parser.add_argument("--version", action="version", version=_version())
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    info = commands.add_parser(
        "info", help="print versions, the CPU tier in use and what the build contains"
    )
    info.set_defaults(run=_run_info)

    from torch_init.model import command

    plan_parser = commands.add_parser(
        "plan", help="print how a model would be initialised, without allocating it"
    )
    command.add_arguments(plan_parser)
    plan_parser.set_defaults(run=command.run)
    recipes_parser = commands.add_parser("recipes", help="list the recipes and what they do")
    recipes_parser.set_defaults(run=command.run_recipes)

    # torch_init.demo keeps its plotting and data dependencies out of its import.
    from torch_init import demo

    demo_parser = commands.add_parser(
        "demo", help="train deep networks from several initialisations and compare them"
    )
    demo.add_arguments(demo_parser)
    demo_parser.set_defaults(run=demo.run)

    from torch_init.flow import cli as flow_cli

    flow_cli.add_parser(commands)
    return parser


def _version() -> str:
    from torch_init import __version__

    return f"torch_init {__version__}"


def _run_info(args: argparse.Namespace) -> int:
    from torch_init import info

    print(info.format_info(info.collect()))
    return 0
