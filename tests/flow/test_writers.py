# SPDX-License-Identifier: Apache-2.0
"""Reports over time: TensorBoard, a W&B-like run, files, functions, trainers' callbacks."""

import csv
import json
import sys
import types

import pytest
import torch
from flow_networks import batch, mlp
from torch import nn

import torch_init
from torch_init.flow import lightning_callback, transformers_callback


def train(flow_of, steps=4, target=None, log_every=2):
    model = mlp(3, 16, nn.ReLU, 2.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, y = batch(model)
    with flow_of(model, optimizer) as flow:
        for step in range(steps):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
            if (step + 1) % log_every == 0:
                flow.log_to(target)
    return flow


def watch(model, optimizer):
    return torch_init.watch(model, optimizer, histogram=True)


def test_json_lines(tmp_path):
    path = tmp_path / "flow.jsonl"
    train(watch, target=path)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["step"] for line in lines] == [2, 4]
    assert lines[0]["gradient_norm/0"] > 0 and lines[0]["update_ratio/0.weight"] > 0
    assert lines[0]["verdict"].startswith("ok")


def test_csv(tmp_path):
    path = tmp_path / "flow.csv"
    train(watch, target=str(path))
    with path.open() as file:
        rows = list(csv.DictReader(file))
    assert {row["step"] for row in rows} == {"2", "4"}
    assert any(row["statistic"] == "signal_rms" and row["layer"] == "4" for row in rows)
    assert all(float(row["value"]) == float(row["value"]) for row in rows)


def test_function_and_window():
    seen = []
    flow = train(watch, target=lambda numbers, step: seen.append((step, numbers)))
    assert [step for step, _ in seen] == [2, 4]
    assert flow.total_steps == 4 and flow.report().rows == []  # a new window has begun


def test_wandb_like_run():
    class Run:
        def __init__(self):
            self.logged = []

        def log(self, numbers, step=None):
            self.logged.append((step, numbers))

    run = Run()
    train(watch, target=run)
    step, numbers = run.logged[0]
    assert step == 2 and numbers["flow/gradient_norm/0"] > 0
    assert numbers["flow/verdict"].startswith("ok")


def test_tensorboard(tmp_path):
    tensorboard = pytest.importorskip("torch.utils.tensorboard")
    reading = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    with tensorboard.SummaryWriter(str(tmp_path)) as writer:
        train(watch, target=writer)
    events = reading.EventAccumulator(str(tmp_path), size_guidance={"histograms": 0})
    events.Reload()
    assert [e.step for e in events.Scalars("gradient_norm/0")] == [2, 4]
    histogram = events.Histograms("gradient_log2/0")[0].histogram_value
    assert histogram.num == sum(histogram.bucket) == nonzero_gradients(steps=2)
    assert -40 <= histogram.min < histogram.max < 0
    assert events.Tags()["tensors"]  # the verdicts' text and the layout


def nonzero_gradients(steps):
    """Of layer 0's output, in the same training without a watcher: zeros have no logarithm."""
    model = mlp(3, 16, nn.ReLU, 2.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, y = batch(model)
    count = 0
    for _ in range(steps):
        optimizer.zero_grad()
        first = model[0](x)
        first.retain_grad()
        nn.functional.cross_entropy(model[1:](first), y).backward()
        count += int(first.grad.count_nonzero())
        optimizer.step()
    assert 0 < count < steps * first.numel()
    return count


def test_a_target_of_no_known_kind():
    with pytest.raises(TypeError, match=r"Flow\.log_to: target"):
        train(watch, target=3)
    with pytest.raises(ValueError, match=r"\.jsonl or \.csv"):
        train(watch, target="flow.txt")


def run_callback(callback, start, step, stop):
    model = mlp(3, 16, nn.ReLU, 2.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, y = batch(model)
    start(model, optimizer)
    for _ in range(4):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
        step()
    stop(model)
    assert not model[0]._forward_hooks
    return callback.watcher.flow


def test_transformers_callback():
    pytest.importorskip("transformers")
    seen = []
    callback = transformers_callback(lambda n, step: seen.append(step), every=1, log_every=2)
    run_callback(
        callback,
        lambda m, o: callback.on_train_begin(None, None, None, model=m, optimizer=o),
        lambda: callback.on_step_end(None, None, None),
        lambda m: callback.on_train_end(None, None, None),
    )
    assert seen == [2, 4]


def test_lightning_callback(monkeypatch):
    """Against a stand-in of lightning.pytorch.Callback, which is all that is used of it."""
    stand_in = types.ModuleType("lightning.pytorch")
    stand_in.Callback = type("Callback", (), {})
    monkeypatch.setitem(sys.modules, "lightning", types.ModuleType("lightning"))
    monkeypatch.setitem(sys.modules, "lightning.pytorch", stand_in)
    seen = []
    logger = types.SimpleNamespace(experiment=lambda numbers, step: seen.append(step))
    callback = lightning_callback(every=1, log_every=2)
    trainer = types.SimpleNamespace(logger=logger, optimizers=[])

    def start(model, optimizer):
        trainer.optimizers = [optimizer]
        callback.on_fit_start(trainer, model)

    run_callback(
        callback,
        start,
        lambda: callback.on_train_batch_end(trainer, None, None, None, 0),
        lambda m: callback.on_fit_end(trainer, m),
    )
    assert seen == [2, 4]


def test_callbacks_name_what_is_missing(monkeypatch):
    for name in ("lightning", "lightning.pytorch", "pytorch_lightning", "transformers"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match="pip install lightning"):
        lightning_callback()
    with pytest.raises(ImportError, match="pip install transformers"):
        transformers_callback("flow.jsonl")
