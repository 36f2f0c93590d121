# SPDX-License-Identifier: Apache-2.0
"""Build torch_init for this machine into OUTPUT/site, from what is installed here.

The checkout is copied first, so that it stays as it is and may be read-only. Ways are tried in
turn: pip; CMake by hand, which takes older setuptools; CMake without CUDA, so that at least the CPU
is tested (then this part fails all the same).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import _gpu_machine as machine

ROOT = Path(__file__).resolve().parents[2]

SOURCES = ("csrc", "cmake", "tools", "torch_init")
FILES = ("CMakeLists.txt", "pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE")


def python_path(site: Path) -> str:
    """A PYTHONPATH with which Python finds what was built first."""
    return os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])])


def copy_sources(into: Path) -> None:
    shutil.rmtree(into, ignore_errors=True)
    into.mkdir(parents=True)
    ignored = shutil.ignore_patterns("*.so", "__pycache__")
    for name in SOURCES:
        shutil.copytree(ROOT / name, into / name, ignore=ignored)
    for name in FILES:
        shutil.copy2(ROOT / name, into / name)


def cuda_archs() -> str:
    """The architectures of this machine's GPUs, 90 where there is none."""
    found = {gpu["compute_cap"].replace(".", "") for gpu in machine.gpu_state()}
    return ";".join(sorted(a for a in found if a.isdigit())) or "90"


def with_pip(source: Path, site: Path, environment: dict[str, str]) -> None:
    options = ["--no-build-isolation", "--no-deps", "--no-index", "--upgrade"]
    command = [sys.executable, "-m", "pip", "install", *options, "--target", str(site), str(source)]
    subprocess.run(command, env=environment, check=True)


def with_cmake(source: Path, site: Path, environment: dict[str, str]) -> None:
    """What setup.py does, without setuptools."""
    pybind11 = [sys.executable, "-m", "pybind11", "--cmakedir"]
    folder = subprocess.run(pybind11, capture_output=True, text=True, check=True).stdout.strip()
    package = site / "torch_init"
    shutil.copytree(source / "torch_init", package, dirs_exist_ok=True)
    build = source / "build" / environment["TORCH_INIT_CUDA"]
    configure = [
        *("cmake", "-S", str(source), "-B", str(build)),
        *(["-G", "Ninja"] if shutil.which("ninja") else []),
        f"-Dpybind11_DIR={folder}",
        f"-DPython_EXECUTABLE={sys.executable}",
        f"-DCMAKE_LIBRARY_OUTPUT_DIRECTORY={package}",
        f"-DTORCH_INIT_CUDA={environment['TORCH_INIT_CUDA']}",
        f"-DTORCH_INIT_CUDA_ARCHS={environment['TORCH_INIT_CUDA_ARCHS']}",
        *environment["CMAKE_ARGS"].split(),
    ]
    subprocess.run(configure, env=environment, check=True)
    command = ["cmake", "--build", str(build), "--target", "_C", "--parallel"]
    subprocess.run(command, env=environment, check=True)


def check(site: Path) -> dict[str, str]:
    """Import what was built, in a process of its own, and return what it says of itself."""
    code = (
        "import json, torch_init; from torch_init import _ops; "
        "print(json.dumps(_ops.build_info() | {'package': torch_init.__file__}))"
    )
    environment = os.environ | {"PYTHONPATH": python_path(site)}
    command = [sys.executable, "-c", code]
    # Not in the checkout, whose package would be found first.
    done = subprocess.run(
        command, cwd=site, env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    facts: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    if not facts.pop("package").startswith(str(site)):
        raise ValueError("another torch_init is imported than the one that was built")
    return facts


def build(output: Path, rehearse: bool) -> int:
    site, source = output / "site", output / "source"
    wanted = "auto" if rehearse else "on"
    ways: list[tuple[str, Callable[[Path, Path, dict[str, str]], None], str]] = [
        ("pip", with_pip, wanted),
        ("CMake", with_cmake, wanted),
        ("CMake without CUDA", with_cmake, "off"),
    ]
    if not rehearse and (nvcc := machine.find_tool("nvcc")):
        os.environ["PATH"] += os.pathsep + str(Path(nvcc).parent)
    for name, way, cuda in ways:
        shutil.rmtree(site, ignore_errors=True)
        copy_sources(source)
        # A newer compiler's new warnings are no reason to stop here.
        environment = os.environ | {
            "TORCH_INIT_CUDA": cuda,
            "TORCH_INIT_CUDA_ARCHS": cuda_archs(),
            "CMAKE_ARGS": "-DTORCH_INIT_WERROR=OFF",
        }
        try:
            way(source, site, environment)
            facts = check(site)
        except (OSError, subprocess.CalledProcessError, ValueError) as error:
            print(f"build: {name}: {error}", flush=True)
            continue
        facts["built with"] = name
        (output / "build.json").write_text(json.dumps(facts), encoding="utf-8")
        print(f"build: {name}: {facts}", flush=True)
        return 1 if name == "CMake without CUDA" else 0
    shutil.rmtree(site, ignore_errors=True)
    print(f"build: no way worked; missing here: {missing_here()}; each one's errors are above")
    return 1


def missing_here() -> str:
    """What a build wants and this machine lacks; "nothing" if it is all there."""
    modules = [name for name in ("pybind11", "setuptools") if find_spec(name) is None]
    tools = [name for name in ("cmake", "c++", "nvcc") if machine.find_tool(name) is None]
    return ", ".join([*modules, *tools]) or "nothing"


def figures(output: Path) -> Callable[[str], dict[str, Any]]:
    """For run.py: what was built."""

    def read(log: str) -> dict[str, Any]:
        facts = json.loads((output / "build.json").read_text(encoding="utf-8"))
        return {name: facts[name] for name in ("built with", "cuda_archs", "compiler")}

    return read


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--rehearse", action="store_true")
    args = parser.parse_args()
    (args.output / "build.json").unlink(missing_ok=True)
    return build(args.output, args.rehearse)


if __name__ == "__main__":
    sys.exit(main())
