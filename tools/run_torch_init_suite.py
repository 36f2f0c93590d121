# SPDX-License-Identifier: Apache-2.0
"""Run PyTorch's own tests of torch.nn.init on torch_init.

    python tools/run_torch_init_suite.py FILE [--seeds 5] [-k PATTERN]

FILE is a copy of test/nn/test_init.py from the source tree of the PyTorch that is installed. Its
import of torch.nn.init is replaced by one of torch_init; nothing else of it changes. Needs
the packages that PyTorch's tests need: expecttest, hypothesis, scipy.
"""

import argparse
import os
import sys
import types
import unittest
from pathlib import Path

THEIRS = "import torch.nn.init as init\n"
OURS = "import torch_init as init\n"


def load(path: Path) -> types.ModuleType:
    """Execute the file with the import replaced, as a module of its own."""
    source = path.read_text(encoding="utf-8")
    if source.count(THEIRS) != 1:
        sys.exit(f"{path}: expected one line {THEIRS.strip()!r}; is it test/nn/test_init.py?")
    module = types.ModuleType("torch_init_suite")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module
    exec(compile(source.replace(THEIRS, OURS), str(path), "exec"), vars(module))
    return module


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path)
    parser.add_argument("--seeds", type=int, default=1, help="run with so many generator seeds")
    parser.add_argument("-k", dest="pattern", help="only tests whose name contains PATTERN")
    arguments = parser.parse_args()

    # Read when torch.testing is imported; one of the tests is marked slow.
    os.environ["PYTORCH_TEST_WITH_SLOW"] = "1"
    from torch.testing._internal import common_utils

    loader = unittest.TestLoader()
    if arguments.pattern:
        loader.testNamePatterns = [f"*{arguments.pattern}*"]
    module = load(arguments.file)
    passed = True
    # PyTorch seeds every test with 1234 itself.
    for seed in range(1234, 1234 + arguments.seeds):
        common_utils.SEED = seed
        print(f"seed {seed}", file=sys.stderr)
        result = unittest.TextTestRunner(verbosity=2).run(loader.loadTestsFromModule(module))
        passed = passed and result.wasSuccessful() and result.testsRun > 0
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
