# SPDX-License-Identifier: Apache-2.0
"""tools/check_ptxas.py fails on everything it claims to fail on."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[2] / "tools"


def load_tool(name):
    spec = importlib.util.spec_from_file_location(name, TOOLS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


check_ptxas = load_tool("check_ptxas")

# As nvcc 13.0 prints it for a template in an anonymous namespace.
LOG = """\
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function \
'_ZN10torch_init12_GLOBAL__N_15scaleIfEEvPT_i' for 'sm_90'
ptxas info    : Function properties for _ZN10torch_init12_GLOBAL__N_15scaleIfEEvPT_i
    {stack} bytes stack frame, {stores} bytes spill stores, {loads} bytes spill loads
ptxas info    : Used {registers} registers, used 0 barriers, {stack} bytes cumulative stack size
ptxas info    : Compile time = 11.432 ms
"""


def log(stack=0, stores=0, loads=0, registers=32):
    return LOG.format(stack=stack, stores=stores, loads=loads, registers=registers)


def test_accepts_a_kernel_within_its_budget():
    kernels = check_ptxas.parse(log())
    assert [(k.arch, k.stack, k.spills, k.registers) for k in kernels] == [("sm_90", 0, 0, 32)]
    assert check_ptxas.violations(kernels, {"scale": 32}) == []


@pytest.mark.parametrize(
    ("text", "budget", "complaint"),
    [
        (log(registers=33), {"scale": 32}, "33 registers, budget 32"),
        (log(stack=80), {"scale": 32}, "80 bytes of local memory"),
        (log(stores=4, loads=8), {"scale": 32}, "12 bytes spilled"),
        (log(), {}, "no budget"),
        (log(), {"scale": 32, "gone": 32}, "gone: has a budget"),
        ("", {"scale": 32}, "no kernel found"),
    ],
)
def test_complains(text, budget, complaint):
    (line,) = check_ptxas.violations(check_ptxas.parse(text), budget)
    assert complaint in line


def test_shared_memory_has_a_budget_too():
    text = log().replace("used 0 barriers,", "used 1 barriers, 33024 bytes smem,")
    kernels = check_ptxas.parse(text)
    assert check_ptxas.violations(kernels, {"scale": [32, 33024]}) == []
    (line,) = check_ptxas.violations(kernels, {"scale": [32, 4096]})
    assert "33024 bytes of shared memory, budget 4096" in line
    (line,) = check_ptxas.violations(kernels, {"scale": [31, 33024]})
    assert "32 registers, budget 31" in line
    assert check_ptxas.violations(kernels, {"scale": [32, 33024, 16]}) == []
    (kernel,) = kernels
    kernel.arch = "sm_80"
    (line,) = check_ptxas.violations(kernels, {"scale": [64, 33024, 16]})
    assert "32 registers, budget 16" in line


@pytest.mark.parametrize(
    ("mangled", "name"),
    [
        ("_Z5scalePfi", "scale"),
        ("_ZN10torch_init5scaleIfEEvPT_i", "scale"),
        ("_ZN10torch_init35_GLOBAL__N__148b6a4e_4_n_cu__Z1gPfi2k1IfEEvPT_i", "k1"),
    ],
)
def test_kernel_name(mangled, name):
    assert check_ptxas.kernel_name(mangled) == name


def test_exit_status(tmp_path, capsys, monkeypatch):
    budget = tmp_path / "budget.json"
    budget.write_text(json.dumps({"scale": 32}))
    monkeypatch.setattr(check_ptxas, "BUDGET", budget)
    assert check_ptxas.main([str(tmp_path)]) == 1
    (tmp_path / "scale.cu.o.ptxas.log").write_text(log())
    assert check_ptxas.main([str(tmp_path)]) == 0
    (tmp_path / "scale.cu.o.ptxas.log").write_text(log(registers=64))
    assert check_ptxas.main([str(tmp_path)]) == 1
    assert "64 registers, budget 32" in capsys.readouterr().out
