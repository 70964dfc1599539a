"""Splits that are drawn: a training and a test group, or folds, by scikit-learn's splitters.

They are drawn over all rows at once, from what is known of them without their features: so neither
blocks nor chunks change which row goes where.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..declared_types import check_types
from ..errors import Hint, InvalidDataError, InvalidOptionError
from ..labels import label_name
from ..whole_numbers import is_whole

MOST_SEED = 2**32  # scikit-learn takes those below
MOST_FOLDS = 1_000
NEAR = 0.01  # how far a test share may be from one of a whole number of folds


class RowKeys(NamedTuple):
    """What a split is drawn by, of consecutive rows.

    Attributes
    ----------
    labels : ndarray (b,) or (b, m)
    groups : ndarray (b,) int64, optional
        Equal where rows must not be parted; see `group_keys`.
    """

    labels: NDArray[Any]
    groups: NDArray[np.int64] | None = None


@dataclass(frozen=True)
class SplitOptions:
    """What is asked of a split that is drawn; nothing is drawn without a test size or folds.

    Attributes
    ----------
    test_size : float or int, optional
        Share of the rows, or their number, that become the group test; the others are train.
    stratify : bool
        Whether every class is split alike, to one row.
    group : str, optional
        Column (tables), array (``.npz``, HDF5) or file (``.npy``): rows with the same value in it,
        such as those of one patient, are never parted. It is no feature.
    folds : int, optional
        How many groups of about the same size, fold-1, fold-2 and so on.
    """

    test_size: float | int | None = None
    stratify: bool = False
    group: str | None = None
    folds: int | None = None

    @property
    def asked(self) -> bool:
        """Whether a split is drawn."""
        return self.test_size is not None or self.folds is not None

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the groups that are drawn."""
        if self.folds is None:
            return ("train", "test")
        return tuple(f"fold-{k + 1}" for k in range(self.folds))

    def __post_init__(self) -> None:
        check_types(self, "test_size", "folds")
        if self.test_size is not None and self.folds is not None:
            raise InvalidOptionError("test_size and folds are both given; give one of them")
        for name in ("stratify", "group"):
            if getattr(self, name) and not self.asked:
                raise InvalidOptionError(
                    f"{name}={getattr(self, name)!r} says how a split is drawn, but none is",
                    Hint("give test_size or folds too", "give --test-size or --folds too"),
                )
        if self.test_size is not None:
            _check_size(self.test_size, self.group)
        if self.folds is not None and not is_whole(self.folds, 2, MOST_FOLDS):
            raise InvalidOptionError(
                f"folds={self.folds!r} is no number of folds; give a whole one from 2 to "
                f"{MOST_FOLDS:,}"
            )
        if self.test_size is not None and self.stratify and self.group is not None:
            folds_of(self.test_size)

    def to_json(self, seed: int) -> dict[str, Any]:
        """Return what a store's provenance keeps of it: what was given, and the seed."""
        given = {
            "test_size": self.test_size,
            "folds": self.folds,
            "stratify": self.stratify or None,
            "group": self.group,
            "seed": seed,
        }
        plain = {k: v.item() if isinstance(v, np.generic) else v for k, v in given.items()}
        return {name: value for name, value in plain.items() if value is not None}


NOTHING_DRAWN = SplitOptions()


def _check_size(size: Any, group: str | None) -> None:
    share = isinstance(size, float) and 0 < size < 1
    if not (share or is_whole(size, 1)):
        raise InvalidOptionError(
            f"test_size={size!r} is neither a share of the rows between 0 and 1, such as 0.2, nor "
            "a number of rows"
        )
    if group is not None and not share:
        raise InvalidOptionError(
            f"test_size={size!r} with group={group!r}: rows of one {group} stay together, so their "
            "number cannot be chosen; give a share, such as 0.2"
        )


def folds_of(share: float) -> int:
    """Return of how many folds one is the test group, by class and without parting groups.

    Raises
    ------
    InvalidOptionError
        Where one of no whole number of folds is near the share.
    """
    folds = max(2, round(1 / share))
    if abs(1 / folds - share) > NEAR:
        raise InvalidOptionError(
            f"test_size={share:g} with stratify and group is one of a whole number of folds; give "
            "0.5, 0.33, 0.25, 0.2 or less, or leave one of the two away"
        )
    return folds


def group_keys(values: NDArray[Any]) -> NDArray[np.int64]:
    """Return 64-bit hashes (b,) of texts.

    However many different ones there are, none is kept; two that had the same hash would only stay
    together.
    """
    known, inverse = np.unique(values, return_inverse=True)
    hashed = (blake2b(str(value).encode(), digest_size=8).digest() for value in known.tolist())
    return np.frombuffer(b"".join(hashed), np.int64)[inverse]


