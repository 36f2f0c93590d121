# SPDX-License-Identifier: Apache-2.0
"""Put a starting point of your own beside He's and Xavier's in `torch-init demo`.

    python examples/demo_own_start.py

Needs `pip install 'torch_init[demo]'`. Writes the figure and the numbers to ./orthogonal_demo.
"""

import sys

import torch_init
from torch_init.cli import main
from torch_init.demo.models import STARTS, Start, from_weights


def orthogonal(weight, seed, name):
    """Keeps the length of every signal that passes the weight; the gain makes up for ReLU."""
    gain = torch_init.calculate_gain("relu")
    torch_init.orthogonal_(weight, gain=gain, seed=seed, name=name)


STARTS["orthogonal"] = Start("orthogonal", from_weights(orthogonal))

starts = ["xavier", "he", "orthogonal"]
sys.exit(main(["demo", "--activations", "relu", "--inits", *starts, "--output", "orthogonal_demo"]))
