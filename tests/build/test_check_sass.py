# SPDX-License-Identifier: Apache-2.0
"""tools/check_sass.py counts loops rightly and fails on everything it claims to fail on."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOOLS = ROOT / "tools"


def load_tool(name, monkeypatch):
    monkeypatch.syspath_prepend(TOOLS)
    spec = importlib.util.spec_from_file_location(name, TOOLS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def check_sass(monkeypatch):
    return load_tool("check_sass", monkeypatch)


# As nvdisasm 13 writes it: a loop within a loop, and a forward branch out of the inner one.
SASS = """\
\t.target\tsm_90

.text._ZN10torch_init12_GLOBAL__N_115fill_one_kernelENS0_7OneTaskE:
        /*0000*/                   MOV R1, c[0x0][0x28] ;
.L_x_1:
        /*0010*/                   IADD3 R0, R0, 0x1, RZ ;
.L_x_0:
        /*0020*/                   IMAD.WIDE.U32 R2, R4, -0x2daee0ad, RZ ;
        /*0030*/                   LOP3.LUT R2, R3, R2, R4, 0x96, !PT ;
        /*0040*/              @!P1 BRA `(.L_x_2) ;
        /*0050*/                   FFMA R4, R5, R6, R7 ;
        /*0060*/                   LDS.128 R8, [R9] ;
{more}        /*0070*/                   STG.E.EF.128 desc[UR4][R12.64], R4 ;
        /*0080*/              @!P0 BRA `(.L_x_0) ;
        /*0090*/               @P2 BRA `(.L_x_1) ;
.L_x_2:
        /*00a0*/                   EXIT ;
"""
ENTRY = {
    "kernel": "fill_one_kernel",
    "loop": "normal",
    "find": {"LDS": 1, "STG.E.EF.128": 1, "FMNMX": 0},
    "elements": 4,
    "bytes": 4,
    "instructions": 1.75,
}


def found(check_sass, *entries, more=""):
    return check_sass.check(check_sass.innermost_loops(SASS.format(more=more)), list(entries))


def test_counts(check_sass):
    ((name, loop),) = check_sass.innermost_loops(SASS.format(more=""))
    assert name == "fill_one_kernel"
    assert sum(loop.values()) == 7
    costs = check_sass.per_element(loop, 4)
    assert costs == {"instructions": 1.75, "multiplier": 1.0, "logic": 0.5, "shared": 4.0}


def test_accepts_a_loop_within_its_budget(check_sass):
    assert found(check_sass, ENTRY) == []


LONGER = "        /*0068*/                   SHF.R.U32.HI R1, RZ, 0x1, R1 ;\n"
SPILL = "        /*0068*/                   STL [R1], R2 ;\n"


@pytest.mark.parametrize(
    ("entries", "more", "complaint"),
    [
        ([ENTRY], LONGER, "2.0 instructions an element, budget 1.75"),
        ([ENTRY | {"instructions": 9}], SPILL, "spills in the loop"),
        ([ENTRY | {"find": {"LDS": 2}}, ENTRY], "", "0 loops look like it, expected 1"),
        ([], "", "a loop without a budget"),
    ],
    ids=["longer", "spill", "gone", "unknown"],
)
def test_complains(check_sass, entries, more, complaint):
    (line,) = found(check_sass, *entries, more=more)
    assert complaint in line


def test_the_note_is_that_of_the_budget(monkeypatch):
    budget = json.loads((TOOLS / "sass_budget.json").read_text(encoding="utf-8"))
    note = load_tool("cuda_note", monkeypatch).note(budget)
    assert (ROOT / "docs" / "cuda_kernels.md").read_text(encoding="utf-8") == note
    assert "not yet" in note
