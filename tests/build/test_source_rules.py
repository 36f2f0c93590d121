# SPDX-License-Identifier: Apache-2.0
"""Rules that hold for the source as text. Every rule is also shown a file that breaks it."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Files in a checkout that are ours, wherever a build, a virtual environment or a run left more.
FOLDERS = ["csrc", "torch_init", "tests", "benchmarks", "docs", "examples", "tools", "cmake"]
CPP = {".h", ".cpp", ".cu", ".cuh"}
SOURCE = CPP | {".py", ".pyi", ".cmake"}
TEXT = SOURCE | {".md", ".toml", ".txt", ".json"}

# Which rooms of csrc a room may include, besides itself.
ROOMS = {
    "portable": set(),
    "random": {"portable"},
    "distributions": {"portable", "random"},
    "region": {"portable"},
    "fill": {"portable", "random", "distributions", "region"},
    "moments": {"portable", "region"},
    "gibbs": {"portable", "random", "distributions"},
    "orthogonal": {"portable", "random", "distributions"},
    "cpu": {
        "portable",
        "random",
        "distributions",
        "region",
        "fill",
        "gibbs",
        "moments",
        "orthogonal",
    },
    "python": {
        "portable",
        "random",
        "distributions",
        "region",
        "fill",
        "gibbs",
        "moments",
        "orthogonal",
        "cpu",
    },
}

# What a file compiled for a newer instruction set may include. A C++ header brings inline
# functions, of which the linker keeps one copy for all callers: perhaps one that an older CPU
# cannot run.
TIER_FILE = re.compile(r"_avx\w*\.(cpp|h)$")
TIER_HEADERS = {"immintrin.h", "stddef.h", "stdint.h", "string.h"}

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')
TORCH_HEADER = re.compile(r"^(torch|ATen|c10|caffe2)/")
# Spelled in pieces, so that this file passes its own rules.
FAST_MATH = re.compile("|".join(["fast" + "[-_]math", "-O" + "fast", "-march=" + "native"]))
MACHINE_PATH = re.compile(r"(?<![\w.~}\])])/(home|root|tmp|work|mnt|Users)/\w")
LIBM = re.compile(
    r"(std::|__builtin_)(exp|log|pow|sin|cos|tan|sinh|cosh|tanh|erf|erfc|cbrt|hypot|ldexp|frexp|scalbn"
    r"|floor|ceil|round|trunc|rint|nearbyint|fmod|lgamma|tgamma)(2|10|1p|m1)?f?\("
)
NATIVE_MODULE = re.compile(r"(?<!torch\.)\b_C\b")
# Files that use the native module for _ops.py, their only importer, and for each other.
PARTS_OF_OPS = [
    "_ops_ais.py",
    "_ops_ascend.py",
    "_ops_device.py",
    "_ops_float_units.py",
    "_ops_flow.py",
    "_ops_flow_batches.py",
    "_ops_gibbs.py",
    "_ops_gibbs_betas.py",
    "_ops_gibbs_checks.py",
    "_ops_gibbs_cuda.py",
    "_ops_gibbs_weights.py",
    "_ops_keys.py",
    "_ops_measure.py",
    "_ops_orthogonal.py",
    "_ops_states.py",
    "_ops_statistics.py",
]
SPDX = "SPDX-License-Identifier: Apache-2.0"


def files(root, suffixes, folders=FOLDERS):
    found = [p for folder in folders for p in (root / folder).rglob("*") if p.suffix in suffixes]
    found += [p for p in root.glob("*") if p.suffix in suffixes]
    return sorted(p for p in found if "__pycache__" not in p.parts)


def lines(root, paths):
    for path in paths:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            yield path.relative_to(root), number, line


def matches(root, paths, pattern):
    return [f"{p}:{n}: {line.strip()}" for p, n, line in lines(root, paths) if pattern.search(line)]


def includes(root):
    for path, number, line in lines(root, files(root, CPP, ["csrc"])):
        if match := INCLUDE.match(line):
            yield path, number, match[1] == '"', match[2]


def torch_headers(root):
    return [f"{p}:{n}: {name}" for p, n, _, name in includes(root) if TORCH_HEADER.match(name)]


def wrong_arrows(root):
    found = []
    for path, number, quoted, name in includes(root):
        room, included = path.parts[1], name.split("/")[0]
        if quoted and included not in ROOMS[room] | {room}:
            found.append(f"{path}:{number}: {room} may not include {name}")
    return found


def inline_functions_in_tiers(root):
    """Follows the includes of the tiers' files as far as they lead."""
    included = {}
    for path, number, quoted, name in includes(root):
        included.setdefault(path, []).append((number, quoted, name))
    todo = [path for path in included if TIER_FILE.search(path.name)]
    found, seen = [], set(todo)
    while todo:
        path = todo.pop()
        for number, quoted, name in included.get(path, []):
            header = Path("csrc") / name
            if quoted and header not in seen:
                seen.add(header)
                todo.append(header)
            elif not quoted and name not in TIER_HEADERS:
                found.append(f"{path}:{number}: {name} reaches a tier's file")
    return found


