# SPDX-License-Identifier: Apache-2.0
"""Makes the tests import the installed torch_init.

`python -m pytest` puts the current directory first on sys.path, where the source package, which
has no native module, would hide the installed one. An editable install is found all the same: it
maps the name torch_init to this checkout without the help of sys.path.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent

sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != ROOT]
