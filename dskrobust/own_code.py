"""Code of the user's own that an import path names: found, and kept from ending Python."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
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


def described(function: Callable[..., Any]) -> str:
    """Return what tells a function from others: its name, and a token of its own code.

    Code, defaults and closure count, not the helpers that it calls.
    """
    from dask.tokenize import tokenize

    plain = getattr(function, "py_func", function)  # of what Numba compiled
    where = getattr(plain, "__qualname__", type(plain).__name__)
    compiled = () if plain is function else (repr(function.targetoptions),)  # type: ignore[attr-defined]
    return f"function({where}, {tokenize(plain, _code(plain), *compiled)})"


def _code(function: Any) -> tuple[Any, ...]:
    """What a function does, as far as its own code, defaults and closure tell."""
    code = getattr(function, "__code__", None)
    if code is None:
        return ()
    cells = tuple(repr(cell.cell_contents) for cell in function.__closure__ or ())
    return (code.co_code, repr(code.co_consts), code.co_names, repr(function.__defaults__), cells)


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
