"""The readers of official file formats: what they yield, what they refuse, how much they hold."""

import gzip
import io
import os
import pickle
import socket
import struct
import subprocess
import sys
import tracemalloc
import urllib.error
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest

from dskrobust.datasets import (
    ReaderOptions,
    available,
    idx,
    ingest,
    online_news,
    open_reader,
    reader,
    restore_features,
    restore_labels,
)
from dskrobust.errors import InvalidDataError, InvalidOptionError, SourceFileError, StoreError
from dskrobust.store import Block

RNG = np.random.default_rng(0)


def gather(source):
    """Return all rows of a reader as one block."""
    fields = zip(*source.blocks(), strict=True)
    return Block(*(None if parts[0] is None else np.concatenate(parts) for parts in fields))


def options(**given):
    return ReaderOptions(**given)


# -- MNIST -------------------------------------------------------------------------------------


def idx_bytes(values):
    header = struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape)
    return header + values.tobytes()


def write_mnist(folder, dot="-", end=".gz", train=30, test=12):
    """Write the four files and return images and labels by group."""
    folder.mkdir(parents=True, exist_ok=True)
    written = {}
    for group, rows in (("train", train), ("t10k", test)):
        images = RNG.integers(0, 256, (rows, 28, 28), np.uint8)
        labels = (np.arange(rows) % 10).astype(np.uint8)
        for kind, form, values in (("images", "idx3", images), ("labels", "idx1", labels)):
            data = idx_bytes(values)
            path = folder / f"{group}-{kind}{dot}{form}-ubyte{end}"
            path.write_bytes(gzip.compress(data) if end else data)
        written[group] = images, labels
    return written


@pytest.mark.parametrize("below", ["", "mnist", "MNIST/raw"])
@pytest.mark.parametrize(("dot", "end"), [("-", ".gz"), ("-", ""), (".", ""), (".", ".gz")])
def test_mnist(tmp_path, below, dot, end):
    written = write_mnist(tmp_path / below, dot, end)
    source = open_reader("mnist", tmp_path)
    block = gather(source)
    images = np.concatenate([written["train"][0], written["t10k"][0]])
    assert np.array_equal(block.features, images.reshape(-1, 784))
    assert block.features.dtype == np.uint8
    assert np.array_equal(block.labels, np.concatenate([written["train"][1], written["t10k"][1]]))
    assert block.split.tolist() == [0] * 30 + [1] * 12
    assert source.rows == 42
    spec = source.spec
    assert (spec.groups, spec.scale, spec.image_shape) == (("train", "test"), 1 / 255, (28, 28))
    assert spec.classes == tuple("0123456789")
    assert spec.provenance["files"][0]["name"].startswith("train-images")
    assert all(len(entry["sha256"]) == 64 for entry in spec.provenance["files"])


def test_mnist_into_a_store(tmp_path):
    write_mnist(tmp_path / "files")
    counted = []
    out = tmp_path / "own.zarr"
    store = ingest("mnist", out, tmp_path, name="Digits", overwrite=True, progress=counted.append)
    block = gather(open_reader("mnist", tmp_path))
    assert np.array_equal(store.features[:], block.features)
    assert np.array_equal(store.labels[:], block.labels)
    assert store.split.tolist() == ["train"] * 30 + ["test"] * 12
    assert sum(counted) == 42
    assert store.spec.name == "Digits"
    with pytest.raises(StoreError, match="already"):
        ingest("mnist", out, tmp_path)


def damage(path, change):
    """Replace a gzipped file's content."""
    path.write_bytes(gzip.compress(change(gzip.decompress(path.read_bytes()))))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data[:-1], "truncated"),
        (lambda data: data[:10], "truncated"),
        (lambda data: data + b"\0", "goes on after its 30 rows"),
        (lambda data: b"\0\0\x0d\x03" + data[4:], "00 00 0d 03.*magic number 00 00 08 03"),
        (lambda data: data[:8] + struct.pack(">II", 14, 56) + data[16:], "14 × 56"),
        (lambda data: data[:4] + struct.pack(">I", 29) + data[8:], "29 images.*30 labels"),
        (lambda data: data[:4] + struct.pack(">I", 0) + data[8:], "empty"),
    ],
)
def test_damaged_mnist_is_refused(tmp_path, change, message):
    write_mnist(tmp_path)
    path = tmp_path / "train-images-idx3-ubyte.gz"
    damage(path, change)
    with pytest.raises(SourceFileError, match=message) as caught:
        gather(open_reader("mnist", tmp_path))
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("keep", [5, 40, 5_000, -4])
def test_a_truncated_gzip_file_is_refused_and_leaves_no_store(tmp_path, keep):
    write_mnist(tmp_path)
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(SourceFileError, match="train-images-idx3-ubyte"):
        ingest("mnist", tmp_path / "own.zarr", tmp_path)


def test_a_flipped_bit_in_gzip_is_refused(tmp_path):
    write_mnist(tmp_path)
    path = tmp_path / "train-images-idx3-ubyte.gz"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(SourceFileError, match="train-images-idx3-ubyte"):
        gather(open_reader("mnist", tmp_path))


