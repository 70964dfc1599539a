"""Kernels: two blocks of rows in, partial results out; NumPy and Numba, without the GIL."""

from .basis import Sample, choose_basis, sample_pieces, sketch_rows
from .coarse import row_bytes
from .neighbours import Neighbours, Selected, reduce_neighbours, warm_up_neighbours
from .panel import NOBODY, PairJob, Screen, Tables, kernel_dtype, kernel_rows, make_panel
from .prefix import Basis, Depths, Projector
from .reference import reduce_rows
from .threads import one_blas_thread
from .tile import Counters, reduce_tile, warm_up

__all__ = [
    "NOBODY",
    "Basis",
    "Counters",
    "Depths",
    "Neighbours",
    "PairJob",
    "Projector",
    "Sample",
    "Screen",
    "Selected",
    "Tables",
    "choose_basis",
    "kernel_dtype",
    "kernel_rows",
    "make_panel",
    "one_blas_thread",
    "reduce_neighbours",
    "reduce_rows",
    "reduce_tile",
    "row_bytes",
    "sample_pieces",
    "sketch_rows",
    "warm_up",
    "warm_up_neighbours",
]
