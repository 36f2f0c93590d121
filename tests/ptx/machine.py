# SPDX-License-Identifier: Apache-2.0
"""A GPU made of software: our launchers' own host code, and the PTX that nvcc emits, on the CPU.

The native module is linked once more, from the objects of its build, with executor/ in place of
CUDA's runtime. What it launches "on device 0" is executed from PTX, in the memory of CPU tensors
that it was told of. A mistake of a kernel is the error of its launch.
"""

from __future__ import annotations

import concurrent.futures
import ctypes
import fcntl
import hashlib
import importlib.machinery
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import program

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "build" / f"cmake-{sys.implementation.cache_tag}"
EXECUTOR = Path(__file__).parent / "executor"

sys.path.append(str(ROOT / "tools"))
import check_ptx  # noqa: E402

# Executed where it was compiled: fma is then one instruction.
FLAGS = ["-std=c++17", "-O3", "-Xcompiler=-march=native,-ffp-contract=off,-fPIC"]
FLAGS += ["-Xcompiler=-fvisibility=hidden,-Wall,-Wextra"]


def missing() -> str | None:
    """What the machine cannot be made for want of."""
    if shutil.which("nvcc") is None:
        return "no nvcc on PATH"
    if not objects()[0].exists():
        return f"no build of this Python's in {BUILD.relative_to(ROOT)}"
    if not any(BUILD.rglob("fill_cuda.cu.o")):
        return "torch_init was built without CUDA kernels"
    return None


def objects() -> list[Path]:
    """The engine, and the module's own: of sources that are there, as builds leave old ones."""
    of_module = BUILD / "CMakeFiles" / "_C.dir" / "csrc" / "python"
    python = sorted((ROOT / "csrc" / "python").glob("*.cpp"))
    return [BUILD / "libtorch_init_core.a", *(of_module / f"{p.name}.o" for p in python)]


def sources() -> list[Path]:
    found = [p for p in (ROOT / "csrc").rglob("*") if p.suffix in (".h", ".cpp", ".cu")]
    return sorted(found)


def build() -> Path:
    """The folder with module.so and the PTX of every .cu file, made if anything changed."""
    newest = max(path.stat().st_mtime for path in sources())
    if newest > max(path.stat().st_mtime for path in objects()):
        raise RuntimeError("csrc is newer than its build: python setup.py build_ext --inplace")
    inputs = [*sources(), *sorted(EXECUTOR.iterdir()), *objects()]
    contents = hashlib.sha256(b"".join(p.read_bytes() for p in inputs)).hexdigest()
    parent = ROOT / "build" / "ptx"
    parent.mkdir(exist_ok=True)
    with (parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several processes run tests at a time
        folder = parent / contents[:16]
        if not folder.exists():
            for old in parent.glob("*/"):
                shutil.rmtree(old)
            partial = parent / "partial"
            partial.mkdir()
            commands = [_compile_ptx(p, partial) for p in sources() if p.suffix == ".cu"]
            for source in EXECUTOR.glob("*.cpp"):
                out = partial / f"{source.stem}.o"
                commands.append(["nvcc", *FLAGS, "-c", "-o", out, source])
            with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
                for run in [pool.submit(subprocess.run, c, check=True) for c in commands]:
                    run.result()
            made = sorted(partial.glob("*.o"))
            module = ["-shared", "-cudart", "none", "-o", partial / "module.so"]
            module += ["-Xlinker", "--exclude-libs,libtorch_init_core.a"]
            # The library's symbols are wanted by the module's objects: they come first.
            library, *python = objects()
            subprocess.run(["nvcc", *module, *python, library, *made], check=True)
            partial.rename(folder)
    return folder


def _compile_ptx(source: Path, folder: Path) -> list[Any]:
    out = folder / f"{source.stem}.ptx"
    flags = [*check_ptx.FLAGS, "-arch=compute_90", "-lineinfo", "-I", ROOT / "csrc"]
    return ["nvcc", *flags, "-ptx", "-o", out, source]


class Machine:
    """One for the process: `module` is the native module, run by it."""

    def __init__(self) -> None:
        folder = build()
        path = str(folder / "module.so")
        # Python calls PyInit__C for this name, and keeps apart modules of different paths.
        loader = importlib.machinery.ExtensionFileLoader("ptx._C", path)
        spec = importlib.util.spec_from_file_location("ptx._C", path, loader=loader)
        assert spec is not None
        self.module: Any = importlib.util.module_from_spec(spec)
        loader.exec_module(self.module)
        self._library = ctypes.CDLL(path)
        self._library.ptx_load.restype = ctypes.c_char_p
        self._library.ptx_coverage.restype = ctypes.c_char_p
        self._library.ptx_run.restype = ctypes.c_char_p
        self._kernels = {}
        for ptx in sorted(folder.glob("*.ptx")):
            self._kernels[ptx.stem] = ptx.read_text()
            self.load(self._kernels[ptx.stem])

    def ptx(self, stem: str) -> str:
        """The text of csrc/**/{stem}.cu."""
        return self._kernels[stem]

    def load(self, ptx: str) -> None:
        """Takes these kernels in place of those of their names."""
        for kernel in program.kernels(ptx):
            error = self._library.ptx_load("\n".join(kernel.lines).encode())
            if error is not None:
                raise RuntimeError(error.decode())

    def run(
        self, kernel: str, blocks: int, threads: int, pointers: list[int], early: bool = False
    ) -> None:
        """Launches a test's own kernel, whose parameters are pointers.

        Early: the kernel launched before may still run.
        """
        values = [ctypes.c_uint64(pointer) for pointer in pointers]
        arguments = (ctypes.c_void_p * len(values))(*map(ctypes.addressof, values))
        grid = ctypes.c_uint64(blocks), ctypes.c_uint64(threads)
        error = self._library.ptx_run(kernel.encode(), *grid, early, arguments)
        if error is not None:
            raise RuntimeError(error.decode())

    def configure(self, multiprocessors: int, seed: int) -> None:
        """Blocks run in order, with a seed in another; warps of a block never in order."""
        self._library.ptx_configure(multiprocessors, ctypes.c_uint64(seed))

    def launch_early(self, kernel: str) -> None:
        """Launches the kernel with this in its name early, until the machine is configured anew."""
        self._library.ptx_launch_early(kernel.encode())

    def only_clusters(self, size: int, kernel: str) -> None:
        """Has clusters of this size fit, by the kernel with this in its name; 0: all that do."""
        self._library.ptx_only_clusters(size, kernel.encode())

    def add_memory(self, address: int, size: int, defined: bool = True) -> None:
        self._library.ptx_add_memory(ctypes.c_uint64(address), ctypes.c_uint64(size), defined)

    def forget_memory(self) -> None:
        self._library.ptx_forget_memory()

    def coverage(self) -> str:
        """What no test has executed, and how much of each kernel was: see cuda_runtime.cpp."""
        text: bytes = self._library.ptx_coverage()
        return text.decode()
