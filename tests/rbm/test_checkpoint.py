# SPDX-License-Identifier: Apache-2.0
"""Runs that end and go on: the same bits as one that was never interrupted."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch
from machines import machine
from torch.utils.data import DataLoader, TensorDataset

import torch_init
from torch_init import rbm
from torch_init.rbm import checkpoint

RUNS = [
    {"algorithm": "cd", "k": 2, "sparsity_target": 0.2},
    {"algorithm": "cd", "statistics": "samples", "binarize": "sample", "momentum": 0.5},
    {"algorithm": "pcd", "schedule": "linear"},
    {"algorithm": "fpcd"},
    {"algorithm": "pt", "temperatures": 4},
    {"algorithm": "pt", "temperatures": 4, "adapt_temperatures": True},
]
UNITS = {"bernoulli": (12, 7), "gaussian": (rbm.Gaussian(12, learn_variance=True), rbm.NReLU(7))}


def data():
    return torch.rand(90, 12, generator=torch.Generator().manual_seed(2))


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))


class Killed(Exception):
    pass


def train(made, folder, stop_after=None, source=None, **options):
    """Train; fail just after the checkpoint of update stop_after was written."""
    save = checkpoint.save

    def save_and_fail(folder, update, *rest):
        save(folder, update, *rest)
        if update == stop_after:
            raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint, "save", save_and_fail)
        settings = {"epochs": 3, "batch_size": 20, "checkpoint_every": 1} | options
        return made.fit(data() if source is None else source, checkpoint=folder, **settings)


@pytest.mark.parametrize("options", RUNS, ids=lambda run: "-".join(map(str, run.values())))
@pytest.mark.parametrize("stop", [1, 5, 7, 15])
def test_resumed_run_has_the_same_bits(tmp_path, options, stop):
    """Five updates an epoch: stopped in the first, at its end, in the second, at the very end."""
    whole, parts = rbm.RBM(12, 7), rbm.RBM(12, 7)
    want = train(whole, tmp_path / "whole", **options)
    with pytest.raises(Killed):
        train(parts, tmp_path / "parts", stop_after=stop, **options)
    parts = rbm.RBM(12, 7)  # nothing of the first run is left but its checkpoint
    history = train(parts, tmp_path / "parts", resume=True, **options)
    assert all(
        torch.equal(a, b) for a, b in zip(whole.parameters(), parts.parameters(), strict=False)
    )
    assert history.records == want.records


def test_resumed_gaussian_run_from_a_loader(tmp_path):
    """Data that come in an order of their own are read again up to where the run was."""
    made = [machine(UNITS["gaussian"], dtype=torch.float32, scale=0.1) for _ in range(3)]
    options = {"epochs": 3, "checkpoint_every": 1}
    batches = list(data().split(20))
    made[0].fit(batches, **options)
    with pytest.raises(Killed):

        def fail(*_):
            raise Killed

        made[1].fit(batches, **options, checkpoint=tmp_path, callback=fail)
    made[2].fit(batches, **options, checkpoint=tmp_path, resume=True)
    assert all(
        torch.equal(a, b) for a, b in zip(made[0].parameters(), made[2].parameters(), strict=False)
    )


def shuffled(seed):
    """A loader as a program makes it: the seed is whatever it is at that time."""
    generator = torch.Generator().manual_seed(seed)
    return DataLoader(TensorDataset(data()), batch_size=20, shuffle=True, generator=generator)


@pytest.mark.parametrize("stop", [2, 5, 8])
def test_a_shuffled_loader_resumes_in_its_first_order(tmp_path, monkeypatch, stop):
    """Its generator is part of the checkpoint: the new one's seed does not count."""
    monkeypatch.setattr("torch_init.rbm.data.PROBE", 30)  # the rows watched are the first again
    options = {"epochs": 3, "batch_size": 20, "checkpoint_every": 1, "algorithm": "pcd"}
    whole, parts = rbm.RBM(12, 7), rbm.RBM(12, 7)
    want = whole.fit(shuffled(1), **options)
    with pytest.raises(Killed):
        train(parts, tmp_path, stop_after=stop, source=shuffled(1), **options)
    parts = rbm.RBM(12, 7)
    found = parts.fit(shuffled(2), **options, checkpoint=tmp_path, resume=True)
    assert same(parts, whole) and found.records == want.records
    other = rbm.RBM(12, 7)
    other.fit(shuffled(2), **options)
    assert not same(other, whole)


