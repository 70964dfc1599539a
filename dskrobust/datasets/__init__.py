"""Readers of official file formats, which stream into a store."""

from .append import append
from .dialect import CsvOptions
from .frames import FrameRows, create_store, link_store, take
from .images import image_files
from .opening import available, ingest, open_reader, without_end
from .preparation import Preparation
from .reader import Reader, ReaderKeywords, ReaderOptions
from .units import restore_features, restore_labels

__all__ = [
    "CsvOptions",
    "FrameRows",
    "Preparation",
    "Reader",
    "ReaderKeywords",
    "ReaderOptions",
    "append",
    "available",
    "create_store",
    "image_files",
    "ingest",
    "link_store",
    "open_reader",
    "restore_features",
    "restore_labels",
    "take",
    "without_end",
]
