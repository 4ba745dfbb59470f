"""Checks of the numbers of rules and methods: an error names the argument, its range and its value."""

from __future__ import annotations


def unit_interval(**numbers: float) -> None:
    """Refuse a number outside [0, 1].

    Example:
        >>> unit_interval(trace=1.5)
        Traceback (most recent call last):
        ValueError: trace must lie in [0, 1], got 1.5
    """
    for name, number in numbers.items():
        if not 0.0 <= number <= 1.0:
            raise ValueError(f"{name} must lie in [0, 1], got {number}")


def positive(**numbers: float) -> None:
    """Refuse zero, a negative number or NaN."""
    for name, number in numbers.items():
        if not number > 0.0:
            raise ValueError(f"{name} must be positive, got {number}")


def not_negative(**numbers: float) -> None:
    """Refuse a negative number or NaN."""
    for name, number in numbers.items():
        if not number >= 0.0:
            raise ValueError(f"{name} must be at least 0, got {number}")
