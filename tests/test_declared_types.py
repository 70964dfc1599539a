"""Options and arguments of another type than declared are refused by name."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
import pandas as pd
import pytest

import dskrobust as dr
from dskrobust.cluster.options import Patience
from dskrobust.datasets.dialect import CsvOptions
from dskrobust.datasets.reader import ReaderOptions
from dskrobust.datasets.splits import SplitOptions
from dskrobust.declared_types import check_types, checked_arguments, told

if TYPE_CHECKING:
    from distributed import Client

NEEDED = {
    dr.Experiment: {"train": {"x": "a"}, "test": {"t": "b"}, "models": [dr.Model("knn")]},
    dr.LabelMap: {"kind": "vector"},
    dr.Model: {"kind": "knn"},
    dr.StoreSpec: {"name": "own", "label_kind": "categorical"},
}
OPTIONS = (dr.ClusterOptions, dr.EmbeddingOptions, dr.PreparationOptions, dr.ReportOptions,
           dr.Resources, dr.ReviewOptions, dr.RunOptions, dr.Validation, dr.Windows, Patience,
           CsvOptions, ReaderOptions, SplitOptions, *NEEDED)  # fmt: skip
CALLED = {"count": "windows", "grid": "grid", "connect": "connect"}  # in checks of their own
FREE = {"texts", "preparation"}  # of any type, checked where they are used
TAKEN = {
    "drop": (np.ndarray, pd.DataFrame, da.Array),
    "image_shape": np.ndarray,
    "resize": np.ndarray,
    "norm": type,
}  # names, sizes and functions
ODD = (np.array([1, 2]), np.zeros((2, 2)), pd.DataFrame({"a": [1]}), da.ones(2, chunks=1), object(),
       1j, int)  # fmt: skip


@dataclass(frozen=True)
class Own:
    share: float = 0.5
    count: int = 1
    names: tuple[str, ...] | None = None
    by: Mapping[str, Any] | None = None
    quiet: bool = False

    def __post_init__(self):
        check_types(self)


@pytest.mark.parametrize("options", OPTIONS, ids=lambda one: one.__name__)
def test_every_field_of_every_option_is_checked_before_it_is_used(options):
    assert is_dataclass(options)
    for field in fields(options):
        for value in ODD if field.name not in FREE else ():
            if isinstance(value, TAKEN.get(field.name, ())):
                continue
            said = CALLED.get(field.name, rf"\b{field.name}")
            with pytest.raises(dr.errors.DskrobustError, match=said):
                options(**{**NEEDED.get(options, {}), field.name: value})


def test_numpys_scalars_become_pythons_and_lists_tuples():
    own = Own(np.float32(0.5), np.int64(3), np.array(["a", "b"]), {"x": 1}, np.bool_(True))
    assert own == Own(0.5, 3, ("a", "b"), {"x": 1}, quiet=True)
    assert (type(own.share), type(own.count), own.quiet) == (float, int, True)
    assert Own(names=["a"]).names == ("a",)
    assert Own(1).share == 1


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"share": "x"}, "share must be a number, not 'x'"),
        ({"share": True}, "share must be a number, not True"),
        ({"count": 1.0}, "count must be a whole number, not 1.0"),
        ({"names": "ab"}, "names must be a list of texts or None, not 'ab'"),
        ({"names": [1]}, "names must be a list of texts or None, not tuple"),
        ({"by": {1: 2}}, "by must be a mapping by names or None, not dict"),
        ({"quiet": 1}, "quiet must be True or False, not 1"),
        ({"count": np.zeros((2, 3))}, "count must be a whole number, not ndarray of shape (2, 3)"),
    ],
)
def test_what_is_said_of_a_field(given, said):
    with pytest.raises(dr.errors.InvalidOptionError) as caught:
        Own(**given)
    assert str(caught.value) == said


@checked_arguments()
def own(data: Any, name: str, rows: Sequence[int] | None = (), out: str | os.PathLike[str] = "x", *,
        client: "Client | None" = None, k: int = 1, **more: int) -> str:  # fmt: skip
    """Return what was given."""
    return f"{data}{name}{sum(rows)}{out}{client}{more}"


def test_arguments_are_checked_where_their_types_are_known():
    assert own(3, "a", np.arange(2), Path("b"), client=7, more="c") == "3a1b7{'more': 'c'}"
    assert (own.__name__, own.__doc__) == ("own", "Return what was given.")
    for given, said in (
        ((1, 2), "name must be text, not 2"),
        ((1, np.zeros(2)), "name must be text, not ndarray of shape (2,)"),
        ((1, "a", (), 5), "out must be text or a path, not 5"),
    ):
        with pytest.raises(dr.errors.InvalidOptionError) as caught:
            own(*given)
        assert str(caught.value) == said
    assert own(1, "a", more=2, k="own check", client=None, out=Path("x")) == "1a0xNone{'more': 2}"
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'name'"):
        own(1)


def test_long_values_are_cut():
    assert told("x" * 100) == "'" + "x" * 59 + "…"
    assert [told(int), told(None), told([1])] == ["type int", "None", "list"]


def test_every_public_function_checks_its_arguments():
    scores = dr.sample_robustness(np.arange(6.0)[:, None], np.arange(6) % 2)
    for call in (
        lambda: dr.alignment(scores, np.zeros(2), "all"),
        lambda: dr.select_subset(scores, None),
        lambda: dr.least_robust(scores, 2, pd.Series([1])),
        lambda: dr.match(scores, "all", "all", 3, tolerance="x"),
        lambda: dr.label_quality(scores, options=3),
        lambda: dr.make_folds("nosuch", 3, stratify=3),
        lambda: dr.natural_adversarials(scores, "all", "all", bins="x"),
        lambda: dr.natural_adversarials(scores, "all", "all", seed=-1),
        lambda: dr.verify_store("nosuch", sample=-1),
        lambda: dr.verify_store("nosuch", seed="x"),
        lambda: dr.apply_decisions("nosuch", "new", progress=True),
    ):
        with pytest.raises(dr.errors.InvalidOptionError, match="must be"):
            call()
