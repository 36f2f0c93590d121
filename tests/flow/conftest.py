# SPDX-License-Identifier: Apache-2.0
"""Makes flow_networks.py a module that the tests here can import."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))
