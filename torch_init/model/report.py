# SPDX-License-Identifier: Apache-2.0
"""What a model holds after its initialisation: read back, checked against the plan, compared."""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from torch_init import _ops
from torch_init.distributed import boxes, logical_shape
from torch_init.errors import describe
from torch_init.model.expectations import Expectation
from torch_init.model.sites import Site, find_sites
from torch_init.model.table import Plan
from torch_init.structures import Structure

_TOLERANCE = 7.0
"""In standard deviations of a total; chance goes beyond in one of 4e11 checks."""


class Reading(NamedTuple):
    """Totals over the elements of one box of a parameter, as they lie in memory."""

    numel: int
    sum: float
    square_sum: float
    low: float
    high: float
    nonfinite: int
    fingerprint: int
    """Of the elements' bits and indices, modulo 2**64; those of disjoint boxes add up."""


Place = tuple[int, tuple[int, ...], tuple[int, ...]]
"""Where a reading is from: which tensor of a parametrised one, offset and shape of the box."""


@dataclass
class ReportRow:
    """What is known of one parameter.

    Attributes:
        name: canonical.
        shape: of the logical tensor.
        dtype: without "torch.".
        status: as in the plan; empty if there was none.
        key: of the stream that filled it; None if none did.
        expectation: what the plan gives it; None if it was left alone.
        elements: how many there are to read (of a parametrised tensor, those it is made from).
        readings: what was read, by place.
        problem: how it departs from the plan; empty if it does not.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    status: str = ""
    key: int | None = None
    expectation: Expectation | None = None
    elements: int = 0
    readings: dict[Place, Reading] = field(default_factory=dict)
    problem: str = ""

    @property
    def count(self) -> int:
        """How many of its elements were read."""
        return sum(reading.numel for reading in self.readings.values())

    @property
    def complete(self) -> bool:
        """Whether all its elements were read."""
        return self.count == self.elements

    @property
    def mean(self) -> float:
        return _total(self.readings, "sum") / self.count if self.count else math.nan

    @property
    def std(self) -> float:
        """Standard deviation over all elements that were read."""
        if not self.count:
            return math.nan
        square = _total(self.readings, "square_sum") / self.count
        return math.sqrt(max(square - self.mean**2, 0.0))

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits, a function of the bits of its elements."""
        total = sum(reading.fingerprint for reading in self.readings.values())
        return f"{total % 2**64:016x}"

    def as_dict(self) -> dict[str, Any]:
        """Return the row as plain values."""
        return {
            "name": self.name,
            "shape": list(self.shape),
            "dtype": self.dtype,
            "status": self.status,
            "elements_read": self.count,
            "mean": self.mean,
            "std": self.std,
            "fingerprint": self.fingerprint,
            "problem": self.problem,
        }


class Report:
    """What init_ and materialize_ return.

    Attributes:
        rows: one for each parameter.
        notes: what else there is to know, such as buffers that hold nothing.
    """

    def __init__(self, rows: list[ReportRow], notes: Iterable[str] = ()) -> None:
        self.rows = rows
        self.notes = list(notes)
        self._by_name = {row.name: row for row in rows}

    def __getitem__(self, name: str) -> ReportRow:
        return self._by_name[name]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def problems(self) -> list[str]:
        """What is not as planned, a line each; empty if all is well."""
        return [f"{row.name}: {row.problem}" for row in self.rows if row.problem] + self.notes

    @property
    def complete(self) -> bool:
        """Whether all elements were read; not so where the model is sharded, until gather()."""
        return all(row.complete for row in self.rows)

    @property
    def fingerprint(self) -> str:
        """32 hexadecimal digits: a function of all parameters' names, shapes, dtypes and bits.

        Not of their order, the device, the memory layout or the sharding. "part-" precedes that
        of a report that is not complete.
        """
        digest = hashlib.sha256()
        for row in sorted(self.rows, key=lambda row: row.name):
            shape = "x".join(map(str, row.shape))
            digest.update(f"{row.name}\0{shape}\0{row.dtype}\0{row.fingerprint}\n".encode())
        return ("" if self.complete else "part-") + digest.hexdigest()[:32]

    def diff(self, other: object) -> list[str]:
        """Return the names of the parameters that are not the same, bit for bit, in both.

        Example:
            >>> model = torch.nn.Linear(4, 4)
            >>> first = torch_init.init_(model, "he", seed=0)
            >>> torch_init.init_(model, "he", seed=1).diff(first)
            ['weight']
        """
        if not isinstance(other, Report):
            got = type(other).__name__
            raise TypeError(describe("Report.diff", "other", got, "a Report"))
        names = dict.fromkeys([*self._by_name, *other._by_name])
        return [
            name
            for name in names
            if _identity(self._by_name.get(name)) != _identity(other._by_name.get(name))
        ]

    def gather(self, group: Any = None) -> "Report":
        """Return the report of the whole model, from the parts that the ranks hold.

        A collective call: every rank of the group must make it; without a process group, there is
        nothing to gather. Elements that several ranks hold count once, and are a problem if the
        ranks differ in them; so is a parameter that ranks filled from different seeds. Parameters
        that only some ranks hold, as in a pipeline's stages, are in the report of every rank.

        Args:
            group: a process group; the default one if None.
        """
        import torch.distributed as dist

        if not (dist.is_available() and dist.is_initialized()):
            return self
        parts: list[Any] = [None] * dist.get_world_size(group)
        dist.all_gather_object(parts, (self.rows, self.notes), group=group)
        rows: dict[str, ReportRow] = {}
        for rank, (of_rank, _) in enumerate(parts):
            for part in of_rank:
                row = rows.setdefault(part.name, replace(part, readings={}, problem=""))
                if (row.shape, row.dtype) != (part.shape, part.dtype):
                    row.problem = f"rank {rank} has {part.dtype} {part.shape}"
                elif row.key != part.key:
                    row.problem = f"rank {rank} filled it from another seed than a rank before"
                for place, reading in part.readings.items():
                    known = row.readings.setdefault(place, reading)
                    if known.fingerprint != reading.fingerprint:
                        row.problem = f"rank {rank} holds other values than a rank before"
        for row in rows.values():
            row.problem = row.problem or _problem(row)
        notes = dict.fromkeys(note for _, of_rank in parts for note in of_rank)
        return Report(list(rows.values()), notes)

    def to_json(self) -> str:
        """Return the report as JSON text."""
        facts = {"fingerprint": self.fingerprint, "problems": self.problems}
        return json.dumps({**facts, "parameters": [row.as_dict() for row in self.rows]}, indent=1)

    def __str__(self) -> str:
        done = sum(row.status == "init" for row in self.rows)
        elements = sum(row.count for row in self.rows)
        lines = [
            f"{done} of {len(self.rows)} parameters initialised, {elements:,} elements read back",
            f"fingerprint {self.fingerprint}",
        ]
        if not self.complete:
            lines.append("this rank's part; report.gather() on all ranks gives the whole")
        problems = self.problems
        lines += [f"problem: {problem}" for problem in problems] or ["all as planned"]
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"<torch_init.Report {self.fingerprint}, {len(self.problems)} problems>"


