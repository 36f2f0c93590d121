# SPDX-License-Identifier: Apache-2.0
from collections.abc import Sequence

from torch_init._descriptors import Descriptor

_Task = tuple[
    int, int, Sequence[int], Sequence[int], Sequence[int], int, int, tuple[str | float, ...]
]

class FillPlan:
    def __init__(self, tasks: Sequence[_Task]) -> None: ...
    def run_on_host(self, max_threads: int) -> None: ...
    def run_cuda_body_on_host(self, blocks: int) -> None: ...
    def fits_in_arguments(self) -> bool: ...
    def blob_size(self) -> int: ...
    def upload(self, device: int, stream: int, address: int) -> None: ...
    def run_on_cuda(self, device: int, stream: int, blob: int) -> None: ...

class MeasurePlan:
    def __init__(self, tasks: Sequence[Descriptor]) -> None: ...
    def run_on_host(self, max_threads: int, out: int) -> None: ...
    def run_cuda_body_on_host(self, blocks: int, out: int) -> None: ...
    def blob(self) -> bytes: ...
    def chunks(self) -> int: ...
    def run_on_cuda(self, device: int, stream: int, blob: int, of_chunk: int, out: int) -> None: ...

class Accumulation:
    def __init__(
        self,
        address: int,
        dtype: int,
        sizes: Sequence[int],
        strides: Sequence[int],
        row: int,
        histogram: bool,
        features: int,
        low: float,
        high: float,
        order: int,
        scale: int,
        gate: int,
    ) -> None: ...
    def run_on_host(self, max_threads: int) -> None: ...
    def run_cuda_body_on_host(self, blocks: int) -> None: ...
    def scratch_size(self) -> int: ...
    def run_on_cuda(self, device: int, stream: int, scratch: int) -> None: ...

class AccumulationBatch:
    def __init__(
        self,
        addresses: Sequence[int],
        dtypes: Sequence[int],
        counts: Sequence[int],
        rows: Sequence[int],
        histogram: bool,
        order: int,
        scale: int,
        gate: int,
    ) -> None: ...
    def run_on_host(self, max_threads: int) -> None: ...
    def scratch_size(self) -> int: ...
    def run_on_cuda(self, device: int, stream: int, scratch: int) -> None: ...

FLOW_ROW: dict[str, int]
FLOW_BINS: int
FLOW_LOWEST_EXPONENT: int

class GibbsPlan:
    def __init__(self, layer: Sequence[int], visible: int, hidden: int, shift: int) -> None: ...
    def set_run(
        self,
        spin_visible: bool,
        spin_hidden: bool,
        visible: int,
        hidden: int,
        clamped: int,
        beta: int,
        visible_beta: int,
        hidden_beta: int,
        grey: bool,
    ) -> None: ...
    def set_means(self, means: int, means_only: bool) -> None: ...
    def set_fine(self, fine: int) -> None: ...
    def set_words(self, key: int, first_chain: int, first_step: int) -> None: ...
    def run_on_host(
        self, chains: int, first_side: int, half_steps: int, max_threads: int
    ) -> None: ...
    def set_limbs(self, visible: int, hidden: int, shift: int) -> None: ...
    def run_cuda_half_steps_on_host(
        self, chains: int, first_side: int, half_steps: int, split: bool, blocks: int
    ) -> None: ...
    def run_cuda_clusters_on_host(
        self, chains: int, first_side: int, half_steps: int, size_bits: int, chains_of_cluster: int
    ) -> None: ...
    def workspace_size(self, chains: int) -> int: ...
    def run_on_cuda(
        self,
        chains: int,
        first_side: int,
        half_steps: int,
        workspace: int,
        path: int,
        device: int,
        stream: int,
    ) -> None: ...
    def run_ais(
        self,
        chains: int,
        betas: int,
        count: int,
        base: int,
        fields: int,
        from_base: bool,
        log_weights: int,
        max_threads: int,
    ) -> None: ...

def limbs_size(units: int, sources: int) -> int: ...
def make_limbs_with_cuda_body_on_host(by_unit: int, units: int, sources: int, out: int) -> None: ...

_ProductTerm = tuple[Sequence[int], Sequence[int]]

def statistics_on_cuda(
    terms: Sequence[_ProductTerm],
    units: Sequence[int],
    out: int,
    sums: int,
    means: bool,
    wide: bool,
    accumulate: bool,
    device: int,
    stream: int,
) -> None: ...
def statistics_with_cuda_body_on_host(
    terms: Sequence[_ProductTerm],
    units: Sequence[int],
    out: int,
    sums: int,
    means: bool,
    wide: bool,
    accumulate: bool,
) -> None: ...
def statistics(
    terms: Sequence[tuple[Sequence[int], Sequence[int]]],
    units: Sequence[int],
    out: int,
    wide: bool,
    accumulate: bool,
    max_threads: int,
) -> None: ...
def state_bytes(states: int, count: int, off: float, out: int) -> bool: ...
def ascend(
    addresses: Sequence[int],
    units: Sequence[int],
    pair_kind: int,
    numbers: Sequence[float],
    max_threads: int,
) -> None: ...
def ascend_with_cuda_body_on_host(
    addresses: Sequence[int],
    biases: tuple[Sequence[int], Sequence[float]],
    units: Sequence[int],
    pair_kind: int,
    numbers: Sequence[float],
) -> None: ...
def ascend_on_cuda(
    addresses: Sequence[int],
    biases: tuple[Sequence[int], Sequence[float]],
    units: Sequence[int],
    pair_kind: int,
    numbers: Sequence[float],
    device: int,
    stream: int,
) -> None: ...
def differences_with_cuda_body_on_host(
    addresses: Sequence[int],
    units: Sequence[int],
    counts: Sequence[float],
    spins: Sequence[bool],
    offsets: Sequence[float],
) -> None: ...
def differences_on_cuda(
    addresses: Sequence[int],
    units: Sequence[int],
    counts: Sequence[float],
    spins: Sequence[bool],
    offsets: Sequence[float],
    device: int,
    stream: int,
) -> None: ...

_FloatTask = tuple[int, int, int, int, int, int, int, int, int, int, int]

def sample_float(task: _FloatTask, max_threads: int) -> None: ...
def sample_float_on_cuda(task: _FloatTask, device: int, stream: int) -> None: ...
def sample_float_with_cuda_body_on_host(task: _FloatTask, blocks: int) -> None: ...
def quantize_layer(
    weight: int,
    visible_bias: int,
    hidden_bias: int,
    is_double: bool,
    visible: int,
    hidden: int,
    max_threads: int,
    out: Sequence[int],
) -> int | None: ...
def quantize_room_size(visible: int, hidden: int) -> int: ...
def quantize_with_cuda_body_on_host(
    addresses: Sequence[int], is_double: bool, units: Sequence[int]
) -> None: ...
def quantize_on_cuda(
    addresses: Sequence[int], is_double: bool, units: Sequence[int], device: int, stream: int
) -> None: ...
def orthonormalize_columns(
    address: int, dtype: int, is_complex: bool, rows: int, cols: int, max_threads: int
) -> None: ...
def cuda_device_count() -> int: ...
def fold_key(seed: int, digest: bytes) -> int: ...
def cpu_isa() -> str: ...
def cpu_isas() -> list[str]: ...
def set_cpu_isa(name: str) -> None: ...
def build_info() -> dict[str, str]: ...
