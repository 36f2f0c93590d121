# SPDX-License-Identifier: Apache-2.0
"""How a fill is launched: streams, devices, graphs, and no waiting.

What only a GPU has; bits are compared all the same, since a race shows in them.
"""

import pytest
import torch
from cases import REAL_DTYPES, Normal, TruncatedNormal, Uniform, entry, same_bits

import torch_init
from torch_init import _ops

pytestmark = pytest.mark.cuda

KEY = 77
COUNT = 300_001
# 0.1 to 0.3 s on GPUs of 1 to 3 GHz: far more than a launch takes, or a small copy.
SLEEP_CYCLES = 300_000_000
MIXED = [
    (torch.float32, Normal(0.0, 0.02)),
    (torch.bfloat16, TruncatedNormal.in_sigmas(0.0, 1.0, -1.0, 3.0)),
    (torch.float64, Normal(0.0, 1.0)),
    (torch.float8_e5m2, Uniform(-0.3, 0.7)),
]


def tensors(device):
    return [torch.zeros(COUNT, dtype=dtype, device=device) for dtype, _ in MIXED]


def plan(filled):
    return _ops.FillPlan(
        [entry(tensor, spec, KEY) for tensor, (_, spec) in zip(filled, MIXED, strict=True)]
    )


@pytest.fixture(scope="module")
def wanted():
    filled = tensors("cpu")
    plan(filled).run()
    return filled


def assert_filled(filled, wanted):
    for found, values in zip(filled, wanted, strict=True):
        assert same_bits(found.cpu(), values), found.dtype


@pytest.fixture
def warm(gpu):
    """The GPU with both kernels loaded, which happens at their first launch and may wait."""
    for dtype in (torch.float32, torch.float64):
        torch_init.normal_(torch.empty(5, dtype=dtype, device=gpu), seed=0)
    torch.cuda.synchronize()
    return gpu


@pytest.fixture
def no_synchronisation(warm):
    torch.cuda.set_sync_debug_mode("error")
    yield warm
    torch.cuda.set_sync_debug_mode("default")


def test_nothing_synchronises(no_synchronisation, wanted):
    """Calls with a seed, and making and running a plan: torch knows of no synchronisation."""
    device = no_synchronisation
    for dtype in REAL_DTYPES:
        tensor = torch.empty(1000, dtype=dtype, device=device)
        torch_init.normal_(tensor, seed=1, name="w")
        torch_init.uniform_(tensor, seed=1, name="w")
        torch_init.trunc_normal_(tensor, seed=1, name="w")
        torch_init.kaiming_normal_(tensor.view(10, 100), seed=1, name="w")
        torch_init.normal_(tensor.view(10, 100).t(), seed=1, name="w")
    filled = tensors(device)
    prepared = plan(filled)
    prepared.run()
    prepared.run()
    torch.cuda.set_sync_debug_mode("default")
    assert_filled(filled, wanted)


@pytest.mark.parametrize("dtype", REAL_DTYPES, ids=str)
def test_calls_return_before_the_gpu_is_done(warm, dtype):
    """The driver's own waiting, which torch's debug mode does not see."""
    tensor = torch.empty(COUNT, dtype=dtype, device=warm)
    torch.cuda.synchronize()
    torch.cuda._sleep(SLEEP_CYCLES)
    torch_init.normal_(tensor, seed=1, name="w")
    busy = not torch.cuda.current_stream().query()
    torch.cuda.synchronize()
    assert busy


def test_the_current_stream_is_used(warm):
    """A fill on a stream that sleeps is not done when another stream looks."""
    side = torch.cuda.Stream()
    for dtype in (torch.float32, torch.float64):
        tensor = torch.zeros(COUNT, dtype=dtype, device=warm)
        torch.cuda.synchronize()
        with torch.cuda.stream(side):
            torch.cuda._sleep(SLEEP_CYCLES)
            torch_init.uniform_(tensor, 1.0, 2.0, seed=1)
            torch_init.normal_(tensor, 5.0, 0.1, seed=1)
        seen = tensor.cpu()
        side.synchronize()
        assert (seen == 0).all()
        assert (tensor.cpu() > 1).all()


