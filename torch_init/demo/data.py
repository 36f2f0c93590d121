# SPDX-License-Identifier: Apache-2.0
"""Handwritten digits: scikit-learn's 8x8 set, an ``.npz`` archive, or a folder of MNIST's IDX
files.

Every loader ends in a :class:`Digits`: flat float32 images standardised by one mean and one
standard deviation taken over all training pixels, so that the mean square of an input is 1 on the
training set. One scale for all pixels keeps the border pixels, which are constant in most sets,
finite.
"""

from __future__ import annotations

import gzip
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from .errors import DemoError

_NPZ_KEYS = ("X", "y", "Xt", "yt")
_IDX_NAMES = {
    "X": "train-images-idx3-ubyte",
    "y": "train-labels-idx1-ubyte",
    "Xt": "t10k-images-idx3-ubyte",
    "yt": "t10k-labels-idx1-ubyte",
}
_IDX_UINT8 = 0x08
# What numpy, zipfile and zlib raise on damaged or foreign files; a plain .npy array is a TypeError.
_UNREADABLE = (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile, zlib.error)
_TEST_SHARE = 0.2


@dataclass(frozen=True)
class Digits:
    """A classification set, shuffled, standardised and split.

    ``x_train`` (N, pixels) and ``x_test`` (M, pixels) are float32; ``y_train`` (N,) and ``y_test``
    (M,) are int64 in [0, classes).
    """

    name: str
    x_train: torch.Tensor
    y_train: torch.Tensor
    x_test: torch.Tensor
    y_test: torch.Tensor
    classes: int

    def to(self, device: torch.device) -> Digits:
        """The same set on ``device``."""
        return Digits(
            self.name,
            self.x_train.to(device),
            self.y_train.to(device),
            self.x_test.to(device),
            self.y_test.to(device),
            self.classes,
        )


def load(source: str | None, seed: int) -> Digits:
    """Load the digits at ``source``.

    Args:
        source: None for scikit-learn's ``load_digits`` (1797 images of 8x8, split 80/20); a path to
            an ``.npz`` file with uint8 arrays ``X`` (N, ...), ``y`` (N,), ``Xt`` (M, ...), ``yt``
            (M,); or a folder with MNIST's four IDX files, each plain or gzipped.
        seed: orders the training examples (files may be sorted by class) and draws the split of
            ``load_digits``.

    Raises:
        DemoError: a file is missing, truncated, or holds something else.

    Example::

        >>> digits = load(None, seed=0)
        >>> digits.x_train.shape, digits.classes
        (torch.Size([1437, 64]), 10)
    """
    if source is None:
        return _load_sklearn(seed)
    path = Path(source)
    if path.is_dir():
        arrays = _read_idx_folder(path)
    elif path.is_file():
        arrays = _read_npz(path)
    else:
        raise DemoError(f"--data: no such file or folder: {source}")
    _check_arrays(arrays, source)
    order = _permutation(len(arrays["X"]), seed)
    train = arrays["X"][order], arrays["y"][order]
    return _standardise(path.name, train, (arrays["Xt"], arrays["yt"]))


def _load_sklearn(seed: int) -> Digits:
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    order = _permutation(len(images), seed)
    images, labels = images[order], labels[order]
    split = len(images) - round(_TEST_SHARE * len(images))
    return _standardise(
        "scikit-learn digits", (images[:split], labels[:split]), (images[split:], labels[split:])
    )


def _permutation(count: int, seed: int) -> np.ndarray:
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed)).numpy()


def _standardise(
    name: str, train: tuple[np.ndarray, np.ndarray], test: tuple[np.ndarray, np.ndarray]
) -> Digits:
    mean, std = float(train[0].mean(dtype=np.float64)), float(train[0].std(dtype=np.float64))
    if std == 0.0:
        raise DemoError(
            f"--data: {name}: every training pixel has the value {mean:g}; expected images"
        )

    def pixels(images: np.ndarray) -> torch.Tensor:
        flat = images.reshape(len(images), -1).astype(np.float32)
        return torch.from_numpy((flat - np.float32(mean)) / np.float32(std))

    y_train, y_test = (torch.from_numpy(labels.astype(np.int64)) for _, labels in (train, test))
    classes = int(max(y_train.max(), y_test.max())) + 1
    return Digits(name, pixels(train[0]), y_train, pixels(test[0]), y_test, classes)


