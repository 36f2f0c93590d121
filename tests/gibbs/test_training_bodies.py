# SPDX-License-Identifier: Apache-2.0
"""What an update on a GPU consists of, its kernels' bodies run by the host, against the CPU."""

import contextlib

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from torch_init import (
    _ops,
    _ops_ascend,
    _ops_device,
    _ops_gibbs,
    _ops_gibbs_weights,
    _ops_statistics,
)
from torch_init.rbm import RBM, Spin
from torch_init.rbm.data import as_source
from torch_init.rbm.options import Options
from torch_init.rbm.parallel import Processes
from torch_init.rbm.run import Training

SIZES = [(0, 3), (3, 0), (1, 1), (17, 5), (130, 70), (64, 129), (20, 1100), (1100, 20)]


def uniform(*size, seed):
    return torch.rand(size, generator=torch.Generator().manual_seed(seed)) - 0.5


def problem(visible, hidden, dtype=torch.int32, centred=True, pulled=True):
    pairs = (10_000 * uniform(visible, hidden, seed=0)).to(dtype)
    vectors = [uniform(n, seed=1 + k) for k, n in enumerate((visible, hidden) * 3)]
    offsets = vectors[2:4] if centred else (None, None)
    slope = _ops.Slope(pairs, 1 / 12_000, *vectors[:2], *offsets)
    pace = _ops.Pace(0.05, 0.9, 1e-3, 1e-4, vectors[5] if pulled else None, vectors[4])
    weight = uniform(hidden, visible, seed=9)
    weight[:, :1] = 0  # whose sign is 0
    return weight, uniform(hidden, visible, seed=8), slope, pace


def by_kernels(*arguments):
    with _ops_device.cuda_bodies_on_host():
        return _ops.ascend(*arguments)


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64, torch.float32])
@pytest.mark.parametrize(("centred", "pulled"), [(True, True), (False, True), (True, False)])
@pytest.mark.parametrize(("visible", "hidden"), SIZES)
def test_ascend_is_the_cpus(visible, hidden, dtype, centred, pulled):
    results = []
    for ascend in (_ops.ascend, by_kernels):
        weight, velocity, slope, pace = problem(visible, hidden, dtype, centred, pulled)
        gradient = torch.full_like(weight, 7.0)
        shifts = ascend(weight, velocity, slope, pace, gradient)
        results.append((weight, velocity, gradient, *shifts))
    assert all(map(torch.equal, *results))


def test_ascend_without_momentum_or_gradient():
    results = []
    for ascend in (_ops.ascend, by_kernels):
        weight, _, slope, pace = problem(50, 70)
        results.append((weight, *ascend(weight, None, slope, pace)))
    assert all(map(torch.equal, *results))


@pytest.mark.parametrize("which", [(True, True), (False, True), (True, False)])
def test_biases_move_with_the_weights(which):
    """velocity = fma(slope, rate, velocity momentum), as torch has it where it has vectors."""
    weight, velocity, slope, pace = problem(130, 70)
    shifts = _ops.ascend(weight.clone(), velocity.clone(), slope, pace)
    slopes = slope.visible - shifts[0], slope.hidden - shifts[1] + pace.pull
    biases, expected = [], []
    for number, (side, moves) in enumerate(zip(slopes, which, strict=True)):
        values, moving = (uniform(len(side), seed=20 + 2 * number + k) for k in range(2))
        biases.append(_ops.Bias(values, moving, 0.03) if moves else None)
        product = side.double() * torch.tensor(0.03).double() + (moving * 0.9).double()
        after = product.float() if moves else moving
        expected += [values + after if moves else values.clone(), after.clone()]
    by_kernels(weight, velocity, slope, pace, None, tuple(biases))
    for bias, want in zip(biases, zip(expected[::2], expected[1::2], strict=True), strict=True):
        if bias is not None:
            torch.testing.assert_close(bias.values, want[0], rtol=0, atol=1e-7)
            torch.testing.assert_close(bias.velocity, want[1], rtol=0, atol=1e-8)


