# SPDX-License-Identifier: Apache-2.0
"""The only file that knows the native module and torch.library.

In eager mode a call goes straight to the native module. Under torch.compile, FakeTensorMode or
any other dispatch mode it goes through the operators registered here, which end in the same code.
"""

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from torch_init._descriptors import (
    REAL_OF_COMPLEX,
    describe_region,
    is_indirect,
    must_dispatch,
    row_major_strides,
)
from torch_init.distributions import Normal, Spec

try:
    from torch_init import _C
except ImportError as error:
    raise ImportError(
        f"torch_init: the native module torch_init._C cannot be imported: {error}. If it was never "
        "built, run `pip install .` in the source tree; if Python was started inside the source "
        "tree, the sources hide the installed package."
    ) from error

from torch_init import _ops_flow, _ops_observe
from torch_init._ops_ais import ais_run as ais_run
from torch_init._ops_ascend import Bias as Bias
from torch_init._ops_ascend import Pace as Pace
from torch_init._ops_ascend import Slope as Slope
from torch_init._ops_ascend import ascend as ascend
from torch_init._ops_ascend import can_ascend as can_ascend
from torch_init._ops_ascend import differences as differences
from torch_init._ops_device import takes_kernels as takes_kernels
from torch_init._ops_float_units import sample_bernoulli as sample_bernoulli
from torch_init._ops_float_units import sample_gaussian as sample_gaussian
from torch_init._ops_float_units import sample_nrelu as sample_nrelu
from torch_init._ops_float_units import sample_softmax as sample_softmax
from torch_init._ops_flow import FLOW_BINS as FLOW_BINS
from torch_init._ops_flow import FLOW_COLUMNS as FLOW_COLUMNS
from torch_init._ops_flow import FLOW_DEVICES as FLOW_DEVICES
from torch_init._ops_flow import FLOW_DTYPES as FLOW_DTYPES
from torch_init._ops_flow import FLOW_LOWEST_EXPONENT as FLOW_LOWEST_EXPONENT
from torch_init._ops_flow import FLOW_ROW as FLOW_ROW
from torch_init._ops_flow import FlowRow as FlowRow
from torch_init._ops_flow import accumulate_moments_ as accumulate_moments_
from torch_init._ops_flow import (
    accumulate_with_cuda_body_on_host as accumulate_with_cuda_body_on_host,
)
from torch_init._ops_flow_batches import accumulate_batch_ as accumulate_batch_
from torch_init._ops_flow_batches import accumulate_parts_ as accumulate_parts_
from torch_init._ops_gibbs import GREY_LEVELS as GREY_LEVELS
from torch_init._ops_gibbs import MEAN_ONE as MEAN_ONE
from torch_init._ops_gibbs import CudaPath as CudaPath
from torch_init._ops_gibbs import gibbs as gibbs
from torch_init._ops_gibbs import hidden_means as hidden_means
from torch_init._ops_gibbs import sample_hidden as sample_hidden
from torch_init._ops_gibbs import sample_visible as sample_visible
from torch_init._ops_gibbs import set_cuda_path as set_cuda_path
from torch_init._ops_gibbs_weights import GibbsWeights as GibbsWeights
from torch_init._ops_gibbs_weights import quantize as quantize
from torch_init._ops_keys import folded_key, seed_tensor
from torch_init._ops_keys import stream_key as stream_key
from torch_init._ops_measure import MEASUREMENT as MEASUREMENT
from torch_init._ops_measure import Part as Part
from torch_init._ops_measure import measure as measure
from torch_init._ops_measure import measure_with_cuda_body_on_host as measure_with_cuda_body_on_host
from torch_init._ops_observe import add_receiver as add_receiver
from torch_init._ops_observe import graphs_can_tell as graphs_can_tell
from torch_init._ops_observe import observe_gradient as observe_gradient
from torch_init._ops_observe import observe_output as observe_output
from torch_init._ops_observe import observe_pass as observe_pass
from torch_init._ops_observe import refuse as refuse
from torch_init._ops_orthogonal import orthonormalized
from torch_init._ops_states import state_bytes as state_bytes
from torch_init._ops_statistics import Statistics as Statistics
from torch_init._ops_statistics import Term as Term
from torch_init._ops_statistics import statistics as statistics

