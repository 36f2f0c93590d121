# SPDX-License-Identifier: Apache-2.0
"""Every public function takes what no caller means, and answers with an error of its own or works.

One argument at a time is replaced; what is raised must be a TypeError or ValueError whose text is
that of torch_init.errors.describe: function, argument, what came, what is wanted.
"""

import inspect
import re

import numpy as np
import pytest
import torch
from torch import nn

import torch_init
from torch_init import rbm

SILLY = {
    "None": lambda: None,
    "text": lambda: "three",
    "nan": lambda: float("nan"),
    "infinite": lambda: float("inf"),
    "negative": lambda: -1,
    "negative float": lambda: -0.5,
    "huge": lambda: 10**30,
    "object": object,
    "a list": lambda: [1, 2],
    "an array": lambda: np.ones((3, 4), np.float32),
    "an array of objects": lambda: np.array([None, "x"], object),
    "integers": lambda: torch.ones(3, 4, dtype=torch.int64),
    "bytes": lambda: torch.ones(3, 4, dtype=torch.uint8),
    "complex": lambda: torch.ones(3, 4, dtype=torch.complex64),
    "half": lambda: torch.ones(3, 4, dtype=torch.float16),
    "no dimensions": lambda: torch.tensor(1.0),
    "one dimension": lambda: torch.ones(4),
    "three dimensions": lambda: torch.ones(2, 3, 4),
    "empty": lambda: torch.ones(0, 4),
    "NaNs": lambda: torch.full((3, 4), float("nan")),
    "meta": lambda: torch.ones(3, 4, device="meta"),
    "sparse": lambda: torch.eye(4).to_sparse(),
    "a leaf": lambda: torch.ones(3, 4, requires_grad=True),
    "a result": lambda: torch.ones(3, 4, requires_grad=True) * 1,
    "a module": lambda: nn.Linear(4, 3),
    "a type": lambda: int,
}


def machine():
    return rbm.RBM(4, 3, seed=0)


def rows():
    return torch.tensor([[1.0, 0, 1, 0], [0, 1, 1, 0], [1, 1, 0, 0]])


def network():
    return nn.Sequential(nn.Linear(4, 3), nn.Sigmoid(), nn.Linear(3, 2))


def method(function, make=machine):
    """A method as a function of the same name, of an object that is made anew."""

    def call(*args, **kwargs):
        return getattr(make(), function)(*args, **kwargs)

    return call


def net():
    return rbm.DBN([4, 3, 2], classes=2, seed=0)


def trained():
    history = machine().fit(rows(), epochs=1, progress=False)
    return history


