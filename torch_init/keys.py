# SPDX-License-Identifier: Apache-2.0
"""Seeds and names: what the key of a stream is made of. docs/stream.md specifies the map."""

import functools
import hashlib
import threading
from numbers import Integral
from typing import Any

import torch
from torch import Tensor

from torch_init.errors import describe

STREAM_VERSION = 1
"""Version of the map from (seed, name, index, distribution) to bits. A change breaks seeds."""

_DOMAIN = f"torch_init stream {STREAM_VERSION}\0".encode()


@functools.lru_cache(maxsize=4096)
def digest(name: str) -> bytes:
    """Return the first 128 bits of the SHA-256 of name, behind a prefix with STREAM_VERSION."""
    return hashlib.sha256(_DOMAIN + name.encode()).digest()[:16]


def part_name(name: str, part: str) -> str:
    """Return the name of one of several streams under one name.

    No parameter's name contains a NUL.
    """
    return f"{name}\0{part}"


def check_name(function: str, name: object) -> None:
    """Raise unless name is None or a str that has an encoding in UTF-8."""
    if name is None:
        return
    if not isinstance(name, str):
        raise TypeError(describe(function, "name", f"{name!r}", "a str"))
    if not name.isascii() and any("\ud800" <= character <= "\udfff" for character in name):
        expected = "a str without lone surrogates, which have no encoding in UTF-8"
        raise ValueError(describe(function, "name", f"{name!r}", expected))


def check_seed(function: str, seed: Any) -> int | Tensor:
    """Return seed; it must be an integer in [-2**63, 2**64) or a 0-d int64 tensor on the CPU."""
    if isinstance(seed, Tensor):
        if seed.dtype != torch.int64 or seed.dim() != 0 or seed.device.type != "cpu":
            got = f"a {seed.dim()}-d {seed.dtype} tensor on {seed.device}"
            raise ValueError(describe(function, "seed", got, "an int or a 0-d int64 CPU tensor"))
        return seed
    if type(seed) is not int:
        if isinstance(seed, bool) or not isinstance(seed, (torch.SymInt, Integral)):
            raise TypeError(describe(function, "seed", repr(seed), "an int"))
        if not isinstance(seed, torch.SymInt):
            seed = int(seed)  # NumPy's integers
    if not -(2**63) <= seed < 2**64:
        raise ValueError(describe(function, "seed", str(seed), "an int in [-2**63, 2**64)"))
    return seed


class _SeedBuffer(threading.local):
    """One 0-d tensor a thread, since making one takes as long as drawing into it."""

    def __init__(self) -> None:
        # Made in inference mode, it could not be written outside of it.
        with torch.inference_mode(False):
            self.tensor = torch.empty((), dtype=torch.int64, device="cpu")


_seed_buffer = _SeedBuffer()


def draw_seed(generator: torch.Generator | None) -> int:
    """Draw a seed of 64 bits from generator, or from torch's default generator.

    The draw happens where the generator lives: one on a GPU makes the host wait for it.
    """
    if generator is None or generator.device.type == "cpu":
        return int(_seed_buffer.tensor.random_(-(2**63), None, generator=generator))
    return int(draw_seed_tensor(_seed_buffer.tensor, generator))


def draw_seed_tensor(tensor: Tensor, generator: torch.Generator | None) -> Tensor:
    """Draw as draw_seed does, traceably, into a new tensor that is fake if tensor is."""
    device = generator.device if generator is not None else torch.device("cpu")
    seed = tensor.new_empty((), dtype=torch.int64, device=device)
    torch.ops.torch_init.draw_seed_(seed, generator)
    return seed.cpu()


def check_generator(function: str, generator: object) -> None:
    """Raise unless generator is None or a torch.Generator."""
    if generator is not None and not isinstance(generator, torch.Generator):
        raise TypeError(describe(function, "generator", repr(generator), "a torch.Generator"))