def approximate_math(root):
    build_files = [*files(root, {".cmake"}), *root.rglob("CMakeLists.txt")]
    build_files += [root / "setup.py", root / "pyproject.toml", *(root / ".ci").glob("*")]
    return matches(root, [p for p in build_files if p.is_file()], FAST_MATH)


def libm(root):
    return matches(root, files(root, CPP, ["csrc"]), LIBM)


def native_module_users(root):
    python = files(root, {".py"}, ["torch_init", "benchmarks", "examples"])
    allowed = {root / "torch_init" / name for name in ("_ops.py", *PARTS_OF_OPS)}
    allowed.add(root / "setup.py")
    return matches(root, [p for p in python if p not in allowed], NATIVE_MODULE)


def users_of_parts_of_ops(root):
    python = files(root, {".py"}, ["torch_init", "benchmarks", "examples"])
    names = "|".join(name.removesuffix(".py") for name in PARTS_OF_OPS)
    imports = re.compile(rf"\bimport\b.*\b({names})\b|\bfrom\b.*\b({names})\b.*\bimport\b")
    allowed = [root / "torch_init" / name for name in ("_ops.py", *PARTS_OF_OPS)]
    return matches(root, [p for p in python if p not in allowed], imports)


def unlicensed(root):
    heads = ((p, p.read_text(encoding="utf-8").splitlines()[:2]) for p in files(root, SOURCE))
    return [str(p.relative_to(root)) for p, head in heads if not any(SPDX in h for h in head)]


def machine_paths(root):
    return matches(root, files(root, TEXT), MACHINE_PATH)


RULES = {
    torch_headers: ("csrc/fill/a.h", "#include <torch/extension.h>"),
    wrong_arrows: ("csrc/random/a.h", '#include "fill/task.h"'),
    inline_functions_in_tiers: ("csrc/cpu/tier_avx2.cpp", "#include <algorithm>"),
    approximate_math: ("cmake/Flags.cmake", "add_compile_options(-O" + "fast)"),
    libm: ("csrc/fill/a.cpp", "double y = std::" + "expm1(x);"),
    native_module_users: ("torch_init/init.py", "from torch_init import _" + "C"),
    users_of_parts_of_ops: ("torch_init/init.py", "from torch_init import _ops_measure"),
    unlicensed: ("torch_init/init.py", "import torch"),
    machine_paths: ("docs/build.md", "Run it in /" + "home/me/project."),
}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_source_keeps_rule(rule):
    assert rule(ROOT) == []


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_rule_finds_its_breach(rule, tmp_path):
    name, text = RULES[rule]
    path = tmp_path / name
    path.parent.mkdir(parents=True)
    path.write_text(text + "\n", encoding="utf-8")
    (finding,) = rule(tmp_path)
    assert finding.startswith(name)


def test_every_room_is_known():
    rooms = {path.name for path in (ROOT / "csrc").iterdir() if path.is_dir()}
    assert rooms == set(ROOMS)


def test_every_source_file_is_built():
    """CMakeLists.txt lists its sources one by one; a file that it forgets is dead code."""
    listed = "".join(
        path.read_text(encoding="utf-8")
        for path in [ROOT / "CMakeLists.txt", *(ROOT / "cmake").glob("*.cmake")]
    )
    sources = files(ROOT, {".cpp", ".cu"}, ["csrc"])
    assert [s for s in sources if s.relative_to(ROOT).as_posix() not in listed] == []


def test_nothing_that_a_run_wrote_is_committed():
    """At the top, where tests and benchmarks run from."""
    done = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if done.returncode != 0 or not done.stdout:
        pytest.skip("not a checkout of git")
    folders = {line.split("/")[0] for line in done.stdout.splitlines() if "/" in line}
    assert folders == {*FOLDERS, ".ci", "requirements"}
