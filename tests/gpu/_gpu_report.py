# SPDX-License-Identifier: Apache-2.0
"""report.json: what run.py knows after each part, kept from one run to the next."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
Row = dict[str, Any]
"""A part's outcome: part, status, seconds, proves_correctness, figures, reason, command, ended.

status: ok, failed, timeout, skipped, or unavailable (the tool does not work here).
"""


class Report:
    """The file, written anew after each part, so that whatever ends the run costs one part.

    Args:
        names: of all parts, in order.
        again: parts that are to be run now; what an earlier run said of them is forgotten.
        resume: except that they were ok.

    Rows of an earlier run are kept if it was of the same sources, on the same machine, and of what
    this one tests: what it builds itself, or what is installed.
    """

    def __init__(
        self,
        path: Path,
        facts: dict[str, Any],
        names: Sequence[str],
        again: Sequence[str],
        resume: bool,
    ) -> None:
        self.path, self.facts, self._names, self._due = path, facts, names, again
        self._rows: dict[str, Row] = {}
        for row in _earlier_rows(path, facts):
            if row["part"] not in again or (resume and row["status"] == "ok"):
                self._rows[row["part"]] = row | {"earlier": True}

    @property
    def rows(self) -> list[Row]:
        return [self._rows[name] for name in self._names if name in self._rows]

    @property
    def passed(self) -> bool:
        """Whether all that was to be run has, and nothing failed."""
        return all(map(self.holds, self._due)) and not any(map(failed, self.rows))

    def holds(self, part: str) -> bool:
        return part in self._rows

    def add(self, row: Row) -> None:
        self._rows[row["part"]] = row
        self.write()

    def write(self) -> None:
        facts = self.facts | {"passed": self.passed, "parts": self.rows}
        written = self.path.with_suffix(".new")
        written.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
        os.replace(written, self.path)  # at no moment is there half a file


def failed(row: Row) -> bool:
    return bool(row["proves_correctness"] and row["status"] != "ok")


def _earlier_rows(path: Path, facts: dict[str, Any]) -> list[Row]:
    try:
        earlier = json.loads(path.read_text(encoding="utf-8"))
        # As JSON has them: tuples are lists there.
        same = json.dumps(_identity(earlier)) == json.dumps(_identity(facts))
        return list(earlier["parts"]) if same else []
    except (OSError, ValueError, LookupError):
        return []


def _identity(facts: dict[str, Any]) -> tuple[Any, ...]:
    before = facts["before"]
    gpus = [(gpu["name"], gpu["driver_version"]) for gpu in before["gpus"]]
    return facts["rehearsal"], facts["installed"], facts["sources"], before["cpu"], gpus


def digest_of_sources() -> str:
    """A hash of everything that is built, run or compared with."""
    digest = hashlib.sha256()
    folders = ("csrc", "cmake", "torch_init", "tests", "benchmarks")
    files = [path for name in folders for path in (ROOT / name).rglob("*") if path.is_file()]
    files = [path for path in files if path.suffix not in (".so", ".pyc")]
    for path in sorted([*files, ROOT / "CMakeLists.txt", ROOT / "setup.py"]):
        digest.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def table(rows: Sequence[Row]) -> str:
    cells = [("part", "status", "seconds", "figures")]
    for row in rows:
        shown = [
            f"{name} {value}" if name != "summary" else value
            for name, value in row["figures"].items()
        ]
        words = [row["reason"]] if row["reason"] else []
        lines = [*words, *shown] if len(shown) > 4 else ["; ".join([*words, *map(str, shown)])]
        status = row["status"] + (", earlier" if row.get("earlier") else "")
        cells.append((row["part"], status, f"{row['seconds']:.0f}", lines[0]))
        cells += [("", "", "", line) for line in lines[1:]]
    widths = [max(len(row[i]) for row in cells) for i in range(3)]
    return "\n".join(
        f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c:>{widths[2]}}  {d}".rstrip()
        for a, b, c, d in cells
    )
