"""What annotations say holds: fields of options, and arguments of public functions, are checked."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache, wraps
from pathlib import Path
from types import NoneType, SimpleNamespace, UnionType
from typing import Any, ParamSpec, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np

from .errors import InvalidOptionError
from .whole_numbers import is_whole

P = ParamSpec("P")
R = TypeVar("R")
MOST = 60  # characters of a value in a message
PLAIN = (str, bytes, bool, int, float, complex, NoneType)
_WORDS = {
    str: "text",
    bool: "True or False",
    int: "a whole number",
    float: "a number",
    Path: "a path",
    os.PathLike: "a path",
    NoneType: "None",
}
_SEVERAL = {str: "texts", int: "whole numbers", float: "numbers"}


def check_types(options: Any, *own: str) -> None:
    """Refuse fields of a dataclass that hold another type than annotated; for `__post_init__`.

    NumPy's scalars become Python's, and lists where a tuple is asked for tuples, so that options
    can be written down and compared.

    Parameters
    ----------
    options : dataclass
    *own : str
        Fields that the class checks itself, and has more to say of.

    Raises
    ------
    InvalidOptionError
        It names the field and what it holds.
    """
    for name, hint in _fields(options.__class__).items():
        value = getattr(options, name)
        plain = _plain(value, hint)
        if plain is not value:
            object.__setattr__(options, name, plain)
        if name not in own:
            _check(name, plain, hint)


def checked_arguments(*own: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Return a decorator that refuses arguments of another type than annotated.

    Whole numbers, which have bounds (`check_whole`), and what is in a sequence are left to the
    function, and so are types that only type checkers know.

    Parameters
    ----------
    *own : str
        Arguments that the function checks itself, and has more to say of.

    Raises
    ------
    InvalidOptionError
        By the function: it names the argument and what was given.
    """

    def decorated(function: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(function)

        @wraps(function)
        def called(*given: P.args, **named: P.kwargs) -> R:
            with suppress(TypeError):  # too many or too few, as the call below says
                for name, value in signature.bind(*given, **named).arguments.items():
                    if name not in own and name in (hints := _arguments(function)):
                        _check(name, value, hints[name])
            return function(*given, **named)

        return called

    return decorated


def told(value: Any) -> str:
    """Return a value as messages show it: as it is where it is plain and short, else its type."""
    if isinstance(value, PLAIN):
        shown = repr(value)
        return shown if len(shown) <= MOST else f"{shown[:MOST]}…"
    shape = getattr(value, "shape", None)
    what = f"type {value.__name__}" if isinstance(value, type) else type(value).__name__
    return f"{what} of shape {shape}" if isinstance(shape, tuple) else what


@lru_cache(maxsize=64)
def _fields(options: Any) -> dict[str, Any]:
    hints = get_type_hints(options)
    return {name: hints[name] for name in options.__dataclass_fields__}


@lru_cache(maxsize=256)
def _arguments(function: Any) -> dict[str, Any]:
    """Return the types of arguments that can be told."""
    parameters = inspect.signature(function).parameters
    found: dict[str, Any] = {}
    for name, one in parameters.items():
        if one.kind in (one.VAR_POSITIONAL, one.VAR_KEYWORD) or one.annotation is one.empty:
            continue
        alone = SimpleNamespace(__annotations__={name: one.annotation})
        with suppress(NameError, AttributeError):  # what only type checkers import
            hint = get_type_hints(alone, inspect.unwrap(function).__globals__)[name]
            kinds = (hint, *get_args(hint))
            listed = any(get_origin(one) in (tuple, Sequence) for one in kinds)
            found |= {} if listed or int in kinds else {name: hint}
    return found


def _plain(value: Any, hint: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    options = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    if not any(get_origin(one) is tuple for one in options) or isinstance(value, tuple):
        return value
    if getattr(value, "ndim", None) == 1 and hasattr(value, "tolist"):  # an array, an index
        value = value.tolist()
    return tuple(value) if isinstance(value, list) else value


def _check(name: str, value: Any, hint: Any) -> None:
    if not _fits(value, hint):
        raise InvalidOptionError(f"{name} must be {_words(hint)}, not {told(value)}")


def is_number(value: Any) -> bool:
    """Whether something is a real number; True and False are none."""
    real = isinstance(value, (int, float, np.integer, np.floating))
    return real and not isinstance(value, bool)


def _fits(value: Any, hint: Any) -> bool:
    kind, inner = get_origin(hint), get_args(hint)
    if kind in (Union, UnionType):
        return any(_fits(value, one) for one in inner)
    if kind in (tuple, Sequence):
        return isinstance(value, (list, tuple)) and all(_fits(one, inner[0]) for one in value)
    if kind is Mapping:
        return isinstance(value, Mapping) and all(_fits(key, inner[0]) for key in value)
    if kind is Callable:
        return callable(value)
    if hint is int:
        return is_whole(value)
    if hint is float:
        return is_number(value)
    if hint is bool:
        return isinstance(value, (bool, np.bool_))
    of = kind or hint  # os.PathLike of os.PathLike[str]
    if not isinstance(of, type) or of is Any or getattr(of, "_is_protocol", False):
        return True
    return isinstance(value, of)


def _words(hint: Any) -> str:
    """Return what an annotation asks for, in words."""
    kind, inner = get_origin(hint), get_args(hint)
    if kind in (Union, UnionType):
        words = [_words(one) for one in inner]
        return f"{', '.join(words[:-1])} or {words[-1]}"
    if kind in (tuple, Sequence):
        several = _SEVERAL.get(inner[0])
        return f"a list of {several}" if several else f"a list, of {_words(inner[0])} each"
    if kind is Mapping:
        return "a mapping by names" if inner[0] is str else f"a mapping, by {_words(inner[0])}"
    if kind is Callable:
        return "a function"
    return _WORDS.get(kind or hint, f"of type {getattr(hint, '__name__', hint)}")