@pytest.mark.parametrize("spins", [(False, False), (True, False), (False, True)])
@pytest.mark.parametrize("rate", [None, 1.0, 0.01])
def test_differences(spins, rate):
    units, counts = (300, 33), (100.0, 3_276_700.0, 70.0, 2_293_690.0)
    most = torch.tensor(counts).view(2, 2).repeat_interleave(torch.tensor(units), 1)
    fractions = uniform(2, sum(units), seed=0).double() + 0.5
    sums = (fractions * most).long()
    offsets = uniform(300, seed=1), uniform(33, seed=2)
    before = torch.cat(offsets)
    with _ops_device.cuda_bodies_on_host():
        given = None if rate is None else offsets
        means, changes = _ops.differences(sums, units, counts, spins, given, rate or 0.0)
    expected = sums / most.double()
    is_spin = torch.tensor(spins).repeat_interleave(torch.tensor(units))
    expected = torch.where(is_spin, 2 * expected - 1, expected).float()
    assert torch.equal(means, expected[0])
    assert torch.equal(changes, expected[0] - expected[1])
    moved = before if rate is None else before * (1 - rate) + means * rate
    torch.testing.assert_close(torch.cat(offsets), moved, rtol=0, atol=1e-7)
    if rate == 1.0:
        assert torch.equal(torch.cat(offsets), means)


def rows(visible, *, spins=False, grey=False):
    drawn = uniform(90, visible, seed=4) + 0.5
    if grey:
        return (255 * drawn).round() / 255
    return 2 * (drawn < 0.3).float() - 1 if spins else (drawn < 0.3).float()


RUNS = {
    "cd": {},
    "cd-3 without centring": {"k": 3, "centered": False},
    "samples": {"statistics": "samples"},
    "pcd": {"algorithm": "pcd", "chains": 37},
    "fpcd": {"algorithm": "fpcd"},
    "tempering": {"algorithm": "pt"},
    "penalties": {"weight_decay": 1e-3, "l1": 1e-4, "momentum": 0.0},
    "sparse": {"sparsity_target": 0.1, "sparsity_cost": 0.1},
    "dropout": {"dropout": 0.3},
    "gradient norm": {"monitors": ("reconstruction", "gradient_norm")},
}


def trained(machine, data, by_kernels, **options):
    with _ops_device.cuda_bodies_on_host() if by_kernels else contextlib.nullcontext():
        machine.fit(data, epochs=2, batch_size=30, learning_rate=0.1, **options)
    return list(machine.parameters())


def assert_trained_alike(make, data, **options):
    found, expected = (trained(make(), data, kernels, **options) for kernels in (True, False))
    exact = torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")
    for a, b in zip(found, expected, strict=True):
        # Without vectors, torch rounds a product before it adds it to a bias.
        torch.testing.assert_close(a, b, rtol=0, atol=0 if exact else 1e-3)


@pytest.mark.parametrize("options", RUNS.values(), ids=RUNS)
def test_training_is_the_cpus(options):
    assert_trained_alike(lambda: RBM(70, 20, seed=1, std=0.3), rows(70), **options)


@pytest.mark.parametrize("hidden", [20, Spin(20)], ids=["bernoulli", "spin"])
def test_training_of_spins_is_the_cpus(hidden):
    assert_trained_alike(lambda: RBM(Spin(70), hidden, std=0.3), rows(70, spins=True))


def test_training_on_grey_levels_is_the_cpus():
    assert_trained_alike(lambda: RBM(70, 20, std=0.3), rows(70, grey=True))


@pytest.mark.parametrize("frozen", ["weight", "visible_bias", "hidden_bias"])
def test_frozen_parameters_stay(frozen):
    def make():
        machine = RBM(70, 20, seed=1, std=0.3)
        getattr(machine, frozen).requires_grad_(False)
        return machine

    assert_trained_alike(make, rows(70))
    parameters = dict(
        zip(("weight", "visible_bias", "hidden_bias"), make().parameters(), strict=True)
    )
    after = trained(make(), rows(70), True)
    for (name, before), now in zip(parameters.items(), after, strict=True):
        assert torch.equal(before, now) == (name == frozen)


