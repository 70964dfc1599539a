"""Coverage that looks on only where it may see something new: it makes Python a third slower.

Not while Numba compiles, which takes 1.4 times as long below it and runs no line of ours; nor once
a test function took SECONDS: its further parameters and examples go over the same lines.
"""

import functools
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import pytest
from numba.core.dispatcher import Dispatcher

SECONDS = 0.5  # of this process, that a test function is looked at
_spent: Counter[Any] = Counter()


@contextmanager
def untraced() -> Iterator[None]:
    """Keep coverage from looking at what this thread does meanwhile."""
    tracer = sys.gettrace()
    if not hasattr(tracer, "stop"):  # no coverage, or it is kept from looking already
        yield
        return
    tracer.stop()
    try:
        yield
    finally:
        tracer.start()


@contextmanager
def traced_at_first(function: Any) -> Iterator[None]:
    """Let coverage look at what a function does, unless it took long enough before."""
    if _spent[function] > SECONDS:
        with untraced():
            yield
        return
    began = time.process_time()
    try:
        yield
    finally:
        _spent[function] += time.process_time() - began


def traced_test(item: pytest.Item) -> AbstractContextManager[None]:
    """Let coverage look at a test, unless its function took long enough with other parameters."""
    handle = _hypothesis(item)
    if handle is None:
        return traced_at_first(getattr(item, "function", item))
    return untraced() if _spent[handle.inner_test] > SECONDS else nullcontext()


def count_examples(items: list[pytest.Item]) -> None:
    """Have the examples of tests by Hypothesis looked at, or not, one by one."""
    for handle in {id(h): h for item in items if (h := _hypothesis(item))}.values():
        handle.inner_test = _example(handle.inner_test)


def _hypothesis(item: pytest.Item) -> Any:
    """What Hypothesis has hung on a test function; None for others."""
    return getattr(getattr(item, "obj", None), "hypothesis", None)


def _example(inner: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(inner)
    def run(*given: Any, **named: Any) -> Any:
        with traced_at_first(run):
            return inner(*given, **named)

    return run


def install(patch: pytest.MonkeyPatch) -> None:
    """Have Numba compile without coverage looking on."""
    real = Dispatcher.compile

    def compile_untraced(self: Any, signature: Any) -> Any:
        with untraced():
            return real(self, signature)

    patch.setattr(Dispatcher, "compile", compile_untraced)
