"""Dask arrays over the finished tables of every block."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..definitions import robustness_of
from ..kernels import NOBODY, Tables
from ..store import SourceAddress
from .sources import Source, open_source, split_of
from .spec import Context

if TYPE_CHECKING:
    pass


def _below(needs: Mapping[str, set[str]], layer: str) -> list[str]:
    """Layers that a layer depends on, however far."""
    found: list[str] = []
    waiting = list(needs[layer])
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.append(name)
            waiting += needs[name]
    return found


def _take(
    tables: Tables,
    context: Context,
    source: Source | SourceAddress,
    rows: tuple[int, int],
    name: str,
) -> NDArray[Any]:
    """Return one attribute of the scores for a block of rows."""
    values = _by_group(tables, name)
    if name.endswith("_by_group"):
        return values
    split = split_of(open_source(source), *rows)
    if name == "split":
        return split
    own = values[np.arange(len(split)), split]
    return robustness_of(own, context.label_norm) if name == "robustness" else own


def _by_group(tables: Tables, name: str) -> NDArray[Any]:
    """Return a table (rows, groups): distances and quotients, or row numbers with -1 for none."""
    categorical = not tables.quotient.size
    if name.startswith("reach"):
        return tables.reach
    if name.startswith("nearest") or (name.startswith("witness") and categorical):
        return np.where(tables.nearest == NOBODY, -1, tables.nearest)
    if name.startswith("witness"):
        return np.where(tables.witness == NOBODY, -1, tables.witness)
    return tables.lipschitz


def _label_norm(context: Context) -> NDArray[np.float64]:
    return np.asarray(context.label_norm)
