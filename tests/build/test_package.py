# SPDX-License-Identifier: Apache-2.0
"""The installed package is complete, and its native module depends on neither torch nor cudart."""

import importlib.metadata
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

import torch_init

PACKAGE = Path(torch_init.__file__).parent


def test_package_is_typed():
    assert (PACKAGE / "py.typed").is_file()


def test_torch_and_numpy_are_the_only_requirements():
    requirements = importlib.metadata.requires("torch-init")
    base = [r for r in requirements if "extra ==" not in r]
    assert sorted(base) == ["numpy", "torch>=2.9"]


@pytest.mark.parametrize("library", [b"libtorch", b"libc10", b"libcudart.so"])
def test_native_module_needs_no_library(library):
    """A shared object names the libraries it needs in its string table, in plain text."""
    module = importlib.util.find_spec("torch_init._C")
    contents = Path(module.origin).read_bytes()
    assert b"libstdc++" in contents or sys.platform == "darwin"
    assert library not in contents


def test_imports_in_a_folder_without_the_sources(tmp_path):
    """As a user would: nothing of this checkout on the path, another current folder."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    code = "import torch, torch_init as i; i.uniform_(torch.empty(3)); print(i.__file__)"
    finished = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    assert Path(finished.stdout.strip()).parent == PACKAGE
