"""The command `embed`: what it writes and says, and how it fails."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

import dskrobust as dr
from dskrobust import cli

SUMS = "own_embeddings:sums"
LOCAL = ("--workers", "1", "--threads", "1", "--no-dashboard")


def call(*arguments, code=0):
    """Run a command in this process; return its standard output, standard error with code > 0."""
    result = CliRunner().invoke(cli.main, [str(a) for a in arguments], prog_name="dskrobust")
    assert result.exit_code == code, result.output
    return result.stderr if code else result.stdout


@pytest.fixture
def source(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    X = np.random.default_rng(0).random((150, 4))
    return dr.create_store("own.zarr", X, np.array(["a", "b"])[np.arange(150) % 2])


def test_it_writes_a_store_and_says_of_what(source, tmp_path):
    text = call("embed", "own.zarr", "--model", SUMS, "--out", "e.zarr", "--name", "sums",
                "--batch-rows", 32, *LOCAL)  # fmt: skip
    assert "features    150 × 3 float32" in text
    assert f"embedding   of {tmp_path}/own.zarr by {SUMS}, code SHA-256" in text
    assert "next        dskrobust compute e.zarr" in text
    facts = json.loads(call("show", "e.zarr", "--json"))
    assert facts["provenance"]["batch_rows"] == 32
    assert (facts["name"], facts["classes"]) == ("sums", ["a", "b"])
    assert f"by {SUMS}" in call("show", "e.zarr")
    assert "is already a store; choose another path or replace it with --overwrite" in call(
        "embed", "own.zarr", "--model", SUMS, "--out", "e.zarr", code=1
    )


def test_functions_lie_in_this_folder_too(source, tmp_path):
    (tmp_path / "mine_alone.py").write_text("def twice(batch):\n    return 2 * batch\n")
    call("embed", "own.zarr", "--model", "mine_alone:twice", "-o", "e.zarr", *LOCAL)
    expected = 2 * source.features[:].astype("f4")
    assert np.array_equal(dr.open_store("e.zarr").features[:], expected)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--model", "resnet18"], "model 'resnet18' is unknown; it is cnn, torchvision:NAME"),
        (["--model", "cnn"], "does not say how its rows are images"),
        (["--model", "torch:a.B"], "give a state dict, --weights FILE, or --weights random with a"),
        (["--model", "torch:a.B", "--weights", "random"], "--weights random needs --seed N"),
        (
            ["--model", "torch:a.B", "--weights", "none"],
            "without weights a model would be a random",
        ),
        (["--model", "torch:a.B", "--weights", "b.pt"], "there is no file of weights"),
        (["--model", "own.onnx", "--layer", "a", "--seed", "1"], "model own.onnx: "),
    ],
)
def test_errors_are_a_line_before_anything_is_started(source, tmp_path, words, said):
    pytest.importorskip("torch")
    text = call("embed", "own.zarr", "--out", "e.zarr", *words, code=1)
    assert said in text
    assert len(text.strip().splitlines()) == 1
    assert not (tmp_path / "e.zarr").exists()