def _check_arrays(arrays: dict[str, np.ndarray], source: str) -> None:
    for key, array in arrays.items():
        if array.dtype != np.uint8:
            raise DemoError(f"--data: {source}: {key} has dtype {array.dtype}; expected uint8")
    for images, labels in (("X", "y"), ("Xt", "yt")):
        x, y = arrays[images], arrays[labels]
        if x.ndim < 2 or x.size == 0:
            raise DemoError(
                f"--data: {source}: {images} has shape {x.shape}; expected (examples, ...pixels)"
            )
        if y.shape != (len(x),):
            raise DemoError(
                f"--data: {source}: {labels} has shape {y.shape}; expected ({len(x)},) as {images}"
            )
    train, test = arrays["X"].shape[1:], arrays["Xt"].shape[1:]
    if train != test:
        raise DemoError(
            f"--data: {source}: X has images of {train}, Xt of {test}; expected one size"
        )
    if len(np.unique(arrays["y"])) < 2:
        raise DemoError(f"--data: {source}: y holds one class; expected at least two")


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            missing = [key for key in _NPZ_KEYS if key not in archive]
            if missing:
                raise DemoError(
                    f"--data: {path}: no key {', '.join(missing)}; "
                    f"expected {', '.join(_NPZ_KEYS)}, found {', '.join(archive.files) or 'none'}"
                )
            return {key: archive[key] for key in _NPZ_KEYS}
    except _UNREADABLE as error:
        raise DemoError(f"--data: {path}: not a readable .npz: {error}") from error


def _read_idx_folder(folder: Path) -> dict[str, np.ndarray]:
    arrays = {}
    for key, name in _IDX_NAMES.items():
        dotted = name.replace("-idx", ".idx")
        candidates = [folder / (stem + suffix) for stem in (name, dotted) for suffix in ("", ".gz")]
        path = next((p for p in candidates if p.is_file()), None)
        if path is None:
            raise DemoError(f"--data: {folder}: no {name}[.gz]; expected MNIST's four IDX files")
        arrays[key] = read_idx(path)
    return arrays


def read_idx(path: Path) -> np.ndarray:
    """Read one IDX file of unsigned bytes, gzipped if its name ends in ``.gz``.

    The format: two zero bytes, a type code (0x08 = uint8), the number of dimensions, then each size
    as a big-endian 32-bit integer, then the values in row-major order.

    Raises:
        DemoError: the header is not that of a uint8 IDX file, or the length does not match it.
    """
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DemoError(f"--data: {path}: cannot be read ({error})") from error
    if len(raw) < 4 or raw[:2] != b"\0\0":
        raise DemoError(
            f"--data: {path}: not an IDX file; expected it to start with two zero bytes"
        )
    if raw[2] != _IDX_UINT8:
        raise DemoError(
            f"--data: {path}: IDX type code 0x{raw[2]:02x}; expected 0x08 (unsigned byte)"
        )
    header = 4 + 4 * raw[3]
    if len(raw) < header:
        raise DemoError(f"--data: {path}: truncated in its header: {len(raw)} bytes of {header}")
    shape = tuple(int(n) for n in np.frombuffer(raw, dtype=">u4", count=raw[3], offset=4))
    expected = header + int(np.prod(shape, dtype=object))
    if len(raw) != expected:
        raise DemoError(
            f"--data: {path}: {len(raw)} bytes; expected {expected} for shape {shape} (truncated?)"
        )
    return np.frombuffer(raw, dtype=np.uint8, offset=header).reshape(shape)
