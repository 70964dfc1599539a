"""Label maps into a normed space: categories, real numbers, vectors (paper, 3.1 and 4.2)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .declared_types import check_types
from .display import meant
from .errors import InvalidDataError, InvalidOptionError
from .own_code import described

CATEGORICAL, L1, L2, LINF = 0, 1, 2, 3  # how the kernels take ‖Δy‖
OWN_NORM = 6  # a user's norm, which is called; between are pair rules (`label_distances`)
OWN = "own"  # beside the names of norms, in what is known of the data
EXACT = 2**53  # up to here float64 has all whole numbers
LEADING = 8  # and this for every leading column, which only says which pairs count
LABEL_KINDS = ("categorical", "real", "vector")
TRUTH = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_NORM_CODES = {"l1": L1, "l2": L2, "linf": LINF}
LABEL_NORMS = tuple(_NORM_CODES)


@dataclass(frozen=True)
class LabelMap:
    """A map of labels into a normed space.

    Attributes
    ----------
    kind : {"categorical", "real", "vector"}
        Categories stand for the one-vs-rest maps of the paper's 4.2: ‖y − y′‖ is 1 for different
        labels and 0 for equal ones, and ‖y‖∞ is 1. Real labels use the absolute value.
    norm : {"l1", "l2", "linf"} or callable
        Norm of the label space, for vectors of shape (n, m): by its name, or a function of a
        float64 vector (m,), such as y(x) − y(x̃), that returns its norm (`label_function`).
    bound : float, optional
        ‖y‖∞; the largest norm in the data where it is not given.
    leading : int
        So many first columns of vectors are another label: pairs count where it differs, and
        ‖Δ·‖ is that of the columns after them (A.4: pairs of different y, quotients of F).
    """

    kind: str
    norm: str | Callable[[NDArray[np.float64]], float] = "l2"
    bound: float | None = None
    leading: int = 0

    def __post_init__(self) -> None:
        check_types(self)
        if self.kind not in LABEL_KINDS:
            raise InvalidOptionError(
                f"label map {self.kind!r} is unknown{meant(self.kind, LABEL_KINDS)}; choose "
                "categorical, real or vector"
            )
        if self.own_norm is not None and (self.kind != "vector" or self.leading):
            raise InvalidOptionError(
                f"a norm of your own is for vector labels, not for {self.kind} ones; give labels "
                'of one column as LabelMap("vector", norm)'
                if not self.leading
                else "errors of a model are not taken in a norm of your own; choose l1, l2 or linf"
            )
        if self.own_norm is None and self.norm not in _NORM_CODES:
            raise InvalidOptionError(
                f"label norm {self.norm!r} is unknown{meant(self.norm, _NORM_CODES)}; choose l1, "
                "l2 or linf"
            )
        if self.bound is not None and not (np.isfinite(self.bound) and self.bound > 0):
            raise InvalidOptionError(
                f"the label bound ‖y‖∞ must be a positive number, not {self.bound!r}"
            )

    @classmethod
    def of(cls, parameters: Mapping[str, Any]) -> LabelMap:
        """Return the map that some parameters identify, such as a stored result's."""
        return cls(
            str(parameters["labels"]),
            str(parameters.get("norm", "l2")),
            parameters.get("bound"),
            int(parameters.get("leading", 0)),
        )

    @property
    def code(self) -> int:
        """How the kernels take ‖Δy‖."""
        norm = CATEGORICAL if self.is_categorical else _NORM_CODES.get(self.norm, OWN_NORM)  # type: ignore[arg-type]
        return norm + LEADING * self.leading

    @property
    def own_norm(self) -> Callable[[NDArray[np.float64]], float] | None:
        """The norm where it is a function of the user's."""
        return self.norm if callable(self.norm) else None

    @property
    def norm_name(self) -> str:
        """What the largest norm of a label in the data is known by."""
        if self.kind == "real":
            return "linf"
        return self.norm if isinstance(self.norm, str) else OWN

    @property
    def is_categorical(self) -> bool:
        """Whether ‖Δy‖ is 0 or 1, so that Q is the reach's reciprocal (paper, A.3)."""
        return self.kind == "categorical"

    def encode(self, labels: NDArray[Any]) -> NDArray[np.float64]:
        """Return labels as the kernels take them, shape (n, m) float64.

        Raises
        ------
        InvalidDataError
            Where the labels' dimension does not fit the kind.
        """
        labels = np.asarray(labels)
        self.check_shape(labels.shape)
        columns = labels.reshape(len(labels), math.prod(labels.shape[1:]))  # also of no rows
        return np.ascontiguousarray(columns, dtype=np.float64)

    def check_shape(self, shape: tuple[int, ...]) -> None:
        """Refuse labels of another dimension than the kind has.

        Raises
        ------
        InvalidDataError
        """
        if len(shape) == 2 and self.kind in ("categorical", "real") and shape[1] != 1:
            raise InvalidDataError(
                f"{self.kind} labels must have the shape (n,), not {shape}; "
                "use vector labels for several columns"
            )

    def norm_bound(self, bounds: Mapping[str, float]) -> float:
        """Return ‖y‖∞: the given bound, 1 for categories, else the largest norm in the data.

        bounds: the largest l1, l2 and linf norm of a label in the data; of a user's norm OWN,
        which is 0 where nobody has looked yet.

        Raises
        ------
        InvalidOptionError
            Where the given bound is smaller than a label's norm (paper, 3.4 asks ‖y(x)‖ ≤ ‖y‖∞).
        """
        largest = 1.0 if self.is_categorical else bounds.get(self.norm_name, 0.0)
        if self.bound is None:
            return largest
        if self.bound < largest:
            raise InvalidOptionError(
                f"the label bound ‖y‖∞ = {self.bound:g} is below the largest label norm {largest:g}"
            )
        return float(self.bound)

    def parameters(self) -> dict[str, Any]:
        """Return what identifies the map, as plain values."""
        norm = {}
        if self.kind == "vector":
            own = self.own_norm
            norm = {"norm": self.norm if own is None else described(own)}
        leading = {"leading": self.leading} if self.leading else {}
        return {"labels": self.kind, **norm, **leading, "bound": self.bound}


