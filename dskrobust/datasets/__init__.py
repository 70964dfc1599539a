"""Readers of official file formats, which stream into a store."""

from .append import append
from .online_news import restore_features, restore_labels
from .opening import available, ingest, open_reader
from .reader import Reader, ReaderOptions

__all__ = [
    "Reader",
    "ReaderOptions",
    "append",
    "available",
    "ingest",
    "open_reader",
    "restore_features",
    "restore_labels",
]
