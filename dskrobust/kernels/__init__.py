"""Kernels: two blocks of rows in, partial results out; NumPy and Numba, without the GIL."""

from .bounds.basis import Sample, choose_basis, sample_pieces, sketch_rows
from .bounds.byte_grid import row_bytes
from .bounds.prefix import Basis, Depths, Projector
from .compiling import compile_seconds, watch_compiling
from .job import PairJob, Rows, Screen, Tuning, kernel_dtype, kernel_rows
from .label_distances import ANY, SAME
from .label_function import check_axioms, check_norm, label_norms
from .loop import reduce_tile
from .panel import Panel
from .reductions import (
    NOBODY,
    BothLabels,
    BothLabelsState,
    CountState,
    CountWithin,
    KNearest,
    LargestQuotient,
    NearestState,
    QuotientState,
    Reduction,
    State,
    beside,
    copy_of,
    part_of,
)
from .reference import reduce_rows
from .tile_rows import Counters, TileRows
from .warmup import warm_up

__all__ = [
    "ANY",
    "NOBODY",
    "SAME",
    "BothLabels",
    "BothLabelsState",
    "Basis",
    "CountState",
    "CountWithin",
    "Counters",
    "Depths",
    "KNearest",
    "LargestQuotient",
    "NearestState",
    "PairJob",
    "Panel",
    "Projector",
    "QuotientState",
    "Reduction",
    "Rows",
    "Sample",
    "Screen",
    "State",
    "TileRows",
    "Tuning",
    "beside",
    "check_axioms",
    "check_norm",
    "choose_basis",
    "compile_seconds",
    "copy_of",
    "kernel_dtype",
    "kernel_rows",
    "label_norms",
    "part_of",
    "reduce_rows",
    "reduce_tile",
    "row_bytes",
    "sample_pieces",
    "sketch_rows",
    "warm_up",
    "watch_compiling",
]