# -- drawing -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Drawing:
    """Rows that a split is drawn of.

    Attributes
    ----------
    what : str
        The source, in messages.
    rows : int
    keys : RowKeys
        Of all rows; empty where nothing but their number matters.
    classes : tuple of str, optional
        Names of the labels 0, 1, ….
    """

    what: str
    rows: int
    keys: RowKeys
    classes: Sequence[str] | None = None

    def split(self, options: SplitOptions, seed: int) -> NDArray[np.int16]:
        """Return the split codes, shape (rows,), in the order of `SplitOptions.names`.

        Raises
        ------
        InvalidDataError
            For a class of one row, and where there are too few rows, classes or groups.
        """
        if seed >= MOST_SEED:
            raise InvalidOptionError(f"seed {seed} is too large; give one below {MOST_SEED}")
        y = self._classes() if options.stratify else None
        groups = self.keys.groups
        splitter, parts = self._splitter(options, seed)
        if groups is not None and (count := len(np.unique(groups))) < parts:
            raise InvalidDataError(
                f"{self.what}: '{options.group}' has {count} different "
                f"{'value' if count == 1 else 'values'}, too few for {parts} parts of the rows"
            )
        if options.folds is not None and groups is not None and y is None:
            groups = _in_drawn_order(groups, seed)  # which otherwise decides ties alone
        drawn = np.zeros(self.rows, np.int16)
        nothing = np.broadcast_to(np.int8(0), self.rows)  # the features, which no splitter reads
        try:
            with warnings.catch_warnings():  # a class with fewer rows than folds is not in all
                warnings.filterwarnings("ignore", "The least populated class")
                sides: Iterator[Any] = splitter.split(nothing, y, groups)
                if options.folds is None:
                    drawn[next(iter(sides))[1]] = 1
                else:
                    for code, (_, rows) in enumerate(sides):
                        drawn[rows] = code
        except ValueError as error:  # scikit-learn's: too few of something
            raise InvalidDataError(f"{self.what}: no such split can be drawn: {error}") from error
        return drawn

    def _splitter(self, options: SplitOptions, seed: int) -> tuple[Any, int]:
        """Return scikit-learn's splitter for what is asked, and into how many parts it splits."""
        from sklearn import model_selection as of

        grouped, size, folds = options.group is not None, options.test_size, options.folds
        if size is not None and grouped and options.stratify:
            folds = folds_of(size)
        if folds is not None:
            if grouped and not options.stratify:
                return of.GroupKFold(folds), folds
            kinds = {
                (False, False): of.KFold,
                (True, False): of.StratifiedKFold,
                (True, True): of.StratifiedGroupKFold,
            }
            return kinds[options.stratify, grouped](folds, shuffle=True, random_state=seed), folds
        if grouped:
            kind = of.GroupShuffleSplit
        else:
            kind = of.StratifiedShuffleSplit if options.stratify else of.ShuffleSplit
        return kind(1, test_size=size, random_state=seed), 2

    def _classes(self) -> NDArray[np.intp]:
        """Return the codes (rows,) of the labels, none of which has one row only."""
        labels, y, counts = np.unique(
            self.keys.labels.reshape(-1), return_inverse=True, return_counts=True
        )
        alone = np.flatnonzero(counts == 1)
        if len(alone):
            name = label_name(labels[alone[0]], tuple(self.classes) if self.classes else None)
            more = f" (and {len(alone) - 1} more)" if len(alone) > 1 else ""
            raise InvalidDataError(
                f"{self.what}: class {name!r}{more} has one row only, which cannot be on both "
                "sides of a split by class",
                Hint(
                    "leave the row out, join the class with another one, or leave stratify away",
                    "leave the row out, join the class with another one, or leave --stratify away",
                ),
            )
        return y

    def told(self, options: SplitOptions, split: NDArray[np.int16], seed: int) -> str:
        """Say in a line how the rows were split."""
        tested = int((split == 1).sum())
        by_class = ", by class" if options.stratify else ""
        together = f", rows of one '{options.group}' together" if options.group else ""
        if options.folds is not None:
            counts = np.bincount(split, minlength=options.folds)
            low, high = f"{counts.min():,}", f"{counts.max():,}"
            sizes = low if low == high else f"{low} to {high}"
            what = f"{options.folds} folds of {sizes} rows drawn"
        elif isinstance(options.test_size, float):
            what = f"{100 * options.test_size:g} % of the rows drawn as test"
            if options.group:  # which decides how many rows that are
                what = f"{tested:,} of {self.rows:,} rows drawn as test"
        else:
            what = f"{tested:,} rows drawn as test"
        return f"split: {what}{by_class}{together}, seed {seed}"


def _in_drawn_order(groups: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Return other codes of the same groups, drawn: the order in which equally large ones go."""
    known, codes = np.unique(groups, return_inverse=True)
    drawn: NDArray[np.int64] = np.random.default_rng(seed).permutation(len(known))[codes]
    return drawn


def gathered(keys: Iterator[RowKeys]) -> RowKeys:
    """Return the keys of all rows, joined."""
    labels, groups = [], []
    for part in keys:
        labels.append(part.labels)
        groups += [] if part.groups is None else [part.groups]
    return RowKeys(np.concatenate(labels), np.concatenate(groups) if groups else None)
