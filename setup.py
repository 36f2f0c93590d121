# SPDX-License-Identifier: Apache-2.0
"""Drives CMake and Ninja; CMakeLists.txt owns the build, pyproject.toml the metadata.

Read from the environment:
    TORCH_INIT_CUDA        auto (default: wherever nvcc is found), on or off
    TORCH_INIT_CUDA_ARCHS  architectures to compile for, such as "80;90;100;120+PTX"
    CMAKE_ARGS             further arguments for CMake
    CMAKE_BUILD_PARALLEL_LEVEL  number of parallel compilations
"""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pybind11
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent


def find_tool(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise RuntimeError(f"setup.py: {name} not found on PATH; pip install {name}")
    return path


class CMakeBuild(build_ext):
    def finalize_options(self) -> None:
        super().finalize_options()
        # One known place, kept between builds, editable ones included: objects are reused, and
        # tools/check_ptxas.py finds its logs there.
        self.build_temp = str(ROOT / "build" / f"cmake-{sys.implementation.cache_tag}")

    def build_extension(self, ext: Extension) -> None:
        destination = (ROOT / self.get_ext_fullpath(ext.name)).parent
        configure = [
            "-G=Ninja",
            # pip's isolated build environment is a new directory every time: without these two,
            # a second build would use the paths of the first, which are gone.
            f"-DCMAKE_MAKE_PROGRAM={find_tool('ninja')}",
            f"-Dpybind11_DIR={pybind11.get_cmake_dir()}",
            f"-DPython_EXECUTABLE={sys.executable}",
            f"-DCMAKE_BUILD_TYPE={'Debug' if self.debug else 'Release'}",
            f"-DCMAKE_LIBRARY_OUTPUT_DIRECTORY={destination}",
            # Always passed, so that a value cached by an earlier build does not linger.
            f"-DTORCH_INIT_CUDA={os.environ.get('TORCH_INIT_CUDA', 'auto')}",
            f"-DTORCH_INIT_CUDA_ARCHS={os.environ.get('TORCH_INIT_CUDA_ARCHS', '')}",
            *shlex.split(os.environ.get("CMAKE_ARGS", "")),
        ]
        cmake = find_tool("cmake")
        subprocess.run([cmake, "-S", ROOT, "-B", self.build_temp, *configure], check=True)
        subprocess.run([cmake, "--build", self.build_temp, "--target", "_C"], check=True)


setup(
    ext_modules=[Extension("torch_init._C", sources=[])],
    cmdclass={"build_ext": CMakeBuild},
)
