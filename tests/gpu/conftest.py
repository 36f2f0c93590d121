# SPDX-License-Identifier: Apache-2.0
"""run.py's own modules as modules of its tests."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))
