# SPDX-License-Identifier: Apache-2.0
"""Makes tests/rbm/machines.py a module."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))