def test_biases_that_do_not_lie_side_by_side():
    """They move as they lie, and nothing between them does."""
    around = torch.zeros(2, 140)
    machines = [RBM(70, 20, seed=1, std=0.3) for _ in around]
    for machine, memory in zip(machines, around, strict=True):
        machine.visible_bias = torch.nn.Parameter(memory[::2])
    for machine, kernels in zip(machines, (True, False), strict=True):
        trained(machine, rows(70), kernels)
    assert around[:, ::2].all() and not around[:, 1::2].any()
    for a, b in zip(*(machine.parameters() for machine in machines), strict=True):
        torch.testing.assert_close(a, b)


class Watch(TorchDispatchMode):
    """Notes what torch computes, and fails where it would make the host wait for a GPU."""

    READS = ("_local_scalar_dense", "nonzero", "equal.default", "is_nonzero", "masked_select")
    NO_KERNEL = ("empty", "view", "split", "slice", "select", "detach", "permute", "t.default",
                 "unbind", "expand", "transpose", "alias", "as_strided", "unsqueeze")  # fmt: skip

    def __init__(self, known):
        super().__init__()
        self.known, self.kernels = known, []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = str(function)
        of_host = any(arg is known for arg in args for known in self.known)
        is_read = any(read in name for read in self.READS)
        assert of_host or not is_read, f"{name} waits for the GPU"
        is_pick = "index_select" in name
        if (not of_host and not any(free in name for free in self.NO_KERNEL)) or is_pick:
            self.kernels.append(name)
        return function(*args, **(kwargs or {}))


UPDATES = {
    "cd": ({}, 1),
    "pcd": ({"algorithm": "pcd"}, 1),
    "samples": ({"statistics": "samples"}, 2),
    "sparse": ({"sparsity_target": 0.1, "sparsity_cost": 0.1}, 4),
}


@pytest.mark.parametrize(("options", "torchs_own"), UPDATES.values(), ids=UPDATES)
def test_an_update_is_a_few_launches_and_asks_for_nothing(monkeypatch, options, torchs_own):
    """Picking the rows is torch's; a copy where sampled states are kept; and sparsity's target."""
    launches = []

    def launch(kernels, device, *arguments):
        launches.append(kernels)
        _ops_device.launch(kernels, device, *arguments)

    def run(plan, *extent):
        launches.append("chains")
        run_chains(plan, *extent)

    run_chains = _ops_gibbs._Plan._run
    monkeypatch.setattr(_ops_gibbs._Plan, "_run", run)
    for module in (_ops_ascend, _ops_statistics, _ops_gibbs_weights):
        monkeypatch.setattr(module, "launch", launch)
    machine = RBM(70, 20, std=0.3)
    source = as_source("fit", rows(70), machine)
    means = source.scan()
    training = Training(
        machine, source, None, Options(batch_size=30, centered=True, **options), Processes()
    )
    with _ops_device.cuda_bodies_on_host():
        training.begin(means)
        batches = training._batches(0, 0)
        training._step(*next(batches), 0)
        training.update += 1
        launches.clear()
        with Watch([training.ascent._offsets.started]) as watch:
            training._step(*next(batches), 0)
    assert launches == ["quantize", "chains", "chains", "statistics", "differences", "ascend"]
    assert len(watch.kernels) == torchs_own, watch.kernels


def test_the_watch_notices_a_question():
    values = torch.ones(3)
    with pytest.raises(AssertionError, match="waits for the GPU"), Watch([]):
        bool(values.sum())
    with Watch([]) as watch:
        values.view(3, 1).add(1)
    assert watch.kernels == ["aten.add.Tensor"]