def fingerprint(model: nn.Module) -> str:
    """Return 32 hexadecimal digits that tell whether two models hold the same parameters.

    The same string for the same canonical names, shapes, dtypes and bits, whatever the device,
    the memory layout and the order of the layers. Of a sharded model, every rank gets a string of
    its own part, beginning with "part-"; ``init_(...).gather()`` gives that of the whole.

    Example:
        >>> a, b = torch.nn.Linear(4, 4), torch.nn.Linear(4, 4)
        >>> _ = b.load_state_dict(a.state_dict())
        >>> torch_init.fingerprint(a) == torch_init.fingerprint(b)
        True
    """
    return Report(_read(find_sites("fingerprint", model))).fingerprint


def read_back(plan: Plan, notes: Iterable[str] = ()) -> Report:
    """Read all parameters of a plan's model once, and check those that it initialises."""
    rows = _read([row.site for row in plan.rows])
    for row, planned in zip(rows, plan.rows, strict=True):
        row.status = planned.status
        row.key = planned.key if planned.status == "init" else None
        row.expectation = planned.expectation
        # What is read of a parametrised tensor is what it is computed from; of integers, the bits.
        if planned.site.parametrized or not _is_inexact(planned.site.dtype):
            row.expectation = None
        # A part of a structure, or of rows or blocks that differ, tells nothing.
        alike = len(planned.pieces) == 1 and not isinstance(planned.pieces[0].values, Structure)
        alike = alike and planned.padding_row is None
        if row.complete or alike:
            row.problem = _problem(row)
    return Report(rows, notes)


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
            for view, offset in boxes("fingerprint", tensor.detach()):
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


_FIELDS = ("sum", "sum_squares", "min", "max", "nonfinite", "fingerprint")

_FLOATS_BY_SIZE = {
    1: torch.float8_e5m2,
    2: torch.bfloat16,
    4: torch.float32,
    8: torch.float64,
}


def _as_float(view: Tensor) -> Tensor:
    """Return view as a tensor that can be read; the bits of integers are read as floats are."""
    if _is_inexact(view.dtype):
        return view
    return view.view(_FLOATS_BY_SIZE[view.element_size()])


def _is_inexact(dtype: torch.dtype) -> bool:
    return dtype.is_floating_point or dtype.is_complex


def _total(readings: Mapping[Place, Reading], name: str) -> float:
    return math.fsum(getattr(reading, name) for reading in readings.values())


def _identity(row: ReportRow | None) -> tuple[Any, ...]:
    return () if row is None else (row.shape, row.dtype, row.complete, row.fingerprint)


def _problem(row: ReportRow) -> str:
    """Return how a row departs from what the plan gives it; empty if it does not."""
    e, count = row.expectation, row.count
    if e is None or count == 0:
        return ""
    dtype = getattr(torch, row.dtype)
    eps = torch.finfo(dtype).eps
    nonfinite = _total(row.readings, "nonfinite")
    if nonfinite:
        return f"{nonfinite:g} elements are not finite"
    low = min(reading.low for reading in row.readings.values())
    high = max(reading.high for reading in row.readings.values())
    outside = low < e.low - eps * abs(e.low) or high > e.high + eps * abs(e.high)
    if outside and not dtype.is_complex:
        return f"values in [{low:.6g}, {high:.6g}], planned [{e.low:.6g}, {e.high:.6g}]"
    share = count / row.elements
    square = share * e.square_sum
    # What chance may do, then what rounding to the dtype and the float32 arithmetic may.
    size = math.sqrt(count * square)
    grain = torch.finfo(dtype).smallest_normal * eps * count
    slack = _TOLERANCE * math.sqrt(share * e.square_sum_variance) + (1e-5 + eps) * square
    slack += grain * math.sqrt(square / count)
    if abs(_total(row.readings, "square_sum") - square) > slack:
        return f"root mean square {_rms(row):.6g}, planned {math.sqrt(square / count):.6g}"
    slack = _TOLERANCE * math.sqrt(share * e.sum_variance) + (1e-5 + eps / 2) * size + grain
    if not math.isnan(e.sum) and abs(_total(row.readings, "sum") - share * e.sum) > slack:
        return f"mean {row.mean:.6g}, planned {e.mean:.6g}"
    return ""


def _rms(row: ReportRow) -> float:
    return math.sqrt(_total(row.readings, "square_sum") / row.count)
