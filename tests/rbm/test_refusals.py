# SPDX-License-Identifier: Apache-2.0
"""What machines, fit() and rbm_pretrain refuse or warn of, that looks nearly right."""

import warnings

import numpy as np
import pytest
import torch
from torch import nn

import torch_init
from torch_init import rbm

ROWS = torch.rand(30, 6, generator=torch.Generator().manual_seed(0)).round()
ABOVE = 1 + 2.0**-22  # which six digits print as 1


def mlp():
    return nn.Sequential(nn.Linear(6, 4), nn.Sigmoid(), nn.Linear(4, 2))


def quickly(data, model=None, **options):
    return torch_init.rbm_pretrain(model or mlp(), data, epochs=1, progress=False, **options)


def test_fit_refuses_a_machine_that_cannot_learn():
    made = rbm.RBM(6, 4, seed=0).requires_grad_(False)
    with pytest.raises(ValueError, match=r"fit: machine: .*none of which requires a gradient"):
        made.fit(ROWS, epochs=1)


@pytest.mark.parametrize("low", [0.0, -1e-6])
@pytest.mark.parametrize("high", [1.0, ABOVE])
def test_pretraining_refuses_to_take_rounded_probabilities_for_gaussian(low, high):
    data = ROWS * (high - low) + low
    data[0, :2] = torch.tensor([low, high])
    if (low, high) == (0.0, 1.0):
        assert isinstance(quickly(data).layers[0].visible, rbm.Bernoulli)
        return
    with pytest.raises(ValueError, match=r"clamp\(0, 1\).*visible=") as caught:
        quickly(data)
    assert repr(data.max().item()) in str(caught.value) or high == 1.0
    assert isinstance(quickly(data.clamp(0, 1)).layers[0].visible, rbm.Bernoulli)
    assert isinstance(quickly(data, visible="gaussian").layers[0].visible, rbm.Gaussian)


@pytest.mark.parametrize("scale", [1e-4, 1.0, 100.0])
def test_pretraining_takes_centred_data_of_any_scale_for_gaussian(scale):
    assert isinstance(quickly((ROWS - 0.5) * scale).layers[0].visible, rbm.Gaussian)


@pytest.mark.parametrize(
    "call",
    [
        lambda data: rbm.RBM(6, 4).fit(data, epochs=1),
        lambda data: rbm.RBM(rbm.Spin(6), 4).fit(data, epochs=1),
        lambda data: quickly(data, visible="bernoulli"),
        lambda data: quickly(data, visible="spin"),
    ],
    ids=["fit", "spins", "pretrain", "pretrain spins"],
)
def test_errors_name_values_just_above_1_exactly(call):
    data = ROWS.clone()
    data[0, 0] = ABOVE
    with pytest.raises(ValueError, match=r"1\.000000238418579\d*\]"):
        call(data)


@pytest.mark.parametrize("flip", [np.s_[::-1], np.s_[:, ::-1]], ids=["rows", "columns"])
def test_arrays_of_negative_strides_are_taken(flip):
    array = ROWS.numpy()[flip]
    found, expected = (rbm.RBM(6, 4, seed=0) for _ in range(2))
    found.fit(array, epochs=1)
    expected.fit(array.copy(), epochs=1)
    assert torch.equal(found.weight, expected.weight)
    assert isinstance(quickly(array).layers[0].visible, rbm.Bernoulli)


@pytest.mark.parametrize(
    "dtype",
    [torch.float8_e4m3fn, torch.complex64, torch.int64, torch.bool, "float32"],
    ids=["float8", "complex", "int", "bool", "str"],
)
def test_dtypes_that_cannot_compute_are_refused(dtype):
    with pytest.raises(TypeError, match=r"RBM: dtype: expected torch\.float32"):
        rbm.RBM(6, 4, dtype=dtype)
    with pytest.raises(TypeError, match=r"RBM: dtype: expected torch\.float32"):
        rbm.ConvRBM(1, 2, 3, size=4, dtype=dtype)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_dtypes_that_compute_are_taken(dtype):
    assert rbm.RBM(6, 4, dtype=dtype).weight.dtype == dtype


def test_a_report_of_one_epoch_without_held_out_rows():
    text = str(quickly(ROWS, holdout=0.0))
    assert "1 epoch, free-energy gap -, reconstruction " in text
    assert "nan" not in text


@pytest.mark.parametrize("value", ["auto", 1, 0.0])
@pytest.mark.parametrize(
    "option", ["resume", "progress", "shuffle", "centered", "adapt_temperatures"]
)
def test_what_is_neither_true_nor_false_is_refused(tmp_path, option, value):
    options = {"epochs": 1, "checkpoint": tmp_path, option: value}
    with pytest.raises(TypeError, match=f"fit: {option}: expected True or False, got "):
        rbm.RBM(6, 4).fit(ROWS, **options)
    with pytest.raises(TypeError, match=f"fit: {option}: expected True or False, got "):
        torch_init.rbm_pretrain(mlp(), ROWS, **options)


def test_a_run_that_replaces_a_checkpoint_warns(tmp_path):
    def fit(folder, **options):
        rbm.RBM(6, 4).fit(ROWS, epochs=2, checkpoint=tmp_path / folder, **options)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit("fit")
        fit("fit", resume=True)
        quickly(ROWS, checkpoint=tmp_path / "model")
        quickly(ROWS, checkpoint=tmp_path / "model", resume=True)
    with pytest.warns(UserWarning, match="checkpoint will be replaced"):
        fit("fit")
    with pytest.warns(UserWarning, match="checkpoint will be replaced"):
        quickly(ROWS, checkpoint=tmp_path / "model")


def test_resuming_for_fewer_epochs_warns_and_keeps_what_was_trained(tmp_path):
    whole, made = rbm.RBM(6, 4), rbm.RBM(6, 4)
    whole.fit(ROWS, epochs=5, checkpoint=tmp_path)
    with pytest.warns(UserWarning, match="epochs: expected the checkpoint's 5 or more, got 2"):
        made.fit(ROWS, epochs=2, checkpoint=tmp_path, resume=True)
    assert torch.equal(made.weight, whole.weight)


@pytest.mark.parametrize(
    "source", [ROWS, [ROWS[:10], ROWS[10:]], ROWS.numpy()], ids=["tensor", "batches", "array"]
)
def test_bits_given_to_spins_warn(source):
    with pytest.warns(UserWarning, match="got only 0 and 1"):
        rbm.RBM(rbm.Spin(6), 4).fit(source, epochs=1)


@pytest.mark.parametrize(
    ("data", "options"),
    [(2 * ROWS - 1, {}), (ROWS / 2, {}), (0 * ROWS, {}), (ROWS, {"binarize": "threshold"})],
    ids=["spins", "means", "zeros", "threshold"],
)
def test_what_may_be_spins_does_not_warn(data, options):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rbm.RBM(rbm.Spin(6), 4).fit(data, epochs=1, **options)


def test_labels_of_negative_strides_are_taken():
    labels = (np.arange(30) % 2)[::-1]
    rbm.DBN([6, 5, 4], classes=2).fit(ROWS, labels, epochs=1)
