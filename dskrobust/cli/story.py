"""The demonstration: scikit-learn's digits, scored on a small cluster, told in a screen or two."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shlex import quote
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Table
from rich.text import Text

from ..cluster import ClusterOptions
from ..compute import Watch, run_scores
from ..datasets import ingest
from ..engine.plan import MIB
from ..evaluation import Evaluation, Experiment, Model
from ..runs import pair_spec
from ..scores import Scores
from ..show import terminal
from ..show.live import compiling_shown
from ..store import Store
from ..subsets import class_counts, class_name, least_robust, most_robust, whole
from .run_view import connected

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
        store = ingest("digits", url)
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
        terminal.heading("What the halves do to a model")
        terminal.show(_matrix(store, workers))
        terminal.say(
            "ACC of k nearest neighbours: trained on the samples of a column, tested on those of a "
            "row; neighbors is the K that is best on t. The least robust are the hardest to tell.",
            style=terminal.QUIET,
        )
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
    options = _options(workers)
    with terminal.progress(f"Starting {workers} workers", unit="") as job:

        def start(client: Any, plan: Any) -> None:
            job.begin("Scoring", plan.pairs)

        with compiling_shown(job):
            watch = Watch(start, lambda pairs, _: job.add(pairs))
            scores = run_scores(store, pair_spec(store), options, watch)
    pairs = store.rows * (store.rows - 1) // 2
    terminal.fact(
        "scored",
        f"all {pairs:,} pairs, exactly, by {workers} Dask workers in {terminal.clock(job.elapsed)}",
    )
    return scores.compute(scheduler="threads")


def _pairs(store: Store, robustness: NDArray[np.float64], witness: NDArray[np.int64]) -> Table:
    """Return the least robust samples and their witnesses as pictures, every pair once."""
    screen = terminal.console()
    colour = screen.color_system is not None
    pair_width = 2 * (SIDE if colour else 16) + 5
    per_line = max(1, min(3, screen.width // pair_width))
    shown = Table.grid(padding=(0, 4, 1, 0))
    drawn = []
    for row in first_pairs(robustness, witness):
        other = int(witness[row])
        pair = Table.grid(padding=(0, 1, 0, 0))
        pair.add_row(*(_digit(store, number, colour) for number in (row, other)))
        pair.add_row(*(f"“{_label(store, number)}” row {number}" for number in (row, other)))
        pair.add_row(Text(f"R {robustness[row]:.3f}\n", terminal.ACCENT))
        drawn.append(pair)
    for k in range(0, len(drawn), per_line):
        shown.add_row(*drawn[k : k + per_line])
    return shown


def first_pairs(
    robustness: NDArray[np.float64], witness: NDArray[np.int64], count: int = PAIRS
) -> list[int]:
    """Return the least robust rows whose pair with the witness was not among those before."""
    seen: set[frozenset[int]] = set()
    rows = []
    for row in np.argsort(robustness, kind="stable").tolist():
        pair = frozenset((row, int(witness[row])))
        if pair not in seen:
            seen.add(pair)
            rows.append(row)
        if len(rows) == count:
            break
    return rows


def _digit(store: Store, row: int, colour: bool) -> Text:
    grey = store.features[row].reshape(8, 8) * store.spec.scale
    return terminal.picture(terminal.enlarge(grey, SIDE) if colour else grey, colour=colour)


def _label(store: Store, row: int) -> str:
    return class_name(store, store.labels[row])


def _halves(store: Store, scores: Scores) -> Table:
    """Return the classes of the two halves of every group."""
    subsets, bases = [], []
    for group in store.groups:
        base = whole(scores, group)
        half = len(base) // 2
        subsets += [
            base,
            least_robust(scores, half, within=group),
            most_robust(scores, len(base) - half, within=group),
        ]
        bases += [base] * 3
    counts = class_counts(store, subsets, bases)
    flags = [subset is base for subset, base in zip(subsets, bases, strict=True)]
    return terminal.label_table(counts.subsets, counts.labels, counts.values, counts.shares, flags)


def _matrix(store: Store, workers: int) -> Table:
    """Train on the whole training set and its halves, test on the test set and its halves."""
    subsets = []
    for group, letter in (("train", "x"), ("test", "t")):
        rows = store.summary.groups[store.groups.index(group)].rows
        halves = {f"{letter}_{side}": f"{group}:{side}{rows // 2}" for side in "LM"}
        subsets.append({letter: group, **halves})
    model = Model("knn", {"neighbors": [1, 3, 5, 7, 9]})
    made = Evaluation(store, Experiment(subsets[0], subsets[1], [model]))
    with connected(_options(workers)) as client:
        matrix = made.compute(client).matrix()
    return terminal.performance_table(matrix.showing("acc").sheet())


def _options(workers: int) -> ClusterOptions:
    return ClusterOptions(workers=workers, threads=1, memory_limit=MEMORY_LIMIT, dashboard=False)


def _say_what_is_next(out: str | None, seconds: float) -> None:
    store = quote(out or "digits.zarr")
    terminal.say(f"That took {terminal.clock(seconds)}. To go on:", style=terminal.STRONG)
    if out is None:
        terminal.say("  dskrobust ingest digits && dskrobust compute digits.zarr")
    terminal.say(f"  dskrobust show {store}")
    terminal.say(f"  dskrobust subsets {store} --least 700 --most 700")
    terminal.say(f"  dskrobust evaluate {store} --model forest --trials 5")
    terminal.say(f"  dskrobust issues {store}")
    terminal.say(f"  dskrobust report {store}")
    terminal.say(f"  dskrobust verify {store}")
    terminal.say("Your own table, its labels in the column LABEL:")
    terminal.say("  dskrobust ingest own.csv --target LABEL && dskrobust compute own.zarr")
    terminal.say("The paper's images:")
    terminal.say("  dskrobust ingest mnist --source DIR && dskrobust compute mnist.zarr")
