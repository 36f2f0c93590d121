# SPDX-License-Identifier: Apache-2.0
"""The CUDA kernels write the bits of the CPU, which the other tests compare with the reference."""

import hashlib
import itertools
import json
import math
import random
from pathlib import Path

import pytest
import torch
from cases import (
    COMPLEX_DTYPES,
    DISTRIBUTIONS,
    KERNELS,
    LAYOUTS,
    REAL_DTYPES,
    Bits,
    Normal,
    TruncatedNormal,
    Uniform,
    entry,
    same_bits,
)

from torch_init import STREAM_VERSION, _ops
from torch_init.distributions import Constant

pytestmark = pytest.mark.cuda

KEY = 0x0123456789ABCDEF
TILE = 4096  # elements of four-value groups that a block takes at a time: 4 * kTileGroups
SCATTERED = TruncatedNormal.in_sigmas(0.0, 1.0, -1.0, 3.0)
GOLDEN = Path(__file__).parents[1] / "data" / f"stream_v{STREAM_VERSION}.json"


def check(engine, *parts):
    """Compares the engine with the CPU, of parts (distribution, dtype, count, offset, first).

    Each part is a tensor that starts `offset` elements into its memory and is filled from the
    logical index `first` on. The memory around it must stay as it was.
    """
    on_device, on_cpu = (_memories(parts, device) for device in (engine.device, "cpu"))
    engine.run(_entries(parts, on_device))
    _ops.FillPlan(_entries(parts, on_cpu)).run()
    for part, found, wanted in zip(parts, on_device, on_cpu, strict=True):
        assert same_bits(found.cpu(), wanted), part


def _memories(parts, device):
    for_part = [torch.zeros(count + 8, dtype=dtype) for _, dtype, count, _, _ in parts]
    for memory in for_part:
        memory.view(torch.uint8).fill_(0x5A)
    return [memory.to(device) for memory in for_part]


def _entries(parts, memories):
    return [
        entry(memory[offset : offset + count], distribution, KEY, first, (1,))
        for (distribution, _, count, offset, first), memory in zip(parts, memories, strict=True)
    ]


@pytest.mark.parametrize("distribution", DISTRIBUTIONS, ids=repr)
def test_every_distribution_and_dtype(engine, distribution):
    for dtype in REAL_DTYPES:
        check(engine, (distribution, dtype, 3 * TILE + 5, 0, 0))


# Where flushed subnormals, or a conversion that rounds otherwise, would show.
EDGES = [
    (Normal(0.0, 1e-39), torch.bfloat16),
    (Normal(0.0, 2e38), torch.bfloat16),
    (Normal(0.0, 1e-6), torch.float16),
    (Normal(0.0, 4e4), torch.float16),
    (Normal(0.0, 3e-3), torch.float8_e4m3fn),
    (Normal(0.0, 300.0), torch.float8_e4m3fn),
    (Normal(0.0, 2e-5), torch.float8_e5m2),
    (Normal(0.0, 4e4), torch.float8_e5m2),
    (Normal(0.0, 1e-42), torch.float32),
    (Uniform(-1e-42, 2e-42), torch.float32),
    (Normal(1.0, 1e-8), torch.float32),
    (Normal(0.0, 1e-320), torch.float64),
    (Normal(0.0, 1500.0), torch.float8_e5m2),
    (Uniform(-1e4, 6e4), torch.float8_e5m2),
    (Normal(math.inf, 1.0), torch.bfloat16),
    # A bound at 0, where a value may be -0.
    (TruncatedNormal.in_sigmas(0.0, 1e-42, 0.0, math.inf), torch.float32),
    (TruncatedNormal.in_sigmas(0.0, 1e-42, -math.inf, 0.0), torch.float32),
    (TruncatedNormal.in_sigmas(1e-42, 5e-43, -2.0, 2.0), torch.float32),
    (TruncatedNormal.in_sigmas(1.0, 0.5, -2.0, 2.0), torch.bfloat16),
    (TruncatedNormal.in_sigmas(0.0, 1e-4, -1e-4, 2.0), torch.float16),
    (Uniform(-1e-46, 1e-42), torch.float32),
    # A symmetric table whose bounds are not, and a mean of -0.
    (TruncatedNormal.in_sigmas(0.3, 0.02, -2.0, 2.0), torch.bfloat16),
    (TruncatedNormal.in_sigmas(-0.0, 1.0, -2.0, 2.0), torch.float32),
    (Normal(-0.0, 1.0), torch.float16),
]


