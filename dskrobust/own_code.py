"""Code of the user's own that an import path names: found, and kept from ending Python."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any


class ExitedError(RuntimeError):
    """Code that only ought to compute called `sys.exit`."""


@contextmanager
def no_exit() -> Iterator[None]:
    """Turn an attempt to end Python into an error like any other.

    Raises
    ------
    ExitedError
    """
    try:
        yield
    except SystemExit as error:
        raise ExitedError(f"it ended Python (SystemExit: {error}), which models may not") from error


def imported(module: str, name: str) -> Any:
    """Return the class or function that an import path leads to; importing it runs its module.

    Raises
    ------
    ImportError
        For modules of Python itself, which hold no models but much that does harm, and for what is
        neither a class nor a function that is written in Python or compiled from it.
    Exception
        Whatever the module raises.
    """
    if not module or module.startswith(".") or module.partition(".")[0] in sys.stdlib_module_names:
        raise ImportError(f"{module or name!r} is no module of yours or of a library")
    with no_exit():
        found = getattr(import_module(module), name)
    if inspect.ismodule(found) or inspect.isbuiltin(found):
        raise ImportError(f"{module}.{name} is neither a class nor a function of Python's kind")
    return found
