"""A store's embedding: the model's own values to the last bit, whoever computed them."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from distributed import Client, LocalCluster
from helpers import array_folder
from sklearn.datasets import load_digits

import dskrobust as dr
from dskrobust.embedding import embedding, plan
from dskrobust.embedding.plan import EmbeddingWork, Probe, make_embedding_plan
from dskrobust.engine.footprint import USABLE
from dskrobust.engine.plan import MIB, Resources, base_bytes
from dskrobust.errors import (
    ClusterError,
    DamagedStoreError,
    EmbeddingError,
    InvalidOptionError,
    MemoryPlanError,
    StoreError,
)
from dskrobust.processes import peak_memory
from dskrobust.store import Block, Store, arrays, write_store

torch = pytest.importorskip("torch")

import own_embeddings as own  # noqa: E402
import own_networks  # noqa: E402

ROWS = 300
SUMS = "own_embeddings:sums"
ENCODER = "torch:own_networks.Encoder"


@pytest.fixture(scope="module")
def images():
    """Rows of 8 × 8 pixels as bytes, and their classes."""
    X, y = load_digits(n_class=3, return_X_y=True)
    return X[:ROWS].astype(np.uint8), y[:ROWS]


@pytest.fixture(scope="module")
def url(images, tmp_path_factory):
    """Digits as images, with names of classes and groups, and ids."""
    X, y = images
    names = np.array(["nought", "one", "two"])[y]
    split = np.where(np.arange(ROWS) < 220, "train", "test")
    spec = dr.StoreSpec("digits", "categorical", scale=1 / 16, image_shape=(8, 8))
    ids = [f"image {k}" for k in range(ROWS)]
    place = str(tmp_path_factory.mktemp("digits") / "d.zarr")
    return dr.create_store(place, X, names, split, ids=ids, spec=spec).url


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A file with the weights of an encoder."""
    torch.manual_seed(3)
    path = tmp_path_factory.mktemp("weights") / "encoder.pt"
    torch.save(own_networks.Encoder().state_dict(), path)
    return str(path)