FILLABLE_DTYPES = (
    torch.float32,
    torch.float64,
    torch.bfloat16,
    torch.float16,
    torch.float8_e4m3fn,
    torch.float8_e5m2,
    *REAL_OF_COMPLEX,
)
_HAS_CUDA_KERNELS = _C.build_info()["cuda_archs"] != "none"
FILLABLE_DEVICES = ("cpu", *(["cuda"] if _HAS_CUDA_KERNELS else []), "meta")

build_info = _C.build_info
cuda_device_count = _C.cuda_device_count
cpu_isa = _C.cpu_isa
cpu_isas = _C.cpu_isas
set_cpu_isa = _C.set_cpu_isa


Entry = tuple[Tensor, Spec, int] | tuple[Tensor, Spec, int, int, Sequence[int] | None]


class FillPlan:
    """Tensors with the distribution and key of each, lowered once and filled in one native call.

    Args:
        entries: (tensor, spec, key) for each tensor. All tensors live on one device, and their
            memory must stay where it is for as long as the plan is used. A part of a larger
            tensor adds (first_index, index_strides): its element (i, j, ...) is element
            first_index + i * index_strides[0] + j * index_strides[1] + ... of the whole.
    """

    def __init__(self, entries: Sequence[Entry]) -> None:
        self._tensors = [entry[0] for entry in entries]  # keeps their memory alive
        self._device = self._tensors[0].device
        self._plan = _C.FillPlan([_task(*entry) for entry in entries])
        self._blob: Tensor | None = None
        self._address = 0
        if self._device.type == "cuda" and not self._plan.fits_in_arguments():
            with torch.cuda.device(self._device):
                self._upload()

    def run(self) -> None:
        """Fill all tensors. On a GPU: one launch on the current stream, no synchronisation.

        A CUDA graph may capture it; the plan must then live as long as the graph.
        """
        if self._device.type != "cuda":
            self._plan.run_on_host(torch.get_num_threads())
        elif self._device.index == torch.cuda.current_device():
            self._launch()
        else:
            with torch.cuda.device(self._device):
                self._launch()

    def run_cuda_body_on_host(self, blocks: int) -> None:
        """Fill CPU tensors with the CUDA kernel's own code, for tests without a GPU."""
        self._plan.run_cuda_body_on_host(blocks)

    def _launch(self) -> None:
        # torch.cuda.current_stream() would take as long as the launch.
        stream = torch._C._cuda_getCurrentRawStream(self._device.index)
        if self._blob is not None and stream != self._uploaded_on:
            self._wait_for_upload(self._blob)
        self._plan.run_on_cuda(self._device.index, stream, self._address)

    def _upload(self) -> None:
        stream = torch.cuda.current_stream()
        self._blob = torch.empty(self._plan.blob_size(), dtype=torch.uint8, device=self._device)
        self._address, self._uploaded_on = self._blob.data_ptr(), stream.cuda_stream
        self._plan.upload(self._device.index, self._uploaded_on, self._address)
        self._uploaded = stream.record_event()

    def _wait_for_upload(self, blob: Tensor) -> None:
        # Capture starts after a synchronisation: the upload is done, and must not be waited for.
        if not torch.cuda.is_current_stream_capturing():
            stream = torch.cuda.current_stream()
            stream.wait_event(self._uploaded)
            blob.record_stream(stream)


def _task(
    tensor: Tensor,
    spec: Spec,
    key: int,
    first_index: int = 0,
    index_strides: Sequence[int] | None = None,
) -> "_C._Task":
    kind, numbers = spec
    return (*describe_region(tensor, first_index, index_strides), key, (kind, *numbers))


def fill_box_(
    view: Tensor,
    spec: Spec,
    seed: int | Tensor,
    name: str,
    offset: Sequence[int],
    shape: Sequence[int],
) -> None:
    """Fill view, which has been checked, with a box of the tensor that (seed, name) determines.

    Args:
        view: the box's memory.
        offset, shape: where the box begins in the whole tensor, and the whole tensor's shape.
    """
    first_index, index_strides = 0, None
    if view.shape != torch.Size(shape):
        first_index, index_strides = box_index(offset, shape)
    if must_dispatch(view):
        kind, numbers = spec
        seed = seed_tensor(view, seed)
        torch.ops.torch_init.fill_(
            view, seed, name, kind, list(numbers), first_index, index_strides
        )
    else:
        _fill_now(view, spec, int(seed), name, first_index, index_strides)


