# SPDX-License-Identifier: Apache-2.0
"""PTX text as kernels that the executor loads: names become numbers of rows.

A row is what a register holds in the 32 lanes of a warp. Constants and addresses of variables are
rows too, so that an instruction's operands are rows, but for the few that must be numbers.
"""

from __future__ import annotations

import dataclasses
import re

SHARED_BASE = 1024  # kSharedBase of executor/memory.h
SPECIAL = [
    "%tid.x",
    "%ntid.x",
    "%ctaid.x",
    "%nctaid.x",
    "%laneid",
    "%clusterid.x",
    "%cluster_ctarank",
    "%cluster_nctarank",
]  # in the order of executor/machine.h

ENTRY = re.compile(r"\.entry\s+(\w+)\s*\(([^)]*)\)[^{]*\{")
PARAMETER = re.compile(r"\.param\s+(?:\.align\s+(\d+)\s+)?\.[bufs](\d+)\s+(\w+)(?:\[(\d+)\])?")
VARIABLE = r"\s+\.align\s+(\d+)\s+\.b8\s+(\w+)\[(\d*)\]"
SHARED, LOCAL = re.compile(r"\.shared" + VARIABLE), re.compile(r"\.local" + VARIABLE)
FILE = re.compile(r'^\s*\.file\s+(\d+)\s+"([^"]*)"', re.M)
COMMENT = re.compile(r"//[^\n]*")
STATEMENT = re.compile(
    r"\s*(?:(?P<open>\{)|(?P<close>\})|\.loc\s+(?P<file>\d+)\s+(?P<line>\d+)[^\n]*\n"
    r"|(?P<label>[$\w]+):(?!:)|(?P<text>[^;]+);)"
)
OPERAND = re.compile(r"\s*(\{[^}]*\}|\[[^\]]*\]|[^,]+)")
# Operands that are numbers in the executor, too.
NUMBERS = re.compile(r"^(bar\.sync|barrier|cp\.async)")


@dataclasses.dataclass
class Kernel:
    name: str
    lines: list[str]  # what executor/cuda_runtime.cpp reads


def kernels(ptx: str) -> list[Kernel]:
    files = {number: "/".join(path.split("/")[-2:]) for number, path in FILE.findall(ptx)}
    ptx = COMMENT.sub("", ptx)
    found = []
    module_variables = SHARED.findall(ENTRY.split(ptx)[0])
    for entry in ENTRY.finditer(ptx):
        reader = _Reader(entry[1], files)
        reader.read_parameters(entry[2])
        for align, name, size in module_variables:
            reader.later[name] = (int(align), int(size or 0))
        reader.read_body(ptx, entry.end())
        found.append(reader.kernel())
    return found


