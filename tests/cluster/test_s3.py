"""Stores on S3: a server process on loopback, the same results, and what goes wrong in one line."""

import subprocess
import sys

import dask
import numpy as np
import pytest
import s3fs
from click.testing import CliRunner

import dskrobust as dr
from dskrobust import cli
from dskrobust.errors import DamagedStoreError, StoreError
from dskrobust.scores import run_memo
from dskrobust.store import find_results

BUCKET = "data"
ONCE = {"config_kwargs": {"retries": {"max_attempts": 0}}}
BLOCKS = dr.RunOptions(dr.Resources(2, 1, None), block_rows=200)

# Ends with the process that started it: then its standard input is closed.
SERVER = """
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def options():
    """Storage options of a server that has an empty bucket."""
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with server:
        address = f"http://127.0.0.1:{int(server.stdout.readline())}"
        given = {"endpoint_url": address, "key": "testing", "secret": "testing"}
        s3fs.S3FileSystem(**given).mkdir(BUCKET)
        yield given
        server.stdin.close()


def arrays():
    rng = np.random.default_rng(3)
    y = np.array(["owl", "cat", "dog"])[rng.integers(0, 3, 400)]
    return rng.normal(size=(400, 6)), y, np.where(np.arange(400) < 300, "train", "test")


@pytest.fixture
def store(options, request):
    url = f"s3://{BUCKET}/{request.node.name}.zarr"
    return dr.create_store(url, *arrays(), storage_options=options)


def test_two_workers_score_a_store_that_another_process_wrote(store, options, client):
    assert find_results(store) == []
    found = dr.sample_robustness(store, options=BLOCKS).write()
    alone = dr.sample_robustness(*arrays()).compute(scheduler="sync")
    for name in ("robustness", "lipschitz", "reach", "witness"):
        np.testing.assert_array_equal(getattr(found, name), getattr(alone, name))
    # what another process has written is listed at once, in a store that was open before too
    assert [r.name for r in find_results(store)] == [found.result.name]
    assert client.submit(_results, store.url, options).result() == [found.result.name]


def _results(url, options):
    return [r.name for r in find_results(dr.open_store(url, options))]


def test_only_missing_tiles_run_and_steps_are_kept(store, options):
    scores = dr.sample_robustness(store, options=BLOCKS)
    graph = dict(scores.reach.__dask_graph__())
    diagonal = [k for k in graph if str(k[0]).startswith("tile-") and k[1] == k[2]]
    with dask.config.set(scheduler="sync"):
        dask.get(graph, diagonal)
        again = dr.sample_robustness(dr.open_store(store.url, options), options=BLOCKS)
        assert run_memo(again.store, again.spec).count() == 2
        events = []
        with dr.live(again) as view:
            view.progress.add = lambda pairs, found: events.append(found)
            again.write()
        assert (len(events), sum(events)) == (3, 2)
        asked = {
            "train": {"x": "train", "x_L": "train:L100"},
            "test": {"t": "test"},
            "models": [dr.Model("knn", {"neighbors": [1, 3]})],
        }
        table = dr.evaluate(store, **asked).compute().table
        assert len(table) == 4
        repeated = dr.evaluate(dr.open_store(store.url, options), **asked)
        assert repeated.finished() == len(repeated.jobs) > 0


def test_damage_is_named(store, options):
    files = s3fs.S3FileSystem(**options, use_listings_cache=False)
    chunk = f"{store.url}/{store.state.segments[0].path}/features/c/0/0"
    whole = files.cat_file(chunk)
    files.pipe_file(chunk, whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:])
    with pytest.raises(DamagedStoreError, match=r"features' .*chunk 0"):
        store.features[:3]
    files.rm_file(chunk)
    with pytest.raises(DamagedStoreError, match=r"features' .*chunk 0 \(rows from 0\) is missing"):
        store.features[:3]


def test_the_environment_says_where_s3_is(store, options, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", options["endpoint_url"])
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", options["key"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", options["secret"])
    done = CliRunner().invoke(cli.main, ["show", store.url])
    assert done.exit_code == 0, done.output
    assert "400 × 6 float64" in done.output
    assert f"dskrobust compute {store.url}" in done.output


@pytest.mark.parametrize(
    ("url", "change", "message"),
    [
        ("s3://data/none.zarr", {}, "there is no store at s3://data/none.zarr"),
        ("s3://elsewhere/x.zarr", {}, "there is no store at"),
        ("s3://data/none.zarr", {"nonsense": 1}, "cannot be reached"),
        (
            "s3://data/none.zarr",
            {"endpoint_url": "http://127.0.0.1:9", **ONCE},
            "cannot be reached: .*check the address, the credentials and the storage options",
        ),
    ],
)
def test_what_cannot_be_opened_is_one_line(options, url, change, message, monkeypatch):
    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)
    with pytest.raises(StoreError, match=message) as caught:
        dr.open_store(url, {**options, **change})
    assert "\n" not in str(caught.value)


def test_what_cannot_be_written_is_one_line(store, options):
    with pytest.raises(StoreError, match="is already a store"):
        dr.create_store(store.url, *arrays(), storage_options=options)
    with pytest.raises(StoreError, match=r"nothing can be written to s3://elsewhere/x\.zarr"):
        dr.create_store("s3://elsewhere/x.zarr", *arrays(), storage_options=options)