@pytest.fixture(scope="module")
def here():
    """A client of two threads in this process."""
    with (
        LocalCluster(
            n_workers=1, threads_per_worker=2, processes=False, protocol="tcp", host="127.0.0.1",
            dashboard_address="127.0.0.1:0", silence_logs=50,
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):  # fmt: skip
        yield client


def scaled(X, scale=1 / 16):
    return np.multiply(X, scale, dtype="f8").astype("f4")


def applied(model, X, batch, threads=1):
    """What a torch module makes of images in this process, batch by batch."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.inference_mode():
            parts = [torch.from_numpy(X[a : a + batch]) for a in range(0, len(X), batch)]
            return np.concatenate([model.eval()(part).numpy() for part in parts])
    finally:
        torch.set_num_threads(before)


def encoder(weights):
    module = own_networks.Encoder()
    module.load_state_dict(torch.load(weights))
    return module


# -- values --------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [7, 1000])
@pytest.mark.parametrize("where", ["client", "here"])
def test_it_is_the_model_applied_in_one_process(
    request, monkeypatch, where, batch, url, images, weights, tmp_path
):
    """Also where blocks are batches, or more than the rows, and writes begin inside of blocks."""
    client, threads = request.getfixturevalue(where), 1 if where == "client" else 2
    expected = applied(encoder(weights), scaled(images[0]).reshape(-1, 1, 8, 8), batch, threads)
    options = dr.EmbeddingOptions(weights=weights, batch_rows=batch)
    for block, unit in ((1, 2**20), (80 * 30, 64), (2**25, 2**20)):
        monkeypatch.setattr(plan, "BLOCK_BYTES", block)
        monkeypatch.setattr(arrays, "UNIT_BYTES", unit)
        told = []
        made = dr.embed(
            url, ENCODER, tmp_path / "e.zarr", options, client=client, overwrite=True,
            progress=told.append,
        )  # fmt: skip
        assert made.features[:].dtype == np.float32
        assert np.array_equal(made.features[:], expected)
        assert sum(told) <= ROWS  # events may come late
    assert len(made.segments) == 1


def test_labels_split_ids_and_names_are_those_of_the_source(here, url, tmp_path):
    source = dr.open_store(url)
    made = dr.embed(url, SUMS, tmp_path / "own-emb.zarr", client=here)
    assert made.labels.dtype == source.labels.dtype
    for name in ("labels", "split", "ids"):
        assert np.array_equal(getattr(made, name)[:], getattr(source, name)[:]), name
    assert (made.groups, made.spec.classes) == (source.groups, source.spec.classes)
    assert (made.spec.label_kind, made.spec.name) == ("categorical", "own-emb")
    assert (made.spec.scale, made.spec.image_shape) == (1, None)
    assert [note.kind for note in made.notes]
    dr.verify_store(made)


def test_whole_number_ids_and_real_labels(here, tmp_path):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(90, 4)), rng.normal(size=(90, 2))
    scaling = {"features": {"min": [0] * 4, "max": [1] * 4}, "labels": {"min": 3, "max": 5}}
    spec = dr.StoreSpec("v", "vector", scale=0.5, scaling=scaling)
    source = dr.create_store(str(tmp_path / "v.zarr"), X, y, ids=np.arange(90) * 7, spec=spec)
    made = dr.embed(source, own.sums, tmp_path / "e.zarr", client=here)
    assert np.array_equal(made.ids[:], np.arange(90) * 7)
    assert np.array_equal(made.labels[:], y)
    assert np.array_equal(made.features[:], own.sums((X * 0.5).astype("f4")))
    assert made.spec.scaling == {"labels": {"min": 3, "max": 5}}
    assert made.spec.provenance["model"] == "own_embeddings:sums"


@pytest.mark.filterwarnings("ignore::zarr.errors.UnstableSpecificationWarning")
def test_rows_of_several_segments_and_linked_labels(here, tmp_path):
    import zarr

    X = np.arange(60, dtype="f4").reshape(20, 3)
    names = np.array(["b", "a"])[np.arange(20) % 2]
    for name, array in (("x", X), ("y", names.astype("U1"))):
        zarr.save_array(str(tmp_path / name), array)
    linked = dr.link_store(
        tmp_path / "l.zarr", *(zarr.open_array(str(tmp_path / n), mode="r") for n in "xy")
    )
    made = dr.embed(linked, SUMS, tmp_path / "e.zarr", client=here)
    assert np.array_equal(made.labels[:], linked.labels[:])
    assert made.spec.classes == linked.spec.classes == ("a", "b")
    np.savez(tmp_path / "more.npz", X=X, y=names)
    grown = dr.append(dr.create_store(tmp_path / "g.zarr", X, names), str(tmp_path / "more.npz"))
    twice = dr.embed(grown, SUMS, tmp_path / "e2.zarr", client=here)
    assert np.array_equal(twice.features[:], own.sums(np.concatenate([X, X])))
    assert len(twice.spec.provenance["source_fingerprint"]) == 2


def test_images_of_bytes_without_a_scale_are_brought_to_one(here, images, tmp_path):
    spec = dr.StoreSpec("d", "categorical", image_shape=(8, 8))
    source = dr.create_store(str(tmp_path / "d.zarr"), *images, spec=spec)
    made = dr.embed(source, SUMS, tmp_path / "e.zarr", client=here)
    assert np.array_equal(made.features[:, 2], scaled(images[0], 1 / 255)[:, 0])


def test_without_a_client_it_runs_in_threads_of_this_process(url, images, tmp_path):
    made = dr.embed(url, SUMS, tmp_path / "e.zarr")
    assert np.array_equal(made.features[:], own.sums(scaled(images[0]).reshape(-1, 1, 8, 8)))


def test_what_is_computed_from_it(here, url, tmp_path):
    made = dr.embed(url, SUMS, tmp_path / "e.zarr", client=here)
    assert len(dr.sample_robustness(made).to_frame()) == ROWS


# -- who does it -----------------------------------------------------------------------------------


def test_workers_do_everything_and_load_the_model_once(client, url, tmp_path, monkeypatch):
    def read(self, *args, **kwargs):
        raise AssertionError("rows were read in the client")

    monkeypatch.setattr(plan, "BLOCK_BYTES", 1)

    def made_so_far():
        return getattr(sys.modules.get("own_embeddings"), "made", 0)

    before = client.run(made_so_far)
    with monkeypatch.context() as patch:
        patch.setattr(Store, "read", read)
        made = dr.embed(
            url, "own_embeddings:Counted", tmp_path / "e.zarr", dr.EmbeddingOptions(batch_rows=4)
        )
    found = made.features[:]
    pids = {int(pid) for pid in found[:, 0]}
    workers = dict(client.run(os.getpid))
    assert pids == set(workers.values())
    assert own.made == 0
    for address, pid in workers.items():
        assert set(found[found[:, 0] == pid, 1]) == {before[address] + 1}
    held = client.run(lambda: sys.modules["dskrobust.embedding.tasks"].held_model._kept)
    assert set(held.values()) == {None}


def test_a_function_of_the_caller_goes_to_the_workers(client, url, images, tmp_path):
    table = np.arange(64, dtype="f4")

    def mixed(batch):
        return batch.reshape(len(batch), -1) * table

    made = dr.embed(url, mixed, tmp_path / "e.zarr")
    assert np.array_equal(made.features[:], scaled(images[0]) * table)
    assert "mixed" in made.spec.provenance["model"]


# -- the paper's network ---------------------------------------------------------------------------


def test_cnn_is_trained_on_the_training_rows_and_cut_before_its_last_layer(
    client, url, images, tmp_path
):
    from dskrobust.evaluation.models.networks.trials import Training, Trials

    made = dr.embed(url, "cnn", tmp_path / "e.zarr", dr.EmbeddingOptions(epochs=2, seed=5))
    assert made.features.shape == (ROWS, 512)
    X, y = images
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        training = Training("cnn", (1, 8, 8), 3, scale=1 / 16)
        trials = Trials(training, X[:220], y[:220].astype(np.int64), [5])
        for _ in range(2):
            trials.train_epoch()
        last = trials.networks[0].get_submodule("output")
        logits = made.features[:] @ last.kernel[0].detach().numpy() + last.bias[0].detach().numpy()
        p = trials.probabilities(X)[0]
    finally:
        torch.set_num_threads(before)
    shares = np.exp(logits - logits.max(1, keepdims=True))
    np.testing.assert_allclose(shares / shares.sum(1, keepdims=True), p, rtol=1e-3, atol=1e-5)
    again = dr.embed(url, "cnn", tmp_path / "f.zarr", dr.EmbeddingOptions(epochs=2, seed=5))
    other = dr.embed(url, "cnn", tmp_path / "g.zarr", dr.EmbeddingOptions(epochs=2, seed=6))
    assert np.array_equal(again.features[:], made.features[:])
    assert not np.array_equal(other.features[:], made.features[:])
    assert again.spec.provenance["weights"] == made.spec.provenance["weights"]
    assert "2 epochs on 220 rows from seed 5" in made.spec.embedding


def test_cnn_learns_from_all_rows_where_no_group_is_called_train(here, images, tmp_path):
    X, y = images
    spec = dr.StoreSpec("d", "categorical", image_shape=(8, 8))
    source = dr.create_store(str(tmp_path / "d.zarr"), X[:60], y[:60] * 5, spec=spec)
    made = dr.embed(source, "cnn", tmp_path / "e.zarr", dr.EmbeddingOptions(epochs=1), client=here)
    assert "on 60 rows" in made.spec.embedding


@pytest.mark.parametrize("kind", ["real", "shapeless", "small", "one class"])
def test_cnn_where_it_cannot_be_trained(here, images, tmp_path, kind):
    X, y = images
    shape = {"shapeless": None, "small": (4, 16)}.get(kind, (8, 8))
    y = y * 0.5 if kind == "real" else np.zeros(ROWS, int) if kind == "one class" else y
    spec = dr.StoreSpec("d", "real" if kind == "real" else "categorical", image_shape=shape)
    source = dr.create_store(str(tmp_path / "d.zarr"), X, y, spec=spec)
    words = {"real": "needs classes", "shapeless": "how its rows are images", "small": "at least 8"}
    with pytest.raises((InvalidOptionError, EmbeddingError), match=words.get(kind, "of one class")):
        dr.embed(source, "cnn", tmp_path / "e.zarr", client=here)
    assert not (tmp_path / "e.zarr").exists()


# -- where it comes from ---------------------------------------------------------------------------


def test_the_new_store_says_where_it_comes_from(here, url, weights, tmp_path):
    import hashlib

    options = dr.EmbeddingOptions(weights=weights, layer="pool", name="pooled")
    made = dr.embed(url, ENCODER, tmp_path / "e.zarr", options, client=here)
    told, source = made.spec.provenance, dr.open_store(url)
    digest = hashlib.sha256(Path(weights).read_bytes()).hexdigest()
    assert made.spec.name == "pooled"
    assert (told["reader"], told["source"], told["model"]) == ("embedding", url, ENCODER)
    assert told["source_fingerprint"] == [d for _, d in source.segments]
    assert told["layer"] == "output of layer pool"
    assert told["files"][0]["sha256"] == digest
    assert told["versions"]["torch"]
    assert (told["batch_rows"], told["device"]) == (64, "cpu")
    words = f"of {url} by {ENCODER}, output of layer pool, weights SHA-256 {digest}"
    assert made.spec.embedding == words
    assert digest in made._repr_html_()
    assert source.spec.embedding == ""


# -- what goes wrong -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stumbling(tmp_path_factory):
    """Rows of which number 150 is one that models stumble over."""
    X = np.zeros((200, 4))
    X[150, 0] = own.BAD_ROW
    return dr.create_store(str(tmp_path_factory.mktemp("s") / "s.zarr"), X, np.arange(200) % 2).url


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("raises", r"failed on rows 128 to 191, given as \(64, 4\): RuntimeError: this row is too"),
        ("infinite", "of rows 128 to 191 it made inf of row 150, column 1"),
        ("loses_rows", r"of rows 128 to 191 it returned the shape \(63, 3\)"),
        ("narrower", "of rows 128 to 191 it returned 2 columns, of other rows 3"),
        ("wrong_rank", r"of rows 0 to 63 it returned the shape \(64, 3, 2\)"),
        ("flat", r"of rows 0 to 63 it returned the shape \(64,\)"),
        ("text", "of dtype <U1, no numbers"),
        ("nothing", "returned NoneType of dtype object"),
        ("random", "two different embeddings of the same rows"),
        ("BAD_ROW", "is a float, and cannot be called"),
        ("nowhere", "own_embeddings.nowhere cannot be imported: AttributeError"),
    ],
)
def test_a_model_that_misbehaves_is_named_with_its_rows(here, stumbling, tmp_path, model, words):
    out = tmp_path / "e.zarr"
    with pytest.raises(EmbeddingError, match=words) as caught:
        dr.embed(stumbling, f"own_embeddings:{model}", out, client=here)
    assert f"model own_embeddings:{model}: " in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == []


def test_errors_come_back_from_worker_processes(client, stumbling, tmp_path):
    with pytest.raises(EmbeddingError, match="row 150, column 1"):
        dr.embed(stumbling, "own_embeddings:infinite", tmp_path / "e.zarr")


def test_a_store_that_is_there_is_only_replaced_by_a_finished_one(here, stumbling, tmp_path):
    out = tmp_path / "e.zarr"
    dr.embed(stumbling, SUMS, out, client=here)
    with pytest.raises(StoreError, match="is already a store"):
        dr.embed(stumbling, SUMS, out, client=here)
    with pytest.raises(EmbeddingError):
        dr.embed(stumbling, "own_embeddings:raises", out, client=here, overwrite=True)
    assert dr.open_store(out).columns == 3
    dr.embed(stumbling, lambda batch: batch, out, client=here, overwrite=True)
    assert dr.open_store(out).columns == 4


def test_the_source_is_never_written_over(here, stumbling, tmp_path):
    (tmp_path / "link.zarr").symlink_to(stumbling)
    for place in (stumbling, f"{stumbling}/", tmp_path / "link.zarr"):
        with pytest.raises(InvalidOptionError, match="is the store that is embedded"):
            dr.embed(stumbling, SUMS, place, client=here, overwrite=True)
    assert dr.open_store(stumbling).rows == 200


def test_a_damaged_source_is_named(here, tmp_path):
    source = dr.create_store(str(tmp_path / "s.zarr"), np.ones((50, 4)), np.arange(50) % 2)
    chunk = next(array_folder(source.url, "features").rglob("c/0/0"))
    chunk.write_bytes(chunk.read_bytes()[:-9] + b"123456789")
    with pytest.raises(DamagedStoreError):
        dr.embed(source, SUMS, tmp_path / "e.zarr", client=here)
    assert not (tmp_path / "e.zarr").exists()


def test_workers_that_see_no_gpu(here, url, weights, tmp_path):
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    options = dr.EmbeddingOptions(weights=weights, device="gpu")
    with pytest.raises(ClusterError, match=r"worker tcp://.* sees no GPU.*device='cpu'"):
        dr.embed(url, ENCODER, tmp_path / "e.zarr", options, client=here)


# -- memory ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [None, 600 * MIB, 4096 * MIB])
@pytest.mark.parametrize("batch", [1, 64, 5_000])
@pytest.mark.parametrize("row", [4, 150_528])
def test_blocks_cover_all_rows_and_keep_the_limit(limit, batch, row):
    work = EmbeddingWork(10_000, batch, row, 4 * MIB, 1_024)
    resources = Resources(2, 2, limit)
    probe = Probe(64, 0, 10 * MIB, 0, 0.01)
    if limit == 600 * MIB and batch * row > 100 * MIB:
        with pytest.raises(MemoryPlanError, match=r"5000 rows; the limit is 600 MiB"):
            make_embedding_plan(work, probe, resources)
        return
    made = make_embedding_plan(work, probe, resources)
    edges = [edge for block in made.blocks for edge in block]
    assert (edges[0], edges[-1]) == (0, 10_000)
    assert edges[1:-1:2] == edges[2::2]
    assert all(lo % batch == 0 for lo, _ in made.blocks)
    assert made.peak_bytes >= base_bytes()
    assert limit is None or made.peak_bytes <= limit * USABLE


def test_slow_models_get_small_blocks():
    work = EmbeddingWork(100_000, 10, 4, MIB, 1_024)
    fast, slow = (make_embedding_plan(work, Probe(8, 0, 0, 0, s), Resources()) for s in (0.01, 5.0))
    assert len(fast.blocks) < len(slow.blocks) == 100_000 // 30 + 1


def test_what_does_not_fit_is_refused_before_anything_is_written(
    here, url, tmp_path, monkeypatch, weights
):
    monkeypatch.setattr(embedding, "resources_of", lambda client: Resources(1, 1, 300 * MIB))
    with pytest.raises(MemoryPlanError, match="limit is 300 MiB") as caught:
        dr.embed(url, SUMS, tmp_path / "e.zarr", client=here)
    assert "--batch-rows" in caught.value.on_command_line
    with pytest.raises(MemoryPlanError, match="training takes about"):
        dr.embed(url, "cnn", tmp_path / "e.zarr", client=here)
    assert list(tmp_path.iterdir()) == []


def test_a_store_larger_than_the_workers_memory(tmp_path, monkeypatch):
    """The measured peak stays below the projected one."""
    rows, columns = 36_864, 16_384
    rng = np.random.default_rng(0)
    count = 4_096
    some = rng.integers(0, 256, (count, columns), np.uint8)
    block = Block(some, np.arange(count) % 2, np.zeros(count, np.int16))
    spec = dr.StoreSpec("s", "categorical")
    source = write_store(str(tmp_path / "s.zarr"), spec, [block] * (rows // count))
    plans, limit = [], 512 * MIB
    assert rows * columns > limit
    real = embedding.make_embedding_plan

    def planned(*arguments):
        plans.append(real(*arguments))
        return plans[-1]

    monkeypatch.setattr(embedding, "make_embedding_plan", planned)
    options = dr.ClusterOptions(workers=1, threads=1, memory_limit=limit, dashboard=False)
    with dr.connect(options) as client:
        made = dr.embed(source, "own_embeddings:sums", tmp_path / "e.zarr", client=client)
        (peak,) = client.run(peak_memory).values()
    assert made.features.shape == (rows, 3)
    assert peak <= plans[0].peak_bytes <= USABLE * limit, (peak / MIB, plans[0].peak_bytes / MIB)
