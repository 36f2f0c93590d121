# SPDX-License-Identifier: Apache-2.0
"""Makes tests/rbm/machines.py a module, and lets torch use one thread: the machines are small."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.append(str(Path(__file__).parent))


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
