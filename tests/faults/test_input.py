"""Hostile and senseless input ends in one line: bombs, special files, empty names, own code."""

import gzip
import os
import tracemalloc
import zipfile

import h5py
import numpy as np
import pytest
from click.testing import CliRunner
from faults.malformed import OvertimeError, calls, check, ground
from numpy.lib import format as npy

import dskrobust as dr
from dskrobust.cli import main
from dskrobust.errors import DskrobustError, InvalidDataError, InvalidOptionError, SourceFileError
from dskrobust.evaluation import Experiment
from dskrobust.evaluation import Model as ModelSpec
from dskrobust.evaluation.models.estimators import AnyEstimator
from dskrobust.own_code import ExitedError, imported, no_exit
from dskrobust.paths import check_regular, expand

SAMPLE = 120  # calls of some 1,500; all are made by scripts/faults.py
MOST_BYTES = 64 * 2**20  # that refusing anything may take


@pytest.fixture(scope="module")
def bad(tmp_path_factory):
    """A folder as `malformed.ground` fills it."""
    return ground(tmp_path_factory.mktemp("ground"))


# -- calls -------------------------------------------------------------------------------------


def test_there_are_calls_of_all_commands_and_no_call_is_made_twice():
    made = calls()
    assert len(set(made)) == len(made) >= 300
    assert {call[0] for call in made} >= set(main.commands)
    assert sorted(made) == sorted(calls(1))
    assert made != calls(1)


def test_a_sample_of_malformed_calls(bad, monkeypatch):
    monkeypatch.syspath_prepend(bad)
    quick = [call for call in calls() if call[0] not in ("embed", "evaluate")]
    faults = {call: found for call in quick[:SAMPLE] if (found := check(call, bad, 20).fault)}
    assert faults == {}


def test_what_a_call_is_judged_by(bad, monkeypatch):
    assert check(("show", "own.zarr"), bad).fault == "exit code 0"
    monkeypatch.setattr("dskrobust.store.open_store", lambda address: 1 / 0)
    assert check(("show", "own.zarr"), bad).fault == "a raw error"

    def wait(*given):
        raise OvertimeError

    monkeypatch.setattr("dskrobust.store.open_store", wait)
    assert check(("show", "own.zarr"), bad).fault == "it hangs"


# -- special files -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("fifo.csv", "a pipe, not a regular file; write what comes out of it into a file first"),
        ("zero.csv", "a device, not a regular file"),
        ("socket.csv", "a socket"),
        ("folder.csv", "a folder"),
        ("broken.csv", "a link to nothing"),
        ("circle.csv", "symbolic links lead in a circle"),
        ("nosuch.csv", "there is no file"),
    ],
)
def test_what_is_no_regular_file_is_refused_by_every_door(bad, name, said):
    for call in (
        lambda: check_regular(bad / name),
        lambda: dr.ingest(str(bad / name), bad / "new.zarr"),
        lambda: dr.append(bad / "own.zarr", str(bad / name)),
    ):
        with pytest.raises(SourceFileError, match=said) as caught:
            call()
        assert name in str(caught.value)


@pytest.mark.parametrize("end", ["npz", "npy", "h5", "h5ad", "parquet", "arrow", "csv", "tsv"])
def test_a_pipe_of_any_format_is_not_waited_for(tmp_path, end):
    os.mkfifo(tmp_path / f"own.{end}")
    with pytest.raises(SourceFileError, match="is a pipe"):
        dr.ingest(str(tmp_path / f"own.{end}"), tmp_path / "new.zarr")
    assert {path.name for path in tmp_path.iterdir()} == {f"own.{end}"}


def test_a_part_of_a_saved_dataset_may_be_no_device_and_lie_nowhere_else(tmp_path):
    (tmp_path / "dataset_info.json").write_text("{}")
    state = tmp_path / "state.json"
    state.write_text('{"_data_files": [{"filename": "../own.arrow"}]}')
    with pytest.raises(SourceFileError, match="not as save_to_disk writes it"):
        dr.ingest(str(tmp_path), tmp_path / "new.zarr")
    state.write_text('{"_data_files": [{"filename": "own.arrow"}]}')
    (tmp_path / "own.arrow").symlink_to("/dev/zero")
    with pytest.raises(SourceFileError, match="is a device"):
        dr.ingest(str(tmp_path), tmp_path / "new.zarr")