def box_index(offset: Sequence[int], shape: Sequence[int]) -> tuple[int, tuple[int, ...]]:
    """Return the logical index of a box's first element, and its strides of the index."""
    strides = row_major_strides(shape)
    return sum(o * s for o, s in zip(offset, strides, strict=True)), strides


def orthogonal_(tensor: Tensor, gain: float, seed: int | Tensor, name: str) -> None:
    """Fill tensor, which has been checked, with gain times an orthogonal matrix."""
    if must_dispatch(tensor):
        torch.ops.torch_init.orthogonal_(tensor, seed_tensor(tensor, seed), name, gain)
    else:
        _orthogonal_now(tensor, gain, int(seed), name)


def _fill_now(
    tensor: Tensor,
    spec: Spec,
    seed: int,
    name: str,
    first_index: int = 0,
    index_strides: Sequence[int] | None = None,
) -> None:
    if tensor.numel() == 0:
        return
    if is_indirect(tensor):
        staged = torch.empty(tensor.shape, dtype=tensor.dtype, device=tensor.device)
        _fill_now(staged, spec, seed, name, first_index, index_strides)
        tensor.data.copy_(staged)
    else:
        key = folded_key(seed, name)
        if tensor.is_cpu:  # the wrapper would take as long as a small tensor's values
            task = _task(tensor, spec, key, first_index, index_strides)
            _C.FillPlan([task]).run_on_host(torch.get_num_threads())
        else:
            FillPlan([(tensor, spec, key, first_index, index_strides)]).run()
    count_writes((tensor,))


def _orthogonal_now(tensor: Tensor, gain: float, seed: int, name: str) -> None:
    wider = (torch.float64, *REAL_OF_COMPLEX)
    dtype = tensor.dtype if tensor.dtype in wider else torch.float32
    rows = tensor.shape[0]
    matrix = torch.empty(rows, tensor.numel() // rows, dtype=dtype, device="cpu")
    component_std = math.sqrt(0.5) if dtype.is_complex else 1.0
    _fill_now(matrix, Normal(0.0, component_std).spec(), seed, name)
    tensor.data.copy_((orthonormalized(matrix) * gain).reshape(tensor.shape))
    count_writes((tensor,))


def count_writes(tensors: Iterable[Tensor]) -> None:
    """Let autograd know that values it may have saved of these tensors are gone."""
    torch.autograd.graph.increment_version(tensors)


def can_batch(tensor: Tensor) -> bool:
    """Whether tensor may be an entry of a FillPlan."""
    return tensor.dtype in FILLABLE_DTYPES and not is_indirect(tensor)


def takes_constants(dtype: torch.dtype) -> bool:
    """Whether a constant distribution means the same in dtype as torch.Tensor.fill_ does."""
    return dtype in FILLABLE_DTYPES and not dtype.is_complex


_library = torch.library.Library("torch_init", "DEF")
_library.define(
    "fill_(Tensor(a!) out, Tensor seed, str name, str kind, float[] numbers, int first_index=0, "
    "int[]? index_strides=None) -> ()"
)
_library.define("orthogonal_(Tensor(a!) out, Tensor seed, str name, float gain) -> ()")
# Tensor.random_ cannot be compiled, and torch.randint cannot draw all 64 bits.
_library.define(
    "draw_seed_(Tensor(a!) out, Generator? generator) -> ()",
    tags=(torch.Tag.nondeterministic_seeded,),
)


def _fill_op(
    out: Tensor,
    seed: Tensor,
    name: str,
    kind: str,
    numbers: list[float],
    first_index: int = 0,
    index_strides: list[int] | None = None,
) -> None:
    _fill_now(out, (kind, tuple(numbers)), int(seed), name, first_index, index_strides)


def _orthogonal_op(out: Tensor, seed: Tensor, name: str, gain: float) -> None:
    _orthogonal_now(out, gain, int(seed), name)


def _draw_seed_op(out: Tensor, generator: torch.Generator | None) -> None:
    out.random_(-(2**63), None, generator=generator)


for _key in ("CPU", "CUDA"):
    _library.impl("fill_", _fill_op, _key)
    _library.impl("orthogonal_", _orthogonal_op, _key)
    _library.impl("draw_seed_", _draw_seed_op, _key)
for _name in ("fill_", "orthogonal_", "draw_seed_"):
    torch.library.register_fake(f"torch_init::{_name}", lambda *_, **__: None, lib=_library)
_ops_flow.register(_library)
_ops_observe.register(_library)
