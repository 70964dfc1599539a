"""Kernels: two blocks of rows in, partial results out; NumPy and Numba, without the GIL."""

from .bounds.basis import Sample, choose_basis, sample_pieces, sketch_rows
from .bounds.byte_grid import row_bytes
from .bounds.prefix import Basis, Depths, Projector
from .job import PairJob, Screen, kernel_dtype, kernel_rows
from .lists import Neighbours, Selected
from .loop import Counters, reduce_tile
from .neighbours import reduce_neighbours
from .panel import make_panel
from .reference import reduce_rows
from .tables import NOBODY, Tables
from .threads import one_blas_thread
from .warmup import warm_up, warm_up_neighbours

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