@pytest.mark.parametrize(
    ("name", "said"),
    [("", "is empty"), (" ", "is empty"), ("\t\n", "is empty"), ("a\0b", "NUL"),
     ("a\ud800", "half a character"), ("x" * 256, "256 bytes, and files have at most 255"),
     (f"folder/{'ä' * 128}/new.csv", "256 bytes")],
)  # fmt: skip
def test_what_can_be_no_name(name, said):
    with pytest.raises(InvalidOptionError, match=said):
        expand(name)


def test_what_can_be_a_name(tmp_path):
    assert expand("x" * 255) == "x" * 255
    odd = os.fsdecode(b"\xff")  # a byte that is no UTF-8 can be in a name
    assert expand(f"{tmp_path}/{odd}") == f"{tmp_path}/{odd}"
    assert expand(f"s3://bucket/{'x' * 900}") == f"s3://bucket/{'x' * 900}"


@pytest.mark.parametrize("out", ["/", ".", "..", "", " ", "a\0b", "nofs://x", "own.csv/new.zarr"])
def test_a_store_is_not_made_where_none_can_be(tmp_path, monkeypatch, out):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.csv").write_text("a,y\n1,0\n2,1\n")
    done = CliRunner().invoke(main, ["ingest", "own.csv", "--out", out, "--overwrite"])
    assert done.exit_code != 0
    assert "Error: " in done.output
    assert "DEBUG" not in done.output
    assert os.listdir(tmp_path) == ["own.csv"]


# -- bombs -------------------------------------------------------------------------------------


def _npz(path, shape, descr="<f8", written=b""):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("X.npy", "w") as file:
            header = {"descr": descr, "fortran_order": False, "shape": shape}
            npy.write_array_header_1_0(file, header)
            file.write(written)
        with archive.open("y.npy", "w") as file:
            npy.write_array(file, np.arange(4) % 2)


def _sparse(path, shape):
    """Write the .npy file of an array of zeros that takes no room on the disk."""
    with path.open("wb") as file:
        header = {"descr": "<f8", "fortran_order": False, "shape": shape}
        npy.write_array_header_1_0(file, header)
        file.truncate(file.tell() + int(np.prod(shape, dtype=object)) * 8)
    np.save(path.with_name("y.npy"), np.arange(4) % 2)


def _chunks(path, shape, chunks):
    with h5py.File(path, "w") as file:
        file.create_dataset("X", shape=shape, chunks=chunks, dtype="f8", compression="gzip")
        file["y"] = np.arange(shape[0]) % 2


def _nested(path):
    text = b"{'descr': " + b"[" * 9_000 + b"\n"
    path.write_bytes(b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text)
    np.save(path.with_name("y.npy"), np.arange(4) % 2)


def _line(path):
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(b"a,y\n")
        for _ in range(80):
            file.write(b"1" * 2**20)


def _saved(path):
    path.mkdir()
    for name in ("state.json", "dataset_info.json"):
        (path / name).write_text("[" * 200_000)


