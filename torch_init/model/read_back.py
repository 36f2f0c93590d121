# SPDX-License-Identifier: Apache-2.0
"""Reading a model back: every parameter once, natively, all of a device in one call."""

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from torch_init import _ops
from torch_init.distributed import Box, boxes, is_dtensor, logical_shape
from torch_init.errors import describe
from torch_init.model.memory import unreachable
from torch_init.model.report import Place, Reading, Report, ReportRow, departure
from torch_init.model.sites import Site, find_sites
from torch_init.model.table import Plan
from torch_init.structures import STRUCTURES


def fingerprint(model: nn.Module, rename: Callable[[str], str] | None = None) -> str:
    """Return 32 hexadecimal digits that tell whether two models hold the same parameters.

    The same string for the same canonical names, shapes, dtypes and bits, whatever the device,
    the memory layout and the order of the layers. Of a sharded model, every rank gets a string of
    its own part, beginning with "part-"; ``torch_init.report(model).gather().fingerprint`` is that
    of the whole.

    Args:
        model: holds memory.
        rename: as plan takes it.

    Example:
        >>> a, b = torch.nn.Linear(4, 4), torch.nn.Linear(4, 4)
        >>> _ = b.load_state_dict(a.state_dict())
        >>> torch_init.fingerprint(a) == torch_init.fingerprint(b)
        True
    """
    return report(model, rename).fingerprint


def report(model: nn.Module, rename: Callable[[str], str] | None = None) -> Report:
    """Read all parameters of a model once: moments and fingerprints, as they are now.

    Args:
        model: holds memory; sharded or not.
        rename: as plan takes it.

    Raises:
        ValueError: a parameter whose memory cannot be read, as on the meta device.

    Example:
        >>> model = torch.nn.Linear(4, 4)
        >>> before = torch_init.init_(model, "he", seed=0)
        >>> with torch.no_grad():
        ...     _ = model.bias.add_(1)
        >>> torch_init.report(model).diff(before)
        ['bias']
    """
    rows = _read(find_sites("report", model, rename))
    for row in rows:
        if row.unread:
            got = f"{row.name}, {row.unread}"
            raise ValueError(describe("report", "model", got, "parameters that hold memory"))
    return Report(rows)


def read_back(plan: Plan, faults: Iterable[str] = ()) -> Report:
    """Read all parameters of a plan's model once, and check those that it initialises."""
    rows = _read([row.site for row in plan.rows])
    for row, planned in zip(rows, plan.rows, strict=True):
        row.status = planned.status
        row.key = planned.key if planned.status == "init" else None
        row.expectation = planned.expectation
        # What is read of a parametrised tensor is what it is computed from; of integers, the bits.
        if planned.site.parametrized or planned.site.dtype not in _ops.FILLABLE_DTYPES:
            row.expectation = None
        # A structure's rows differ, and one of them is zero.
        structure = any(isinstance(piece.values, STRUCTURES) for piece in planned.pieces)
        if structure and planned.padding_row is not None:
            row.expectation = None
        # A part of a structure, or of rows or blocks that differ, tells nothing.
        alike = len(planned.pieces) == 1 and not structure and planned.padding_row is None
        if row.complete or alike:
            row.problem = departure(row)
    return Report(rows, faults, [f"rule {idle}" for idle in plan.idle_rules])


def _read(sites: list[Site]) -> list[ReportRow]:
    rows = []
    places: dict[torch.device, list[tuple[ReportRow, Place]]] = {}
    entries: dict[torch.device, list[_ops.Part]] = {}
    for site in sites:
        row = ReportRow(site.name, tuple(site.shape), str(site.dtype).removeprefix("torch."))
        rows.append(row)
        for number, tensor in enumerate(site.parameters()):
            shape = logical_shape(tensor)
            row.elements += math.prod(shape)
            for view, offset in _boxes(row, tensor):
                place = (number, tuple(offset), tuple(view.shape))
                places.setdefault(view.device, []).append((row, place))
                whole = view.shape == shape
                index = () if whole else _ops.box_index(offset, shape)
                entries.setdefault(view.device, []).append((_as_float(view), *index))
    for device, of_device in entries.items():
        measured = _ops.measure(of_device)[list(_FIELDS)].tolist()
        for (row, place), totals in zip(places[device], measured, strict=True):
            row.readings[place] = Reading(math.prod(place[2]), *totals)
    return rows


def _boxes(row: ReportRow, tensor: Tensor) -> list[Box]:
    """Return what this rank holds of a tensor; note in row if it cannot be reached."""
    if unreachable(tensor.detach()) and not is_dtensor(tensor):
        row.unread = unreachable(tensor.detach())
        return []
    parts = boxes("report", tensor.detach())
    row.unread = next((why for view, _ in parts if (why := unreachable(view))), row.unread)
    return [] if row.unread else parts


_FIELDS = ("sum", "sum_squares", "min", "max", "nonfinite", "fingerprint")

_FLOATS_BY_SIZE = {
    1: torch.float8_e5m2,
    2: torch.bfloat16,
    4: torch.float32,
    8: torch.float64,
}


def _as_float(view: Tensor) -> Tensor:
    """Return view as a tensor that can be read; of other dtypes the bits are read as floats are."""
    if view.dtype in _ops.FILLABLE_DTYPES:
        return view
    return view.view(_FLOATS_BY_SIZE[view.element_size()])
