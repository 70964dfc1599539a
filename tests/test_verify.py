"""`verify` notices a chunk that changed, and a stored value that brute force contradicts."""

import shutil
from collections import Counter
from pathlib import Path

import google_crc32c
import msgspec
import numpy as np
import pandas as pd
import pytest
import strategies as own
import zarr
from helpers import array_folder

import dskrobust as dr
from dskrobust import scores
from dskrobust.errors import DamagedStoreError, DskrobustError, VerificationError
from dskrobust.evaluation.experiment import ModelSpec
from dskrobust.store import Block, arrays, find_results, results
from dskrobust.store.results import KIND, RECORD
from dskrobust.store.seals import write_record

METRICS = ("euclidean", "cityblock", "minkowski(3)", "minkowski(2.123456789)", "angular", "hamming")


def create(folder, labels="real", n=80, scale=1.0, kind="gaussian"):
    rng = np.random.default_rng(0)
    X = own.features(rng, n, 7, "float32", kind, 0)
    y = own.label_values(rng, n, labels, False)
    label_kind, _, norm = labels.partition("-")
    spec = dr.StoreSpec("own", label_kind, scale=scale, label_norm=norm or "l2")
    split = np.array(["a", "b"])[np.arange(n) % 2]
    return dr.create_store(str(folder / "own.zarr"), X, y, split, spec=spec)


@pytest.mark.parametrize("labels", own.LABELS)
def test_a_sound_store_passes(tmp_path, labels):
    store = create(tmp_path, labels)
    assert dr.verify_store(store).results == ()
    wrote = dr.sample_robustness(store).write()
    seen = []
    report = dr.verify_store(
        store, sample=9, seed=3, progress=lambda done, of: seen.append((done, of))
    )
    assert report.rows == 80
    assert report.results == (wrote.result.name,)
    assert len(set(report.sampled.tolist())) == 9
    assert report.bytes_read >= 80 * 7 * 4
    assert seen[-1] == (80, 80)
    other = dr.verify_store(store, sample=9, seed=4)
    assert set(other.sampled.tolist()) != set(report.sampled.tolist())


@pytest.mark.parametrize("metric", METRICS)
def test_results_of_every_metric_pass(tmp_path, metric):
    store = create(tmp_path, scale=1 / 255)
    wrote = dr.sample_robustness(store, metric=metric, labels="real").write()
    assert dr.verify_store(store, sample=20).results == (wrote.result.name,)


@pytest.mark.filterwarnings("ignore::dskrobust.errors.ContradictionWarning")
@pytest.mark.parametrize("labels", ["categorical", "real"])
def test_contradictions_and_ties_pass(tmp_path, labels):
    store = create(tmp_path, labels, kind="ties")
    dr.sample_robustness(store).write()
    assert len(dr.verify_store(store, sample=10_000).sampled) == 80


