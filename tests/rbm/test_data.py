# SPDX-License-Identifier: Apache-2.0
"""Sources of training data: every row is checked, no loader is opened twice, nothing is guessed."""

import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, TensorDataset

from torch_init import rbm


def rows(count=200, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(count, 12, generator=generator) < 0.4).float()


def trained(data, **options):
    made = rbm.RBM(12, 5)
    made.fit(data, **({"epochs": 2, "batch_size": 32} | options))
    return made


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))


BAD = {"nan": (torch.nan, "not finite"), "range": (1.5, r"values in \[0, 1.5\]")}


@pytest.mark.parametrize(("value", "text"), BAD.values(), ids=BAD)
@pytest.mark.parametrize("number", [3, 4999, 5000])
def test_the_first_bad_row_is_named(value, text, number):
    """Wherever it is: only 4,096 rows of a dataset are looked at before the run."""
    data = rows(5001)
    data[number, 7] = data[5000, 2] = value
    for form in (data, data.numpy(), TensorDataset(data)):
        with pytest.raises(ValueError, match=rf"fit: data\[{number}\]: .*{text}"):
            trained(form, shuffle=False)
    batch, row = divmod(number, 32)
    with pytest.raises(ValueError, match=f"data, row {row} of batch {batch}: .*{text}"):
        trained(DataLoader(TensorDataset(data), batch_size=32))
    with pytest.raises(ValueError, match=rf"validation\[1\]: .*{text}"):
        trained(rows(), validation=data[number - 1 :][:2])


FORMS = {
    "array": lambda data: data,
    "dataset": TensorDataset,
    "loader": lambda data: DataLoader(TensorDataset(data), batch_size=20),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_bytes_of_0_and_1_are_refused(form):
    bytes_ = rows().to(torch.uint8)
    with pytest.raises(ValueError, match=r"data: .*pass bool or float"):
        trained(form(bytes_))
    with pytest.raises(ValueError, match=r"validation: .*pass bool or float"):
        trained(rows(), validation=form(bytes_))
    assert same(trained(form(255 * bytes_)), trained(form(rows())))
    trained(form(torch.zeros_like(bytes_)))  # black pictures are black in either reading


def test_bytes_of_0_and_1_are_refused_by_the_other_faces():
    bytes_ = rows().to(torch.uint8)
    with pytest.raises(ValueError, match="pass bool or float"):
        rbm.DBN([12, 5, 3]).fit(bytes_)
    with pytest.raises(ValueError, match="pass bool or float"):
        rbm.RBMTransformer(5).fit(rows().numpy()).transform(bytes_.numpy())


class Ragged(Dataset):
    def __len__(self):
        return 8

    def __getitem__(self, number):
        return torch.zeros(12 if number < 7 else 13)


@pytest.mark.parametrize(
    ("data", "error", "text"),
    [
        (Ragged(), ValueError, "examples of shapes"),
        (TensorDataset(rows()[:0]), ValueError, "no rows"),
        (np.zeros((0, 12), np.float32), ValueError, "no rows"),
        ([rows()[:0]], ValueError, "no batches"),
        (np.full((3, 12), None), TypeError, "an array of object"),
        (rows().to_sparse(), TypeError, "sparse_coo"),
        (torch.empty(3, 12, device="meta"), TypeError, "meta"),
        ([{"image": rows()}], TypeError, "dict"),
    ],
    ids=["ragged", "dataset", "array", "batches", "object", "sparse", "meta", "dict"],
)
def test_data_that_make_no_rows(data, error, text):
    made = rbm.RBM(12, 5)
    with pytest.raises(error, match=f"fit: data: .*{text}"):
        made.fit(data)
    assert same(made, rbm.RBM(12, 5))


def test_arrays_of_all_kinds(tmp_path):
    """Read-only and foreign memory maps, reversed views, frames, tensors in a graph."""
    data = rows()
    data.numpy().astype(">f8").tofile(tmp_path / "rows")
    mapped = np.memmap(tmp_path / "rows", ">f8", "r", shape=(200, 12))
    want = trained(data)
    in_graph = data.clone().requires_grad_()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for form in (mapped, data.numpy()[::-1][::-1], pd.DataFrame(data.numpy()), in_graph):
            assert same(trained(form), want), type(form)
    assert in_graph.grad is None


class Counted:
    """A loader that says how often it was opened, and how many batches were read."""

    def __init__(self, loader):
        self._loader, self.opened, self.read = loader, 0, 0

    def __iter__(self):
        self.opened += 1
        for batch in self._loader:
            self.read += 1
            yield batch


def test_a_loader_is_opened_once_for_each_epoch():
    """Neither the visible biases nor the monitors read it again: its workers would start anew."""
    counted = Counted(list(rows().split(32)))
    trained(counted, epochs=3)
    assert (counted.opened, counted.read) == (3, 3 * 7)
    counted = Counted(list(rows().split(32)))
    trained(counted, epochs=1, statistics="samples", patience=1)
    assert (counted.opened, counted.read) == (1, 7)


def test_the_rows_that_monitors_watch_stay_the_same():
    """Of a shuffled loader too, so that epochs compare."""
    loader = DataLoader(TensorDataset(rows()), batch_size=50, shuffle=True)
    made = rbm.RBM(12, 5)
    history = made.fit(loader, epochs=3, learning_rate=0.0)
    assert len(set(history["reconstruction"])) == 1


def test_visible_biases_of_sorted_data():
    """They are of 4,096 rows, from all over a dataset, from the start of a loader."""
    data = torch.cat([torch.zeros(3000, 12), torch.ones(3000, 12)])
    options = {"epochs": 1, "learning_rate": 0.0, "batch_size": 1000}
    for form, mean in (
        (data, 0.5),
        (TensorDataset(data), 0.5),
        (DataLoader(TensorDataset(data), batch_size=1000), 2 / 5),  # five batches reach 4,096
    ):
        bias = trained(form, **options).visible_bias
        torch.testing.assert_close(torch.sigmoid(bias), torch.full((12,), mean))


def test_divergence_is_told_from_bad_data():
    """Also where the integers of the chains are the first to meet an infinite weight."""
    for options in ({}, {"algorithm": "pcd"}, {"statistics": "samples", "monitors": ()}):
        with pytest.raises(FloatingPointError, match="Lower learning_rate"):
            trained(rows(), learning_rate=1e30, **options)
    with pytest.raises(FloatingPointError, match="Lower learning_rate"):
        rbm.RBM(12, 5, exact=False).fit(rows(), learning_rate=1e30)


def test_no_checkpoint_is_written_of_what_diverged(tmp_path):
    with pytest.raises(FloatingPointError):
        trained(rows(), learning_rate=1e30, checkpoint=tmp_path, checkpoint_every=1)
    assert not list(tmp_path.iterdir())
