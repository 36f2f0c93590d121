# SPDX-License-Identifier: Apache-2.0
"""What is asked of a machine's updates on a GPU. Here of PTX, with every access checked."""

import borrowed
import pytest
import torch

from torch_init import _ops, _ops_device

TRAINING = borrowed.load("cuda/test_training_cuda.py")
QUANTIZE = borrowed.load("gibbs/test_quantize_body.py")
BODIES = borrowed.load("gibbs/test_training_bodies.py")

kernels = TRAINING.kernels
TESTS = borrowed.tests_of(TRAINING, "engine")
TESTS |= borrowed.tests_of(QUANTIZE) | borrowed.tests_of(BODIES)
del TESTS["test_quantize"]  # test_is_the_cpus_layer asks for more
# Counts what torch is asked for, to which the stand-in adds.
del TESTS["test_an_update_is_a_few_launches_and_asks_for_nothing"]
globals().update(TESTS)


@pytest.mark.parametrize("spins", [False, True])
@pytest.mark.parametrize("options", TRAINING.RUNS.values(), ids=TRAINING.RUNS)
def test_training_is_the_cpus(engine, kernels, options, spins):
    TRAINING.test_training_is_the_cpus(engine, kernels, options, False, spins)


@pytest.mark.parametrize("scale", [1e-6, 5.0, 1e17])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [(1, 1), (64, 64), (65, 130), (300, 70), (0, 5), (5, 0)])
def test_is_the_cpus_layer(scale, dtype, size):
    QUANTIZE.test_is_the_cpus_layer(scale, dtype, size)


def test_a_layer_of_more_units_than_threads():
    QUANTIZE.test_is_the_cpus_layer(0.3, torch.float32, (1, 2000))


def test_differences_of_more_units_than_threads(kernels):
    units, offsets = (9000, 5000), (torch.ones(9000), torch.zeros(5000))
    sums = torch.arange(2 * sum(units)).view(2, -1)
    with _ops_device.cuda_bodies_on_host():
        means, changes = _ops.differences(sums, units, (8.0,) * 4, (False, True), offsets, 1.0)
    expected = sums.double() / 8
    expected[:, units[0] :] = 2 * expected[:, units[0] :] - 1
    assert torch.equal(means, expected[0].float())
    assert torch.equal(changes, means - expected[1].float())
    assert torch.equal(torch.cat(offsets), means)
