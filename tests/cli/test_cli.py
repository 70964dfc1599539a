"""The command line: what commands print, what they leave behind, and how they fail."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from shlex import quote

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from helpers import array_folder

from dskrobust import __version__, cli, sample_robustness
from dskrobust.datasets import create_store, ingest
from dskrobust.show import terminal
from dskrobust.store import append_rows, open_store
from dskrobust.store.spec import Block

COMMANDS = ("ingest", "link", "plan", "compute", "show", "subsets", "append", "verify", "demo")
PROGRAM = [sys.executable, "-c", "from dskrobust.cli import main; main()"]


def call(*arguments, code=0):
    """Run a command in this process; return its standard output, standard error with code > 0."""
    result = CliRunner().invoke(cli.main, [str(a) for a in arguments], prog_name="dskrobust")
    assert result.exit_code == code, result.output
    assert "\x1b" not in result.output
    if code:
        lines = [line for line in result.stderr.splitlines() if " % · " not in line]
        assert len(lines) == 1 or code == 2, result.stderr
        assert "Traceback" not in result.stderr
        return "\n".join(lines)
    return result.stdout


def data(*arguments):
    return json.loads(call(*arguments, "--json"))


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """Scored digits, for tests that only read."""
    store = ingest("digits", tmp_path_factory.mktemp("digits") / "digits.zarr")
    sample_robustness(store).write()
    return store.url


@pytest.fixture
def small(tmp_path):
    """A small store without results."""
    rng = np.random.default_rng(1)
    X, y = rng.normal(size=(60, 4)), np.array(["owl", "cat", "dog"])[np.arange(60) % 3]
    split = np.where(np.arange(60) < 40, "train", "test")
    return create_store(str(tmp_path / "small.zarr"), X, y, split).url


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


# -- help, errors, warnings -------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command):
    text = call(command, "--help")
    assert command == "demo" or f"dskrobust {command} " in text
    assert max(map(len, text.splitlines())) <= 80


def test_help_and_version_load_nothing_heavy():
    assert all(f"\n  {command} " in call("--help") for command in COMMANDS)
    assert call("--version") == f"dskrobust {__version__}\n"
    code = "import sys, dskrobust.cli; print({'numpy', 'dask', 'rich', 'zarr'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["show", "nowhere.zarr"], "Error: there is no store at nowhere.zarr; make one with"),
        (["compute", "nowhere.zarr"], "Error: there is no store at nowhere.zarr"),
        (["verify", "plain.npz"], "plain.npz"),
        (["show", "group.zarr"], "is a Zarr group but not a dskrobust store"),
        (["ingest", "nothing"], "Error: data set 'nothing' is unknown; choose breast-cancer"),
        (["ingest", "missing.npz"], "Error: there is no file missing.npz"),
        (["ingest", "nan.npz"], "Error: features row 3, column 1 is nan"),
        (["ingest", "wrong.npz"], "Error: wrong.npz is no .npz archive"),
        (["ingest", "plain.npz", "--x", "Z"], "has no array 'Z' but X, y"),
        (["ingest", "plain.npz", "--target", "t"], "option target='t' means nothing"),
        (["ingest", "mnist", "--source", "nowhere"], "nowhere does not exist"),
        (["ingest", "plain.npz", "--out", "group.zarr"], "not a dskrobust store; choose another"),
        (["compute", "one.zarr"], "all 8 samples of group 'all' have the"),
        (
            ["plan", "one.zarr", "--metric", "hammering"],
            "metric 'hammering' is unknown (did you mean 'hamming'?); choose",
        ),
        (["plan", "one.zarr", "--labels", "odd"], "label map 'odd' is unknown; choose"),
        (
            ["link", "l.zarr", "--x", "x.zarr", "--y", "y.zarr"],
            "no Zarr array at x.zarr",
        ),
        (["append", "one.zarr", "wide.npz"], "rows of shape"),
    ],
)
def test_bad_input_is_one_line(here, arguments, message):
    X = np.arange(24.0).reshape(8, 3)
    np.savez("plain.npz", X=X, y=np.arange(8) % 2)
    np.savez("wide.npz", X=np.zeros((4, 9)), y=np.arange(4))
    np.savez("nan.npz", X=np.where(X == 10, np.nan, X), y=np.arange(8) % 2)
    Path("wrong.npz").write_bytes(b"X,y\n1,2\n")
    create_store("one.zarr", X, np.ones(8, np.int64))
    Path("group.zarr").mkdir()
    Path("group.zarr/zarr.json").write_text(
        '{"attributes": {}, "zarr_format": 3, "node_type": "group"}'
    )
    assert message in call(*arguments, code=1)


def test_usage_errors_are_told_apart(small):
    for arguments in (
        ["compute"],
        ["compute", small, "--workers", "0"],
        ["compute", small, "--memory-limit", "much"],
        ["compute", small, "--scheduler", "tcp://127.0.0.1:1", "--workers", "2"],
        ["compute", small, "--scheduler", "tcp://127.0.0.1:1", "--scheduler-file", "f"],
        ["subsets", small, "--least", "-1"],
        ["unknown"],
    ):
        assert "Error: " in call(*arguments, code=2)


def test_debugging_shows_the_traceback(monkeypatch):
    monkeypatch.setenv("DSKROBUST_DEBUG", "1")
    result = CliRunner().invoke(cli.main, ["show", "nowhere.zarr"])
    assert "there is no store at nowhere.zarr" in str(result.exception)


def test_surprises_are_one_line_too(monkeypatch, digits):
    def fail(store):
        raise RuntimeError("very\nodd")

    monkeypatch.setattr("dskrobust.store.find_results", fail)
    assert call("show", digits, code=1).startswith("Error: RuntimeError: very odd (set DSKROBUST")


def test_damage_is_named(small):
    sample_robustness(small).write()
    chunk = array_folder(small, "features") / "c" / "0" / "0"
    whole = chunk.read_bytes()
    chunk.write_bytes(whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:])
    message = call("verify", small, code=1)
    assert "features'" in message
    assert "chunk 0" in message
    chunk.unlink()
    assert "chunk 0 (rows from 0) is missing" in call("verify", small, code=1)


# -- data -------------------------------------------------------------------------------------


def test_ingest_says_what_it_did(here):
    text = call("ingest", "digits", "--name", "Digits [8 × 8]", "--scale", "0.125")
    for part in ("Digits [8 × 8]", "1,797 × 64 uint8, times 0.125", "train 1,438, test 359",
                 "next        dskrobust compute digits.zarr"):  # fmt: skip
        assert part in text
    assert open_store("digits.zarr").spec.scale == 0.125
    assert "--overwrite" in call("ingest", "digits", code=1)
    call("ingest", "digits", "--overwrite", "--out", "digits.zarr")
    assert open_store("digits.zarr").spec.scale == 1 / 16


def test_ingest_own_arrays(here):
    names = np.array(["a", "b", "b", "a"])
    np.savez("own.npz", f=np.eye(4), t=names, g=np.array(["u", "u", "v", "v"]))
    call("ingest", "own.npz", "--x", "f", "--y", "t", "--split", "g", "--out", "o.zarr")
    store = open_store("o.zarr")
    assert (store.spec.classes, store.groups) == (("a", "b"), ("u", "v"))


def test_link_leaves_arrays_where_they_are(here, small):
    parts = [str(array_folder(small, name)) for name in ("features", "labels", "split")]
    relative = [os.path.relpath(part) for part in parts]
    text = call("link", "l.zarr", "--x", relative[0], "--y", relative[1],
                "--split", relative[2], "--scale", "0.5", "--name", "Linked")  # fmt: skip
    assert "Linked" in text
    assert "60 × 4 float64, times 0.5" in text
    (here / "elsewhere").mkdir()
    os.chdir(here / "elsewhere")  # the links do not depend on where one stands
    store = open_store("../l.zarr")
    np.testing.assert_array_equal(store.features[:], open_store(small).features[:])


def test_append_says_what_is_left_to_do(here, small):
    np.savez("new.npz", X=np.ones((3, 4)), y=np.array(["owl", "emu", "cat"]))
    assert "--into" in call("append", small, "new.npz", code=1)
    sample_robustness(small).write()
    text = call("append", small, "new.npz", "--into", "test")
    assert "3 rows appended" in text
    assert "test 23" in text
    assert "pairs of the 60 rows scored before are kept" in text
    facts = data("plan", small)
    assert facts["pairs"] == 3 * 60 + 3
    assert "of 60 rows of earlier data" in call("show", small)
    assert "cover 60 rows of other data than the 63" in call("subsets", small, code=1)


def test_verify(digits, small):
    text = call("verify", digits, "--sample", "5")
    assert text.startswith("All good.\n")
    assert "1,797 rows" in text
    assert "5 rows proven again by brute force" in text
    assert "none for this data yet" in call("verify", small)


def test_verify_finds_a_wrong_result(small):
    scores = sample_robustness(small)
    wrong = scores.compute()
    object.__setattr__(scores, "robustness", scores.robustness + 0.25)
    scores.write()
    assert "robustness is stored as" in call("verify", small, code=1)
    assert (np.asarray(wrong.robustness) <= 1).all()


# -- plan and compute -------------------------------------------------------------------------


def test_plan(digits, small):
    text = call("plan", small, "--workers", "2", "--threads", "3", "--memory-limit", "2GiB")
    for part in ("workers", "of 3 threads each", "tiles", "2.0 GiB", "1.77 k", "projected"):
        assert part in text
    assert "has these results already" in call("plan", digits)
    facts = data("plan", digits, "--workers", "1")
    assert facts["computed"]
    assert facts["pairs"] == 1797 * 1796 // 2
    refused = call("plan", small, "--memory-limit", "100MiB", code=1)
    assert "does not fit" in refused
    assert "100 MiB" in refused


def test_compute_tells_what_it_does_and_only_does_it_once(small):
    before = sample_robustness(small).compute()
    text = call("compute", small, "--workers", "1", "--memory-limit", "512MiB")
    for part in ("dashboard   http://127.0.0.1:", "1 worker × ", "tiles", "R in", "train",
                 "all together", "took", "MiB at most in a worker", "results     "):  # fmt: skip
        assert part in text
    after = sample_robustness(small)
    assert after.result is not None
    for name in ("robustness", "witness", "lipschitz_by_group"):
        np.testing.assert_array_equal(getattr(after, name), getattr(before, name))
    assert "has these results already" in call("compute", small)  # no cluster is started
    wrong = call("compute", small, "--scheduler", "tcp://127.0.0.1:1", code=1)
    assert "no scheduler can be reached" in wrong
    asked = call("show", small, "--metric", "cityblock", code=1)
    assert "has results for other parameters (euclidean)" in asked


def test_compute_on_a_running_scheduler(small, local_cluster):
    text = call(
        "compute", small, "--scheduler", local_cluster.scheduler_address, "-m", "minkowski(3)",
        "--labels", "categorical", "--label-bound", "2",
    )  # fmt: skip
    assert "2 workers × 1 thread" in text
    (result,) = data("show", small, "--metric", "minkowski(3)", "--label-bound", "2")["results"]
    assert result["parameters"]["metric"] == "minkowski(3)"
    assert result["parameters"]["bound"] == 2


def test_errors_of_tasks_arrive_as_one_line(small, local_cluster):
    chunk = array_folder(small, "features") / "c" / "0" / "0"
    chunk.unlink()
    message = call("compute", small, "--scheduler", local_cluster.scheduler_address, code=1)
    assert re.match(r"Error: array 'segments/\w+/features' of ", message)
    assert "chunk 0 (rows from 0) is missing" in message


def test_unreachable_scheduler(small, here):
    message = call("compute", small, "--scheduler", "tcp://127.0.0.1:9", code=1)
    assert message.startswith("Error: no scheduler can be reached at tcp://127.0.0.1:9 within 10 s")
    message = call("compute", small, "--scheduler-file", "none.json", code=1)
    assert "there is no scheduler file none.json" in message


def test_contradictions_are_told_of(tmp_path):
    X = np.repeat(np.arange(8.0), 2)[:, None]
    y = np.array([0, 1] + [0, 0] * 3 + [1, 1] * 4)
    url = create_store(str(tmp_path / "s.zarr"), X, y).url
    sample_robustness(url).write()
    assert "2 samples have a twin at distance 0" in call("show", url)
    assert "(rows 0 and 1, 1 and 0)" in call("show", url)
    facts = data("show", url)
    assert facts["contradictions"] == 2
    assert facts["least_robust"][0]["lipschitz"] is None
    assert data("show", url, 0)[0]["against"]["all"]["reach"] == 0


def test_an_interrupted_run_goes_on(tmp_path):
    rng = np.random.default_rng(5)
    X, y = rng.normal(size=(11_000, 64)).astype(np.float32), np.arange(11_000) % 7
    url = create_store(str(tmp_path / "s.zarr"), X, y).url
    command = [
        *PROGRAM,
        "compute",
        url,
        "--workers",
        "1",
        "--threads",
        "1",
        "--metric",
        "hamming",
        "--no-dashboard",
    ]  # fmt: skip  (nothing bounds it: tiles last)
    tiles = Path(url) / "tiles"
    # a shell's background jobs ignore SIGINT, and what they start inherits that
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    run = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    signal.signal(signal.SIGINT, before)
    deadline = time.monotonic() + 120
    while not list(tiles.glob("*/*.blob")) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(run.pid, signal.SIGINT)  # to the workers as well, as a terminal does
    out, err = run.communicate(timeout=60)
    assert run.returncode == 130, err
    stopped = [line for line in err.splitlines() if not line.startswith("Hamming: ")]
    assert stopped == [
        "Stopped. Finished tiles are kept in the store: run the same command again to go on."
    ]
    assert "tiles" in out
    again = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert again.returncode == 0, again.stderr
    assert "resumed " in again.stdout
    assert "R in" in again.stdout
    assert not list(tiles.glob("*/*.blob"))


# -- show and subsets -------------------------------------------------------------------------


def test_show(digits, small):
    text = call("show", digits)
    for part in ("digits\n", "train 1,438, test 359", "euclidean, categorical labels", "median",
                 "How robust", "%", "The least robust samples and their", " UTC"):  # fmt: skip
        assert part in text
    assert "none for this data yet" in call("show", small)


def test_show_json(digits, small):
    facts = data("show", digits)
    scores = sample_robustness(digits).compute()
    own = scores.robustness[scores.split == 0]
    order = np.argsort(scores.robustness, kind="stable")
    train = facts["robustness"]["train"]
    assert facts["groups"] == {"train": 1438, "test": 359}
    assert train["least"] == own.min()
    assert train["median"] == np.median(own)
    assert sum(train["histogram"]["counts"]) == 1438
    assert [r["row"] for r in facts["least_robust"]] == order[:10].tolist()
    assert facts["results"][0]["current"]
    assert "robustness" not in data("show", small)
    assert data("show", small)["results"] == []


def test_show_rows(digits):
    scores = sample_robustness(digits).compute()
    rows = data("show", digits, 3, 1790)
    assert [r["row"] for r in rows] == [3, 1790]
    for facts in rows:
        row = facts["row"]
        assert facts["robustness"] == scores.robustness[row]
        assert facts["against"][facts["group"]]["witness"] == scores.witness[row]
        assert facts["against"]["train"]["reach"] == scores.reach_by_group[row, 0]
        assert facts["label"] == str(open_store(digits).labels[row])
    assert "(own)" in call("show", digits, 3)
    assert "there is no row 1797; rows go from 0 to 1796" in call("show", digits, 1797, code=1)


def test_subsets_count_classes_as_table_1_does(digits, tmp_path):
    path = tmp_path / "rows.bin"
    asked = ["subsets", digits, "--least", 300, "--least", 1000, "--most", 438]
    text = call(*asked, "--out", path)
    assert "train_L300" in text
    assert "test_L300" in text
    assert "test_L1000" not in text
    assert "%)" in text
    facts = {s["name"]: s for s in data(*asked)["subsets"]}
    assert list(facts) == ["train", "train_L300", "train_L1000", "train_M438", "test", "test_L300"]
    with np.load(path) as file:
        saved = dict(file)
    assert set(saved) == set(facts) - {"train", "test"}
    labels = open_store(digits).labels[:]
    for name in saved:
        classes, counts = np.unique(labels[saved[name]], return_counts=True)
        shown = facts[name]["classes"]
        assert [shown[str(c)]["count"] for c in classes] == counts.tolist()
        assert len(saved[name]) == facts[name]["size"]
    least, most = facts["train_L1000"]["classes"], facts["train_M438"]["classes"]
    assert all(least[k]["share"] + most[k]["share"] == pytest.approx(1) for k in least)


def test_nested_subsets_and_halves(digits):
    names = [
        s["name"] for s in data("subsets", digits, "--within", "test:L100", "--most", 20)["subsets"]
    ]
    assert names == ["test", "test_L100_M20"]
    halves = [s["name"] for s in data("subsets", digits)["subsets"]]
    assert halves == ["train", "train_L719", "train_M719", "test", "test_L179", "test_M180"]
    every = data("subsets", digits, "--within", "all", "--least", 1500)["subsets"]
    assert [s["name"] for s in every] == ["all", "all_L1500"]
    assert "there is no group 'nobody'" in call("subsets", digits, "--within", "nobody", code=1)
    assert "'K5' is no selection" in call("subsets", digits, "--within", "test:K5", code=1)
    message = call("subsets", digits, "--least", 1439, code=1)
    assert "cannot choose 1,439 samples; there are train 1,438, test 359" in message
    assert "from 1 to 359" in call("subsets", digits, "--within", "test:L400", code=1)


def test_selections_in_words(digits, tmp_path):
    asked = ["subsets", digits, "--select", "L100+M38:L5", "--within", "test", "--least", 7]
    names = [s["name"] for s in data(*asked)["subsets"]]
    assert names == ["test", "test_L7", "test_L100+M38_L5"]
    every = data("subsets", digits, "--select", "L9-L2", "--select", "train:L3+test:M4")["subsets"]
    sizes = {"train": 1438, "train_L9-L2": 7, "test": 359, "test_L9-L2": 7, "all": 1797}
    assert {s["name"]: s["size"] for s in every} == {**sizes, "train_L3+test_M4": 7}
    rows = tmp_path / "rows.parquet"
    call(*asked, "--out", rows)
    assert pd.read_parquet(rows)["subset"].value_counts().to_dict() == {
        "test_L7": 7, "test_L100+M38_L5": 105
    }  # fmt: skip
    assert "leaves no samples" in call("subsets", digits, "--select", "train:L2-L9", code=1)


def test_real_labels_have_quantiles(tmp_path):
    store = ingest("diabetes", tmp_path / "d.zarr")
    sample_robustness(store).write()
    text = call("subsets", store.url, "--least", 50)
    assert "quantile" in text
    assert "50%" in text
    (whole, least) = data("subsets", store.url, "--least", 50)["subsets"]
    assert whole["label_quantiles"]["100%"] == store.labels[:].max()
    assert least["size"] == 50
    assert "real labels" in call("show", store.url)
    assert data("show", store.url, 5)[0]["label"] == f"{store.labels[5]:g}"


def test_appended_rows_of_a_group_are_shown(small):
    store = open_store(small)
    block = Block(np.ones((2, 4)), np.array([0, 1]), np.full(2, 2, np.int16))
    append_rows(store, [block], groups=(*store.groups, "late"))
    with pytest.warns(UserWarning, match="twin"):
        sample_robustness(small).write().compute()
    assert data("show", small)["robustness"]["late"]["least"] == 0


# -- terminals --------------------------------------------------------------------------------


def test_the_program_in_a_terminal(digits):
    """Under `script` commands see a terminal, and so may use colours."""
    line = " ".join(
        [sys.executable, "-c", "'from dskrobust.cli import main; main()'", "verify", digits]
    )
    done = subprocess.run(
        ["script", "-qec", line, "/dev/null"],
        capture_output=True,
        text=True,
        env={**os.environ, "TERM": "xterm-256color"},
    )
    assert done.returncode == 0
    assert "\x1b[" in done.stdout
    assert "All good." in done.stdout


def test_output_that_cannot_show_every_character(digits):
    done = subprocess.run(
        [*PROGRAM, "show", digits],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )
    assert done.returncode == 0, done.stderr
    assert b"1,438" in done.stdout


def test_words_for_numbers():
    assert [terminal.size(n) for n in (0, 1023, 2048, 3 * 2**30)] == [
        "0 B", "1023 B", "2 KiB", "3.0 GiB"
    ]  # fmt: skip
    assert [terminal.big(n) for n in (999, 1500, 2.45e9)] == ["999", "1.5 k", "2.45 G"]
    assert [terminal.clock(s) for s in (7.21, 59, 185, 7800)] == [
        "7.2 s",
        "59 s",
        "3:05 min",
        "2:10 h",
    ]
    assert terminal.counted(1, "tile") + terminal.counted(2, "tile") == "1 tile2 tiles"


@pytest.mark.parametrize("low", [0.0, 0.25, 0.999])
@pytest.mark.parametrize("width", [0.0, 1e-9, 1e-3, 0.3, 1.0])
def test_histogram_edges_hold_every_value(low, width):
    values = np.clip(np.linspace(low, low + width, 50), 0, 1)
    edges = terminal.bin_edges([values])
    assert edges[0] <= values.min()
    assert values.max() <= edges[-1]
    assert 2 <= len(edges) <= terminal.MOST_BINS + 1
    assert np.histogram(values, edges)[0].sum() == 50
    terminal.histogram({"all": values})


def test_time_left_ignores_what_was_found(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(terminal.time, "monotonic", lambda: now[0])
    job = terminal.Progress("Job", 100, "rows")
    assert job.left is None
    job.add(60, found=True)
    assert job.left is None
    now[0] += 10
    job.add(20)
    assert job.left == 10  # 20 in 10 s, 20 to go
    now[0] += 4
    assert job.left == 6
    assert "60" not in job.words()
    assert job.percent() == " 80 %"


@pytest.mark.parametrize("end", ["| head -n 1", ">&-", "2>&- >&-"])
def test_nobody_reads_the_output(small, end):
    """A pipe that is closed, and an output that was closed before, need no word of error."""
    command = f"{quote(sys.executable)} -m dskrobust show {quote(small)} {end}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert done.stderr == ""
    assert len(done.stdout.splitlines()) == ("head" in end)


@pytest.mark.parametrize("name", ["NUMBA_NUM_THREADS", "DASK_NUM_WORKERS"])
@pytest.mark.parametrize("value", ["0", "abc", "-1", ""])
def test_numbers_of_threads_that_are_none_are_refused(name, value, monkeypatch):
    monkeypatch.setenv(name, value)
    said = CliRunner().invoke(cli.main, ["verify", "nothing.zarr"])
    assert said.exit_code == 2
    assert f"{name}={value} is in the environment" in said.output