def test_missing_mnist_files_are_named(tmp_path):
    with pytest.raises(SourceFileError, match="holds no MNIST files"):
        open_reader("mnist", tmp_path)
    write_mnist(tmp_path / "a")
    (tmp_path / "a" / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(SourceFileError, match="a has no t10k-labels-idx1-ubyte"):
        open_reader("mnist", tmp_path)
    with pytest.raises(SourceFileError, match="does not exist"):
        open_reader("mnist", tmp_path / "nowhere")
    with pytest.raises(SourceFileError, match="is a file"):
        open_reader("mnist", tmp_path / "a" / "t10k-images-idx3-ubyte.gz")


def test_a_wrong_digit_is_refused(tmp_path):
    write_mnist(tmp_path)
    damage(tmp_path / "t10k-labels-idx1-ubyte.gz", lambda data: data[:-1] + b"\x0a")
    with pytest.raises(SourceFileError, match="label 10"):
        gather(open_reader("mnist", tmp_path))


# -- CIFAR-10 ----------------------------------------------------------------------------------

CIFAR_NAMES = [*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"]


def short(data):
    """Pickle a byte string as Python 2 does."""
    if len(data) < 256:
        return b"U" + bytes([len(data)]) + data
    return b"T" + struct.pack("<i", len(data)) + data


def python2_array(values):
    """Pickle a uint8 matrix as NumPy under Python 2 did, by hand."""
    dtype = b"cnumpy\ndtype\n" + short(b"u1") + b"K\x00K\x01\x87R(K\x03" + short(b"|")
    dtype += b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    shape = b"".join(b"M" + struct.pack("<H", size) for size in values.shape) + b"\x86"
    start = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + short(b"b")
    return start + b"\x87R(K\x01" + shape + dtype + b"\x89" + short(values.tobytes()) + b"tb"


def python2_batch(images, labels):
    rows = b"".join(b"K" + bytes([label]) for label in labels)
    entries = short(b"data") + python2_array(images) + short(b"labels") + b"](" + rows + b"e"
    return b"\x80\x02}(" + entries + b"u."


def python3_batch(images, labels):
    return pickle.dumps({"data": images, "labels": labels.tolist()}, protocol=2)


def binary_batch(images, labels):
    return np.concatenate([labels[:, None], images], axis=1).tobytes()


def write_cifar(folder, write, suffix="", rows=7):
    folder.mkdir(parents=True, exist_ok=True)
    images = RNG.integers(0, 256, (6, rows, 3072), np.uint8)
    labels = RNG.integers(0, 10, (6, rows)).astype(np.uint8)
    for name, x, y in zip(CIFAR_NAMES, images, labels, strict=True):
        (folder / f"{name}{suffix}").write_bytes(write(x, y))
    return images.reshape(-1, 3072), labels.ravel()


@pytest.mark.parametrize(
    ("write", "suffix"), [(binary_batch, ".bin"), (python2_batch, ""), (python3_batch, "")]
)
def test_cifar10(tmp_path, write, suffix):
    images, labels = write_cifar(tmp_path / "cifar-10-batches", write, suffix)
    source = open_reader("cifar10", tmp_path)
    block = gather(source)
    assert np.array_equal(block.features, images)
    assert np.array_equal(block.labels, labels)
    assert block.features.dtype == block.labels.dtype == np.uint8
    assert block.split.tolist() == [0] * 35 + [1] * 7
    assert source.rows in (42, None)
    assert source.spec.image_shape == (3, 32, 32)
    assert source.spec.classes[0] == "airplane"
    assert source.spec.classes[9] == "truck"


def test_cifar10_class_names(tmp_path):
    names = [f"class{k}" for k in range(10)]
    write_cifar(tmp_path / "a", binary_batch, ".bin")
    (tmp_path / "a" / "batches.meta.txt").write_text("\n".join(names) + "\n\n")
    assert open_reader("cifar10", tmp_path / "a").spec.classes == tuple(names)
    (tmp_path / "a" / "batches.meta.txt").write_text("one\ntwo\n")
    with pytest.raises(SourceFileError, match=r"batches\.meta\.txt names 2 classes"):
        open_reader("cifar10", tmp_path / "a")
    write_cifar(tmp_path / "b", python2_batch)
    meta = {b"label_names": [name.encode() for name in names], b"num_vis": 3072}
    (tmp_path / "b" / "batches.meta").write_bytes(pickle.dumps(meta, protocol=2))
    assert open_reader("cifar10", tmp_path / "b").spec.classes == tuple(names)


@pytest.mark.parametrize("cut", [1, 3072])
def test_a_cifar10_batch_of_broken_records_is_refused(tmp_path, cut):
    write_cifar(tmp_path, binary_batch, ".bin")
    path = tmp_path / "data_batch_3.bin"
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(SourceFileError, match=r"data_batch_3\.bin.*3,073"):
        open_reader("cifar10", tmp_path)


def test_missing_cifar10_batches_are_named(tmp_path):
    with pytest.raises(SourceFileError, match="holds no CIFAR-10 files"):
        open_reader("cifar10", tmp_path)
    write_cifar(tmp_path, binary_batch, ".bin")
    (tmp_path / "test_batch.bin").unlink()
    with pytest.raises(SourceFileError, match=r"has no test_batch\.bin"):
        open_reader("cifar10", tmp_path)


def test_a_wrong_cifar10_label_is_refused(tmp_path):
    write_cifar(tmp_path, binary_batch, ".bin")
    (tmp_path / "test_batch.bin").write_bytes(b"\x0a" + bytes(3072))
    with pytest.raises(SourceFileError, match=r"test_batch\.bin has the label 10"):
        gather(open_reader("cifar10", tmp_path))


class Evil:
    """Makes a folder when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_pickled_code_is_not_run(tmp_path):
    write_cifar(tmp_path / "a", python3_batch)
    trap = tmp_path / "trap"
    (tmp_path / "a" / "data_batch_2").write_bytes(pickle.dumps({"data": Evil(trap)}, protocol=2))
    with pytest.raises(SourceFileError, match=r"data_batch_2.*mkdir.*not run"):
        gather(open_reader("cifar10", tmp_path))
    assert not trap.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "truncated"),
        (b"no pickle at all", "pickle"),
        (python3_batch(np.zeros((2, 3072), np.uint8), np.zeros(2, int))[:-40], "data_batch_1"),
        (pickle.dumps([1, 2], protocol=2), "no 'data'"),
        (pickle.dumps({"data": np.zeros((2, 3072)), "labels": [0, 1]}, protocol=2), "float64"),
        (python3_batch(np.zeros((2, 99), np.uint8), np.zeros(2, int)), r"\(2, 99\)"),
        (python3_batch(np.zeros((2, 3072), np.uint8), np.zeros(3, int)), "2 images but 3 labels"),
        (python3_batch(np.zeros((2, 3072), np.uint8), np.array([1, 10])), "from 0 to 9"),
        (pickle.dumps({"data": np.array([None]), "labels": []}, protocol=2), "dtype object"),
        (b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x03\x00\x00\x00rot\x86R.", "encoding"),
        (b"\x80\x02cbuiltins\neval\n.", r"builtins\.eval"),
    ],
)
def test_bad_cifar10_pickles_are_refused(tmp_path, content, message):
    write_cifar(tmp_path, python3_batch)
    (tmp_path / "data_batch_1").write_bytes(content)
    with pytest.raises(SourceFileError, match=message):
        gather(open_reader("cifar10", tmp_path))


# -- Online News -------------------------------------------------------------------------------


def write_news(path, rows=50, official=True, change=None):
    """Write a file of the Online News columns and return attributes and shares."""
    values = np.round(RNG.normal(size=(rows, 59)) * 10.0 ** RNG.integers(-3, 6, 59), 6)
    names = ["timedelta", *online_news.ATTRIBUTES, "shares"]
    table = [[f"{731 - k}.0", *map(repr, row.tolist())] for k, row in enumerate(values)]
    if official:
        names = ["url", *names]
        table = [[f"http://mashable.com/{k}/", *row] for k, row in enumerate(table)]
    if change:
        change(names, table)
    path.parent.mkdir(parents=True, exist_ok=True)
    between = ", " if official else ","
    path.write_text("".join(between.join(row) + "\n" for row in [names, *table]))
    return values


@pytest.fixture
def few_train(monkeypatch):
    """Let the train group have 30 rows, so that small files do."""
    monkeypatch.setattr(online_news, "TRAIN_ROWS", 30)


@pytest.mark.parametrize("official", [True, False])
@pytest.mark.parametrize("below", ["OnlineNewsPopularity.csv", "a/OnlineNewsPopularity.csv"])
def test_online_news(tmp_path, few_train, official, below):
    values = write_news(tmp_path / below, official=official)
    source = open_reader("online-news", tmp_path)
    block = gather(source)
    low, high = values.min(axis=0), values.max(axis=0)
    assert block.features.shape == (50, 58)
    assert block.features.dtype == block.labels.dtype == np.float64
    expected = (values - low) / (high - low)
    np.testing.assert_allclose(block.features, expected[:, :-1], rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(block.labels, expected[:, -1], rtol=1e-12, atol=1e-12)
    assert block.features.min() == 0
    assert block.features.max() == 1
    assert np.bincount(block.split).tolist() == [30, 20]
    spec = source.spec
    assert (spec.label_kind, spec.groups, source.rows) == ("real", ("train", "test"), 50)
    assert spec.feature_names == online_news.ATTRIBUTES
    kept = spec.preparation["columns"]
    assert [column["center"] for column in kept] == low[:-1].tolist()
    assert [column["spread"] for column in kept] == (high - low)[:-1].tolist()
    np.testing.assert_allclose(restore_features(spec, block.features), values[:, :-1], atol=1e-7)
    np.testing.assert_allclose(restore_labels(spec, block.labels), values[:, -1], atol=1e-7)


def test_online_news_scaling_survives_the_store(tmp_path, few_train):
    values = write_news(tmp_path / "OnlineNewsPopularity.csv")
    store = ingest("online-news", tmp_path / "own.zarr", tmp_path)
    np.testing.assert_allclose(
        restore_labels(store.spec, store.labels[:]), values[:, -1], atol=1e-7
    )
    np.testing.assert_allclose(
        restore_features(store.spec, store.features[3:5]), values[3:5, :-1], atol=1e-7
    )


def test_online_news_blocks_do_not_change_the_scaling(tmp_path, few_train, monkeypatch):
    from dskrobust.datasets import delimited

    write_news(tmp_path / "OnlineNewsPopularity.csv", rows=200)
    whole = gather(open_reader("online-news", tmp_path))
    monkeypatch.setattr(delimited, "CSV_BYTES", 4_096)
    source = open_reader("online-news", tmp_path)
    assert sum(1 for _ in source.blocks()) > 10
    for a, b in zip(gather(source), whole, strict=True):
        assert np.array_equal(a, b)


def test_online_news_split_follows_the_seed(tmp_path, few_train):
    path = tmp_path / "any name.csv"
    write_news(path)
    first, again, other = (
        gather(open_reader("online-news", path, options(seed=seed))).split for seed in (3, 3, 4)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    order = np.random.default_rng(3).permutation(50)
    assert set(np.flatnonzero(first == 0)) == set(order[:30])


def cut_last_line(names, table):
    del table[-1][40:]


def drop_column(names, table):
    names[names.index("LDA_03")] = "LDA_33"


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (cut_last_line, SourceFileError, "row 51 of the file has 40 cells, but its header 61"),
        (drop_column, SourceFileError, "lacks LDA_03"),
        (lambda n, t: n.__setitem__(5, "shares"), SourceFileError, "two columns.*'shares'"),
        (
            lambda n, t: t[7].__setitem__(10, ""),
            InvalidDataError,
            r"'num_videos' has no .*\(row 7\)",
        ),
        (
            lambda n, t: t[7].__setitem__(10, "inf"),
            InvalidDataError,
            "row 7 of column 'num_videos' is",
        ),
        (
            lambda n, t: t[7].__setitem__(10, "x"),
            InvalidDataError,
            "'num_videos' holds text, as 'x' in row 7",
        ),
        (lambda n, t: t.__delitem__(slice(30, None)), SourceFileError, "has 30 rows"),
        (lambda n, t: t.clear(), SourceFileError, "no rows"),
        (lambda n, t: n.clear(), SourceFileError, "it lacks n_tokens_title"),
    ],
)
def test_bad_online_news_files_are_refused(tmp_path, few_train, change, error, message):
    path = tmp_path / "OnlineNewsPopularity.csv"
    write_news(path, change=change)
    with pytest.raises(error, match=message) as caught:
        gather(open_reader("online-news", tmp_path))
    assert str(path) in str(caught.value)


def test_an_unknown_column_is_refused(tmp_path, few_train):
    write_news(tmp_path / "n.csv", change=lambda names, table: names.__setitem__(1, "surprise"))
    with pytest.raises(SourceFileError, match="besides the official columns surprise"):
        open_reader("online-news", tmp_path / "n.csv")


def test_online_news_without_files(tmp_path):
    with pytest.raises(SourceFileError, match="source="):
        open_reader("online-news")
    with pytest.raises(SourceFileError, match=r"holds no OnlineNewsPopularity\.csv"):
        open_reader("online-news", tmp_path)


# -- bundled -----------------------------------------------------------------------------------


def test_digits():
    source = open_reader("digits")
    block = gather(source)
    assert block.features.shape == (1797, 64)
    assert block.features.dtype == np.uint8
    assert (source.spec.scale, source.spec.image_shape) == (1 / 16, (8, 8))
    per_class = np.bincount(block.labels)
    test = np.bincount(block.labels[block.split == 1])
    assert test.tolist() == [round(count * 0.2) for count in per_class]
    other = gather(open_reader("digits", options=options(seed=1)))
    assert not np.array_equal(other.split, block.split)
    assert np.array_equal(np.bincount(other.labels[other.split == 1]), test)


@pytest.mark.parametrize(
    ("name", "shape", "kind", "classes"),
    [
        ("iris", (150, 4), "categorical", 3),
        ("wine", (178, 13), "categorical", 3),
        ("breast-cancer", (569, 30), "categorical", 2),
        ("diabetes", (442, 10), "real", None),
    ],
)
def test_bundled_sets(tmp_path, name, shape, kind, classes):
    store = ingest(name, tmp_path / "own.zarr")
    assert (store.rows, store.columns) == shape
    assert store.spec.label_kind == kind
    assert store.groups == ("all",)
    assert (len(store.spec.classes) if classes else store.spec.classes) == classes
    assert len(store.spec.feature_names) == shape[1]


def test_the_plane_has_two_label_maps(tmp_path):
    store = ingest("plane", tmp_path / "own.zarr")
    X, y, code = store.features[:], store.labels[:], store.split_codes[:]
    assert np.array_equal(X[code == 0], X[code == 1])
    assert (y == 2 * code + (X[np.arange(32), code] > np.array([3, 2])[code])).all()
    assert np.bincount(y).tolist() == [8, 8, 8, 8]
    with pytest.raises(InvalidOptionError, match="leave the source away"):
        open_reader("plane", tmp_path)


# -- arrays ------------------------------------------------------------------------------------

X = RNG.normal(size=(25, 4))
Y = np.arange(25) % 3
SPLIT = np.array(["train", "test", "train", "fold 3", "train"] * 5)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("dtype", ["f8", "f4", "f2", ">f8", "u1", ">i4", "?"])
def test_npz(tmp_path, save, dtype):
    path = tmp_path / "own.npz"
    save(path, X=X.astype(dtype), y=Y, group=SPLIT)
    source = open_reader(str(path), options=options(split="group", scale=0.5))
    store = ingest(str(path), tmp_path / "own.zarr", split="group", scale=0.5)
    for block in (gather(source), Block(store.features[:], store.labels[:], store.split_codes[:])):
        assert np.array_equal(block.features, X.astype(dtype))
        assert np.array_equal(block.labels, Y)
        assert np.array_equal(np.array(source.spec.groups)[block.split], SPLIT)
    assert source.spec.groups == ("train", "test", "fold 3")
    assert (source.rows, source.spec.name, store.spec.scale) == (25, "own", 0.5)


@pytest.mark.parametrize(
    ("y", "kind", "classes"),
    [
        (Y, "categorical", None),
        (Y.astype("u1"), "categorical", None),
        (Y == 1, "categorical", None),
        (Y * 0.5, "real", None),
        (Y[:, None], "categorical", None),
        (np.stack([Y, Y * 2.0], axis=1), "vector", None),
        (np.array(["b", "ä", "a"])[Y], "categorical", ("a", "b", "ä")),
        (np.array(["b", "c", "a"])[Y][:, None], "categorical", ("a", "b", "c")),
        (np.array([b"b", b"c", b"a"])[Y], "categorical", ("a", "b", "c")),
    ],
)
def test_npz_labels(tmp_path, y, kind, classes):
    path = tmp_path / "own.npz"
    np.savez(path, X=X, y=y)
    store = ingest(str(path), tmp_path / "own.zarr")
    assert (store.spec.label_kind, store.spec.classes) == (kind, classes)
    if classes:
        text = y.astype(str) if y.dtype.kind == "U" else np.char.decode(y)
        assert np.array_equal(np.array(classes)[store.labels[:]], text.ravel())
    else:
        assert np.array_equal(store.labels[:], y if kind == "vector" else y.ravel())


def test_label_kinds_can_be_overridden(tmp_path):
    path = tmp_path / "own.npz"
    np.savez(path, X=X, y=Y, text=Y.astype(str), wide=np.stack([Y, Y], axis=1))
    spec = open_reader(str(path), options=options(labels="real")).spec
    assert spec.label_kind == "real"
    source = open_reader(str(path), options=options(labels="vector"))
    assert gather(source).labels.shape == (25, 1)
    assert source.spec.label_kind == "vector"
    for name, labels in (("text", "real"), ("wide", "categorical")):
        with pytest.raises(InvalidDataError, match=f"'{name}'"):
            open_reader(str(path), options=options(y=name, labels=labels))
    with pytest.raises(InvalidOptionError, match="categorical, real, vector"):
        open_reader(str(path), options=options(labels="fuzzy"))


@pytest.mark.parametrize(
    ("shape", "image_shape"),
    [((5, 6), (5, 6)), ((3, 5, 6), (3, 5, 6)), ((5, 6, 3), (3, 5, 6)), ((2, 5, 6), None)],
)
def test_images_in_npz_are_flattened_channels_first(tmp_path, shape, image_shape):
    images = RNG.integers(0, 256, (25, *shape), np.uint8)
    np.savez(tmp_path / "i.npz", X=images, y=Y)
    source = open_reader(str(tmp_path / "i.npz"))
    first = np.moveaxis(images, -1, 1) if image_shape and image_shape != shape else images
    assert source.spec.image_shape == image_shape
    assert np.array_equal(gather(source).features, first.reshape(25, -1))


@pytest.mark.parametrize(
    ("arrays", "given", "error", "message"),
    [
        ({"X": X}, {}, SourceFileError, "no array 'y' but X"),
        ({"X": X, "y": Y}, {"x": "data"}, SourceFileError, "no array 'data' but X, y"),
        ({"X": X, "y": Y[:-1]}, {}, InvalidDataError, "25 rows.*24"),
        ({"X": X, "y": Y, "s": SPLIT[:9]}, {"split": "s"}, InvalidDataError, "25 rows.*9"),
        ({"X": X, "y": Y, "s": X[:, 0]}, {"split": "s"}, InvalidDataError, "groups"),
        ({"X": X.astype(object), "y": Y}, {}, InvalidDataError, "'X'.*object.*run code"),
        ({"X": X, "y": Y.astype(object)}, {}, InvalidDataError, "'y'.*object.*run code"),
        ({"X": X.astype(str), "y": Y}, {}, InvalidDataError, "'X'.*features are numbers"),
        ({"X": X.astype(complex), "y": Y}, {}, InvalidDataError, "'X'.*complex"),
        ({"X": np.asfortranarray(X), "y": Y}, {}, InvalidDataError, "Fortran"),
        ({"X": X[:, 0], "y": Y}, {}, InvalidDataError, r"\(samples, columns\)"),
        ({"X": X[:0], "y": Y[:0]}, {}, InvalidDataError, "no rows"),
        ({"X": X[:, :0], "y": Y}, {}, InvalidDataError, r"\(samples, columns\)"),
        ({"X": X, "y": RNG.normal(size=(25, 2, 2))}, {}, InvalidDataError, "labels have"),
        ({"X": X, "y": np.array([b"a", b"\xff"])[Y % 2]}, {}, InvalidDataError, "UTF-8"),
        ({"X": X, "y": np.full((25, 2), "a")}, {}, InvalidDataError, "labels have"),
        ({"X": X, "y": np.float64(3)}, {}, InvalidDataError, "no rows"),
    ],
)
def test_bad_npz_files_are_refused(tmp_path, arrays, given, error, message):
    path = tmp_path / "own.npz"
    np.savez(path, **arrays)
    with pytest.raises(error, match=message) as caught:
        gather(open_reader(str(path), options=options(**given)))
    assert str(path) in str(caught.value)


def test_damaged_npz_files_are_refused(tmp_path):
    path = tmp_path / "own.npz"
    np.savez_compressed(path, X=RNG.normal(size=(500, 40)), y=np.arange(500) % 3)
    data = path.read_bytes()
    flipped = bytearray(data)
    flipped[len(data) // 2] ^= 4
    for content in (data[: len(data) // 2], b"", b"not a zip", bytes(flipped)):
        path.write_bytes(content)
        with pytest.raises(SourceFileError, match=r"own\.npz"):
            gather(open_reader(str(path)))
    with pytest.raises(SourceFileError, match="there is no file"):
        open_reader(str(tmp_path / "other.npz"))


def test_a_short_or_long_member_of_npz_is_refused(tmp_path):
    whole = io.BytesIO()
    np.save(whole, X)
    for content, message in (
        (whole.getvalue()[:-8], "truncated"),
        (whole.getvalue() + b"\0", "goes on after its 25 rows"),
        (b"no array at all", "no NumPy array"),
    ):
        labels = io.BytesIO()
        np.save(labels, Y)
        with zipfile.ZipFile(tmp_path / "own.npz", "w") as archive:
            archive.writestr("X.npy", content)
            archive.writestr("y.npy", labels.getvalue())
        with pytest.raises(SourceFileError, match=message):
            gather(open_reader(str(tmp_path / "own.npz")))


@pytest.mark.parametrize("order", ["C", "F"])
def test_npy(tmp_path, order):
    np.save(tmp_path / "X.npy", np.asarray(X, order=order))
    np.save(tmp_path / "y.npy", Y)
    np.save(tmp_path / "groups.npy", SPLIT)
    for y in ("y", "y.npy", str(tmp_path / "y.npy")):
        source = open_reader("X.npy", tmp_path, options(y=y, split="groups.npy"))
        block = gather(source)
        assert np.array_equal(block.features, X)
        assert np.array_equal(block.labels, Y)
        assert np.array_equal(np.array(source.spec.groups)[block.split], SPLIT)


def test_bad_npy_files_are_refused(tmp_path):
    path = tmp_path / "X.npy"
    np.save(path, X)
    with pytest.raises(SourceFileError, match=r"labels of X\.npy.*option y"):
        open_reader(str(path))
    np.save(tmp_path / "y.npy", Y)
    whole = path.read_bytes()
    for content, message in (
        (whole[:-1], "truncated"),
        (whole + b"\0", "header promises"),
        (whole[:20], "no NumPy array"),
        (b"", "no NumPy array"),
    ):
        path.write_bytes(content)
        with pytest.raises(SourceFileError, match=message):
            open_reader(str(path))
    np.save(path, X.astype(object))
    with pytest.raises(InvalidDataError, match="run code"):
        open_reader(str(path))


# -- tables ------------------------------------------------------------------------------------

CSV = "a,b,label,part\n1,0.5,cat,train\n2,0.1,dog,train\n3,1e-3,cat,test\n4,-2,bird,test\n"


def write_csv(path, text):
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return str(path)


@pytest.mark.parametrize("name", ["own.csv", "own.csv.gz"])
@pytest.mark.parametrize("bom", ["", "\ufeff"])
def test_csv(tmp_path, name, bom):
    store = ingest(write_csv(tmp_path / name, bom + CSV), tmp_path / "own.zarr", split="part")
    assert store.features[:].tolist() == [[1, 0.5], [2, 0.1], [3, 1e-3], [4, -2]]
    assert store.features.dtype == np.float64
    assert store.spec.classes == ("bird", "cat", "dog")
    assert store.labels[:].tolist() == [1, 2, 1, 0]
    assert store.split.tolist() == ["train", "train", "test", "test"]
    assert store.spec.feature_names == ("a", "b")
    assert (store.spec.name, store.spec.label_kind) == ("own", "categorical")


@pytest.mark.parametrize(
    ("column", "kind", "values"),
    [
        (["3", "-1", "3"], "categorical", [3, -1, 3]),
        (["3", "-1.5", "3"], "real", [3, -1.5, 3]),
        (["3", "1", "x"], "categorical", [1, 0, 2]),
        (["NA", "None", "x"], "categorical", [0, 1, 2]),
        (["0.1", "0.30000000000000004", "1e300"], "real", [0.1, 0.1 + 0.2, 1e300]),
    ],
)
def test_csv_labels(tmp_path, column, kind, values):
    text = "f,y\n" + "".join(f"{k},{value}\n" for k, value in enumerate(column))
    source = open_reader(write_csv(tmp_path / "own.csv", text))
    labels = gather(source).labels
    assert source.spec.label_kind == kind
    assert labels.tolist() == values
    assert labels.dtype == (np.float64 if kind == "real" else np.int64)


def test_csv_label_kinds_can_be_overridden(tmp_path):
    path = write_csv(tmp_path / "own.csv", "f,y\n1,2\n2,3\n")
    assert open_reader(path, options=options(labels="real")).spec.label_kind == "real"
    with pytest.raises(InvalidOptionError, match="single values"):
        open_reader(path, options=options(labels="vector"))
    path = write_csv(tmp_path / "own.csv", "f,y\n1,2\n2,three\n")
    with pytest.raises(InvalidDataError, match=r"'y' holds text, as 'three' in row 1"):
        open_reader(path, options=options(labels="real"))


@pytest.mark.parametrize(
    ("text", "given", "error", "message"),
    [
        (CSV, {}, InvalidDataError, "column 'part' holds text, as 'train' in row 0"),
        (CSV, {"target": "z"}, InvalidOptionError, "no column 'z'.*a, b, label, part"),
        (CSV, {"split": "z"}, InvalidOptionError, "no column 'z'"),
        ("a,b\n1,2\n", {}, InvalidOptionError, "is called y, label, target, class.*target=COLUMN"),
        ("y,label,a\n1,2,3\n", {}, InvalidOptionError, "target=COLUMN"),
        ("y\n1\n", {}, InvalidDataError, "no columns besides"),
        ("a,y\n", {}, SourceFileError, "no rows"),
        ("", {}, SourceFileError, "first line"),
        ("1,2.5\n3,4\n", {}, SourceFileError, "first line"),
        (",a,y\n0,1,2\n", {}, InvalidDataError, "column 1 has no name"),
        ("a,a,y\n0,1,2\n", {}, SourceFileError, "two columns are called 'a'"),
        ("a,y\n1,2\n3\n", {}, SourceFileError, "row 3 of the file has 1 cells, but its header 2"),
        (
            "a,y\n1,2\n3,4,5\n",
            {},
            SourceFileError,
            "row 3 of the file has 3 cells, but its header 2",
        ),
        ("a,y\n1,x\n3,\n", {}, InvalidDataError, r"'y' has no value in 1 of 2 rows \(row 1\)"),
        ("a,y\n1,2\n3,\n", {}, InvalidDataError, r"'y' has no value in 1 of 2 rows \(row 1\)"),
        ("a,y\n1,2\n,3\n", {}, InvalidDataError, r"'a' has no value in 1 of 2 rows \(row 1\)"),
        ("a, y\n1, 2\n 5, 3\n NaN, 3\n", {}, InvalidDataError, r"'a' has no .*\(row 2\)"),
        ("a,y\n1,2.5\n2,NaN\n", {}, InvalidDataError, r"'y' has no .*\(row 1\)"),
    ],
)
def test_bad_csv_files_are_refused(tmp_path, text, given, error, message):
    path = write_csv(tmp_path / "own.csv", text)
    with pytest.raises(error, match=message):
        ingest(path, tmp_path / "own.zarr", prepare="none", **given)


def test_a_csv_file_that_is_none_is_refused(tmp_path):
    with pytest.raises(SourceFileError, match="there is no file"):
        open_reader(str(tmp_path / "own.csv"))
    (tmp_path / "own.csv").write_bytes(b"\xff\xfe\x00\x81" * 40)
    with pytest.raises(SourceFileError, match="has no rows"):
        open_reader(str(tmp_path / "own.csv"))
    text = "a,y\n" + "".join(f"{k},{k % 2}\n" for k in RNG.permutation(5_000))
    (tmp_path / "own.csv.gz").write_bytes(gzip.compress(text.encode())[:-900])
    with pytest.raises(SourceFileError, match=r"own\.csv\.gz"):
        gather(open_reader(str(tmp_path / "own.csv.gz")))


def write_parquet(path, **columns):
    import pyarrow as pa
    from pyarrow import parquet

    parquet.write_table(pa.table(columns), path, row_group_size=7)
    return str(path)


@pytest.mark.parametrize(
    ("dtypes", "common"), [(("u1", "u1"), "u1"), (("f4", "f4"), "f4"), (("i8", "f4"), "f8")]
)
def test_parquet(tmp_path, dtypes, common):
    a, b = (RNG.integers(0, 99, 25).astype(dtype) for dtype in dtypes)
    path = write_parquet(tmp_path / "own.parquet", a=a, b=b, target=Y, part=SPLIT)
    store = ingest(path, tmp_path / "own.zarr", split="part")
    assert store.features.dtype == common
    assert np.array_equal(store.features[:], np.stack([a, b], axis=1))
    assert np.array_equal(store.labels[:], Y)
    assert np.array_equal(store.split, SPLIT)


def test_parquet_labels(tmp_path):
    import pyarrow as pa

    text = np.array(["b", "c", "a"])[Y]
    for values in (text, pa.array(text).dictionary_encode()):
        source = open_reader(write_parquet(tmp_path / "own.parquet", a=X[:, 0], y=values))
        assert source.spec.classes == ("a", "b", "c")
        assert np.array_equal(np.array(source.spec.classes)[gather(source).labels], text)
    source = open_reader(write_parquet(tmp_path / "own.parquet", a=X[:, 0], y=Y * 0.5))
    assert (source.spec.label_kind, source.rows) == ("real", 25)
    assert np.array_equal(gather(source).labels, Y * 0.5)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"a": SPLIT, "y": Y}, "column 'a' holds text"),
        ({"a": [[["v"]], [["w"]]], "y": [1, 2]}, r"column 'a\[0\]\[0\]' holds text"),
        ({"a": [[1], [2, 3]], "y": [1, 2]}, "row 1 has 2 values in column 'a', whose lists have 1"),
        ({"a": [[1], None], "y": [1, 2]}, "row 1 has no value in column 'a', whose lists have 1"),
        ({"a": [[1], [None]], "y": [1, 2]}, "row 1 has a list with a missing value in column 'a'"),
        ({"a": [[], []], "y": [1, 2]}, "column 'a' holds lists without a value"),
        ({"a": [1, None], "y": [1, 2]}, r"'a' has no value in 1 of 2 rows \(row 1\)"),
        ({"a": [1, 2], "y": [1, None]}, r"'y' has no value in 1 of 2 rows \(row 1\)"),
        ({"a": [1, 2], "y": ["x", None]}, r"'y' has no value in 1 of 2 rows \(row 1\)"),
        ({"a": [1, 2], "y": ["x", ""]}, r"'y' has no value in 1 of 2 rows \(row 1\)"),
        ({"a": [1, np.inf], "y": [1, 2]}, "row 1 of column 'a' is inf"),
        ({"a": [1.5, None], "y": [1, 2]}, r"'a' has no value in 1 of 2 rows \(row 1\)"),
        ({"a": [np.nan] * 7 + [1], "y": [1] * 8}, r"7 of 8 rows \(rows 0, 1, 2, 3, 4, …\)"),
        ({"a": [1, 2**60], "b": [0.5, 1], "y": [1, 2]}, "column 'a'.*float64 cannot hold"),
        ({"a": [1, 2], "y": [1, 2**60]}, "column 'y'.*float64 cannot hold"),
        ({"a": [1, 2], "y": [[1], [2]]}, "column 'y' holds list"),
    ],
)
def test_bad_parquet_columns_are_refused(tmp_path, columns, message):
    path = write_parquet(tmp_path / "own.parquet", **columns)
    with pytest.raises(InvalidDataError, match=message):
        ingest(path, tmp_path / "own.zarr", prepare="none")


def test_a_damaged_parquet_file_is_refused(tmp_path):
    path = write_parquet(tmp_path / "own.parquet", a=X[:, 0], y=Y)
    data = (tmp_path / "own.parquet").read_bytes()
    for content in (data[:-100], b"", b"not parquet at all"):
        (tmp_path / "own.parquet").write_bytes(content)
        with pytest.raises(SourceFileError, match=r"own\.parquet"):
            open_reader(path)


# -- OpenML ------------------------------------------------------------------------------------


def fake_openml(monkeypatch, answer):
    from sklearn import datasets

    def fetch(name, **given):
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(datasets, "fetch_openml", fetch)


@pytest.mark.parametrize("what", ["openml:anneal", "mnist", "cifar10"])
def test_openml_out_of_reach(monkeypatch, what):
    fake_openml(monkeypatch, urllib.error.URLError("no route"))
    with pytest.raises(SourceFileError, match=r"no route.*source="):
        open_reader(what)
    fake_openml(monkeypatch, ValueError("no known dataset"))
    with pytest.raises(SourceFileError, match="no known dataset"):
        open_reader(what)


@pytest.mark.parametrize("what", ["openml:anneal", "mnist"])
def test_openml_without_a_network(monkeypatch, tmp_path, what):
    def refuse(*given, **more):
        raise OSError("there is no network")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setenv("SCIKIT_LEARN_DATA", str(tmp_path))
    with pytest.raises(SourceFileError, match=r"no network.*source="):
        open_reader(what)


@pytest.mark.parametrize("kind", ["categorical", "real"])
def test_openml(monkeypatch, kind):
    import pandas as pd

    target = pd.Series(Y, name="outcome")
    target = target.astype(str).astype("category") if kind == "categorical" else target
    frame = pd.DataFrame(X, columns=list("abcd")).assign(outcome=target)
    fake_openml(monkeypatch, SimpleNamespace(frame=frame, target=target))
    source = open_reader("openml:things")
    assert np.array_equal(gather(source).features, X)
    assert np.array_equal(gather(source).labels, Y)
    assert source.spec.classes == (("0", "1", "2") if kind == "categorical" else None)
    assert (source.spec.label_kind, source.spec.name) == (kind, "things")


def test_mnist_of_openml(monkeypatch):
    counts = (4, 3, 2, 1, 1, 1, 1, 1, 1, 1)
    monkeypatch.setattr(idx, "OPENML", idx.OPENML._replace(name="m", train=16, counts=counts))
    labels = np.concatenate([np.repeat(np.arange(10), counts), np.arange(5)])
    images = RNG.integers(0, 256, (21, 784)).astype(float)
    fake_openml(monkeypatch, SimpleNamespace(data=images, target=labels.astype(str)))
    source = open_reader("mnist")
    block = gather(source)
    assert np.array_equal(block.features, images)
    assert block.features.dtype == np.uint8
    assert block.labels.tolist() == labels.tolist()
    assert block.split.tolist() == [0] * 16 + [1] * 5
    assert source.spec.image_shape == (28, 28)
    fake_openml(monkeypatch, SimpleNamespace(data=images, target=labels[::-1].astype(str)))
    with pytest.raises(SourceFileError, match="official order"):
        open_reader("mnist")
    fake_openml(monkeypatch, SimpleNamespace(data=images + 0.5, target=labels.astype(str)))
    with pytest.raises(InvalidDataError, match="pixels"):
        gather(open_reader("mnist"))


# -- all of them -------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["imagenet", "own.txt", "mnist2"])
def test_an_unknown_name_lists_what_there_is(what):
    with pytest.raises(InvalidOptionError) as caught:
        open_reader(what)
    assert all(name in str(caught.value) for name in available())


@pytest.mark.parametrize(
    ("what", "given"),
    [
        ("mnist", {"split": "part"}),
        ("iris", {"target": "y"}),
        ("own.csv", {"x": "data"}),
        ("own.npz", {"target": "y"}),
        ("own.npy", {"x": "data"}),
    ],
)
def test_options_that_mean_nothing_are_refused(tmp_path, what, given):
    with pytest.raises(InvalidOptionError, match=f"option {next(iter(given))}="):
        open_reader(what, None if what == "iris" else tmp_path, options(**given))


@pytest.mark.parametrize("given", [{"seed": -1}, {"scale": 0.0}, {"labels": "fuzzy"}])
def test_bad_options_are_refused(given):
    with pytest.raises(InvalidOptionError):
        open_reader("iris", options=options(**given))


@pytest.mark.parametrize("what", ["iris", "openml:things"])
def test_a_source_that_means_nothing_is_refused(tmp_path, what):
    with pytest.raises(InvalidOptionError, match="source"):
        open_reader(what, tmp_path)


def streamed(tmp_path, kind, rows):
    """Write a file of `rows` × 512 bytes or more and return its reader."""
    x = RNG.integers(0, 256, (rows, 512), np.uint8)
    y = np.arange(rows) % 5
    if kind == "npz":
        np.savez(tmp_path / "s.npz", X=x, y=y)
    elif kind == "npz, compressed":
        np.savez_compressed(tmp_path / "s.npz", X=x, y=y)
    elif kind == "npy":
        np.save(tmp_path / "s.npy", x)
        np.save(tmp_path / "y.npy", y)
    elif kind == "hdf5":
        with pytest.importorskip("h5py").File(tmp_path / "s.h5", "w") as file:
            file["X"], file["y"] = x, y
    elif kind == "mnist":
        write_mnist(tmp_path, train=rows, test=10)
    else:
        write_cifar(tmp_path, binary_batch, ".bin", rows=rows // 24)
    names = {"npy": "s.npy", "hdf5": "s.h5"}
    what = names.get(kind, "s.npz" if kind.startswith("npz") else kind)
    return open_reader(what, tmp_path)


@pytest.mark.parametrize("kind", ["npz", "npz, compressed", "npy", "hdf5", "mnist", "cifar10"])
def test_readers_hold_only_blocks(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(reader, "BLOCK_BYTES", 2**18)
    source = streamed(tmp_path, kind, 12_000)
    next(iter(source.blocks()))  # imports
    tracemalloc.start()
    try:
        rows = total = largest = 0
        for block in source.blocks():
            rows += len(block.features)
            total += block.features.nbytes
            largest = max(largest, block.features.nbytes)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert rows == source.rows
    assert largest <= 2**18
    assert total > 20 * largest
    assert peak < 8 * largest


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_tables_come_in_blocks(tmp_path, monkeypatch, form):
    from dskrobust.datasets import delimited

    monkeypatch.setattr(delimited, "CSV_BYTES", 2**16)
    monkeypatch.setattr(reader, "BLOCK_ROWS", 500)
    values = RNG.normal(size=(4_000, 8))
    columns = {f"f{k}": values[:, k] for k in range(8)}
    if form == "csv":
        lines = [",".join([*columns, "y"])]
        lines += [",".join([*map(repr, row.tolist()), f"{k % 7}"]) for k, row in enumerate(values)]
        path = write_csv(tmp_path / "own.csv", "\n".join(lines))
    else:
        path = write_parquet(tmp_path / "own.parquet", **columns, y=np.arange(4_000) % 7)
    source = open_reader(path)
    assert max(len(block.features) for block in source.blocks()) <= 500
    block = gather(source)
    assert np.array_equal(block.features, values)  # every digit of them
    assert np.array_equal(block.labels, np.arange(4_000) % 7)
    assert source.rows == 4_000


def imported_by(module):
    code = f"import sys, {module}; print(*sys.modules)"
    command = [sys.executable, "-c", code]
    names = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return {name.split(".")[0] for name in names}


def test_importing_the_readers_imports_no_large_library():
    own = imported_by("dskrobust.datasets") - imported_by("dskrobust.store")
    assert not own & {"pandas", "pyarrow", "sklearn", "dask_ml", "scipy", "distributed"}


# -- the paper's data --------------------------------------------------------------------------

MNIST_COUNTS = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]


def group_counts(store):
    labels, codes = store.labels[:], store.split_codes[:]
    return [np.bincount(labels[codes == code]).tolist() for code in range(len(store.groups))]


@pytest.mark.data
def test_real_mnist(tmp_path, paper_data):
    store = ingest("mnist", tmp_path / "own.zarr", paper_data)
    assert (store.rows, store.columns, store.groups) == (70_000, 784, ("train", "test"))
    counts = group_counts(store)
    assert counts[0] == MNIST_COUNTS
    assert sum(counts[1]) == 10_000
    assert store.features[:1000].max() == 255


@pytest.mark.data
def test_real_cifar10(tmp_path, paper_data):
    store = ingest("cifar10", tmp_path / "own.zarr", paper_data)
    assert (store.rows, store.columns) == (60_000, 3_072)
    assert group_counts(store) == [[5_000] * 10, [1_000] * 10]
    assert store.spec.classes[3] == "cat"


@pytest.mark.data
def test_real_online_news(tmp_path, paper_data):
    store = ingest("online-news", tmp_path / "own.zarr", paper_data, seed=1)
    assert store.columns == 58
    train, test = np.bincount(store.split_codes[:])
    assert (train, test) == (32_000, store.rows - 32_000)
    features, labels = store.features[:], store.labels[:]
    for values in (features, labels):
        assert (values.min(axis=0) == 0).all()
        np.testing.assert_allclose(values.max(axis=0), 1, rtol=1e-14)
        assert values.max() <= 1
    shares = restore_labels(store.spec, labels)
    np.testing.assert_allclose(shares, np.round(shares), atol=1e-6)
    assert (round(shares[0]), round(shares.max())) == (593, 843_300)
    titles = restore_features(store.spec, features)[:3, 0]
    np.testing.assert_allclose(titles, [12, 9, 9])
