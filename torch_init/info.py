# SPDX-License-Identifier: Apache-2.0
"""What runs here: versions, the instruction set in use, what the native module was built for."""

import platform

import numpy as np
import torch

from torch_init import _ops


def collect() -> dict[str, str]:
    """Return the facts a bug report needs, in the order in which they are printed."""
    build = _ops.build_info()
    return {
        "torch_init": build["version"],
        "git revision": build["git_revision"],
        "compiler": build["compiler"],
        "CUDA archs built": build["cuda_archs"],
        "CUDA devices seen": str(_ops.cuda_device_count()),
        "CPU tier in use": _ops.cpu_isa(),
        "CPU": f"{platform.machine()}, {torch.get_num_threads()} threads",
        "system": platform.platform(),
        "Python": platform.python_version(),
        "torch": f"{torch.__version__} (CUDA {torch.version.cuda or 'none'})",
        "numpy": np.__version__,
    }


def format_info(facts: dict[str, str]) -> str:
    width = max(len(name) for name in facts) + 1
    return "\n".join(f"{name + ':':<{width}} {value}" for name, value in facts.items())