def test_a_plan_runs_on_another_stream_than_its_own(warm, wanted):
    """Its descriptors are still on their way when the other stream starts."""
    filled = tensors(warm)
    side = torch.cuda.Stream()
    torch.cuda.synchronize()
    torch.cuda._sleep(SLEEP_CYCLES)
    prepared = plan(filled)
    with torch.cuda.stream(side):
        prepared.run()
    side.synchronize()
    assert_filled(filled, wanted)


def test_a_plan_may_be_dropped_while_it_runs(warm, wanted):
    """Its descriptors' memory must not be given to others before the other stream is done."""
    filled = tensors(warm)
    side = torch.cuda.Stream()
    prepared = plan(filled)
    torch.cuda.synchronize()
    with torch.cuda.stream(side):
        torch.cuda._sleep(SLEEP_CYCLES)
        prepared.run()
    del prepared
    for size in (2**k for k in range(9, 20)):
        torch.full((size,), 0xFF, dtype=torch.uint8, device=warm)
    side.synchronize()
    assert_filled(filled, wanted)


def test_two_streams_at_once(warm, wanted):
    streams = [torch.cuda.Stream() for _ in range(2)]
    filled = [tensors(warm) for _ in streams]
    torch.cuda.synchronize()
    for _ in range(20):
        for stream, mine in zip(streams, filled, strict=True):
            with torch.cuda.stream(stream):
                plan(mine).run()
    torch.cuda.synchronize()
    for mine in filled:
        assert_filled(mine, wanted)


def captured(graph_body):
    """A graph of what graph_body does, which has run once before on a side stream."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        graph_body()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        graph_body()
    return graph


def replayed(graph, filled):
    for tensor in filled:
        tensor.zero_()
    # What the capture freed may be handed out again, on the host and on the GPU.
    noise = [torch.full((2**k,), 0xFF, dtype=torch.uint8).pin_memory() for k in range(6, 20)]
    noise += [values.to(tensor.device) for values in noise]
    graph.replay()
    torch.cuda.synchronize()


def test_a_graph_replays_a_prepared_plan(warm, wanted):
    filled = tensors(warm)
    prepared = plan(filled)
    graph = captured(prepared.run)
    for _ in range(3):
        replayed(graph, filled)
        assert_filled(filled, wanted)


def test_a_graph_replays_seeded_calls(warm):
    """float64 among them, whose table does not fit into the kernel's arguments."""
    filled = [torch.zeros(COUNT, dtype=dtype, device=warm) for dtype in REAL_DTYPES]

    def fill(tensor):
        torch_init.trunc_normal_(tensor, std=0.5, seed=3, name="w")

    graph = captured(lambda: [fill(tensor) for tensor in filled])
    for _ in range(3):
        replayed(graph, filled)
        for tensor in filled:
            on_cpu = torch.empty(COUNT, dtype=tensor.dtype)
            fill(on_cpu)
            assert same_bits(tensor.cpu(), on_cpu), tensor.dtype


def test_second_device(warm, wanted):
    """Tensors on a GPU that is not the current one, which stays the current one."""
    if torch.cuda.device_count() < 2:
        pytest.skip("one GPU")
    filled = tensors("cuda:1")
    prepared = plan(filled)
    prepared.run()
    single = torch_init.normal_(torch.empty(COUNT, device="cuda:1"), std=0.02, seed=1)
    assert torch.cuda.current_device() == 0
    assert_filled(filled, wanted)
    assert same_bits(single.cpu(), torch_init.normal_(torch.empty(COUNT), std=0.02, seed=1))
    with torch.cuda.device(1):
        here = torch_init.normal_(torch.empty(COUNT, device="cuda:0"), std=0.02, seed=1)
        assert torch.cuda.current_device() == 1
    assert same_bits(here.cpu(), single.cpu())
