# SPDX-License-Identifier: Apache-2.0
"""The one exception of the demo."""


class DemoError(Exception):
    """Bad input to the demo: one line naming the option, what was got and what was expected."""
