# SPDX-License-Identifier: Apache-2.0
"""What breaks other tools in training: several passes, exceptions, copies, lifetimes, threads."""

import copy
import gc
import io
import threading
import weakref

import pytest
import torch
from flow_networks import batch, mlp, observe
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

import torch_init
from torch_init.flow.hooks import ForwardHook


def rows_of(report):
    return {row.layer: row for row in report.rows}


def test_two_backward_passes_are_averaged_by_firing():
    model = nn.Sequential(nn.Linear(4, 4))
    with torch_init.watch(model) as flow:
        out = model(torch.randn(8, 4))
        out.sum().backward(retain_graph=True)
        (3 * out).sum().backward()
    (row,) = flow.report().rows
    assert (row.calls, row.backward_calls) == (1, 2)
    assert row.gradient_rms == pytest.approx(((1 + 9) / 2) ** 0.5)


def test_accumulated_gradients_are_read_at_the_step():
    model = nn.Sequential(nn.Linear(4, 4, bias=False))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x = torch.randn(8, 4)
    with torch_init.watch(model, optimizer) as flow:
        for part in x.split(2):
            model(part).sum().backward()
        optimizer.step()
    report = flow.report()
    assert report.rows[0].calls == report.rows[0].backward_calls == 4
    assert report.parameters[0].gradient_norm == pytest.approx(model[0].weight.grad.norm().item())
    assert report.steps == 1


def test_every_step_measures_some_steps():
    model = mlp(2, 16, nn.ReLU, 2.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, y = batch(model)
    with torch_init.watch(model, optimizer, every=3) as flow:
        for _ in range(7):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
    report = flow.report()
    assert report.steps == 7
    assert {(row.calls, row.backward_calls) for row in report.rows} == {(3, 3)}  # steps 0, 3, 6
    assert report.parameters[0].steps == 3


def hooks_on(model):
    return sum(
        len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks)
        for m in model.modules()
    )


