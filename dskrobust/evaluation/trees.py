"""Results of many tasks merged on the workers, in an order that only their number says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from dask.delayed import delayed

SPLIT_EVERY = 16  # results that one task merges

Value = TypeVar("Value")


def merged(parts: Sequence[Any], merge: Callable[[Sequence[Any]], Any]) -> Any:
    """Return one delayed value merged of delayed parts: a tree, so no task holds them all.

    Parameters
    ----------
    parts : sequence of Delayed
    merge : callable
        From a list of values, in the order of the parts, to one of the same kind.
    """
    while True:
        runs = [parts[k : k + SPLIT_EVERY] for k in range(0, len(parts), SPLIT_EVERY)]
        parts = [delayed(merge)(list(run)) for run in runs]
        if len(parts) == 1:
            return parts[0]
