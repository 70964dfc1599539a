"""All that is known of schedulers and workers: options, local clusters, connections, checks."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .connection import connect
    from .options import ClusterOptions

__all__ = ["ClusterOptions", "connect"]


def __getattr__(name: str) -> Any:
    # loaded on first use: arrays in memory are scored without Dask's scheduler
    where = {"ClusterOptions": "options", "connect": "connection"}
    if name in where:
        return getattr(import_module(f".{where[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
