# SPDX-License-Identifier: Apache-2.0
"""TensorBoard event files of a comparison: one TensorBoard run per activation and start."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from torch.utils.tensorboard import SummaryWriter

from .training import Run


def write_events(directory: Path, runs: list[Run], image: np.ndarray) -> None:
    """Write loss and every layer's gradient over the updates, the final accuracy, and the figure.

    Args:
        directory: receives one folder per run (``relu-he``, ...) and one for the figure.
        runs: the runs of the comparison.
        image: the figure as uint8 (height, width, channels).

    Events that an earlier comparison left in the same folders are hidden by the new ones.
    """
    for run in runs:
        with SummaryWriter(
            str(directory / f"{run.activation}-{run.start}"), purge_step=0
        ) as writer:
            for point in run.points:
                writer.add_scalar("loss/train", point.train_loss, point.update)
                for layer, rms in enumerate(point.gradient_rms, start=1):
                    writer.add_scalar(f"gradient_rms/layer_{layer:02d}", rms, point.update)
            if run.last is not None:
                writer.add_scalar("accuracy/test", run.test_accuracy, run.last.update)
    with SummaryWriter(str(directory / "figure"), purge_step=0) as writer:
        writer.add_image("comparison", image, 0, dataformats="HWC")
