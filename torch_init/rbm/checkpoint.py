# SPDX-License-Identifier: Apache-2.0
"""Checkpoints that a kill at any moment leaves whole: safetensors and JSON in a folder.

A checkpoint's tensors are written under a name of their own; then checkpoint.json, which names
them and holds their checksum, takes the old one's place in one step. So there is the old or the new
one, never half of one, and files that were cut short or changed later are told from whole ones.
"""

import hashlib
import json
import os
import warnings
from pathlib import Path
from typing import Any

from torch import Tensor

from torch_init.errors import describe
from torch_init.rbm.options import Options, check_bool

_INDEX = "checkpoint.json"


def save(folder: Path, update: int, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
    """Write a checkpoint and remove the one before it."""
    safetensors = _safetensors()
    folder.mkdir(parents=True, exist_ok=True)
    copies = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
    content = safetensors.save(copies)
    checksum = _checksum(content)
    # The checksum keeps another run's checkpoint of the same update whole until the index is new.
    name = f"update-{update}-{checksum}.safetensors"
    _replace(folder / name, content)
    index = facts | {"update": update, "tensors": name, "checksum": checksum}
    _replace(folder / _INDEX, json.dumps(index, indent=1).encode())
    for old in folder.glob("update-*.safetensors*"):
        if old.name != name:
            old.unlink(missing_ok=True)


def load(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors and facts of the folder's checkpoint.

    Raises:
        FileNotFoundError: there is none.
        ValueError: a file of it is damaged or missing.
    """
    safetensors = _safetensors()
    index = folder / _INDEX
    if not index.is_file():
        fix = "Leave resume=False for the first run"
        raise FileNotFoundError(describe("fit", "checkpoint", f"{folder}", f"a {_INDEX}", fix))
    try:
        facts = json.loads(index.read_bytes())
        name, checksum = facts["tensors"], facts["checksum"]
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(index) from error
    try:
        content = (folder / name).read_bytes()
    except OSError as error:
        raise _damaged(folder / name) from error
    if _checksum(content) != checksum:
        raise _damaged(folder / name)
    return safetensors.load(content), facts


def warn_if_replaced(folder: Path) -> None:
    """Warn of a run that starts anew where the checkpoint of another one is."""
    if (folder / _INDEX).is_file():
        got, fix = f"{folder}, whose checkpoint will be replaced", "Pass resume=True to go on"
        text = describe("fit", "checkpoint", got, "a folder without a checkpoint", fix)
        warnings.warn(text, UserWarning, stacklevel=3)


def _damaged(path: Path) -> ValueError:
    fix = "Restore the file, or start anew with resume=False"
    got = f"{path}, which is missing, cut short or changed"
    return ValueError(describe("fit", "checkpoint", got, "the files as fit() wrote them", fix))


def of_layer(options: dict[str, Any], number: int) -> dict[str, Any]:
    """Return the options of fit() for one of several machines: each has a folder of its own.

    A run that resumes starts the layers above the first that the earlier one has not come to. A
    layer that starts anew, or goes on for other epochs than it had, makes new features: the
    checkpoints above it are forgotten.
    """
    if options.get("checkpoint") is None:
        return options
    root = Path(options["checkpoint"])
    own = root / f"layer-{number}"
    wanted = options.get("resume", False)
    check_bool("fit", "resume", wanted)
    if not wanted:
        warn_if_replaced(own)
    resume = wanted and (number == 0 or (own / _INDEX).is_file())
    if not resume:
        _forget(root, number)
    elif _epochs(own) != options.get("epochs", Options.epochs):
        _forget(root, number + 1)
    return options | {"checkpoint": own, "resume": resume}


def _epochs(folder: Path) -> int | None:
    """The epochs that a checkpoint's run was to have; None if there is none."""
    index = folder / _INDEX
    return json.loads(index.read_text())["options"]["epochs"] if index.is_file() else None


def _forget(root: Path, first: int) -> None:
    """Remove the checkpoints of layers first, first + 1, ..."""
    for index in root.glob(f"layer-*/{_INDEX}"):
        number = index.parent.name.removeprefix("layer-")
        if number.isdecimal() and int(number) >= first:
            index.unlink(missing_ok=True)


def check_same(ours: dict[str, Any], theirs: dict[str, Any], may_differ: set[str]) -> None:
    """Raise unless a checkpoint's options are those of the run that would go on from it."""
    different = [key for key in ours if ours[key] != theirs.get(key) and key not in may_differ]
    if different:
        got = ", ".join(f"{key} {ours[key]!r} instead of {theirs.get(key)!r}" for key in different)
        raise ValueError(describe("fit", "resume", got, "what the checkpoint's run had"))


def _checksum(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=8).hexdigest()


def _replace(path: Path, content: bytes) -> None:
    """Write a file that is there whole or not at all, also after the power has failed."""
    unfinished = path.with_name(f"{path.name}.part")
    with unfinished.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(unfinished, path)
    if os.name == "posix":  # elsewhere a folder cannot be opened
        descriptor = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _safetensors() -> Any:
    try:
        import safetensors.torch
    except ImportError as error:
        fix = "Install it: pip install 'torch-init[rbm]'"
        text = describe("fit", "checkpoint", "no safetensors", "the package safetensors", fix)
        raise ImportError(text) from error
    return safetensors.torch
