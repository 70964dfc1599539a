"""A function of a user's own as a model."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..own_code import no_exit
from .models import EmbeddingModel, LoadedModel, Place, Trained, file_facts


@dataclass(frozen=True)
class FunctionModel(EmbeddingModel):
    """A function that takes float32 images (b, C, H, W), or rows (b, d), and returns (b, w).

    Where the name leads to a class, an instance of it is made, once in every worker process, and
    called.

    Attributes
    ----------
    function : callable, optional
        Itself; else it is imported by its name, ``module:function``.
    """

    function: Callable[..., Any] | None = None

    def load(self, place: Place, trained: Trained | None) -> LoadedModel:
        module, _, name = self.name.partition(":")
        function = self.function or self.imported(module, name)
        if inspect.isclass(function):
            try:
                with no_exit():
                    function = function()
            except Exception as error:
                raise self.failed(f"cannot be made: {error}") from error
        if not callable(function):
            raise self.failed(f"is a {type(function).__name__}, and cannot be called")
        return LoadedFunction(function, {"layer": "", "weights": _code_words(function)})


@dataclass(frozen=True)
class LoadedFunction:
    """A function in a worker process."""

    function: Callable[[NDArray[np.float32]], Any]
    facts: Mapping[str, Any]
    channels: int | None = None

    def __call__(self, batch: NDArray[np.float32]) -> Any:
        with no_exit():
            return self.function(batch)


def _code_words(function: Callable[..., Any]) -> str:
    """Return which code a function has: its file's digest, where it has one."""
    try:
        path = inspect.getsourcefile(function if inspect.isroutine(function) else type(function))
        return f"code SHA-256 {file_facts(path or '')['sha256']}"
    except (TypeError, OSError):
        return ""
