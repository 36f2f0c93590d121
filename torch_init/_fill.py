# SPDX-License-Identifier: Apache-2.0
"""The one path from an initialiser's arguments to the engine: check, seed, fill."""

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.parameter import UninitializedTensorMixin  # type: ignore[attr-defined]
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from torch_init import _ops
from torch_init.distributed import boxes, check_logical, is_dtensor
from torch_init.distributions import Constant, Distribution, Normal
from torch_init.errors import check_type, describe
from torch_init.keys import (
    check_generator,
    check_name,
    check_seed,
    draw_seed,
    draw_seed_tensor,
)
from torch_init.structures import STRUCTURES, Structure

Values = Distribution | Structure
"""What a tensor is filled with: independent draws, or a structure."""

Seed = int | Tensor | None
"""What `seed=` takes: an int, a 0-d int64 CPU tensor (no recompilation for a new value), or None
to draw 64 bits from the generator."""


def check_tensor(function: str, tensor: Tensor) -> None:
    """Raise unless tensor is one that can be filled with random values in place."""
    check_dense(function, tensor)
    if tensor.dtype not in _ops.FILLABLE_DTYPES:
        expected = "dtype " + ", ".join(str(d).removeprefix("torch.") for d in _ops.FILLABLE_DTYPES)
        raise TypeError(describe(function, "tensor", f"dtype {tensor.dtype}", expected))
    if not tensor.is_cpu and tensor.device.type not in _ops.FILLABLE_DEVICES:
        fix = "Fill a CPU tensor and copy it: the values are the same on every device"
        expected = "a tensor on " + ", ".join(_ops.FILLABLE_DEVICES)
        raise ValueError(describe(function, "tensor", f"device {tensor.device}", expected, fix))
    if torch.compiler.is_compiling():
        return
    if torch._C._functorch.is_functorch_wrapped_tensor(tensor):
        got = "a tensor inside vmap, grad or another torch.func transform"
        fix = "Initialise before the transform; for an ensemble, fill the stacked tensor"
        raise ValueError(describe(function, "tensor", got, "an ordinary tensor", fix))
    check_memory(function, tensor)


_NUMBERS = (int, float, complex, np.number, np.bool_, torch.SymFloat, torch.SymInt)


def check_constant(function: str, val: Any) -> None:
    """Raise unless val is a number that torch.Tensor.fill_ takes, perhaps as a 0-d tensor."""
    if isinstance(val, Tensor) and val.dim() == 0:
        return
    check_type(function, "val", val, _NUMBERS, "a number")
    if isinstance(val, (int, np.integer)) and abs(int(val)) >= 2**63:
        got = f"an integer of {int(val).bit_length()} bits"
        raise ValueError(describe(function, "val", got, "a number; above 2**63 a float"))


def check_dense(function: str, tensor: object) -> None:
    """Raise unless tensor is a dense tensor with a shape."""
    if not isinstance(tensor, Tensor):
        got = type(tensor).__name__
        fix = "Pass module.weight, not the module" if isinstance(tensor, torch.nn.Module) else ""
        raise TypeError(describe(function, "tensor", got, "a torch.Tensor", fix))
    if isinstance(tensor, UninitializedTensorMixin):
        fix = "Run a forward pass of the lazy module first"
        raise ValueError(describe(function, "tensor", "an uninitialised one", "a shape", fix))
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_nested:
        kind = "nested " if tensor.is_nested else ""
        got = f"a {kind}{tensor.dtype} tensor with layout {tensor.layout}"
        expected = "a dense tensor, neither sparse nor quantised"
        raise TypeError(describe(function, "tensor", got, expected))


def check_memory(function: str, tensor: Tensor) -> None:
    """Raise unless tensor's elements are known and can be written, each in its own place."""
    check_logical(function, tensor)
    if tensor.is_inference() and not torch.is_inference_mode_enabled():
        got = "one made in inference mode, outside it"
        fix = "Fill it inside torch.inference_mode(), or fill a .clone()"
        raise ValueError(describe(function, "tensor", got, "an ordinary tensor", fix))
    plain = type(tensor) in (Tensor, torch.nn.Parameter)
    wraps_others: bool = not plain and is_traceable_wrapper_subclass(tensor)
    if wraps_others:
        if is_dtensor(tensor):
            for view, _ in boxes(function, tensor):
                check_memory(function, view)
            return
        got = f"a {type(tensor).__name__}"
        fix = "Initialise the whole tensor before it is quantised or wrapped"
        raise TypeError(describe(function, "tensor", got, "an ordinary tensor", fix))
    if not tensor.is_contiguous() and _may_overlap(tensor):
        got = f"shape {tuple(tensor.shape)} with strides {tensor.stride()}"
        fix = "Fill a .contiguous() copy"
        raise ValueError(
            describe(function, "tensor", got, "elements that do not share memory", fix)
        )


def _may_overlap(tensor: Tensor) -> bool:
    reach = 0
    dims = [(abs(s), n) for s, n in zip(tensor.stride(), tensor.shape, strict=True) if n > 1]
    for stride, size in sorted(dims):
        if stride <= reach:
            return tensor.numel() > 0
        reach += stride * (size - 1)
    return False


