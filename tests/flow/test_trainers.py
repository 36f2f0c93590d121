# SPDX-License-Identifier: Apache-2.0
"""Trainers that own the loop, run for real where they are installed; Weights & Biases, offline."""

import sys
import types

import pytest
import torch
from flow_networks import batch, mlp
from torch import nn

import torch_init
from torch_init.flow import lightning_callback, transformers_callback


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = mlp(2, 16, nn.Tanh, 1.0, inputs=8)

    def forward(self, x, labels=None):
        logits = self.net(x)
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


def examples():
    return [{"x": torch.randn(8), "labels": i % 10} for i in range(64)]


def check_steps(flow, steps, module):
    report = flow.report()
    assert report.steps == steps
    assert {(p.steps, p.missing) for p in report.parameters} == {(steps, 0)}
    assert all(p.gradient_norm > 0 and p.update_rms > 0 for p in report.parameters)
    assert "no_grad" not in {verdict.kind for verdict in report.verdicts}
    assert not report.unsupported
    assert all(not m._forward_hooks and not m._forward_pre_hooks for m in module.modules())
    return {(row.calls, row.backward_calls) for row in report.rows}


@pytest.mark.parametrize("accumulated", [1, 2])
def test_lightning(accumulated, tmp_path):
    lightning = pytest.importorskip("lightning.pytorch", reason="lightning is not installed")

    class Task(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.model = Net()

        def training_step(self, batch, index):
            return self.model(**batch)["loss"]

        def validation_step(self, batch, index):
            self.log("loss", self.model(**batch)["loss"])

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=1e-2)

    seen = []
    callback = lightning_callback(lambda n, step: seen.append(step), every=1, log_every=3)
    loader = torch.utils.data.DataLoader(examples(), batch_size=16 // accumulated)
    trainer = lightning.Trainer(
        default_root_dir=tmp_path,
        max_epochs=2,
        accelerator="cpu",
        callbacks=[callback],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        gradient_clip_val=1.0,
        accumulate_grad_batches=accumulated,
    )
    task = Task()
    trainer.fit(task, loader, loader)
    assert seen == [3, 6]
    # Steps 7 and 8, and no pass of the validations.
    assert check_steps(callback.watcher.flow, 2, task) == {(2 * accumulated, 2 * accumulated)}


def test_hugging_face_trainer(tmp_path):
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    pytest.importorskip("accelerate", reason="transformers.Trainer needs accelerate")
    seen = []
    callback = transformers_callback(lambda n, step: seen.append(step), every=1, log_every=3)
    arguments = transformers.TrainingArguments(
        output_dir=str(tmp_path),
        num_train_epochs=2,
        per_device_train_batch_size=8,
        gradient_accumulation_steps=2,
        learning_rate=1e-2,
        lr_scheduler_type="constant",
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        save_strategy="no",
    )
    model = Net()
    trainer = transformers.Trainer(model, arguments, train_dataset=examples(), callbacks=[callback])
    trainer.train()
    assert seen == [3, 6]
    assert check_steps(callback.watcher.flow, 2, model) == {(4, 4)}


def test_weights_and_biases_offline(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb", reason="wandb is not installed")
    monkeypatch.setenv("WANDB_SILENT", "true")
    model = mlp(2, 16, nn.ReLU, 2.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, y = batch(model)
    run = wandb.init(project="torch_init", dir=str(tmp_path), mode="offline")
    reports = []
    with torch_init.watch(model, optimizer) as flow:
        for _ in range(2):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
            reports.append(flow.log_to(run))
    summary = dict(run.summary)  # of the first: a step is closed by the next
    run.finish()
    assert summary["flow/gradient_norm/0"] == pytest.approx(reports[0].rows[0].gradient_norm)
    assert summary["flow/verdict"] == str(reports[0].verdict)


def test_accumulated_batches_are_written_once(monkeypatch):
    """Against a stand-in of lightning.pytorch.Callback: a step of two batches is one step."""
    stand_in = types.ModuleType("lightning.pytorch")
    stand_in.Callback = type("Callback", (), {})
    monkeypatch.setitem(sys.modules, "lightning", types.ModuleType("lightning"))
    monkeypatch.setitem(sys.modules, "lightning.pytorch", stand_in)
    model = mlp(2, 16, nn.ReLU, 2.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, y = batch(model)
    seen = []
    callback = lightning_callback(lambda n, step: seen.append((step, len(n) > 0)), log_every=2)
    trainer = types.SimpleNamespace(logger=None, optimizers=[optimizer])
    callback.on_fit_start(trainer, model)
    for index in range(8):
        nn.functional.cross_entropy(model(x), y).backward()
        if index % 2:
            optimizer.step()
            optimizer.zero_grad()
        callback.on_train_batch_end(trainer, None, None, None, index)
    callback.on_fit_end(trainer, model)
    assert [step for step, _ in seen] == [2, 4]
