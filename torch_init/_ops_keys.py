# SPDX-License-Identifier: Apache-2.0
"""Keys of streams, and seeds for the operators: a part of _ops.py, which alone imports it."""

import torch
from torch import Tensor

from torch_init import _C, keys
from torch_init.errors import describe


def stream_key(seed: int, name: str = "") -> int:
    """Return the 64-bit key of the stream called name under seed.

    The name's digest (keys.py) is the counter of one Philox4x32-10 call under the key seed; the
    first two words of its result are the stream's key. Names are hashed, never added to the
    seed, so that no two (seed, name) pairs are related.

    Args:
        seed: an int in [-2**63, 2**64); s and s + 2**64 are the same seed.
        name: any string; the parameter's fully qualified name by convention.

    Example:
        >>> hex(torch_init.stream_key(0, "fc.weight"))
        '0xa44fac09459cc531'
    """
    if name is None:  # as names of initialisers may be
        raise TypeError(describe("stream_key", "name", "None", "a str"))
    keys.check_name("stream_key", name)
    return folded_key(int(keys.check_seed("stream_key", seed)), name)


def folded_key(seed: int, name: str) -> int:
    """Do as stream_key does, with what has been checked."""
    key: int = _C.fold_key(seed % 2**64, keys.digest(name))
    return key


def seed_tensor(tensor: Tensor, seed: int | Tensor) -> Tensor:
    """Return seed as an operator takes it: an int64 tensor on the CPU."""
    if isinstance(seed, Tensor):
        return seed
    if isinstance(seed, int) and seed >= 2**63:
        seed -= 2**64
    # Made from tensor, so that a fake tensor meets a fake seed.
    return tensor.new_full((), seed, dtype=torch.int64, device="cpu")
