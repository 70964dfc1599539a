"""Readers of official file formats, which stream into a store."""

from .append import append
from .dialect import CsvOptions
from .frames import FrameRows, create_store, link_store, take
from .image_folder import image_files
from .images import images_like
from .opening import available, ingest, open_reader, without_end
from .preparation import Preparation
from .reader import IngestKeywords, Reader, ReaderKeywords, ReaderOptions
from .splits import SplitOptions
from .units import restore_features, restore_labels

__all__ = [
    "CsvOptions",
    "FrameRows",
    "IngestKeywords",
    "Preparation",
    "Reader",
    "ReaderKeywords",
    "ReaderOptions",
    "SplitOptions",
    "append",
    "available",
    "create_store",
    "image_files",
    "images_like",
    "ingest",
    "link_store",
    "open_reader",
    "restore_features",
    "restore_labels",
    "take",
    "without_end",
]
