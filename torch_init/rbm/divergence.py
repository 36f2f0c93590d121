# SPDX-License-Identifier: Apache-2.0
"""Telling training that has diverged from training that goes on."""

from torch import nn

_LARGEST = 2.0**64
"""The chains' integers hold no larger parameters."""


def check_parameters(function: str, module: nn.Module, epoch: int) -> None:
    """Raise FloatingPointError if a parameter is not finite, or out of all bounds."""
    if all((parameter.abs() < _LARGEST).all() for parameter in module.parameters()):
        return
    raise FloatingPointError(
        f"torch_init.{function}: the parameters diverged in epoch {epoch}. "
        "Lower learning_rate; Gaussian data should have unit variance"
    )