DAMAGE = {
    "cut index": lambda index, tensors: index.write_bytes(index.read_bytes()[:-20]),
    "empty index": lambda index, tensors: index.write_text(""),
    "other index": lambda index, tensors: index.write_text("[]"),
    "no tensors": lambda index, tensors: tensors.unlink(),
    "cut tensors": lambda index, tensors: tensors.write_bytes(tensors.read_bytes()[:-1]),
    "changed bit": lambda index, tensors: tensors.write_bytes(
        tensors.read_bytes()[:-1] + bytes([tensors.read_bytes()[-1] ^ 1])
    ),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_damaged_files_are_named(tmp_path, damage):
    train(rbm.RBM(12, 7), tmp_path, epochs=1)
    (tensors,) = tmp_path.glob("*.safetensors")
    index = tmp_path / "checkpoint.json"
    damage(index, tensors)
    made = rbm.RBM(12, 7)
    with pytest.raises(ValueError, match=r"checkpoint: .*missing, cut short or changed") as raised:
        train(made, tmp_path, resume=True)
    assert same(made, rbm.RBM(12, 7))
    assert (index.name in str(raised.value)) != (tensors.name in str(raised.value))


def test_a_new_run_in_an_old_folder_leaves_the_old_checkpoint_whole(tmp_path, monkeypatch):
    """Killed between its tensors and its index: those are of one update, but not of one run."""
    old = rbm.RBM(12, 7)
    train(old, tmp_path, epochs=1)
    replace = os.replace

    def fail_at_the_index(source, target):
        if Path(target).name == "checkpoint.json":
            raise Killed
        replace(source, target)

    monkeypatch.setattr(os, "replace", fail_at_the_index)
    with pytest.raises(Killed), pytest.warns(UserWarning, match="replaced"):
        train(rbm.RBM(12, 7), tmp_path, epochs=1, k=3, checkpoint_every=5)
    monkeypatch.undo()
    resumed = rbm.RBM(12, 7)
    train(resumed, tmp_path, epochs=1, resume=True)
    assert same(resumed, old)


SCRIPT = """
import sys, torch
import torch_init
from torch_init import rbm
torch.set_num_threads(1)
data = torch.rand(90, 12, generator=torch.Generator().manual_seed(2))
made = rbm.RBM(12, 7)
print("starts", flush=True)
made.fit(data, epochs=int(sys.argv[2]), batch_size=20, algorithm="pcd", k=2, checkpoint=sys.argv[1],
         checkpoint_every=10, resume=len(sys.argv) > 3)
"""


def run(*arguments):
    # Not from the checkout, whose sources would hide the installed package.
    command = [sys.executable, "-c", SCRIPT, *arguments]
    return subprocess.Popen(command, cwd=tempfile.gettempdir(), stdout=subprocess.PIPE, text=True)


def test_kill_9_in_the_middle(tmp_path):
    folder, whole = tmp_path / "killed", tmp_path / "whole"
    assert run(str(whole), "100").wait() == 0
    process = run(str(folder), "100")
    process.stdout.readline()
    while not (folder / "checkpoint.json").exists():
        assert process.poll() is None
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    reached = json.loads((folder / "checkpoint.json").read_text())["update"]
    assert 0 < reached < 500
    assert run(str(folder), "100", "resume").wait() == 0
    tensors, facts = checkpoint.load(folder)
    want, wanted = checkpoint.load(whole)
    assert facts == wanted and facts["update"] == 500
    assert all(torch.equal(tensors[name], want[name]) for name in want)
    assert [path.suffix for path in sorted(folder.iterdir())] == [".json", ".safetensors"]


def test_more_epochs_go_on(tmp_path):
    long, short = rbm.RBM(12, 7), rbm.RBM(12, 7)
    train(long, tmp_path / "a", epochs=5)
    train(short, tmp_path / "b", epochs=3)
    train(short, tmp_path / "b", epochs=5, resume=True)
    assert torch.equal(long.weight, short.weight)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"k": 2}, "k 2 instead of 1"),
        ({"seed": 5}, "seed 5 instead of 0"),
        ({"batch_size": 30}, "batch_size"),
    ],
)
def test_other_options_are_refused(tmp_path, options, text):
    train(rbm.RBM(12, 7), tmp_path)
    made = rbm.RBM(12, 7)
    with pytest.raises(ValueError, match=text):
        train(made, tmp_path, resume=True, **options)
    assert same(made, rbm.RBM(12, 7))