def test_an_exception_leaves_no_hook_and_is_not_swallowed():
    model = mlp(3, 16, nn.ReLU, 2.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, _ = batch(model)
    with pytest.raises(ZeroDivisionError), torch_init.watch(model, optimizer) as flow:
        model(x)
        raise ZeroDivisionError
    assert hooks_on(model) == 0
    assert not optimizer._optimizer_step_pre_hooks and not optimizer._optimizer_step_post_hooks
    assert len(flow.report().rows) == 7


def test_an_exception_in_the_forward_pass_frees_the_graph():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(4, 4)

        def forward(self, x):
            self.fc(x)
            raise ZeroDivisionError

    model = Net()
    flow = torch_init.watch(model)
    with pytest.raises(ZeroDivisionError):
        model(torch.randn(2, 4))
    assert flow.recorder.structure is None
    flow.remove()


def test_copies_and_files_of_the_model_are_not_watched(tmp_path):
    model = mlp(2, 16, nn.ReLU, 2.0)
    keys = list(model.state_dict())
    x, y = batch(model)
    with torch_init.watch(model) as flow:
        copied = copy.deepcopy(model)
        buffer = io.BytesIO()
        torch.save(model, buffer)
        buffer.seek(0)
        loaded = torch.load(buffer, weights_only=False)
        average = torch.optim.swa_utils.AveragedModel(model)
        for other in (copied, loaded, average):
            nn.functional.cross_entropy(other(x), y).backward()
        assert list(model.state_dict()) == keys
        model(x)
    assert all((row.calls, row.backward_calls) == (1, 0) for row in flow.report().rows)


def test_nothing_is_retained():
    model = mlp(3, 16, nn.ReLU, 2.0)
    x, y = batch(model)
    kept = []

    def keep(module, args, output):
        kept.append(weakref.ref(output))

    handles = [m.register_forward_hook(keep) for m in model]
    flow = torch_init.watch(model)
    loss = nn.functional.cross_entropy(model(x), y)
    loss.backward()
    del loss
    assert [r() for r in kept] == [None] * len(kept)
    for handle in handles:
        handle.remove()
    alive = weakref.ref(model)
    del model
    gc.collect()
    assert alive() is None and flow.model is None
    assert len(flow.report().rows) == 7


def test_a_watch_that_nobody_holds_goes_on():
    model = mlp(2, 16, nn.ReLU, 2.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    torch_init.watch(model, optimizer)
    gc.collect()
    (hook,) = [h for h in model[0]._forward_hooks.values() if isinstance(h, ForwardHook)]
    x, y = batch(model)
    nn.functional.cross_entropy(model(x), y).backward()
    optimizer.step()
    (step_hook,) = optimizer._optimizer_step_pre_hooks.values()
    report = step_hook._flow.report()
    assert step_hook._flow.recorder is hook.recorder
    assert report.rows[0].expected_rms and report.parameters[0].update_rms > 0


def test_sparse_gradients():
    model = nn.Sequential(nn.Embedding(50, 8, sparse=True), nn.Flatten(), nn.Linear(24, 4))
    optimizer = torch.optim.SparseAdam([model[0].weight])
    with torch_init.watch(model, optimizer) as flow:
        model(torch.tensor([[1, 2, 3], [3, 4, 5]])).square().sum().backward()
        optimizer.step()
    row = next(p for p in flow.report().parameters if p.name == "0.weight")
    dense = model[0].weight.grad.coalesce().values()
    # Rows that occur twice are added up only later: the square of a sum is not the sum of squares.
    assert row.gradient_norm == pytest.approx(dense.norm().item(), rel=0.5)
    assert row.update_rms > 0


def test_lazy_and_meta_models():
    with pytest.raises(ValueError, match="Run a batch"):
        torch_init.watch(nn.Sequential(nn.LazyLinear(4)))
    with torch_init.watch(nn.Linear(4, 4, device="meta")) as flow:
        pass
    assert flow.report().verdict.kind == "no_data"


def test_threads_each_with_a_model_of_their_own():
    reports = {}

    def run(seed):
        model = mlp(3, 32, nn.ReLU, 2.0, seed=seed)
        reports[seed] = observe(model)

    threads = [threading.Thread(target=run, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed, report in reports.items():
        alone = observe(mlp(3, 32, nn.ReLU, 2.0, seed=seed))
        assert [r.rms for r in report.rows] == [r.rms for r in alone.rows]
        assert {r.backward_calls for r in report.rows} == {1}


def test_threads_of_one_model_do_not_mix_their_passes():
    both_within = threading.Barrier(2, timeout=60)
    both_done = threading.Barrier(2, timeout=60)

    class Meet(nn.Module):
        def forward(self, x):
            both_within.wait()
            return 2 * x

    model = nn.Sequential(nn.Linear(8, 8), Meet(), nn.Linear(8, 8))
    x = torch.randn(4, 8)

    def run(scale):
        y = model(scale * x)
        both_done.wait()
        y.square().mean().backward()

    with torch_init.watch(model) as flow:
        threads = [threading.Thread(target=run, args=(scale,)) for scale in (1.0, 100.0)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    report = flow.report()
    assert (report.passes, report.passes_left_out) == (1, 1)
    assert [(r.layer, r.calls, r.backward_calls) for r in report.rows] == [
        ("0", 1, 1), ("1", 1, 1), ("2", 1, 1)
    ]  # fmt: skip
    rms = model[0](x).square().mean().sqrt().item()
    large = model[0](100 * x).square().mean().sqrt().item()
    assert any(report.rows[0].rms == pytest.approx(one, rel=1e-5) for one in (rms, large))
    assert "1 forward passes that other threads began" in str(report)
    with torch_init.watch(model) as flow:  # and the next pass of each is measured again
        model[1] = nn.Identity()
        for _ in range(2):
            thread = threading.Thread(target=lambda: model(x).sum().backward())
            thread.start()
            thread.join()
    assert (flow.report().passes, flow.report().passes_left_out) == (2, 0)


def test_modules_that_are_never_called_are_named():
    model = nn.MultiheadAttention(16, 2, batch_first=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with torch_init.watch(model, optimizer) as flow:
        x = torch.randn(2, 5, 16)
        model(x, x, x, need_weights=False)[0].sum().backward()
        optimizer.step()
    report = flow.report()
    assert report.uncalled == ["out_proj"]
    assert "Never called: out_proj" in str(report)
    weight = next(p for p in report.parameters if p.name == "out_proj.weight")
    assert weight.gradient_norm > 0


def test_expected_uses_the_effective_weight():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 64, bias=False), nn.ReLU(), nn.Linear(64, 10))
    weight_norm(model[0])
    with torch.no_grad():
        model[0].parametrizations.weight.original0.mul_(3.0)
    gain = model[0].weight.square().sum().item() / 64
    row = torch_init.expected(model)["0"]
    assert row.weight_gain == pytest.approx(gain, rel=1e-5)


def test_data_dependent_control_flow():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x):
            return self.a(x) if x.sum() > 0 else self.b(x)

    model = Net()
    with torch_init.watch(model) as flow:
        for sign in (1, 1, -1):
            model(sign * torch.ones(2, 4)).sum().backward()
    report = flow.report()
    rows = rows_of(report)
    assert (rows["a"].calls, rows["b"].calls) == (2, 1)
    assert "Seen in 1 of 3 forward passes: b" in str(report)


def test_double_backward():
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
    x = torch.randn(8, 4, requires_grad=True)
    with torch_init.watch(model) as flow:
        (gradient,) = torch.autograd.grad(model(x).sum(), x, create_graph=True)
        gradient.square().sum().backward()
    with_hooks = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    (gradient,) = torch.autograd.grad(model(x).sum(), x, create_graph=True)
    gradient.square().sum().backward()
    plain = [p.grad for p in model.parameters() if p.grad is not None]
    assert all(torch.equal(a, b) for a, b in zip(with_hooks, plain, strict=True))
    assert all(row.backward_calls >= 1 for row in flow.report().rows)
    assert not any(t.packed.requires_grad for t in flow.recorder.all_totals)


def test_training_is_the_same_with_and_without():
    losses = []
    for watched in (False, True):
        model = mlp(3, 32, nn.ReLU, 2.0)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
        x, y = batch(model)
        flow = torch_init.watch(model, optimizer, histogram=True) if watched else None
        for _ in range(5):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
        losses.append(loss.item())
        if flow:
            flow.remove()
    assert losses[0] == losses[1]
