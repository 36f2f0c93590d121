# SPDX-License-Identifier: Apache-2.0
"""tools/check_ptx.py fails on everything it claims to fail on."""

import importlib.util
import re
import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[2] / "tools"


@pytest.fixture
def check_ptx(monkeypatch):
    monkeypatch.syspath_prepend(TOOLS)
    spec = importlib.util.spec_from_file_location("check_ptx", TOOLS / "check_ptx.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "check_ptx", module)
    spec.loader.exec_module(module)
    return module


# As nvcc 13.0 writes it.
PTX = """\
.version 9.0
.target sm_90
	// .globl	{name}
.visible .entry {name}(
	.param .u64 {name}_param_0
)
{{
	.reg .pred 	%p<4>;
	ld.param.u64 	%rd1, [{name}_param_0];
	{{ .reg .b16 tmp; mov.b32 {{tmp, %rs1}}, %r1; }}
	st.global.cs.v4.u32 [%rd1], {{%r1,%r2,%r3,%r4}};
	fma.rn.f32 	%f1, %f2, %f3, %f4;
	mul.rn.f64 	%fd1, %fd2, %fd3;
	add.rn.f64 	%fd1, %fd1, %fd4;
	add.s32 	%r1, %r2, %r3;
{more}
	ret;
}}
"""
FILL = "_ZN10torch_init12_GLOBAL__N_115fill_one_kernelENS0_7OneTaskE"


def found(check_ptx, text):
    return [
        line for item in check_ptx.kernels(text).items() for line in check_ptx.violations(*item)
    ]


def test_accepts_what_the_specification_allows(check_ptx):
    text = PTX.format(name=FILL, more="")
    assert found(check_ptx, text) == []
    counts = check_ptx.summary(check_ptx.kernels(text)["fill_one_kernel"])
    assert counts == "stores of four words 1, fma f32 1, mul f64 1, add f64 1"


@pytest.mark.parametrize(
    "instruction",
    [
        "add.ftz.f32 %f1, %f2, %f3;",
        "fma.rn.ftz.f32 %f1, %f2, %f3, %f4;",
        "@%p2 fma.rn.f64 %fd1, %fd2, %fd3, %fd4;",
        "@!%p2 mul.f64 %fd1, %fd2, %fd3;",
        "add.f32 %f1, %f2, %f3;",
        "fma.rz.f32 %f1, %f2, %f3, %f4;",
        "ex2.approx.f32 %f1, %f2;",
        "lg2.approx.f32 %f1, %f2;",
        "sin.approx.f32 %f1, %f2;",
        "cos.approx.f32 %f1, %f2;",
        "rcp.approx.f32 %f1, %f2;",
        "rsqrt.approx.f64 %fd1, %fd2;",
        "sqrt.approx.f32 %f1, %f2;",
        "div.full.f32 %f1, %f2, %f3;",
    ],
)
def test_finds(check_ptx, instruction):
    text = PTX.format(name="_Z4mainv", more="\t" + instruction)
    assert found(check_ptx, text) != []


def test_names_kernel_and_instruction(check_ptx):
    text = PTX.format(name=FILL, more="\tmul.f32 \t%f1, %f2, %f3;")
    (line,) = found(check_ptx, text)
    assert line.startswith("fill_one_kernel: mul.f32 (1 times)")


def test_misses_the_wide_stores(check_ptx):
    """Shared memory does not count: the kernels store their tables there."""
    text = PTX.format(name=FILL, more="\tst.shared.v4.f32 [%r1], {%f1, %f2, %f3, %f4};")
    lines = [line for line in text.splitlines() if not re.search(r"st\.global", line)]
    (line,) = found(check_ptx, "\n".join(lines))
    assert line == "fill_one_kernel: no store of four words at a time"


def test_exit_status(check_ptx, tmp_path, capsys):
    good, bad = tmp_path / "good.ptx", tmp_path / "bad.ptx"
    good.write_text(PTX.format(name=FILL, more=""))
    bad.write_text(PTX.format(name=FILL, more="\tex2.approx.ftz.f32 %f1, %f2;"))
    assert check_ptx.main(["--ptx", str(good)]) == 0
    assert check_ptx.main(["--ptx", str(good), str(bad)]) == 1
    empty = tmp_path / "empty.ptx"
    empty.write_text("")
    assert check_ptx.main(["--ptx", str(empty)]) == 1
    assert "no kernel found" in capsys.readouterr().out
