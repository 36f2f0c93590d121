# SPDX-License-Identifier: Apache-2.0
import pytest

from torch_init import _ops


@pytest.fixture(params=_ops.cpu_isas())
def isa(request):
    """Each instruction set of this processor in turn."""
    before = _ops.cpu_isa()
    _ops.set_cpu_isa(request.param)
    yield request.param
    _ops.set_cpu_isa(before)
