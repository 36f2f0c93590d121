# SPDX-License-Identifier: Apache-2.0
"""Data-parallel training, checked on each rank against the run of one process."""

import tempfile

import torch
import torch.distributed as dist
from ranks import only_on
from torch.utils.data import TensorDataset

from torch_init import rbm

SAMPLED = {"statistics": "samples", "epochs": 3, "batch_size": 30}


def data():
    return (torch.rand(100, 12, generator=torch.Generator().manual_seed(0)) < 0.4).float()


def pair(rows, parallel_rows=None, **options):
    """The machines that one process and all processes train."""
    alone, together = rbm.RBM(12, 7), rbm.RBM(12, 7)
    alone.fit(rows, **options)
    shared = rows if parallel_rows is None else parallel_rows
    together.fit(shared, process_group=dist.group.WORLD, **options)
    return alone, together


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))


def check_sampled_statistics_give_the_same_bits(rank, ranks):
    for options in (
        {"algorithm": "cd", "k": 2},
        {"algorithm": "pcd", "k": 2, "chains": 23},
        {"algorithm": "fpcd"},
        {"algorithm": "pt", "temperatures": 3},
        {"algorithm": "cd", "centered": False, "momentum": 0.9},
    ):
        alone, together = pair(data(), **SAMPLED, **options)
        assert same(alone, together), options


def check_means_give_the_same_bits(rank, ranks):
    """Where a row of one rank is neither states nor grey, all ranks round theirs to fine levels."""
    generator = torch.Generator().manual_seed(1)
    grey = torch.randint(0, 256, (100, 12), generator=generator) / 255
    fine = torch.rand(100, 12, generator=generator)
    mixed = torch.cat([fine[:1], grey[1:90], data()[90:]])
    for rows in (data(), grey, fine, mixed):
        for algorithm in ("cd", "pcd"):
            alone, together = pair(rows, epochs=3, batch_size=30, algorithm=algorithm)
            assert same(alone, together), algorithm


def check_floating_point_agrees_to_rounding(rank, ranks):
    rows = torch.randn(100, 12, generator=torch.Generator().manual_seed(1))
    made = [rbm.RBM(rbm.Gaussian(12), 7) for _ in range(2)]
    options = {"epochs": 3, "batch_size": 30}
    made[0].fit(rows, **options)
    made[1].fit(rows, process_group=dist.group.WORLD, **options)
    for a, b in zip(*(one.parameters() for one in made), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


def check_convolutional_machines_agree_to_rounding(rank, ranks):
    """The last of 31 rows is a batch of its own, of which most ranks have no share."""
    rows = data()[:31]
    made = [rbm.ConvRBM(1, 3, 2, size=(3, 4)) for _ in range(2)]
    options = {"epochs": 3, "batch_size": 30, "algorithm": "pcd", "learning_rate": 0.1}
    made[0].fit(rows, **options)
    made[1].fit(rows, process_group=dist.group.WORLD, **options)
    for a, b in zip(*(one.parameters() for one in made), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


def check_loaders_of_each_rank_make_one_batch(rank, ranks):
    batches = list(data()[:96].split(24))
    mine = [batch[24 * rank // ranks : 24 * (rank + 1) // ranks] for batch in batches]
    options = {"visible_bias": "keep", "statistics": "samples", "epochs": 2}
    alone, together = pair(batches, mine, **options)
    assert same(alone, together)


def check_batches_smaller_than_the_ranks(rank, ranks):
    """The last of 31 rows is a batch of its own, of which most ranks have no share."""
    rows = data()[:31]
    for form in (rows, TensorDataset(rows)):
        for options in ({}, {"algorithm": "pcd", "chains": 1}):
            alone, together = pair(form, **SAMPLED, **options)
            assert same(alone, together), options


def check_loaders_may_end_at_different_times(rank, ranks):
    """Only the first one holds more than a row and an empty batch."""
    first, *others = data()[:96].split(24)
    own = first.tensor_split([24 - ranks + 1, *range(24 - ranks + 2, 24)])[rank]
    mine = [own, *others] if rank == 0 else [own, own[:0]]
    options = {"visible_bias": "keep", "statistics": "samples", "epochs": 2}
    alone, together = pair([first, *others], mine, **options)
    assert same(alone, together)


@only_on(2)
def check_checkpoints_hold_all_chains(rank, ranks):
    """Two processes go on from a checkpoint, and end where one ends."""
    folder = [tempfile.mkdtemp() if rank == 0 else None]
    dist.broadcast_object_list(folder)
    options = SAMPLED | {"algorithm": "pcd"}
    group = dist.group.WORLD
    rbm.RBM(12, 7).fit(data(), process_group=group, checkpoint=folder[0], **options | {"epochs": 1})
    dist.barrier()
    resumed, alone = rbm.RBM(12, 7), rbm.RBM(12, 7)
    resumed.fit(data(), process_group=group, checkpoint=folder[0], resume=True, **options)
    alone.fit(data(), **options)
    assert same(resumed, alone)
