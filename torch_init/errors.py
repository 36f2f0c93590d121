# SPDX-License-Identifier: Apache-2.0
"""One place for errors: each names function, argument, what came, what is wanted, and a fix."""

import math
from numbers import Real
from typing import Any


def describe(function: str, argument: str, got: Any, expected: str, fix: str = "") -> str:
    """Return the text of an argument error."""
    text = f"torch_init.{function}: {argument}: expected {expected}, got {got}"
    return f"{text}. {fix}" if fix else text


def check_number(function: str, argument: str, value: Any) -> float:
    """Return value as a float; it must be a real number, not a bool, and not NaN."""
    # The usual types first: asking an abstract class takes longer than the fill of a small tensor.
    if type(value) not in (float, int) and (isinstance(value, bool) or not isinstance(value, Real)):
        raise TypeError(describe(function, argument, f"{value!r}", "a real number"))
    # Not float(value): this makes a constant of a number that torch.compile would make symbolic.
    number: float = value.__float__()
    if math.isnan(number):
        raise ValueError(describe(function, argument, "nan", "a number that is not NaN"))
    return number


def check_finite(function: str, argument: str, value: Any) -> float:
    """Return value as a float; it must be finite."""
    number = check_number(function, argument, value)
    if math.isinf(number):
        raise ValueError(describe(function, argument, f"{number}", "a finite number"))
    return number


def check_not_negative(function: str, argument: str, value: Any) -> float:
    """Return value as a float; it must be finite and >= 0."""
    number = check_finite(function, argument, value)
    if number < 0:
        raise ValueError(describe(function, argument, f"{number}", "a number >= 0"))
    return number


def check_probability(function: str, argument: str, value: Any) -> float:
    """Return value as a float; it must lie in [0, 1]."""
    number = check_finite(function, argument, value)
    if not 0 <= number <= 1:
        raise ValueError(describe(function, argument, f"{number}", "a probability in [0, 1]"))
    return number


def check_positive_int(function: str, argument: str, value: Any) -> int:
    """Return value; it must be an int >= 1."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(describe(function, argument, f"{value!r}", "an int"))
    if value < 1:
        raise ValueError(describe(function, argument, f"{value}", "an int >= 1"))
    if value >= 2**63:
        raise ValueError(describe(function, argument, f"{value:.0e}", "an int below 2**63"))
    return value


def check_place(function: str, argument: str, value: Any) -> int:
    """Return value; it must be an int in [0, 2**63): a place in a stream."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(describe(function, argument, f"{value!r}", "an int"))
    if not 0 <= value < 2**63:
        raise ValueError(describe(function, argument, f"{value}", "an int in [0, 2**63)"))
    return value


def check_type(function: str, argument: str, value: Any, kind: Any, expected: str) -> None:
    """Raise unless value is an instance of kind: a type, or a tuple of types."""
    if not isinstance(value, kind):
        raise TypeError(describe(function, argument, type(value).__name__, expected))


def check_choice(function: str, argument: str, value: Any, choices: tuple[str, ...]) -> None:
    """Raise unless value is one of choices."""
    if not isinstance(value, str) or value not in choices:
        expected = "one of " + ", ".join(repr(choice) for choice in choices)
        raise ValueError(describe(function, argument, f"{value!r}", expected))