def number_name(value: float | np.floating[Any]) -> str:
    """Return what a number is called; whole ones by all digits, which tell classes apart."""
    whole = float(value).is_integer() and abs(float(value)) <= EXACT
    return str(int(value)) if whole else f"{value:g}"


def label_name(label: Any, classes: tuple[str, ...] | None) -> str:
    """Return how a label is called."""
    if classes is not None and 0 <= int(label) < len(classes):
        return classes[int(label)]
    return number_name(label) if isinstance(label, (float, np.floating)) else str(label)


def label_names(labels: NDArray[Any], classes: tuple[str, ...] | None) -> NDArray[np.object_]:
    """Return how labels, shape (n,), are called."""
    known, codes = np.unique(labels, return_inverse=True)
    return np.array([label_name(label, classes) for label in known], dtype=object)[codes]


def one_spelling(names: Sequence[str], where: str, known: Sequence[str] = ()) -> dict[str, str]:
    """Return what each of some classes is called: True, TRUE and true are one class.

    Parameters
    ----------
    names : sequence of str
        Different names of classes.
    where : str
        What messages call the labels.
    known : sequence of str
        Classes that are there already, whose spelling stays.

    Raises
    ------
    InvalidDataError
        For classes that say the same in other words, as True and yes or True and 1.
    """
    words = {name: name.strip().lower() for name in (*known, *names)}
    truths = {word for word in words.values() if word in TRUTH}
    if set(words.values()) <= set(TRUTH) and len(truths) > len({TRUTH[w] for w in truths}):
        one, other = next(
            pair for pair in combinations(words, 2)
            if words[pair[0]] != words[pair[1]] and TRUTH[words[pair[0]]] == TRUTH[words[pair[1]]]
        )  # fmt: skip
        raise InvalidDataError(
            f"{where}: the labels {one!r} and {other!r} say the same in two ways; write one of "
            "them everywhere"
        )
    spelled = {name: word for name, word in words.items() if word in TRUTH and word.isalpha()}
    stays = {spelled[name]: name for name in known if name in spelled}
    mixed = len(spelled) > len(set(spelled.values()))

    def called(name: str) -> str:
        word = spelled.get(name)
        return name if word is None else stays.get(word, word.capitalize() if mixed else name)

    return {name: called(name) for name in names}


def nearly_equal(names: Sequence[str]) -> tuple[str, str] | None:
    """Return the first two names that a person may have meant as one."""
    seen: dict[str, str] = {}
    for name in names:
        plain = " ".join(name.split()).casefold()
        if plain in seen:
            return seen[plain], name
        seen[plain] = name
    return None


def decoded(values: NDArray[Any], where: str) -> NDArray[np.str_]:
    """Return bytes as the UTF-8 text that they are.

    Raises
    ------
    InvalidDataError
        Where they are none.
    """
    try:
        return np.char.decode(values, "utf-8")
    except UnicodeDecodeError as error:
        raise InvalidDataError(f"{where} holds bytes that are no UTF-8 text: {error}") from error


def infer_label_kind(dtype: np.dtype[Any], ndim: int) -> str:
    """Return the label kind that labels of this dtype and dimension most likely are."""
    if ndim == 2:
        return "vector"
    return "real" if np.dtype(dtype).kind == "f" else "categorical"


def resolve_labels(
    labels: str | LabelMap | None,
    dtype: np.dtype[Any],
    ndim: int,
    stored: tuple[str, str] | None = None,
) -> LabelMap:
    """Return the label map that a caller asks for, or the one that the data suggest.

    stored: label kind and norm of a store, if the labels lie in one.

    Raises
    ------
    InvalidOptionError
        For an unknown name.
    """
    if isinstance(labels, LabelMap):
        return labels
    if labels is None:
        return LabelMap(*stored) if stored else LabelMap(infer_label_kind(dtype, ndim))
    if isinstance(labels, str):
        kind, _, norm = labels.partition("-")
        return LabelMap(kind, norm or "l2")
    raise InvalidOptionError(f"labels must be a name or a LabelMap, not {type(labels).__name__}")