# What is called, with what arguments; each of them is replaced in turn.
CALLS = {
    "plan": (torch_init.plan, {"model": network, "rules": "xavier", "seed": 0, "include": ()}),
    "init_": (torch_init.init_, {"model": network, "rules": "xavier", "seed": 0, "include": ()}),
    "materialize_": (
        torch_init.materialize_,
        {"model": network, "rules": "xavier", "seed": 0, "device": "cpu", "dtype": None},
    ),
    "prepare": (torch_init.prepare, {"plan": lambda: torch_init.plan(network(), "xavier")}),
    "report": (torch_init.report, {"model": network, "rename": None}),
    "fingerprint": (torch_init.fingerprint, {"model": network, "rename": None}),
    "keep": (torch_init.keep, {"tensor": rows}),
    "rule": (
        torch_init.rule,
        {"name": "*", "initialiser": lambda: torch_init.normal_, "module": None, "where": None},
    ),
    "lsuv_": (
        torch_init.lsuv_,
        {
            "model": network, "batch": rows, "seed": 0, "target_std": 1.0, "tolerance": 0.1,
            "max_tries": 2,
        },
    ),
    "stream_key": (torch_init.stream_key, {"seed": 0, "name": "x"}),
    "calculate_gain": (torch_init.calculate_gain, {"nonlinearity": "leaky_relu", "param": 0.1}),
    "check": (
        torch_init.check,
        {"model": network, "inputs": rows, "loss": None, "thresholds": None, "verbose": False},
    ),
    "expected": (torch_init.expected, {"model": network, "inputs": rows}),
    "watch": (
        torch_init.watch,
        {"model": network, "optimizer": None, "every": 1, "scaler": None, "include": None},
    ),
    "find_nonfinite": (torch_init.find_nonfinite, {"model": network, "optimizer": None}),
    "rbm_pretrain": (
        torch_init.rbm_pretrain,
        {
            "model": network, "data": rows, "epochs": 1, "head": "xavier", "holdout": 0.0,
            "visible": None, "validation": None, "seed": 0, "progress": False, "batch_size": 2,
            "learning_rate": 0.1, "k": 1,
        },
    ),
    "RBM": (rbm.RBM, {"visible": 4, "hidden": 3, "std": 0.1, "seed": 0, "name": "x"}),
    "ConvRBM": (
        rbm.ConvRBM,
        {
            "in_channels": 1, "out_channels": 2, "kernel_size": 3, "size": 8, "stride": 1,
            "padding": 0, "dilation": 1, "std": 0.1, "seed": 0,
        },
    ),
    "DBN": (rbm.DBN, {"layers": lambda: [4, 3, 2], "classes": 2, "seed": 0, "name": "x"}),
    "Gaussian": (rbm.Gaussian, {"size": 4, "variance": 1.0}),
    "Softmax": (rbm.Softmax, {"size": 4, "categories": 2}),
    "Spin": (rbm.Spin, {"size": 4}),
    "Labelled": (rbm.Labelled, {"size": 4, "classes": 2}),
    "forward": (method("__call__"), {"visible": rows}),
    "hidden_mean": (method("hidden_mean"), {"visible": rows}),
    "visible_mean": (method("visible_mean"), {"hidden": lambda: torch.ones(2, 3)}),
    "free_energy": (method("free_energy"), {"visible": rows}),
    "hidden_free_energy": (method("hidden_free_energy"), {"hidden": lambda: torch.ones(2, 3)}),
    "energy": (method("energy"), {"visible": rows, "hidden": lambda: torch.ones(3, 3)}),
    "gibbs": (
        method("gibbs"),
        {
            "visible": rows, "steps": 1, "seed": 0, "first_chain": 0, "first_step": 0,
            "beta": 1.0,
        },
    ),
    "reconstruct": (method("reconstruct"), {"visible": rows, "steps": 1}),
    "sample": (method("sample"), {"num": 2, "steps": 1, "seed": 0}),
    "fit": (
        rbm.fit,
        {
            "machine": machine, "data": rows, "epochs": 1, "batch_size": 2, "k": 1, "seed": 0,
            "learning_rate": 0.1, "momentum": 0.5, "weight_decay": 0.0, "algorithm": "cd",
            "schedule": "constant", "validation": None, "monitors": (), "chains": None,
            "callback": None, "checkpoint": None, "checkpoint_every": 10, "progress": False,
        },
    ),
    "ais": (
        rbm.ais, {"rbm": machine, "data": rows, "betas": 5, "chains": 4, "seed": 0}
    ),
    "reverse_ais": (
        rbm.reverse_ais,
        {"rbm": machine, "samples": rows, "data": rows, "betas": 5, "seed": 0},
    ),
    "base_rate": (rbm.base_rate, {"rbm": machine, "data": rows}),
    "linear_betas": (rbm.linear_betas, {"num": 5}),
    "log_likelihood": (rbm.log_likelihood, {"rbm": machine, "data": rows, "log_z": 1.0}),
    "log_partition": (rbm.log_partition, {"rbm": machine}),
    "pseudo_likelihood": (
        rbm.pseudo_likelihood, {"rbm": machine, "data": rows, "flips": 1, "seed": 0}
    ),
    "mosaic": (rbm.mosaic, {"rows": rows, "shape": lambda: (2, 2), "columns": 2}),
    "receptive_fields": (
        rbm.receptive_fields, {"rbm": machine, "shape": lambda: (2, 2), "count": 2}
    ),
    "fantasies": (
        rbm.fantasies,
        {"rbm": machine, "shape": lambda: (2, 2), "chains": 2, "steps": lambda: (1, 2), "seed": 0},
    ),
    "learning_curves": (rbm.learning_curves, {"history": trained}),
    "DBN.fit": (
        method("fit", net),
        {"data": rows, "labels": lambda: torch.tensor([0, 1, 0]), "epochs": 1, "progress": False},
    ),
    "DBN.up_down": (
        method("up_down", net),
        {"data": rows, "labels": lambda: torch.tensor([0, 1, 0]), "epochs": 1},
    ),
    "DBN.transform": (method("transform", net), {"visible": rows}),
    "DBN.forward": (method("__call__", net), {"visible": rows}),
    "DBN.predict": (method("predict", net), {"visible": rows}),
    "DBN.sample": (
        method("sample", net), {"num": 2, "steps": 1, "label": lambda: torch.tensor([0, 1])}
    ),
}  # fmt: skip
REQUIRED = {"tensor": lambda: torch.ones(3, 4), "val": 1.0, "sparsity": 0.5}
SHAPES = {"delta_orthogonal_": (4, 3, 3, 3), "dirac_": (3, 4, 3)}


