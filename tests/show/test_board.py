"""The page of Dask's dashboard: what it knows of runs, and that it is served beside Dask's own."""

import json
import shutil
from urllib.error import HTTPError
from urllib.request import urlopen

import dask
import numpy as np
import pytest
from distributed import Client, LocalCluster, default_client
from driving import driven

import dskrobust as dr
from dskrobust.show.dashboard import NOTHING, PLOTS, described
from dskrobust.show.run_board import POINTS, RunBoard


def plan(starts, rows, **more):
    blocks = len(starts)
    return {
        "run": "r", "title": "Euclidean robustness of own", "tiles": blocks * (blocks + 1) // 2,
        "pairs": rows * (rows - 1) // 2, "starts": starts, "rows": rows, "projected": 2**28, **more
    }  # fmt: skip


def tile(rows, columns, pairs=1, resumed=False):
    return {
        "rows": rows, "columns": columns, "pairs": pairs, "proven": 1, "bytes_read": 2**20,
        "seconds": 0.1, "resumed": resumed, "bounds": (),
    }  # fmt: skip


def test_a_tile_counts_once_in_whichever_order_its_blocks_are_named():
    run = RunBoard(plan([0, 10, 20], 30))
    for sides in (((0, 10), (10, 20)), ((10, 20), (0, 10)), ((20, 30), (20, 30))):
        run.take(tile(*sides, resumed=sides[0] == (20, 30)))
    assert (run.done, run.found, run.complete) == (2, 1, False)
    expected = np.full((3, 3), np.nan)
    expected[np.triu_indices(3)] = 0
    expected[0, 1] = expected[2, 2] = 1
    np.testing.assert_array_equal(run.shares(), expected)


def test_many_tiles_are_shown_by_the_share_that_is_done():
    blocks = 900
    starts = list(range(0, blocks * 5, 5))
    run = RunBoard(plan(starts, blocks * 5))
    for i in range(blocks):
        for j in range(i, blocks, 2):
            run.take(tile((starts[i], starts[i] + 5), (starts[j], starts[j] + 5)))
    shares = run.shares()
    assert shares.shape == (200, 200)
    shown = shares[np.triu_indices(200, 1)]
    assert 0.4 < shown.min() <= shown.max() < 0.6
    assert np.isnan(shares[np.tril_indices(200, -1)]).all()
    assert len(run.curve) <= POINTS
    assert run.curve[-1][1] == run.looked_at > 25 * run.done / 2


def test_names_are_text():
    said = described(RunBoard(plan([0], 5, title="<script>alert(1)</script>\x1b[2J")))
    assert "<script>" not in said
    assert "&lt;script&gt;" in said
    assert "\x1b" not in said
    assert described(None) == NOTHING


def read(address):
    with urlopen(address, timeout=20) as answer:
        return answer.read().decode()


@pytest.fixture
def data(tmp_path):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(2_000, 20)), rng.integers(0, 3, 2_000)
    return dr.create_store(str(tmp_path / "own <b>.zarr"), X, y)


@pytest.mark.cluster
def test_a_run_is_on_the_dashboard(data, tmp_path):
    """Behind a prefix, as a proxy needs it; in the menu, and as plots for JupyterLab."""
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, host="127.0.0.1", memory_limit="1GiB",
                     dashboard_address="127.0.0.1:0",
                     scheduler_kwargs={"http_prefix": "/user/me/proxy/8787"}) as cluster,
        Client(cluster) as client,
    ):  # fmt: skip
        root = f"http://127.0.0.1:{cluster.scheduler.http_server.port}/user/me/proxy/8787"
        with pytest.raises(HTTPError):
            read(f"{root}/robustness")
        for metric in ("euclidean", "cityblock"):
            scores = dr.sample_robustness(
                data, metric=metric, options=dr.RunOptions(block_rows=500)
            )
            with dr.live(scores):
                scores.write()
        assert 'href="robustness"' in read(f"{root}/status")
        assert "bokeh" in read(f"{root}/robustness")
        listed = json.loads(read(f"{root}/individual-plots.json"))
        ours = {name for name in listed.values() if "robustness" in name}
        assert ours == {f"/individual-robustness-{name}" for name in PLOTS}
        for name in ours:
            assert f"Dask: Robustness, {name.rsplit('-')[-1]}" in read(f"{root}{name}")
        board = client.run_on_scheduler(_newest)
        assert board == ("Cityblock robustness of own <b>.zarr", 10, 10, 2_000 * 1_999 // 2)
        _look(f"{root}/robustness", tmp_path)


@pytest.fixture(scope="module")
def client():
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, host="127.0.0.1", memory_limit="1GiB",
                     dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster) as client,
    ):  # fmt: skip
        yield client


