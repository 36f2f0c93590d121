# SPDX-License-Identifier: Apache-2.0
"""Fill large tensors with every CPU tier of this machine and compare their bits.

    python tests/gpu/compare_tiers.py [--elements N] [--require avx512]

Threads and stores past the cache are in use at these sizes, which the unit tests keep small.
Prints one line of JSON; the exit status is 1 if tiers differ or a required one is missing.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from pathlib import Path

import torch

sys.path.append(str(Path(__file__).parents[1]))
from cases import KERNELS, REAL_DTYPES, entry, same_bits

from torch_init import _ops


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--elements", type=int, default=8_500_007, help="default: %(default)s")
    parser.add_argument("--require", default="", help="tiers that must exist, comma-separated")
    args = parser.parse_args(argv)
    tiers = _ops.cpu_isas()
    different = []
    for dtype, distribution in itertools.product(REAL_DTYPES, KERNELS):
        for offset in (0, 1):  # aligned for wide stores, and not
            wanted = None
            for tier in tiers:
                _ops.set_cpu_isa(tier)
                memory = torch.zeros(args.elements + 1, dtype=dtype)
                tensor = memory[offset : offset + args.elements]
                _ops.FillPlan([entry(tensor, distribution, 42)]).run()
                wanted = memory if wanted is None else wanted
                if not same_bits(memory, wanted):
                    different.append(f"{tier} and {tiers[0]}: {distribution}, {dtype}")
    missing = [tier for tier in args.require.split(",") if tier and tier not in tiers]
    print(json.dumps({"tiers": tiers, "missing": missing, "different": different}))
    return 1 if different or missing else 0


if __name__ == "__main__":
    sys.exit(main())
