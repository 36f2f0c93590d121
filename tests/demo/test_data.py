# SPDX-License-Identifier: Apache-2.0
"""torch_init.demo.data: every source of digits, and every way in which a file can be wrong."""

import gzip
import os
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from torch_init.demo import data
from torch_init.demo.errors import DemoError

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("TORCH_INIT_DATA", ROOT.parent / "shared" / "data"))


def sorted_set(train=60, test=20, side=4, classes=5):
    """Arrays of a made-up set, sorted by class as MNIST archives may be."""
    rng = np.random.default_rng(0)

    def labels(count):
        return np.sort(np.arange(count) % classes).astype(np.uint8)

    def images(count):
        return rng.integers(0, 256, (count, side, side), dtype=np.uint8)

    return {"X": images(train), "y": labels(train), "Xt": images(test), "yt": labels(test)}


def idx_bytes(array):
    return (
        struct.pack(">BBBB", 0, 0, 8, array.ndim)
        + struct.pack(f">{array.ndim}I", *array.shape)
        + array.tobytes()
    )


IDX_NAMES = {
    "X": "train-images-idx3-ubyte",
    "y": "train-labels-idx1-ubyte",
    "Xt": "t10k-images-idx3-ubyte",
    "yt": "t10k-labels-idx1-ubyte",
}


def write_idx(folder, arrays, compress=False, dotted=False):
    folder.mkdir()
    for key, name in IDX_NAMES.items():
        name = name.replace("-idx", ".idx") if dotted else name
        raw = idx_bytes(arrays[key])
        if compress:
            (folder / f"{name}.gz").write_bytes(gzip.compress(raw))
        else:
            (folder / name).write_bytes(raw)
    return folder


def test_default_set_is_standardised_and_split():
    digits = data.load(None, seed=0)
    assert digits.x_train.shape == (1438, 64)
    assert digits.x_test.shape == (359, 64)
    assert digits.classes == 10
    assert digits.x_train.dtype == torch.float32
    assert digits.y_train.dtype == torch.int64
    # float32 rounding of 92,032 pixels.
    assert float(digits.x_train.double().mean()) == pytest.approx(0, abs=1e-6)
    assert float(digits.x_train.double().square().mean()) == pytest.approx(1, abs=1e-6)


def test_seed_alone_decides_the_split():
    torch.manual_seed(1)
    first = data.load(None, seed=3)
    torch.manual_seed(2)
    again, other = data.load(None, seed=3), data.load(None, seed=4)
    assert torch.equal(first.x_train, again.x_train)
    assert torch.equal(first.y_test, again.y_test)
    assert not torch.equal(first.x_train, other.x_train)


@pytest.mark.parametrize(("compress", "dotted"), [(False, False), (True, False), (False, True)])
def test_idx_and_npz_give_the_same_set(tmp_path, compress, dotted):
    arrays = sorted_set()
    np.savez(tmp_path / "set.npz", **arrays)
    from_npz = data.load(str(tmp_path / "set.npz"), seed=0)
    from_idx = data.load(str(write_idx(tmp_path / "idx", arrays, compress, dotted)), seed=0)
    for field in ("x_train", "y_train", "x_test", "y_test"):
        assert torch.equal(getattr(from_npz, field), getattr(from_idx, field)), field
    assert from_npz.classes == from_idx.classes == 5


def test_images_keep_their_labels_through_the_shuffle(tmp_path):
    arrays = sorted_set()
    arrays["X"][:] = arrays["y"][:, None, None]  # every pixel is the label
    np.savez(tmp_path / "set.npz", **arrays)
    digits = data.load(str(tmp_path / "set.npz"), seed=0)
    assert not torch.equal(digits.y_train, digits.y_train.sort().values)
    for label in range(5):
        assert digits.x_train[digits.y_train == label].unique().numel() == 1


