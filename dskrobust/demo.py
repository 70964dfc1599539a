"""The demonstration: scikit-learn's digits, scored on a small cluster, told in a screen or two."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Table
from rich.text import Text

from . import terminal
from .cluster import ClusterOptions, run_scores
from .datasets import ReaderOptions, ingest
from .plan import MIB
from .robustness import Scores, pair_spec
from .store import Store
from .subsets import class_counts, class_name, least_robust, most_robust, whole

MEMORY_LIMIT = 512 * MIB  # of a worker: the digits need little
PAIRS = 6
SIDE = 12  # pixels of a drawn digit's side where there are colours


def tell(out: str | None = None, workers: int = 2) -> None:
    """Ingest the digits, score them and say what came out.

    Parameters
    ----------
    out : str, optional
        Where the store stays; in a temporary folder without it.
    workers : int
    """
    started = time.perf_counter()
    with _place(out) as url:
        store = ingest("digits", url, options=ReaderOptions())
        _say_what_it_is(store)
        scores = _compute(store, workers)
        robustness, witness, split = (
            np.asarray(part) for part in (scores.robustness, scores.witness, scores.split)
        )
        terminal.heading("How robust the digits are")
        groups = enumerate(store.groups)
        terminal.show(terminal.histogram({g: robustness[split == k] for k, g in groups}))
        terminal.heading("The least robust digits, each beside its witness")
        terminal.say()
        terminal.show(_pairs(store, robustness, witness))
        terminal.heading("What the least and most robust halves are made of")
        terminal.show(_halves(store, scores))
        _say_what_is_next(out, time.perf_counter() - started)


@contextmanager
def _place(out: str | None) -> Iterator[str]:
    if out is not None:
        yield out
        return
    with tempfile.TemporaryDirectory(prefix="dskrobust-demo-") as folder:
        yield str(Path(folder) / "digits.zarr")


def _say_what_it_is(store: Store) -> None:
    counts = store.summary.groups
    groups = " and ".join(f"{counts[k].rows:,} to {g}" for k, g in enumerate(store.groups))
    terminal.say("Sample robustness, on scikit-learn's handwritten digits", style=terminal.STRONG)
    terminal.say(
        "A sample's reach r is the distance to the nearest sample with another label, its witness."
    )
    terminal.say(
        "Its robustness R = r / (r + 1) is near 0 where a small change makes it something else."
    )
    terminal.say()
    terminal.fact("data", f"{store.rows:,} images of 8 × 8 pixels, {groups}")


def _compute(store: Store, workers: int) -> Scores:
    """Score the store on a local cluster; return the scores as NumPy arrays."""
    options = ClusterOptions(workers=workers, threads=1, memory_limit=MEMORY_LIMIT, dashboard=False)
    with terminal.progress(f"Starting {workers} workers, then scoring", unit="") as job:

        def start(client: Any, plan: Any) -> None:
            job.total, job.what = plan.pairs, "Scoring"

        scores = run_scores(
            store, pair_spec(store), options, start=start, tell=lambda pairs, _: job.add(pairs)
        )
    pairs = sum(group.rows for group in store.summary.groups.values()) * (store.rows - 1) // 2
    terminal.fact(
        "scored",
        f"all {pairs:,} pairs, exactly, by {workers} Dask workers in {terminal.clock(job.elapsed)}",
    )
    return scores.compute(scheduler="threads")


def _pairs(
    store: Store, robustness: NDArray[np.float64], witness: NDArray[np.int64]
) -> Table:
    """Return the least robust samples and their witnesses as pictures, every pair once."""
    screen = terminal.console()
    colour = screen.color_system is not None
    per_row = max(1, min(3 if colour else 2, screen.width // (2 * SIDE + 3 if colour else 37)))
    seen: list[set[int]] = []
    for row in np.argsort(robustness, kind="stable"):
        pair = {int(row), int(witness[row])}
        if pair not in seen:
            seen.append(pair)
            yield_row = int(row)
            _ = yield_row
        if len(seen) == PAIRS:
            break
    raise NotImplementedError
