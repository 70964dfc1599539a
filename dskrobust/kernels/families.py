"""Every family of kernels compiled before anybody asks: ``python -m dskrobust.kernels.families``.

What is compiled is kept beside the source, so that a first run on any table only loads it.
`scripts/setup_env.sh` does so; without it the first run of a family compiles what it needs.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import NamedTuple

import numpy as np

from ..labels import CATEGORICAL, L2
from ..metrics import resolve_metric
from .job import PairJob, Screen, Tuning
from .reductions import CountWithin, KNearest, LargestQuotient, Reduction
from .warmup import warm_up

DTYPES = ("float64", "uint8", "float32")  # that kernels are compiled for; tables are float64
REDUCTIONS = ("scores", "nearest", "counts")


class Family(NamedTuple):
    """Kernels that share the type of their rows and of their states."""

    reduction: str
    dtype: str


def families(reductions: Sequence[str], dtypes: Sequence[str]) -> list[Family]:
    """Return the families of some reductions and dtypes, those first that most people need."""
    return [Family(reduction, dtype) for reduction in reductions for dtype in dtypes]


def compile_family(family: Family) -> float:
    """Compile all kernels of a family, or load them; return the seconds that took."""
    started = time.perf_counter()
    made: dict[str, list[Reduction]] = {
        "scores": [LargestQuotient(), LargestQuotient(quotients=True)],
        "nearest": [KNearest(2)],
        "counts": [CountWithin()],
    }
    dtype = np.dtype(family.dtype)
    for reduction in made[family.reduction]:
        code = L2 if reduction.quotients else CATEGORICAL
        for metric, columns in (("euclidean", 6), ("euclidean", 64), ("chebyshev", 64)):
            form = resolve_metric(metric).form(columns, 1.0)
            screen = Screen(np.zeros(columns), 1.0)
            for plain in (True, False):
                job = PairJob(form, code, reduction, 1, screen, tuning=Tuning(plain=plain))
                warm_up(job, dtype, columns)
    return time.perf_counter() - started


def main(arguments: Sequence[str] | None = None) -> None:
    """Compile the families that are asked for, a process for every core."""
    parser = argparse.ArgumentParser(description="Compile kernels before they are needed.")
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=DTYPES)
    parser.add_argument("--reductions", nargs="+", choices=REDUCTIONS, default=REDUCTIONS)
    parser.add_argument("--workers", type=int, default=os.cpu_count(), metavar="N")
    asked = parser.parse_args(arguments)
    todo = families(asked.reductions, asked.dtypes)
    started, spawn = time.perf_counter(), multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(asked.workers, len(todo)), mp_context=spawn) as pool:
        waiting = {pool.submit(compile_family, family): family for family in todo}
        for done in as_completed(waiting):
            family = waiting[done]
            print(f"{family.reduction} of {family.dtype}: {done.result():.0f} s", flush=True)
    print(f"kernels compiled in {time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