def call_of(name):
    """An initialiser with its arguments' defaults."""
    parameters = inspect.signature(getattr(torch_init, name)).parameters
    arguments = {key: parameters[key].default for key in parameters if key != "layout"}
    arguments |= {key: value for key, value in REQUIRED.items() if key in arguments}
    arguments["tensor"] = lambda: torch.ones(SHAPES.get(name, (3, 4)))
    return getattr(torch_init, name), arguments


CALLS |= {name: call_of(name) for name in torch_init.init.__all__ if name.endswith("_")}

# What the caller's own model, function or truth value raises stays what it is.
OWN = {
    ("lsuv_", "batch"), ("check", "inputs"), ("expected", "inputs"), ("check", "loss"),
    ("check", "verbose"), ("report", "rename"), ("fingerprint", "rename"), ("watch", "include"),
    ("fit", "callback"), ("fit", "schedule"), ("fit", "progress"), ("rbm_pretrain", "progress"),
    ("DBN.fit", "progress"),
}  # fmt: skip
PLACES = [
    (name, argument)
    for name, (_, arguments) in CALLS.items()
    for argument in arguments
    if (name, argument) not in OWN
]


def made(value):
    return value() if inspect.isfunction(value) else value


@pytest.mark.parametrize("name", CALLS)
def test_the_call_itself_is_a_good_one(name):
    function, arguments = CALLS[name]
    function(**{key: made(value) for key, value in arguments.items()})


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "argument"), PLACES)
def test_no_argument_gets_a_raw_error(name, argument, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a text is a fine name of a folder
    function, arguments = CALLS[name]
    raw = {}
    for words, silly in SILLY.items():
        values = {key: made(value) for key, value in arguments.items()} | {argument: silly()}
        try:
            function(**values)
        except (TypeError, ValueError, FloatingPointError) as error:
            if not re.match(r"torch_init[.:]", str(error)):
                raw[words] = error
        except Exception as error:
            raw[words] = error
    assert not raw


def test_every_public_function_is_here():
    """Those that take arguments, but for what this list says why not."""
    left_out = {
        "Thresholds",  # tests/flow/test_verdicts.py
        "rbm", "recipes",
        "Estimate", "History", "LayerReport", "PretrainReport", "Units",  # records; abstract
        "Bernoulli", "NReLU",  # as Spin
        "RBMTransformer",  # scikit-learn's own checks
        "write_history",
    }  # fmt: skip
    names = {
        name
        for module in (torch_init, rbm)
        for name in module.__all__
        if callable(getattr(module, name)) and not hasattr(torch_init, f"{name}_")
    }
    assert names - set(CALLS) <= left_out