def fill_tensor(
    function: str,
    tensor: Tensor,
    values: Values | None,
    generator: torch.Generator | None = None,
    seed: Seed = 0,
    name: str | None = None,
) -> Tensor:
    """Fill tensor, checked by check_tensor, in place and return it. A DTensor gets its own part.

    A meta tensor has nothing to fill; what would have filled it is noted for values_of.

    Args:
        function: name for error messages.
        values: None leaves the tensor alone (it has no elements).
        generator, seed, name: as the initialisers take them; left out by those that draw nothing.
    """
    if values is not None:
        values = _componentwise(function, tensor, values)
    if tensor.is_meta:
        note(tensor, values)
        return tensor
    if values is None or tensor.numel() == 0:
        return tensor
    seed = resolve_seed(function, tensor, generator, seed, name)
    if type(tensor) in (Tensor, torch.nn.Parameter):
        fill_box(values, tensor, (0,) * tensor.dim(), tensor.shape, seed, name or "")
        return tensor
    for view, offset in boxes(function, tensor):
        fill_box(values, view, offset, tensor.shape, seed, name or "")
    if is_dtensor(tensor) and not torch.compiler.is_compiling():
        _ops.count_writes((tensor,))
    return tensor


def fill_box(
    values: Values,
    view: Tensor,
    offset: Sequence[int],
    shape: Sequence[int],
    seed: int | Tensor,
    name: str,
) -> None:
    """Fill view with what a tensor of the given shape, filled with values, holds from offset on."""
    if isinstance(values, STRUCTURES):
        values.fill_box(view, offset, shape, seed, name)
    elif isinstance(values, Constant) and not _ops.takes_constants(view.dtype):
        with torch.no_grad():
            view.fill_(values.value)
    else:
        _ops.fill_box_(view, values.spec(), seed, name, offset, shape)


class _Question(threading.local):
    """A meta tensor that values_of asks about, and what a thread's initialisers said of it."""

    tensor: Tensor | None = None
    answers: list[Values | None]


_question = _Question()


def note(tensor: Tensor, values: Values | None) -> None:
    """Tell values_of, if it asks, what a meta tensor would be filled with."""
    if tensor is _question.tensor:
        _question.answers.append(values)


def values_of(
    function: str,
    initialiser: Callable[..., Any],
    shape: Sequence[int],
    dtype: torch.dtype,
    arguments: Mapping[str, Any],
) -> Values | None:
    """Return what initialiser fills a tensor of the given shape and dtype with; None if nothing.

    The initialiser is called on a meta tensor and says so itself, so that a plan cannot disagree
    with what happens, and bad arguments raise the initialiser's own errors.

    Raises:
        TypeError: initialiser does anything else to its tensor than to call one initialiser of
            torch_init on it: its values would not be those that are planned.
    """
    with torch.inference_mode(False), torch.no_grad():  # whose tensors count no writes
        tensor = torch.empty(tuple(shape), dtype=dtype, device="meta")
        _question.tensor, _question.answers = tensor, []
        try:
            initialiser(tensor, **arguments)
        finally:
            _question.tensor = None
    if len(_question.answers) != 1 or tensor._version != 0:
        name = getattr(initialiser, "__name__", repr(initialiser))
        also = " and writes it besides" if tensor._version != 0 else ""
        got = f"{name}, which calls {len(_question.answers)} of them on its tensor{also}"
        expected = "an initialiser of torch_init, or a function that calls one on its tensor"
        ours = f"Use torch_init.{name}"
        fix = ours if getattr(initialiser, "__module__", "") == "torch.nn.init" else ""
        raise TypeError(describe(function, "initialiser", got, expected, fix))
    return _question.answers[0]


def resolve_seed(
    function: str,
    tensor: Tensor,
    generator: torch.Generator | None,
    seed: Seed,
    name: str | None,
) -> int | Tensor:
    """Return the seed given, or one drawn from the generator."""
    check_name(function, name)
    check_generator(function, generator)
    if seed is None:
        if is_dtensor(tensor):
            got = "None, with a DTensor"
            fix = "A seed that each rank draws for itself would give each rank other values"
            raise ValueError(describe(function, "seed", got, "a seed, the same on all ranks", fix))
        if _ops.must_dispatch(tensor):
            return draw_seed_tensor(tensor, generator)
        return draw_seed(generator)
    if generator is not None:
        fix = "The generator would not be used"
        raise ValueError(describe(function, "seed, generator", "both", "one of them", fix))
    return check_seed(function, seed)


def _componentwise(function: str, tensor: Tensor, values: Values) -> Values:
    """Return the distribution of the real and imaginary parts if tensor is complex."""
    if not tensor.dtype.is_complex or isinstance(values, STRUCTURES):
        return values
    if isinstance(values, Normal) and values.mean == 0:
        # E|z|^2 = std^2, half of it in either part, as torch.Tensor.normal_ has it.
        return Normal(0.0, values.std / 2**0.5)
    if isinstance(values, Constant) and values.value == 0:
        return values
    got = f"dtype {tensor.dtype}"
    fix = "Complex tensors take zero-mean normal distributions and orthogonal_"
    raise TypeError(describe(function, "tensor", got, "a real dtype", fix))
