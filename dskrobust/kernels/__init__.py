"""Kernels: two blocks of rows in, partial results out; NumPy and Numba, without the GIL."""

from .coarse import row_bytes
from .panel import NOBODY, PairJob, Screen, Tables, kernel_dtype, kernel_rows, make_panel
from .tile import Counters, one_blas_thread, reduce_rows, reduce_tile, warm_up

__all__ = [
    "NOBODY",
    "Counters",
    "PairJob",
    "Screen",
    "Tables",
    "kernel_dtype",
    "kernel_rows",
    "make_panel",
    "one_blas_thread",
    "reduce_rows",
    "reduce_tile",
    "row_bytes",
    "warm_up",
]