def test_flat_images_are_read_as_well(tmp_path):
    arrays = sorted_set()
    np.savez(tmp_path / "square.npz", **arrays)
    flat = {k: a.reshape(len(a), -1) if a.ndim == 3 else a for k, a in arrays.items()}
    np.savez(tmp_path / "flat.npz", **flat)
    square, flat = (data.load(str(tmp_path / f"{n}.npz"), seed=0) for n in ("square", "flat"))
    assert torch.equal(square.x_train, flat.x_train)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda a: a.pop("yt"), "no key yt; expected X, y, Xt, yt"),
        (lambda a: a.update(X=a["X"].astype(np.float32)), "X has dtype float32; expected uint8"),
        (lambda a: a.update(y=a["y"][:-1]), r"y has shape \(59,\); expected \(60,\)"),
        (lambda a: a.update(yt=a["yt"][:, None]), r"yt has shape \(20, 1\); expected \(20,\)"),
        (lambda a: a.update(Xt=a["Xt"][:, :3]), r"X has images of \(4, 4\), Xt of \(3, 4\)"),
        (lambda a: a.update(X=a["X"][:0], y=a["y"][:0]), r"X has shape \(0, 4, 4\)"),
        (lambda a: a.update(X=a["y"]), r"X has shape \(60,\); expected \(examples, ...pixels\)"),
        (lambda a: a["X"].fill(7), "every training pixel has the value 7"),
        (lambda a: a["y"].fill(1), "y holds one class"),
        (lambda a: a.update(X=np.array([{}])), "not a readable .npz"),
    ],
)
def test_wrong_arrays_in_npz(tmp_path, change, complaint):
    arrays = sorted_set()
    change(arrays)
    np.savez(tmp_path / "set.npz", **arrays)
    with pytest.raises(DemoError, match=complaint):
        data.load(str(tmp_path / "set.npz"), seed=0)


def test_damaged_npz(tmp_path):
    path = tmp_path / "set.npz"
    np.savez_compressed(path, **sorted_set())
    whole = path.read_bytes()
    # Cut short; a flipped byte inside the first member; no archive at all; a lone array; nothing.
    damaged = bytearray(whole)
    damaged[100] ^= 0xFF
    np.save(tmp_path / "array.npy", np.zeros(3, np.uint8))
    array = (tmp_path / "array.npy").read_bytes()
    for raw in (whole[: len(whole) // 2], bytes(damaged), b"not an archive", array, b""):
        path.write_bytes(raw)
        with pytest.raises(DemoError, match=r"not a readable \.npz"):
            data.load(str(path), seed=0)


def test_missing_data(tmp_path):
    with pytest.raises(DemoError, match="no such file or folder"):
        data.load(str(tmp_path / "absent.npz"), seed=0)
    with pytest.raises(DemoError, match=r"no train-images-idx3-ubyte\[.gz\]"):
        data.load(str(tmp_path), seed=0)


@pytest.mark.parametrize(
    ("raw", "complaint"),
    [
        (b"", "not an IDX file"),
        (b"\x89PNG\r\n", "not an IDX file"),
        (b"\0\0\x0d\x01\0\0\0\x01\0\0\0\0", "type code 0x0d; expected 0x08"),
        (b"\0\0\x08\x03\0\0\0\x01", "truncated in its header: 8 bytes of 16"),
        (idx_bytes(np.zeros((2, 3), np.uint8))[:-1], r"17 bytes; expected 18 for shape \(2, 3\)"),
        (idx_bytes(np.zeros((2, 3), np.uint8)) + b"x", "19 bytes; expected 18"),
        # Four sizes of 2^32 - 1: their product must not wrap round.
        (b"\0\0\x08\x04" + b"\xff" * 16, f"20 bytes; expected {(2**32 - 1) ** 4 + 20} for shape"),
    ],
)
def test_wrong_idx(tmp_path, raw, complaint):
    path = tmp_path / "file-idx"
    path.write_bytes(raw)
    with pytest.raises(DemoError, match=complaint):
        data.read_idx(path)


def test_damaged_gzip(tmp_path):
    path = tmp_path / "file-idx.gz"
    whole = gzip.compress(idx_bytes(np.zeros((20, 30), np.uint8)))
    for raw in (whole[:-9], b"plain text", whole[:12] + b"\xff\xff\xff\xff" + whole[16:]):
        path.write_bytes(raw)
        with pytest.raises(DemoError, match="cannot be read"):
            data.read_idx(path)


def test_mnist(tmp_path):
    path = DATA / "mnist.npz"
    if not path.is_file():
        pytest.skip(f"no {path.name} in $TORCH_INIT_DATA or ../shared/data")
    digits = data.load(str(path), seed=0)
    assert digits.x_train.shape == (60000, 784)
    assert digits.x_test.shape == (10000, 784)
    # The archive is sorted by class. Each class is 9 % to 11 % of the set, so 512 examples hold
    # 46 to 57 of it on average, with a standard deviation of 7.
    counts = torch.bincount(digits.y_train[:512], minlength=10)
    assert int(counts.min()) > 20
