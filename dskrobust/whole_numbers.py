"""Whole numbers that callers give as options."""

from __future__ import annotations

from typing import Any

import numpy as np

from .errors import InvalidOptionError


def is_whole(value: Any, least: float = -np.inf, most: float = np.inf) -> bool:
    """Whether something is a whole number from `least` to `most`; True and False are none."""
    whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    return whole and bool(least <= value <= most)


def check_whole(name: str, value: Any, least: int = 1, of: str = "") -> int:
    """Return a whole number from `least` on that somebody asked for.

    Raises
    ------
    InvalidOptionError
        For anything else; it calls the number by its name, and says what it is a number of.
    """
    if not is_whole(value, least):
        kind = f"number of {of}" if of else "whole number"
        raise InvalidOptionError(f"{name} must be a {kind} from {least} on, not {value!r}")
    return int(value)
