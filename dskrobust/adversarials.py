"""Natural adversarial examples of the nearest neighbour (paper, 3.6).

A less robust sample x of the training set likely has a test sample t_a of another label close by,
which the nearest neighbour then gets wrong because of x. So: from which references do the errors
come, and what is the error without the least robust ones? One pass searches in all sets at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from dask.base import compute
from numpy.typing import NDArray

from .declared_types import checked_arguments
from .display import caption, card, counted, table
from .errors import Hint, InvalidDataError, InvalidOptionError
from .extras import check_libraries
from .memory import check_memory, searching_memory
from .neighbours import Neighbours, compute_neighbours, nearest_neighbours
from .runs import RunOptions
from .scores import Scores, checked_scores
from .whole_numbers import check_whole

if TYPE_CHECKING:
    import pandas as pd

SHARES = (0.01, 0.02, 0.05, 0.1, 0.2)
ROW_BYTES = 80
SET_BYTES = 8  # of a row of a reference set
BINS = 10  # into which references are put
FOUND_BYTES = 24  # of a test sample and reference set: its row, its nearest, the distance
ALL, LEAST, RANDOM = "x", "least", "random"
CERTAIN = 0.05  # a p-value below is more than chance


class Removal(NamedTuple):
    """What removing references does to the error.

    Attributes
    ----------
    share : float
        Of the references that is removed: the least robust ones.
    removed : int
    most : float
        The largest R that is removed.
    errors, fixed, broken : int
        Errors then; samples that become right, and wrong.
    random : int
        Errors where as many references are removed at random.
    p : float
        Of fixed and broken by chance alone (McNemar's exact test).
    """

    share: float
    removed: int
    most: float
    errors: int
    fixed: int
    broken: int
    random: int
    p: float


class Bin(NamedTuple):
    """References of similar R.

    Attributes
    ----------
    low, high : float
        R of the least and the most robust.
    references : int
    used : int
        Test samples whose nearest is one of them.
    errors : int
        Of these, those of another label.
    """

    low: float
    high: float
    references: int
    used: int
    errors: int


@dataclass(frozen=True)
class NaturalAdversarials:
    """From which references the errors of the nearest neighbour come, and what their removal does.

    Attributes
    ----------
    x, t : str
        Groups of the references and of the test samples.
    tested : int
        Test samples.
    errors : int
        Of these, those whose nearest reference has another label.
    bins : tuple of Bin
        References from the least to the most robust, about as many in each.
    removals : tuple of Removal
    adversarials : ndarray (errors, 2) int64
        Test samples that are got wrong, and their references, by R of these, the lowest first.
    """

    x: str
    t: str
    tested: int
    errors: int
    bins: tuple[Bin, ...]
    removals: tuple[Removal, ...]
    adversarials: NDArray[np.int64]

    @property
    def error(self) -> float:
        """The error of the nearest neighbour, from 0 to 1."""
        return self.errors / self.tested

    def to_frames(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Return the bins and the removals as tables."""
        import pandas as pd

        return pd.DataFrame(self.bins), pd.DataFrame(self.removals)

    def facts(self) -> dict[str, Any]:
        """Return all but the rows as plain values."""
        found: dict[str, Any] = {
            "x": self.x,
            "t": self.t,
            "tested": self.tested,
            "errors": self.errors,
        }
        found["bins"] = [one._asdict() for one in self.bins]
        found["removals"] = [one._asdict() for one in self.removals]
        return found

    def words(self) -> list[str]:
        """Return what was found and what to do about it."""
        if not self.errors:
            return [f"The nearest neighbour makes no error on {self.t}: there is nothing to mend."]
        first = self.bins[0]
        part, use = first.errors / self.errors, first.used / self.tested
        told = (
            f"{part:.0%} of the errors come from the {first.references:,} least robust references "
            f"(R up to {first.high:.3g}), which answer {use:.0%} of the test samples."
        )
        return [told, self._told_of_removals()]

    def _told_of_removals(self) -> str:
        """Say which removal helps, and whether that is more than chance."""
        best = min(self.removals, key=lambda one: (one.errors, one.share))
        change = f"{self.error:.2%} to {best.errors / self.tested:.2%}"
        tried = len(self.removals)
        p = min(1.0, best.p * tried)  # Bonferroni's
        among = f" as the best of {tried} removals" if tried > 1 else ""
        counts = f"{best.fixed:,} mended, {best.broken:,} broken, p = {p:.2g}{among}"
        which = f"the {100 * best.share:.3g}% least robust references"
        if best.errors >= self.errors:
            return f"No removal lowers the error ({which}: {change}): keep all of {self.x}."
        if p >= CERTAIN:
            return (
                f"Without {which} the error goes from {change} ({counts}): no more than chance may "
                f"do. Keep all of {self.x}."
            )
        return (
            f"Without {which} the error goes from {change} ({counts}; as many at random: "
            f"{best.random / self.tested:.2%}). Look at their labels, and confirm on other "
            "held-out samples: the share was chosen on these."
        )

    def _repr_html_(self) -> str:
        head = ("R", "references", "used", "errors", "error")
        rows = [
            (f"{b.low:.3g} to {b.high:.3g}", f"{b.references:,}", f"{b.used:,}", f"{b.errors:,}",
             f"{b.errors / b.used:.1%}" if b.used else "–")
            for b in self.bins
        ]  # fmt: skip
        said = [caption(text) for text in self.words()]
        title = f"{counted(self.errors, 'error')} of {self.tested:,}, {self.error:.2%}"
        return card("Natural adversarial examples", title, table(head, rows), *said)

    def __repr__(self) -> str:
        return (
            f"<NaturalAdversarials: {self.errors:,} errors of {self.tested:,} samples of {self.t}>"
        )


@checked_arguments("scores")
def natural_adversarials(
    scores: Scores,
    x: str = "train",
    t: str = "test",
    *,
    shares: Sequence[float] = SHARES,
    bins: int = BINS,
    seed: int = 0,
    options: RunOptions | None = None,
) -> NaturalAdversarials:
    """Find from which references the errors of the nearest neighbour come (paper, 3.6).

    Parameters
    ----------
    scores : Scores
        Of a store or of arrays, whose labels are classes.
    x, t : str
        Groups of the references and of the test samples.
    shares : sequence of float
        Of the references, that are removed: the least robust, and as many at random.
    bins : int
        Into how many the references are put, by R.
    seed : int
        Of what is removed at random.
    options : RunOptions, optional
        How the search runs; results do not depend on it.

    Returns
    -------
    NaturalAdversarials

    Raises
    ------
    InvalidOptionError
        For labels that are no classes, shares that are no part of the references, or a number of
        bins or seed that is none.
    MemoryPlanError
        Where a label, R and a neighbour of every row do not fit into this process.
    """
    check_libraries("pandas", "scipy")
    bins, seed = check_whole("bins", bins), check_whole("seed", seed, 0)
    return search_adversarials(scores, x, t, shares, seed, options).compute(bins)


@dataclass(frozen=True, eq=False)
class AdversarialSearch:
    """Which references and test samples there are, and a search for the nearest; nothing ran yet.

    Attributes
    ----------
    names : (str, str)
        Groups of the references and of the test samples.
    known : _Known
    lists : dict
        Reference set → lists of neighbours, lazy.
    """

    names: tuple[str, str]
    known: _Known
    lists: dict[str, Neighbours]

    @property
    def memory(self) -> int:
        """How many bytes `compute` takes at most in this process."""
        searches = (one.search for one in self.lists.values())
        found = len(self.known.tested) * (FOUND_BYTES * len(self.lists) + 24)
        return found + searching_memory(one.plan for one in searches if one is not None)

    def compute(self, bins: int = BINS) -> NaturalAdversarials:
        """Search, and count errors."""
        found = {name: one.index[:, 0] for name, one in compute_neighbours(self.lists).items()}
        return self.known.result(self.names, found, bins)


def search_adversarials(
    scores: Scores,
    x: str,
    t: str,
    shares: Sequence[float],
    seed: int = 0,
    options: RunOptions | None = None,
) -> AdversarialSearch:
    """Set up what `natural_adversarials` computes; parameters and errors are the same."""
    spec = checked_scores(scores).spec
    if spec is None or not spec.labels.is_categorical:
        raise InvalidOptionError(
            f"natural adversarial examples are of classes, but {scores.name} has other labels"
        )
    instead = Hint("take fewer samples: dr.select_subset", "take a smaller store")
    row_bytes = ROW_BYTES + SET_BYTES * (2 * len(shares) + 1)
    check_memory("what is known of every reference", scores.rows, row_bytes, instead)
    known = _Known.of(scores, x, t)
    sets = known.sets(_sizes(shares, len(known.ranked)), seed)
    data: Any = scores.store if scores.store is not None else scores.arrays.X  # type: ignore[union-attr]
    lists = nearest_neighbours(
        data, 1, queries=known.tested, references=sets, metric=spec.metric,
        scale=1.0 if scores.store is not None else spec.scale, options=options,
    )  # fmt: skip
    return AdversarialSearch((x, t), known, dict(lists))


def _sizes(shares: Sequence[float], rows: int) -> dict[float, int]:
    """Return how many references every share is; of the usual shares those that are some."""
    sizes = {float(share): round(share * rows) for share in shares}
    if shares == SHARES and rows > 1:  # nobody asked for them
        sizes = {share: size for share, size in sizes.items() if size} or {1 / rows: 1}
    for share, size in sizes.items():
        if not 0 < size < rows:
            raise InvalidOptionError(
                f"a share of {share:g} of {rows:,} references is {size:,}; some have to go and "
                "some to stay"
            )
    return sizes


@dataclass(frozen=True, eq=False)
class _Known:
    """Labels, R and groups, as arrays here.

    Attributes
    ----------
    labels : ndarray (n,)
    robustness : ndarray (n,) float64
    ranked : ndarray (x,) int64
        The references from the least to the most robust, ties by row number.
    tested : ndarray (t,) int64
    """

    labels: NDArray[Any]
    robustness: NDArray[np.float64]
    ranked: NDArray[np.int64]
    tested: NDArray[np.int64]

    @classmethod
    def of(cls, scores: Scores, x: str, t: str) -> _Known:
        """Return what scores and their data say."""
        codes = [scores.group_code(name) for name in (x, t)]
        computed = scores if scores.result is not None else scores.compute()
        labels, robustness, split = compute(
            scores.label_blocks(), computed.robustness, computed.split
        )
        rows = [np.flatnonzero(np.asarray(split) == code) for code in codes]
        for name, some in zip((x, t), rows, strict=True):
            if not len(some):
                raise InvalidDataError(f"group {name!r} has no rows")
        ranked = rows[0][np.argsort(robustness[rows[0]], kind="stable")]
        return cls(labels, np.asarray(robustness), ranked, rows[1])

    def sets(self, sizes: dict[float, int], seed: int) -> dict[str, NDArray[np.int64]]:
        """Return the reference sets: all, without the least robust, without some at random."""
        sets = {ALL: np.sort(self.ranked)}
        drawn = np.random.default_rng(seed).permutation(self.ranked)  # one holds the next
        for share, size in sizes.items():
            sets[f"{LEAST} {share!r}"] = np.sort(self.ranked[size:])
            sets[f"{RANDOM} {share!r}"] = np.sort(drawn[size:])
        return sets

    def result(
        self, names: tuple[str, str], found: dict[str, NDArray[np.int64]], bins: int
    ) -> NaturalAdversarials:
        """Count errors by bins of the references, and with every reference set."""
        truth, nearest = self.labels[self.tested], found[ALL]
        wrong = {name: self.labels[index] != truth for name, index in found.items()}
        ranks = np.empty(len(self.labels), np.int64)
        ranks[self.ranked] = np.arange(len(self.ranked))
        missed = np.stack([self.tested, nearest], axis=1)[wrong[ALL]]
        shares = [float(name.split()[1]) for name in found if name.startswith(LEAST)]
        return NaturalAdversarials(
            *names,
            len(self.tested),
            int(wrong[ALL].sum()),
            self._bins(ranks[nearest], wrong[ALL], bins),
            tuple(self._removal(share, wrong) for share in shares),
            missed[np.argsort(ranks[missed[:, 1]], kind="stable")],
        )

    def _bins(
        self, ranks: NDArray[np.int64], wrong: NDArray[np.bool_], bins: int
    ) -> tuple[Bin, ...]:
        """Bins of the references, ranks: those of every test sample's nearest."""
        R = self.robustness[self.ranked]
        edges = np.unique(np.linspace(0, len(R), min(bins, len(R)) + 1).astype(np.int64))
        used, errors = (np.histogram(some, edges)[0] for some in (ranks, ranks[wrong]))
        ends = zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)
        return tuple(
            Bin(float(R[lo]), float(R[hi - 1]), hi - lo, int(used[k]), int(errors[k]))
            for k, (lo, hi) in enumerate(ends)
        )

    def _removal(self, share: float, wrong: dict[str, NDArray[np.bool_]]) -> Removal:
        from scipy.stats import binomtest

        removed = round(share * len(self.ranked))
        before, after = wrong[ALL], wrong[f"{LEAST} {share!r}"]
        fixed, broken = int((before & ~after).sum()), int((after & ~before).sum())
        p = binomtest(fixed, fixed + broken).pvalue if fixed + broken else 1.0
        most = float(self.robustness[self.ranked[removed - 1]])
        random = int(wrong[f"{RANDOM} {share!r}"].sum())
        return Removal(share, removed, most, int(after.sum()), fixed, broken, random, float(p))