@pytest.mark.parametrize("sample", [0, 60])
def test_every_chunk_is_read_once(tmp_path, monkeypatch, sample):
    """However many rows are proven: on an object store every read is a request."""
    monkeypatch.setattr(scores, "RESULT_ROWS", 20)
    store = create(tmp_path)
    dr.sample_robustness(store).write()
    dr.sample_robustness(store, metric="mahalanobis").write()
    reads = Counter()
    real = arrays._read

    def read(array, first, last, out=None):
        chunks = range(first // array.chunks[0], -(-last // array.chunks[0]))
        reads.update((array.path, chunk) for chunk in chunks)
        return real(array, first, last, out)

    monkeypatch.setattr(arrays, "_read", read)
    dr.verify_store(dr.open_store(store.url), sample=sample)
    results = {key: count for key, count in reads.items() if key[0].startswith("results/")}
    assert len(results) == 2 * 9 * 4
    assert set(results.values()) == {1}
    # all rows, the sample's, and what Mahalanobis' covariance takes: two passes
    assert max(reads.values()) <= 4


def test_results_with_a_label_bound_pass(tmp_path):
    store = create(tmp_path)
    dr.sample_robustness(store, labels=dr.LabelMap("real", bound=7.0)).write()
    dr.verify_store(store, sample=9)


def first(a, b):
    return float(np.abs(a - b).sum())


def test_metrics_that_have_no_name(tmp_path):
    store = create(tmp_path)
    for metric in (first, dr.Mahalanobis(np.diag(np.arange(1.0, 8)))):
        wrote = dr.sample_robustness(store, metric=metric).write()
        given = metric if isinstance(metric, dr.Metric) else wrote.spec.metric
        assert wrote.result.name in dr.verify_store(store, metric=given, sample=9).results
        # Without the metric it cannot be proven, which is not to say that it is wrong.
        try:
            dr.verify_store(store, sample=9)
        except VerificationError as error:
            pytest.fail(f"sound results are called wrong: {error}")
        except DskrobustError as error:
            assert "metric" in str(error)
        shutil.rmtree(Path(store.url, "results", wrote.result.name))


def test_results_of_the_fitted_mahalanobis_pass(tmp_path):
    store = create(tmp_path)
    dr.sample_robustness(store, metric="mahalanobis").write()
    assert len(dr.verify_store(store, sample=9).results) == 1


def test_results_of_fewer_rows_are_left_alone(tmp_path):
    store = create(tmp_path)
    dr.sample_robustness(store).write()
    X, y = store.features[:4] + 1, store.labels[:4]
    longer = dr.append_rows(store, [Block(X, y, np.zeros(4, np.int16))])
    assert dr.verify_store(longer).results == ()


@pytest.mark.parametrize("what", ["features", "labels", "split"])
def test_a_changed_chunk(tmp_path, what):
    store = create(tmp_path)
    dr.sample_robustness(store).write()
    array = zarr.open_array(str(array_folder(store.url, what)), mode="r+")
    values = array[:]
    flat = values.reshape(-1)
    flat[-1] = flat[-1] ^ 1 if values.dtype.kind in "iu" else np.nextafter(flat[-1], 9)
    array[:] = values  # through zarr: the codec's own checksum is right
    with pytest.raises(DamagedStoreError, match="chunk 0"):
        dr.verify_store(dr.open_store(store.url))


@pytest.mark.parametrize("what", ["features", "labels", "split", "results"])
def test_a_missing_chunk(tmp_path, what):
    store = create(tmp_path)
    dr.sample_robustness(store).write()
    folder = Path(store.url, what) if what == "results" else array_folder(store.url, what)
    files = [f for f in folder.rglob("*") if f.is_file() and "/c/" in str(f)]
    assert files
    for file in files:
        good = file.read_bytes()
        file.unlink()
        with pytest.raises(DamagedStoreError, match="chunk"):
            dr.verify_store(dr.open_store(store.url), sample=1)
        file.write_bytes(good)
    dr.verify_store(dr.open_store(store.url), sample=1)


def all_files(store):
    return sorted(f for f in Path(store.url).rglob("*") if f.is_file() and f.suffix != ".made")


def test_every_file_is_looked_at(tmp_path):
    """Whatever is changed, verify says so; what can be made again it removes or writes again."""
    store = create(tmp_path)
    dr.sample_robustness(store).write()
    options = dr.RunOptions(dr.Resources(1, 1, None), block_rows=40)
    dr.sample_robustness(store, metric="cityblock", options=options).compute()  # leaves its tiles
    model = ModelSpec("knn", {"neighbors": [1]})
    dr.evaluate(store, dr.Experiment({"x": "b"}, {"t": "a"}, [model])).compute()
    whole = {f: f.read_bytes() for f in all_files(store)}
    kinds = set()
    for file, good in whole.items():
        key = file.relative_to(store.url)
        if file.name == "zarr.json" and not _is_known(key):
            continue
        kinds.add(key.parts[0])
        middle = len(good) // 2
        file.write_bytes(good[:middle] + bytes([good[middle] ^ 1]) + good[middle + 1 :])
        with pytest.raises(DamagedStoreError):
            dr.verify_store(dr.open_store(store.url), sample=1)
        rows = key.parts[0] in ("segments", "states") and file.name != "zarr.json"
        rows &= file.suffix != ".fate"
        if rows or file.suffix == ".evaluation":  # which only who knows it can write again
            with pytest.raises(DamagedStoreError):
                dr.verify_store(dr.open_store(store.url), sample=1, repair=True)
        else:
            report = dr.verify_store(dr.open_store(store.url), sample=1, repair=True)
            assert report.mended
        for f, data in whole.items():  # as it was
            f.parent.mkdir(parents=True, exist_ok=True)
            f.write_bytes(data)
    assert kinds >= {"evaluations", "notes.record", "results", "segments", "states", "tiles"}
    assert dr.verify_store(dr.open_store(store.url)).mended == ()


@pytest.mark.parametrize("key", ["zarr.json", "results/zarr.json"])
@pytest.mark.parametrize("bad", [(b"zarr", b"z\xfbrr"), (b"group", b"array")])  # Zarr fails at both
def test_metadata_of_a_folder_is_named_and_written_again(tmp_path, key, bad):
    store = create(tmp_path)
    dr.sample_robustness(store).write()
    file = Path(store.url, key)
    good = file.read_bytes()
    file.write_bytes(good.replace(*bad, 1))
    with pytest.raises(DamagedStoreError, match=f"object '{key}' of .* writes it again"):
        dr.nearest_neighbours(store, 3).write()
    assert dr.verify_store(store, sample=1, repair=True).mended == (key,)
    assert dr.nearest_neighbours(store, 3).write().store is not None


def test_lists_of_rows_that_are_gone_are_missed_and_made_again(tmp_path):
    store = create(tmp_path)
    dr.sample_robustness(store).write()
    asked = dr.Experiment({"x": "b"}, {"t": "a"}, [ModelSpec("knn", {"neighbors": [1]})])
    table = dr.evaluate(store, asked).compute().table
    for file in sorted(Path(store.url).glob("evaluations/*/rows/*/*.blob")):
        file.unlink()
        with pytest.raises(DamagedStoreError, match=f"{file.parent.name}/{file.name}.* is missing"):
            dr.verify_store(dr.open_store(store.url), sample=1)
        assert dr.verify_store(dr.open_store(store.url), sample=1, repair=True).mended
        for step in Path(store.url).glob("evaluations/*/steps/*"):
            step.unlink()  # so that the rows are needed
        again = dr.evaluate(dr.open_store(store.url), asked).compute().table
        pd.testing.assert_frame_equal(table, again)


def test_files_of_others_are_left_alone(tmp_path):
    store = create(tmp_path)
    dr.sample_robustness(store).write()
    for name in ("README.md", ".DS_Store", "results/notes.txt"):
        Path(store.url, name).write_text("mine")
    assert dr.verify_store(store, repair=True).mended == ()
    assert Path(store.url, "README.md").read_text() == "mine"


def _is_known(key):
    """Whether Zarr metadata are of an array, or of the store itself: others say nothing."""
    return key.parts[0] == "zarr.json" or len(key.parts) == 4


def tamper(store, table, change):
    """Change a stored table together with its checksums, so that only a proof can tell."""
    (result,) = find_results(store)
    array = zarr.open_array(f"{store.url}/results/{result.name}/{table}", mode="r+")
    values = array[:]
    change(values)
    array[:] = values
    step = array.chunks[0]
    sums = tuple(
        google_crc32c.value(values[a : a + step].tobytes()) for a in range(0, len(values), step)
    )
    record = result.record()
    rewrite(store, result, checksums={**record.checksums, table: sums})
    result.read(table, 0, len(values))


def rewrite(store, result, **fields):
    """Write what a result says of itself anew."""
    record = msgspec.structs.replace(result.record(), **fields)
    write_record(store.objects, KIND, f"results/{result.name}/{RECORD}", record)
    results._record_of.cache_clear()  # read once a process: records never change


def one_bit(values):
    """Change one value in its last bit."""
    values[40] = values[40] + 1 if values.dtype.kind == "i" else np.nextafter(values[40], 9)


@pytest.mark.parametrize("labels", ["categorical", "real"])
@pytest.mark.parametrize(
    "table",
    [
        "robustness",
        "lipschitz",
        "reach",
        "witness",
        "nearest",
        "lipschitz_by_group",
        "reach_by_group",
        "witness_by_group",
        "nearest_by_group",
    ],
)
def test_a_tampered_value(tmp_path, labels, table):
    store = create(tmp_path, labels)
    wrote = dr.sample_robustness(store).write()
    if table not in wrote.result.tables():
        pytest.skip("categories keep no second copy of this table")
    tamper(store, table, one_bit)
    with pytest.raises(VerificationError, match="row 40"):
        dr.verify_store(dr.open_store(store.url), sample=10_000)


@pytest.mark.parametrize("labels", ["categorical", "real"])
def test_values_tampered_with_alike(tmp_path, labels):
    """Q and R that fit each other, but not the data."""
    store = create(tmp_path, labels)
    norm = float(np.asarray(dr.sample_robustness(store).write().compute().label_norm))
    q = 123.0

    def set_to(value):
        def change(values):
            values[40] = value

        return change

    for table in ("lipschitz", "lipschitz_by_group"):
        tamper(store, table, set_to(q))
    tamper(store, "robustness", set_to(norm / (q + norm)))
    if labels == "categorical":
        for table in ("reach", "reach_by_group"):
            tamper(store, table, set_to(1 / q))
    with pytest.raises(VerificationError, match=r"row 40.*brute force"):
        dr.verify_store(dr.open_store(store.url), sample=80)


def test_a_tampered_norm(tmp_path):
    store = create(tmp_path)
    dr.sample_robustness(store).write()
    (result,) = find_results(store)
    rewrite(store, result, facts={**result.facts, "label_norm": 17.0})
    with pytest.raises(VerificationError):
        dr.verify_store(dr.open_store(store.url))
