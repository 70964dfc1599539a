"""Of n rows no command reads more than a few chunks at once, and none holds them all."""

import json

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from dask.callbacks import Callback

import dskrobust as dr
from dskrobust import (
    cli,
    data_issues,
    export,
    label_issues,
    label_planting,
    records,
    scores,
    stored_rows,
    verify,
    witnesses,
)
from dskrobust.report import StoredResults, results
from dskrobust.report.tables import closest_pairs, extremes
from dskrobust.show import overview
from dskrobust.show.overview import Overview
from dskrobust.store import ResultTables, Store, arrays, current_results, inspection

ROWS, BLOCK, DRAWN = 900, 40, 100
LIMITS = [
    (scores, "RESULT_ROWS", BLOCK), (records, "BLOCK_ROWS", BLOCK), (export, "BLOCK_ROWS", BLOCK),
    (export, "NAMED_ROWS", BLOCK), (results, "BLOCK_ROWS", BLOCK),
    (stored_rows, "BLOCK_ROWS", BLOCK),
    (label_issues, "NAMED_ROWS", BLOCK), (label_issues, "SORTED_ROWS", BLOCK),
    (witnesses, "ROWS", DRAWN), (overview, "SAMPLE_ROWS", DRAWN), (results, "SAMPLE_ROWS", DRAWN),
    (label_planting, "SAMPLE_ROWS", DRAWN), (data_issues, "DRAWN", DRAWN),
    (inspection, "ROWS", BLOCK), (verify, "SLICE_BYTES", 4 * 8 * BLOCK),
    (arrays, "UNIT_BYTES", 4 * 8 * 32),
]  # fmt: skip


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A scored store of many small chunks, and everything cut as if it were large."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(ROWS, 4)), rng.integers(0, 5, ROWS)
    X[700], X[5] = X[800], X[6]
    X[[300, 301]] = X[[302, 303]] + 1e-3  # near
    y[[300, 301]] = (y[[302, 303]] + 1) % 5
    y[[700, 800, 5, 6]] = 0, 1, 2, 3
    split = np.where(rng.random(ROWS) < 0.7, "train", "test")
    split[[700, 800, 5, 6]] = "train"
    with pytest.MonkeyPatch.context() as patch:
        for module, name, value in LIMITS:
            patch.setattr(module, name, value)
        url = str(tmp_path_factory.mktemp("flat") / "flat.zarr")
        dr.label_quality(dr.create_store(url, X, y, split)).write()
        yield dr.open_store(url)


def results_of(store):
    return StoredResults(store, current_results(store))


@pytest.fixture(scope="module")
def whole(large):
    """What the same store shows where nothing is a sample."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(overview, "SAMPLE_ROWS", ROWS)
        found = results_of(large)
        assert not found.overview.is_sample
    return found


@pytest.fixture
def read(monkeypatch):
    """Rows of everything that is read of a store or of its results, one entry a read."""
    seen = []
    for kind, at in ((Store, 1), (ResultTables, 1)):
        real = kind.read

        def look(self, *args, real=real, at=at, **more):
            seen.append(args[at + 1] - args[at])
            return real(self, *args, **more)

        monkeypatch.setattr(kind, "read", look)
    return seen


def invoke(*words):
    done = CliRunner().invoke(cli.main, list(map(str, words)))
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.mark.parametrize(
    "words",
    [("show",), ("show", "--json"), ("verify", "--sample", 30), ("issues", "--top", 5),
     ("issues", "--out", "{out}"), ("export", "--out", "{out}")],
)  # fmt: skip
def test_no_command_reads_more_than_some_chunks_at_once(large, read, tmp_path, words):
    command, *others = (str(w).format(out=tmp_path / "a.parquet") for w in words)
    most = []

    def look(key, result, dask, state, worker):
        most.append(np.size(result) if isinstance(result, np.ndarray) else 0)

    with Callback(posttask=look):
        invoke(command, large.url, *others)
    assert max(read) <= BLOCK
    assert max(most, default=0) <= max(DRAWN, 5 * 2 * 3 * ROWS // BLOCK)
    if (tmp_path / "a.parquet").exists():
        assert pd.read_parquet(tmp_path / "a.parquet")["row"].tolist() == list(range(ROWS))


def test_of_a_sample_only_quantiles_are_of_the_sample(large, whole):
    found, every = Overview.of(dr.sample_robustness(large)), whole.overview
    assert found.is_sample
    assert len(found.drawn) == DRAWN
    assert (np.diff(found.drawn["row"]) > 0).all()
    np.testing.assert_array_equal(found.drawn, every.drawn[found.drawn["row"]])
    np.testing.assert_array_equal(found.drawn, Overview.of(dr.sample_robustness(large)).drawn)
    assert found.ranges == every.ranges
    np.testing.assert_array_equal(found.lowest, every.lowest)
    assert (found.contradictions, found.twins["row"].tolist()) == (4, [5, 6, 700, 800])
    assert found.contradiction_line() == every.contradiction_line()
    facts = json.loads(invoke("show", large.url, "--json"))
    assert facts["sampled"] == DRAWN
    assert "random sample of 100 samples" in " ".join(invoke("show", large.url).split())


def test_a_report_of_a_sample_has_the_extremes_of_all(large, whole, read):
    found = results_of(large)
    assert len(found.samples) == DRAWN
    for known in (False, True):
        tables = [
            extremes(r.extreme_samples(3, r.labels_called(()), known=known), r.main_group, 3, 40)
            for r in (found, whole)
        ]
        pd.testing.assert_frame_equal(*tables)
    pairs = [closest_pairs(r.lowest_pairs(9), 9, whole.median_lipschitz) for r in (found, whole)]
    pd.testing.assert_frame_equal(*pairs)
    assert found.contradictions == whole.contradictions == 4
    found.median_lipschitz = whole.median_lipschitz
    assert found.near == whole.near > 0
    assert found.group_counts == whole.group_counts
    pd.testing.assert_frame_equal(found.label_issues(9), whole.label_issues(9))
    read.clear()
    again = results_of(large)
    assert (len(again.samples), again.near >= 0, len(again.lowest_pairs(9))) == (DRAWN, True, 18)
    assert max(read) <= BLOCK
