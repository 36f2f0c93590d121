# SPDX-License-Identifier: Apache-2.0
"""Write tests/data/stream_v<STREAM_VERSION>.json, the known answers of the current stream version.

    python tools/write_golden.py

The file holds, for a fixed list of (seed, name, distribution, dtype, shape), the SHA-256 of the
tensor's little-endian bytes and its first values in hexadecimal, and the SHA-256 of some quantile
tables. The values are those of the baseline tier, the tables those of tests/reference.py; the tests
compare both with every tier.

People's seeds depend on these bits. So a file that exists is only ever extended: if one of its
answers has changed, nothing is written and the exit status is 1. Either the change is a bug, or it
is meant: then raise STREAM_VERSION, say so in docs/stream.md and CHANGELOG.md, and run this again.
"""

import hashlib
import itertools
import json
import math
import sys
from pathlib import Path

import torch

from torch_init import STREAM_VERSION, _ops
from torch_init.distributions import (
    Bits,
    Constant,
    Distribution,
    Logistic,
    Normal,
    TruncatedNormal,
    TwoPoint,
    Uniform,
)

TESTS = Path(__file__).parents[1] / "tests"
sys.path.append(str(TESTS))
import reference  # noqa: E402

SHAPE = [61, 67]
DTYPES = ("float32", "float64", "bfloat16", "float16", "float8_e4m3fn", "float8_e5m2")
DISTRIBUTIONS: tuple[Distribution, ...] = (
    Constant(0.3),
    Uniform(0.0, 1.0),
    Uniform(-0.3, 0.7),
    Normal(0.0, 1.0),
    Normal(0.1, 0.02),
    Logistic(-3.0, 0.25),
    TwoPoint(0.3, -1.0, 1.0),
    TruncatedNormal.in_sigmas(0.0, 0.02, -2.0, 2.0),
    TruncatedNormal.in_sigmas(0.0, 1.0, -1.0, 3.0),
    TruncatedNormal.in_sigmas(0.0, 1.0, 8.0, math.inf),
    TruncatedNormal.absolute(0.5, 2000.0, 0.4, 0.5),
)
STREAMS = ((1, ""), (-1, "fc.bias"), (2**63, "μ"), (2**64 - 2, "fc.weight\0mask"))
BOUNDS = (
    (-math.inf, math.inf),
    (-2.0, 2.0),
    (-1.0, 3.0),
    (8.0, math.inf),
    (-5.1, -5.0),
    (0.0, 1e-6),
)


def case(seed: int, name: str, distribution: Distribution, dtype: str, shape: list[int]) -> dict:
    kind, numbers = distribution.spec()
    return {
        "seed": seed,
        "name": name,
        "kind": kind,
        "numbers": [n if math.isfinite(n) else str(n) for n in numbers],
        "dtype": dtype,
        "shape": shape,
    }


def cases() -> list[dict]:
    every = itertools.product(DISTRIBUTIONS, DTYPES)
    found = [case(0, "fc.weight", distribution, dtype, SHAPE) for distribution, dtype in every]
    found += [case(*stream, Normal(0.0, 1.0), "float32", SHAPE) for stream in STREAMS]
    found += [case(*stream, Bits(), "uint32", SHAPE) for stream in STREAMS]
    found += [case(0, "z", Normal(0.0, 0.5), dtype, SHAPE) for dtype in ("complex64", "complex128")]
    found += [case(0, "", Normal(0.0, 1.0), "float32", shape) for shape in ([], [1], [300_001])]
    return found


def fill(case: dict) -> torch.Tensor:
    """The tensor of a case, its real view if it is complex, by the tier in use."""
    tensor = torch.empty(case["shape"], dtype=getattr(torch, case["dtype"]))
    tensor = torch.view_as_real(tensor) if tensor.is_complex() else tensor
    spec = case["kind"], tuple(float(number) for number in case["numbers"])
    _ops.FillPlan([(tensor, spec, _ops.stream_key(case["seed"], case["name"]))]).run()
    return tensor


def answers(tensor: torch.Tensor) -> dict:
    """SHA-256 of the bytes, and the bits of the first four values."""
    contents = tensor.reshape(-1).view(torch.uint8).numpy().tobytes()
    size = tensor.dtype.itemsize
    first = [
        contents[i : i + size][::-1].hex() for i in range(0, min(len(contents), 4 * size), size)
    ]
    return {"sha256": hashlib.sha256(contents).hexdigest(), "first": first}


def table_answers() -> list[dict]:
    found = []
    for bounds, dtype in itertools.product(("logistic", *BOUNDS), ("float32", "float64")):
        _, coefficients = reference.table(bounds, dtype == "float64")
        checksum = hashlib.sha256(coefficients.tobytes()).hexdigest()
        name = bounds if isinstance(bounds, str) else f"normal on [{bounds[0]}, {bounds[1]}]"
        found.append({"table": name, "dtype": dtype, "sha256": checksum})
    return found


def golden() -> dict:
    _ops.set_cpu_isa("baseline")
    fills = [{**c, **answers(fill(c))} for c in cases()]
    return {"stream_version": STREAM_VERSION, "fills": fills, "tables": table_answers()}


def changed(old: dict, new: dict) -> list[dict]:
    """Answers of the old file that the new one lacks or contradicts."""
    return [
        answer for part in ("fills", "tables") for answer in old[part] if answer not in new[part]
    ]


def as_text(golden: dict) -> str:
    """JSON with one answer a line."""
    lines = [f'{{"stream_version": {golden["stream_version"]}']
    for part in ("fills", "tables"):
        lines.append(f'"{part}": [\n' + ",\n".join(map(json.dumps, golden[part])) + "]")
    return ",\n".join(lines) + "}\n"


def main() -> None:
    path = TESTS / "data" / f"stream_v{STREAM_VERSION}.json"
    new = golden()
    differences = changed(json.loads(path.read_text()), new) if path.exists() else []
    if differences:
        for answer in differences:
            print("changed:", json.dumps(answer), file=sys.stderr)
        sys.exit(f"{path.name}: {len(differences)} answers changed and STREAM_VERSION did not")
    path.write_text(as_text(new))
    print(f"{path.name}: {len(new['fills'])} fills, {len(new['tables'])} tables")


if __name__ == "__main__":
    main()
