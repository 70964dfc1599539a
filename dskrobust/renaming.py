"""Old names in Python, which still work: a warning says what to write instead."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from .user_warnings import warn

P = ParamSpec("P")
R = TypeVar("R")


def renamed_line(old: str, new: str) -> str:
    """Return in a line that something has another name now."""
    return f"{old} is called {new} now; the old name works in version 0.2 and ends after it"


def warn_renamed(old: str, new: str) -> None:
    """Warn of an old name, at the line that used it."""
    warn(renamed_line(old, new), FutureWarning)


def renamed_keywords(**names: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Return a decorator that lets a function take keywords by their old names: old="new".

    Raises
    ------
    TypeError
        By the function, where a keyword comes by both names.
    """

    def decorated(function: Callable[P, R]) -> Callable[P, R]:
        @wraps(function)
        def called(*given: P.args, **named: P.kwargs) -> R:
            for old, new in names.items():
                if old not in named:
                    continue
                if new in named:
                    raise TypeError(f"{function.__name__}() got {new} twice, once as {old}")
                warn_renamed(f"{old}= of {function.__name__}", f"{new}=")
                named[new] = named.pop(old)
            return function(*given, **named)

        return called

    return decorated