BARE = {
    "write": lambda scores: scores.write(),
    "compute": lambda scores: scores.compute(),
    "persist": lambda scores: dask.compute(*dask.persist(scores)[0].lazy_arrays.values()),
    "dask.compute": dask.compute,
    "client.compute": lambda scores: default_client().compute(scores).result(),
}


@pytest.mark.cluster
@pytest.mark.parametrize("name", BARE)
def test_a_run_with_a_client_of_ones_own_is_shown(client, data, name):
    scores = dr.sample_robustness(data, options=dr.RunOptions(block_rows=500 + len(name)))
    BARE[name](scores)
    title, done, tiles, looked_at = client.run_on_scheduler(_newest)
    assert title == "Euclidean robustness of own <b>.zarr"
    assert (done, looked_at) == (tiles, 2_000 * 1_999 // 2)
    root = f"http://127.0.0.1:{client.cluster.scheduler.http_server.port}"
    assert 'href="robustness"' in read(f"{root}/status")


@pytest.mark.cluster
def test_neighbours_and_labels_are_shown_too(client, data):
    dr.nearest_neighbours(data, 3).write()
    assert client.run_on_scheduler(_newest)[0] == "Neighbours in own <b>.zarr"
    dr.label_quality(data).write()
    assert client.run_on_scheduler(_newest)[0] == "Label quality of own <b>.zarr"


@pytest.mark.cluster
def test_a_watched_run_is_told_of_once(client, data):
    scores = dr.sample_robustness(data, options=dr.RunOptions(block_rows=900))
    with dr.live(scores):
        client.run_on_scheduler(_mark)
        scores.write()
    assert client.run_on_scheduler(_mark) == 1


def _mark(dask_scheduler):
    """Count how often the newest run was marked: a run that is told of again has no mark."""
    run = dask_scheduler.plugins["dskrobust-board"].newest
    before = getattr(run, "marked", 0)
    run.marked = before + 1
    return before


@pytest.mark.cluster
def test_a_scheduler_that_takes_no_plugins_runs_as_well(client, data, monkeypatch):
    def refuse(*given, **more):
        raise PermissionError("this scheduler takes no plugins")

    monkeypatch.setattr(client, "register_plugin", refuse)
    lazy = dr.sample_robustness(data, metric="chebyshev")
    scores = lazy.write()
    assert scores.result is not None
    assert client.run_on_scheduler(_newest)[0] != lazy.title


@pytest.mark.cluster
def test_what_runs_in_this_process_is_not_told_to_a_scheduler(client, data):
    lazy = dr.sample_robustness(data, metric="cityblock")
    lazy.compute(scheduler="threads")
    with dask.config.set(scheduler="threads"):
        lazy.compute()
    assert client.run_on_scheduler(_newest)[0] != lazy.title


def _newest(dask_scheduler):
    run = dask_scheduler.plugins["dskrobust-board"].newest
    return run.title, run.done, run.tiles, run.looked_at


def _look(address, folder):
    """Look at the page in a browser, where there is one that can be driven."""
    browser = shutil.which("chromium")
    if browser is None:
        return
    with driven(browser, folder) as page:
        if page is None:
            return
        page.open(address)
        text = page.until(_WORDS)
        assert "Cityblock robustness of own <b>.zarr" in text
        assert "10 of 10 tiles, 100.0% of the pairs" in text


# Bokeh draws below shadow roots
_WORDS = """(() => {
  const roots = [document], told = [];
  while (roots.length) {
    const root = roots.pop();
    told.push(root.textContent || '');
    for (const one of root.querySelectorAll('*')) if (one.shadowRoot) roots.push(one.shadowRoot);
  }
  return told.find((text) => text.includes(' tiles, ')) || '';
})()"""


@pytest.mark.cluster
def test_a_scheduler_without_a_dashboard_computes_as_well(data):
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, host="127.0.0.1",
                     dashboard_address="127.0.0.1:0",
                     scheduler_kwargs={"dashboard": False}) as cluster,
        Client(cluster),
    ):  # fmt: skip
        scores = dr.sample_robustness(data)
        with dr.live(scores):
            scores.write()
    assert dr.sample_robustness(data).plan is None  # it is in the store
