# SPDX-License-Identifier: Apache-2.0
"""What a model holds after its initialisation: read back, checked against the plan, compared."""

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch

from torch_init.errors import describe
from torch_init.model.expectations import Expectation
from torch_init.model.table import find_row

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
        unread: why none of it could be read; empty if it could.
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
    unread: str = ""
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
        totals: dict[int, int] = {}
        for (number, _, _), reading in self.readings.items():
            totals[number] = (totals.get(number, 0) + reading.fingerprint) % 2**64
        if len(totals) > 1:  # a parametrised tensor is made from several, whose order counts
            text = " ".join(f"{number}:{totals[number]:016x}" for number in sorted(totals))
            return hashlib.sha256(text.encode()).hexdigest()[:16]
        return f"{sum(totals.values()):016x}"

    def as_dict(self) -> dict[str, Any]:
        """Return the row as plain values."""
        return {
            "name": self.name,
            "shape": list(self.shape),
            "dtype": self.dtype,
            "status": self.status,
            "elements_read": self.count,
            "mean": self.mean if self.count else None,  # JSON knows no NaN
            "std": self.std if self.count else None,
            "fingerprint": self.fingerprint,
            "problem": self.problem,
        }


class Report:
    """What init_, materialize_ and report return.

    Attributes:
        rows: one for each parameter.
        faults: what is wrong besides parameters, such as buffers that hold nothing.
        notes: what else there is to know, such as rules that matched no parameter.
    """

    def __init__(
        self, rows: list[ReportRow], faults: Iterable[str] = (), notes: Iterable[str] = ()
    ) -> None:
        self.rows = rows
        self.faults = list(faults)
        self.notes = list(notes)
        self._by_name = {row.name: row for row in rows}

    def __getitem__(self, name: str) -> ReportRow:
        return find_row(self._by_name, name)

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[ReportRow]:
        return iter(self.rows)

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    @property
    def problems(self) -> list[str]:
        """What is not as planned, a line each; empty if all is well."""
        return [f"{row.name}: {row.problem}" for row in self.rows if row.problem] + self.faults

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

    def diff(self, other: "Report | str") -> list[str]:
        """Return the names of the parameters that are not the same, bit for bit, in both.

        Args:
            other: a Report, or the text that a Report's to_json gave.

        Example:
            >>> model = torch.nn.Linear(4, 4)
            >>> kept = torch_init.init_(model, "he", seed=0).to_json()
            >>> torch_init.init_(model, "he", seed=1).diff(kept)
            ['weight']
        """
        mine, others = self._identities(), _identities_of("Report.diff", other)
        names = dict.fromkeys([*mine, *others])
        return [name for name in names if mine.get(name) != others.get(name)]

    def _identities(self) -> dict[str, tuple[Any, ...]]:
        return {
            row.name: (list(row.shape), row.dtype, row.count, row.fingerprint) for row in self.rows
        }

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
        dist.all_gather_object(parts, (self.rows, self.faults, self.notes), group=group)
        rows: dict[str, ReportRow] = {}
        for rank, (of_rank, _, _) in enumerate(parts):
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
            row.problem = row.problem or departure(row)
        faults = dict.fromkeys(fault for _, of_rank, _ in parts for fault in of_rank)
        notes = dict.fromkeys(note for _, _, of_rank in parts for note in of_rank)
        return Report(list(rows.values()), faults, notes)

    def to_json(self) -> str:
        """Return the report as JSON text."""
        facts = {"fingerprint": self.fingerprint, "problems": self.problems}
        return json.dumps({**facts, "parameters": [row.as_dict() for row in self.rows]}, indent=1)

    def __str__(self) -> str:
        done = sum(row.status == "init" for row in self.rows)
        elements = sum(row.count for row in self.rows)
        lines = [f"{len(self.rows)} parameters, {elements:,} elements read back"]
        if any(row.status for row in self.rows):
            lines[0] = f"{done} of {lines[0].replace('parameters', 'parameters initialised')}"
        lines.append(f"fingerprint {self.fingerprint}")
        left = [f"{row.name} ({row.status})" for row in self.rows if row.status not in ("", "init")]
        lines += [f"left alone: {_listed(left)}"] if left else []
        unread = [f"{row.name} ({row.unread})" for row in self.rows if row.unread]
        lines += [f"not read: {_listed(unread)}"] if unread else []
        if not self.complete and not unread:
            lines.append("this rank's part; report.gather() on all ranks gives the whole")
        lines += [f"note: {note}" for note in self.notes]
        problems = self.problems
        lines += [f"problem: {problem}" for problem in problems]
        if done and not problems:
            lines.append("moments as planned")
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"<torch_init.Report {self.fingerprint}, {len(self.problems)} problems>"


def _total(readings: Mapping[Place, Reading], name: str) -> float:
    return math.fsum(getattr(reading, name) for reading in readings.values())


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return ", ".join(names[:8]) + more


def _identities_of(function: str, other: object) -> dict[str, tuple[Any, ...]]:
    if isinstance(other, Report):
        return other._identities()
    try:
        if not isinstance(other, str):
            raise TypeError
        rows = json.loads(other)["parameters"]
        return {
            row["name"]: (row["shape"], row["dtype"], row["elements_read"], row["fingerprint"])
            for row in rows
        }
    except (KeyError, TypeError, ValueError) as error:
        got = "another text" if isinstance(other, str) else f"a {type(other).__name__}"
        fix = "torch_init.report(model) reads a model"
        expected = "a Report, or the JSON text of one"
        raise TypeError(describe(function, "other", got, expected, fix)) from error


def departure(row: ReportRow) -> str:
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
    step = torch.finfo(dtype).smallest_normal * eps  # between the smallest numbers
    outside = low < e.low - eps * abs(e.low) - step or high > e.high + eps * abs(e.high) + step
    if outside and not dtype.is_complex:
        return f"values in [{low:.6g}, {high:.6g}], planned [{e.low:.6g}, {e.high:.6g}]"
    share = count / row.elements
    square = share * e.square_sum
    # What chance may do, then what rounding to the dtype and the float32 arithmetic may.
    size = math.sqrt(count * square)
    grain = step * count
    slack = _TOLERANCE * math.sqrt(share * e.square_sum_variance) + (1e-5 + eps) * square
    slack += _TOLERANCE**2 * e.square_sum_tail + grain * math.sqrt(square / count)
    if abs(_total(row.readings, "square_sum") - square) > slack:
        return f"root mean square {_rms(row):.6g}, planned {math.sqrt(square / count):.6g}"
    slack = _TOLERANCE * math.sqrt(share * e.sum_variance) + (1e-5 + eps / 2) * size + grain
    slack += _TOLERANCE**2 * e.sum_tail
    if not math.isnan(e.sum) and abs(_total(row.readings, "sum") - share * e.sum) > slack:
        return f"mean {row.mean:.6g}, planned {e.mean:.6g}"
    return ""


def _rms(row: ReportRow) -> float:
    return math.sqrt(_total(row.readings, "square_sum") / row.count)