@pytest.mark.parametrize(("distribution", "dtype"), EDGES, ids=repr)
def test_edges_of_the_range(engine, distribution, dtype):
    check(engine, (distribution, dtype, 2 * TILE, 0, 0))


@pytest.mark.parametrize("dtype", REAL_DTYPES, ids=str)
def test_sizes_and_alignments(engine, dtype):
    """Around groups of 2 and 4, a warp's and a block's share, one and two tiles."""
    around = [0, 1, 2, 3, 4, 5, 127, 128, 129, 1023, 1025, TILE // 2, TILE, 2 * TILE]
    sizes = sorted({max(0, n + d) for n in around for d in (-1, 0, 1)})
    offsets = (0, 1, 2, 3, 5)
    distribution = Normal(0.1, 0.02)
    check(engine, *((distribution, dtype, n, o, 0) for n, o in itertools.product(sizes, offsets)))


def test_more_tiles_than_blocks(engine):
    """Several tiles for each of the blocks that a GPU holds, and a rest."""
    count = 2_500_007
    for dtype in (torch.float32, torch.bfloat16, torch.float64):
        check(engine, (Normal(0.0, 1.0), dtype, count, 0, 0))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("distribution", [SCATTERED, Constant(0.3)], ids=["table", "constant"])
def test_layouts(engine, layout, distribution):
    size, view = LAYOUTS[layout]
    for dtype in REAL_DTYPES:
        on_cpu = torch.zeros(size, dtype=dtype)
        on_cpu.view(torch.uint8).fill_(0x5A)
        on_device = on_cpu.to(engine.device)
        _ops.FillPlan([entry(view(on_cpu), distribution, KEY)]).run()
        engine.run([entry(view(on_device), distribution, KEY)])
        assert same_bits(on_device.cpu(), on_cpu), dtype


@pytest.mark.parametrize("distribution", KERNELS, ids=repr)
def test_elements_past_two_to_the_31(engine, distribution):
    """Parts that straddle each border, cut groups and fill whole tiles, aligned and not."""
    borders = [0, 2**31, 2**32, 2**33, 2**34, 2**40 + 12345, 2**61]
    for dtype in REAL_DTYPES:
        firsts = [max(0, border - TILE + shift) for border in borders for shift in (0, 1, 2, 3)]
        parts = [(distribution, dtype, 3 * TILE + 1, first % 4, first) for first in firsts]
        check(engine, *parts, *((distribution, dtype, 601, 0, first) for first in firsts))


@pytest.mark.parametrize("seed", range(4))
def test_shards(engine, seed):
    """Random boxes of a 4-d tensor, steps and permuted dimensions included."""
    generator = random.Random(seed)
    whole = torch.empty(9, 10, 11, 13)
    shards = []
    for _ in range(20):
        starts = [generator.randrange(size) for size in whole.shape]
        ends = [generator.randrange(a, n) + 1 for a, n in zip(starts, whole.shape, strict=True)]
        steps = [generator.choice([1, 1, 2, 3]) for _ in starts]
        box = whole[tuple(map(slice, starts, ends, steps))].permute(generator.sample(range(4), 4))
        shards.append((box, generator.choice(KERNELS), generator.choice(REAL_DTYPES)))

    def filled(device, run):
        tensors = [torch.empty(box.shape, dtype=dtype, device=device) for box, _, dtype in shards]
        run(
            [
                entry(tensor, distribution, KEY, box.storage_offset(), box.stride())
                for tensor, (box, distribution, _) in zip(tensors, shards, strict=True)
            ]
        )
        return [tensor.cpu() for tensor in tensors]

    on_cpu = filled("cpu", lambda entries: _ops.FillPlan(entries).run())
    for found, wanted in zip(filled(engine.device, engine.run), on_cpu, strict=True):
        assert same_bits(found, wanted)


@pytest.mark.parametrize("count", [1, 2, 150, 1000])
def test_many_tensors_in_one_launch(engine, count):
    """Mixed dtypes, distributions and sizes, none at all included; tables shared and not."""
    generator = random.Random(count)
    sizes = [0, 1, 2, 5, 97, 1024, TILE, 9001, 5 * TILE + 3]
    check(
        engine,
        *(
            (
                generator.choice(DISTRIBUTIONS),
                generator.choice(REAL_DTYPES),
                generator.choice(sizes),
                generator.choice([0, 0, 1]),
                generator.choice([0, 0, 3, 2**33 + 4]),
            )
            for _ in range(count)
        ),
    )


def test_a_plan_can_be_run_again(engine):
    tensors = [torch.empty(9001, dtype=dtype, device=engine.device) for dtype in REAL_DTYPES]
    run = engine.plan([entry(tensor, Normal(0.0, 1.0), KEY) for tensor in tensors])
    run()
    before = [tensor.cpu() for tensor in tensors]
    for tensor in tensors:
        tensor.zero_()
    run()
    for tensor, values in zip(tensors, before, strict=True):
        assert same_bits(tensor.cpu(), values)


def test_words(engine):
    words = torch.empty(3 * TILE + 1, dtype=torch.int32, device=engine.device)
    wanted = torch.empty(3 * TILE + 1, dtype=torch.int32)
    engine.run([entry(words, Bits(), KEY, 4 * (2**32 - 9), (1,))])
    _ops.FillPlan([entry(wanted, Bits(), KEY, 4 * (2**32 - 9), (1,))]).run()
    assert same_bits(words.cpu(), wanted)


def test_golden_answers(engine):
    """The bits that every release must give, from the file and not from this machine's CPU."""
    answers = json.loads(GOLDEN.read_text())["fills"]
    assert len(answers) > 70
    for answer in answers:
        dtype = getattr(torch, answer["dtype"])
        tensor = torch.empty(answer["shape"], dtype=dtype, device=engine.device)
        real = torch.view_as_real(tensor) if dtype in COMPLEX_DTYPES else tensor
        spec = answer["kind"], tuple(float(number) for number in answer["numbers"])
        engine.run([(real, spec, _ops.stream_key(answer["seed"], answer["name"]))])
        contents = real.cpu().reshape(-1).view(torch.uint8).numpy().tobytes()
        assert hashlib.sha256(contents).hexdigest() == answer["sha256"], answer


def test_more_than_two_to_the_31_elements(gpu):
    """Offsets in memory past 2**31: both ends, the border and the rest of the last tile."""
    count = 2**31 + 3 * TILE + 3
    for dtype in (torch.float8_e5m2, torch.float32):
        needed = count * dtype.itemsize
        free, _ = torch.cuda.mem_get_info(gpu)
        if free < needed + 2**30:
            pytest.skip(f"needs {needed / 2**30:.0f} GiB of GPU memory for {dtype}")
        tensor = torch.empty(count, dtype=dtype, device=gpu)
        tensor.view(torch.uint8).fill_(0x5A)
        _ops.FillPlan([entry(tensor, Normal(0.0, 1.0), KEY)]).run()
        for first in (0, 2**31 - TILE, count - 2 * TILE):
            wanted = torch.empty(2 * TILE, dtype=dtype)
            _ops.FillPlan([entry(wanted, Normal(0.0, 1.0), KEY, first, (1,))]).run()
            assert same_bits(tensor[first : first + 2 * TILE].cpu(), wanted), (dtype, first)
        del tensor