class _Reader:
    def __init__(self, name: str, files: dict[str, str]) -> None:
        self.name = name
        self.files = files
        self.lines: list[str] = []
        self.parameters: list[tuple[int, int]] = []
        self.addresses: dict[str, int] = {}  # of parameters and of shared variables
        self.later: dict[str, tuple[int, int]] = {}
        self.shared_size = self.local_size = 0
        self.scopes: list[dict[str, int]] = [{name: row for row, name in enumerate(SPECIAL)}]
        self.rows = len(SPECIAL)
        self.constants: dict[int, int] = {}
        self.labels: dict[str, int] = {}
        self.branches: list[tuple[int, str]] = []
        self.source = "?"

    def read_parameters(self, text: str) -> None:
        end = 0
        for align, bits, name, count in PARAMETER.findall(text):
            size = int(bits) // 8 * int(count or 1)
            alignment = int(align or size)
            begin = -(-end // alignment) * alignment
            self.parameters.append((begin, size))
            self.addresses[name] = begin
            end = begin + size

    def read_body(self, ptx: str, position: int) -> None:
        while len(self.scopes) > 0:
            statement = STATEMENT.match(ptx, position)
            assert statement is not None, ptx[position : position + 80]
            position = statement.end()
            if statement["open"]:
                self.scopes.append({})
            elif statement["close"]:
                self.scopes.pop()
            elif statement["line"]:
                self.source = f"{self.files.get(statement['file'], '?')}:{statement['line']}"
            elif statement["label"]:
                self.labels[statement["label"]] = len(self.lines)
            else:
                self.read_statement(" ".join(statement["text"].split()))

    def read_statement(self, text: str) -> None:
        if variable := SHARED.match(text):
            self.place(variable[2], int(variable[1]), int(variable[3]))
        elif variable := LOCAL.match(text):
            assert self.local_size == 0, "one local variable a kernel"
            self.addresses[variable[2]], self.local_size = 0, int(variable[3])
        elif text.startswith(".reg"):
            if len(self.scopes) > 1:
                self.scopes[-1].update(dict.fromkeys(re.findall(r"(?<![.\w])%?\w+", text), -1))
        elif not text.startswith(".pragma"):
            self.read_instruction(text)

    def place(self, name: str, alignment: int, size: int) -> None:
        begin = -(-self.shared_size // alignment) * alignment
        self.addresses[name] = SHARED_BASE + begin
        self.shared_size = begin + size

    def read_instruction(self, text: str) -> None:
        guard, negated, rest = -1, False, text
        if text.startswith("@"):
            predicate, rest = text[1:].split(None, 1)
            negated = predicate.startswith("!")
            guard = self.row(predicate.lstrip("!"))
        name, _, arguments = rest.partition(" ")
        parts = [part.strip() for part in OPERAND.findall(arguments)]
        if name.startswith("bra"):
            self.branches.append((len(self.lines), parts.pop()))
        if name.startswith("shfl") and "|" not in parts[0]:
            parts[0] += "|%unused"
        if name.startswith("mov.") and any(part.startswith("{") for part in parts):
            vector = next(part for part in parts if part.startswith("{"))
            kind = "unpack" if parts[0] is vector else "pack"
            name = f"{kind}{vector.count(',') + 1}{name[3:]}"
        operands = [number for part in parts for number in self.operands(name, part)]
        # The place of the target is filled in when all labels are known.
        fields = [name, guard, int(negated), "TARGET", self.source, text, *operands]
        self.lines.append("\t".join(["instruction", *map(str, fields)]))

    def operands(self, name: str, part: str) -> list[int]:
        if part.startswith("{"):
            return [self.row(each.strip()) for each in part[1:-1].split(",")]
        if part.startswith("["):
            base, _, offset = part[1:-1].partition("+")
            return [self.row(base.strip()), int(offset or 0)]
        if "|" in part:
            return [self.row(each) for each in part.split("|")]
        if NUMBERS.match(name):
            return [int(part)]
        return [self.row(part)]

    def row(self, name: str) -> int:
        """The row of a register, a number or an address."""
        declared = any(name in scope for scope in self.scopes)
        if not name.startswith("%") and not declared:
            return self.constant(self.value(name))
        for scope in reversed(self.scopes):
            if scope.get(name, -1) >= 0:
                return scope[name]
            if name in scope:
                break
        else:
            scope = self.scopes[0]
        scope[name] = self.new_row()
        return scope[name]

    def new_row(self) -> int:
        self.rows += 1
        return self.rows - 1

    def constant(self, value: int) -> int:
        if value not in self.constants:
            self.constants[value] = self.new_row()
        return self.constants[value]

    def value(self, name: str) -> int:
        if name[:2] in ("0f", "0d", "0F", "0D"):
            return int(name[2:], 16)
        if name[0].isdigit() or name[0] == "-":
            return int(name.rstrip("U"), 0) % 2**64
        if name not in self.addresses:
            assert name in self.later, f"an unknown name in PTX: {name}"
            self.place(name, *self.later[name])
        return self.addresses[name]

    def kernel(self) -> Kernel:
        targets = {at: self.labels[label] for at, label in self.branches}
        return Kernel(
            self.name,
            [
                f"kernel\t{self.name}\t{self.shared_size}\t{self.local_size}\t{self.rows}",
                *(f"parameter\t{begin}\t{size}" for begin, size in self.parameters),
                *(f"constant\t{row}\t{value}" for value, row in self.constants.items()),
                *(
                    line.replace("TARGET", str(targets.get(at, 0)), 1)
                    for at, line in enumerate(self.lines)
                ),
            ],
        )