def test_no_checkpoint_to_resume(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"checkpoint\.json"):
        rbm.RBM(12, 7).fit(data(), checkpoint=Path(tmp_path) / "none", resume=True)


def test_each_layer_has_a_checkpoint_of_its_own(tmp_path):
    """Resumed at the end, and before its last layer had a checkpoint: the same bits."""

    def pretrained(**options):
        model = torch.nn.Sequential(
            *(torch.nn.Linear(12, 12), torch.nn.Sigmoid(), torch.nn.Linear(12, 12)),
            *(torch.nn.Sigmoid(), torch.nn.Linear(12, 2)),
        )
        torch_init.rbm_pretrain(model, data(), epochs=2, checkpoint=tmp_path / "model", **options)
        return model

    def net(**options):
        made = rbm.DBN([12, 12, 12])
        made.fit(data(), epochs=2, checkpoint=tmp_path / "net", **options)
        return made

    for make, name in ((pretrained, "model"), (net, "net")):
        whole = make()
        assert same(make(resume=True), whole)
        (tmp_path / name / "layer-1" / "checkpoint.json").unlink()
        assert same(make(resume=True), whole)


@pytest.mark.parametrize("kind", ["model", "net"])
def test_more_epochs_train_the_layers_above_anew(tmp_path, kind):
    """Their checkpoints are of features that the layer below no longer makes."""

    def train(folder, epochs, resume=False):
        options = {"epochs": epochs, "checkpoint": folder, "resume": resume}
        if kind == "net":
            made = rbm.DBN([12, 8, 6])
            made.fit(data(), **options)
            return made
        parts = [torch.nn.Linear(12, 8), torch.nn.Sigmoid(), torch.nn.Linear(8, 6)]
        model = torch.nn.Sequential(*parts, torch.nn.Sigmoid(), torch.nn.Linear(6, 2))
        torch_init.rbm_pretrain(model, data(), **options)
        return model

    whole = train(tmp_path / "whole", 4)
    train(tmp_path / "short", 2)
    assert same(train(tmp_path / "short", 4, resume=True), whole)
    # And once more: all layers are done.
    assert same(train(tmp_path / "short", 4, resume=True), whole)


def test_foreign_folders_beside_the_checkpoints(tmp_path):
    foreign = [
        tmp_path / name / "checkpoint.json" for name in ("layer-norm", "layer-", "layer-\u00b2")
    ]
    for path in foreign:
        path.parent.mkdir()
        path.write_text("{}")
    rbm.DBN([12, 8]).fit(data(), epochs=1, checkpoint=tmp_path)
    assert all(path.read_text() == "{}" for path in foreign)
    assert (tmp_path / "layer-0" / "checkpoint.json").exists()


@pytest.mark.parametrize(
    ("other", "word"),
    [
        (lambda: rbm.RBM(12, 5), "hidden"),
        (lambda: rbm.RBM(rbm.Spin(12), 7), "visible"),
        (lambda: rbm.RBM(12, 7, name="other"), "name"),
        (lambda: rbm.RBM(12, 7).double(), "dtype"),
    ],
)
def test_a_checkpoint_is_of_one_machine(tmp_path, other, word):
    rbm.RBM(12, 7).fit(data(), epochs=1, checkpoint=tmp_path)
    made = other()
    before = [p.detach().clone() for p in made.parameters()]
    with pytest.raises(ValueError, match=f"resume.*{word} "):
        made.fit(data(), epochs=1, checkpoint=tmp_path, resume=True)
    assert all(map(torch.equal, before, made.parameters()))