BOMBS = {
    "row.npz": (lambda p: _npz(p, (4, 10**12)), "ends too early"),
    "beyond.npz": (lambda p: _npz(p, (4, 10**30)), "ends too early"),
    "negative.npz": (lambda p: _npz(p, (-4, 3)), "shape"),
    "true.npz": (lambda p: _npz(p, (4, 2**25), "|u1", bytes(2**27)), "a row of 33,554,432 values"),
    "sparse.npy": (lambda p: _sparse(p, (4, 10**11)), "a row of 100,000,000,000 values"),
    "nested.npy": (_nested, "is no NumPy array"),
    "row.h5": (lambda p: _chunks(p, (4, 10**12), (1, 1_000)), "a row of"),
    "chunk.h5": (lambda p: _chunks(p, (10**6, 200), (10**6, 200)), "a chunk of"),
    "saved": (_saved, "nested deeper"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_headers_that_promise_too_much(tmp_path, name):
    make, said = BOMBS[name]
    make(tmp_path / name)
    tracemalloc.start()
    try:
        with pytest.raises((SourceFileError, InvalidDataError), match=said) as caught:
            dr.ingest(str(tmp_path / name), tmp_path / "new.zarr")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert name in str(caught.value)
    assert len(str(caught.value)) < 600
    assert peak < MOST_BYTES
    assert not (tmp_path / "new.zarr").exists()


def test_a_line_of_gigabytes_is_given_up(tmp_path):
    _line(tmp_path / "line.csv.gz")
    with pytest.raises(SourceFileError, match="no second row within"):
        dr.ingest(str(tmp_path / "line.csv.gz"), tmp_path / "new.zarr", target="y")


def test_a_table_of_a_million_columns(tmp_path):
    head = ",".join(f"c{k}" for k in range(10**6))
    (tmp_path / "wide.csv").write_text(f"{head},y\n{'1,' * 10**6}0\n{'1,' * 10**6}1\n")
    with pytest.raises(SourceFileError, match=r"1,000,001 columns, more than the 500,000"):
        dr.ingest(str(tmp_path / "wide.csv"), tmp_path / "new.zarr", target="y")


def test_an_image_that_unpacks_to_gigabytes(bad):
    with pytest.raises(SourceFileError, match=r"large\.bmp cannot be read as an image: .*bomb"):
        dr.ingest(str(bad / "bomb"), bad / "new.zarr")


@pytest.mark.parametrize("size", ["40000x40000", (5_000, 5_000)])
def test_images_are_not_brought_to_a_size_that_no_row_has(tmp_path, size):
    from PIL import Image

    for name in "ab":
        (tmp_path / name).mkdir()
        Image.new("L", (8, 8)).save(tmp_path / name / "1.png")
    with pytest.raises(InvalidDataError, match="pixels, more than 16,777,216 values"):
        dr.ingest(str(tmp_path), tmp_path / "new.zarr", resize=size)


# -- code of the user's ------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["sys.exit", "os.abort", "os._exit", "builtins.exit", "..x",
                                  ".", "a..b", "code.interact", "numpy.zeros",
                                  "numpy.linalg"])  # fmt: skip
def test_what_is_no_estimator_is_never_called(path):
    with pytest.raises(InvalidOptionError, match=r"cannot be imported|no scikit-learn estimator"):
        AnyEstimator(ModelSpec(path)).make({})


def test_a_class_is_looked_at_before_it_is_made(monkeypatch, bad):
    monkeypatch.syspath_prepend(bad)
    with pytest.raises(InvalidOptionError, match=r"odd\.NoEstimator is no scikit-learn estimator"):
        AnyEstimator(ModelSpec("odd.NoEstimator")).make({})
    with pytest.raises(InvalidOptionError, match="cannot be made: it ended Python"):
        AnyEstimator(ModelSpec("odd.leaving")).make({})
    assert imported("odd", "leaving").__name__ == "leaving"


def test_code_that_ends_python_is_an_error(bad):
    with pytest.raises(ExitedError, match=r"SystemExit: 3"), no_exit():
        raise SystemExit(3)


def test_an_exit_anywhere_in_a_command_is_an_error(bad, monkeypatch):
    def leave(*given, **named):
        raise SystemExit(0)

    monkeypatch.setattr("dskrobust.store.open_store", leave)
    done = CliRunner().invoke(main, ["show", str(bad / "own.zarr")])
    assert done.exit_code == 1
    assert "may not call sys.exit" in done.output


def test_an_experiment_of_a_hundred_million_trainings_is_refused():
    grid = {"trees": range(1, 1_001), "depth": range(1, 101)}
    with pytest.raises(InvalidOptionError, match=r"2,500,000 trainings are asked for"):
        Experiment({"x": "train"}, {"t": "test"}, [ModelSpec("forest", grid)])


def test_every_error_of_ours_is_one_line(bad):
    with pytest.raises(DskrobustError) as caught:
        dr.ingest(str(bad / "nested.npy"), bad / "new.zarr", y=str(bad / "own.csv"))
    assert "\n" not in str(caught.value)
