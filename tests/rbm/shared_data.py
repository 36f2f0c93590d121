# SPDX-License-Identifier: Apache-2.0
"""Data that are no part of the project: tests that need one are skipped where it is absent."""

import os
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch

from torch_init import rbm

_FOLDERS = [os.environ.get("TORCH_INIT_DATA"), Path(__file__).parents[3] / "shared" / "data"]


def find(name):
    """The path of a file of shared data."""
    for folder in _FOLDERS:
        if folder and (Path(folder) / name).is_file():
            return Path(folder) / name
    pytest.skip(f"{name} is not there: TORCH_INIT_DATA names no folder that holds it")


def mnist(count, which="X"):
    """Images (count, 784) in [0, 1], shuffled: the file is sorted by class."""
    with np.load(find("mnist.npz")) as archive:
        images = torch.from_numpy(archive[which]).flatten(1)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    return images[order[:count]].float() / 255


def toy_of_salakhutdinov():
    """The 784 x 15 machine of mnistvh.mat, whose log Z is 215.138405525."""
    stored = scipy.io.loadmat(find("mnistvh.mat"))
    made = rbm.RBM(784, 15)
    with torch.no_grad():
        made.weight.copy_(torch.from_numpy(stored["vishid"].T))
        made.visible_bias.copy_(torch.from_numpy(stored["visbiases"].ravel()))
        made.hidden_bias.copy_(torch.from_numpy(stored["hidbiases"].ravel()))
    return made
