"""Every command of the paper's list runs, from fresh stores, on a hundredth of the data."""

import json
import re
import shlex
import shutil
import tomllib

import numpy as np
import pytest
from click.testing import CliRunner
from distributed import LocalCluster
from helpers import ROOT

import dskrobust as dr
from dskrobust import cli
from dskrobust.datasets.cifar import CLASSES
from dskrobust.report import catalogue

NOTEBOOKS = ROOT / "notebooks"
SIZES = re.compile(r"(?<=--least )\d+|(?<=--most )\d+|(?<=:[LM])\d+")
NETWORKS = ("cnn", "resnet56")
TINY = "torch:own_networks.Tiny"
FAST = {"learning_rate": 0.01, "optimizer": "adam", "batch_size": 50}
CPU = {"device": "cpu", "torch_threads": 1}
EPOCHS = 5  # the step of a search
ON_WORKERS = ("compute", "run")

pytestmark = pytest.mark.skipif(not NOTEBOOKS.exists(), reason="the notebooks are not here")


def smaller(text):
    """Return a command or an experiment with a hundredth of the samples."""
    return SIZES.sub(lambda size: str(int(size[0]) // 100), text)


def quick_experiment(text):
    """Return a smaller experiment: two trials, three values of what is swept, tiny networks."""
    made = tomllib.loads(smaller(text))
    made["trials"] = min(2, made.get("trials", 1))
    for model in made["models"]:
        grid = model.get("grid", {})
        model["grid"] = {name: values[:3] for name, values in grid.items()}
        if model["kind"] in NETWORKS:
            pytest.importorskip("torch", reason="networks need torch")
            given, options = (model.get(name, {}) for name in ("parameters", "options"))
            model["kind"] = TINY
            model["parameters"] = FAST | {n: EPOCHS for n in given if n == "epochs"}
            model["options"] = options | CPU | {n: EPOCHS for n in options if n == "max_epochs"}
    return "\n".join(_toml(made))


def _toml(made):
    for name, value in made.items():
        if not isinstance(value, (dict, list)):
            yield f"{name} = {json.dumps(value)}"
    for name in ("train", "test"):
        yield f"[{name}]"
        yield from (f"{key} = {json.dumps(value)}" for key, value in made[name].items())
    for model in made["models"]:
        yield "[[models]]"
        yield f"kind = {json.dumps(model['kind'])}"
        for part in ("grid", "parameters", "options"):
            for key, value in model.get(part, {}).items():
                yield f"{part}.{key} = {json.dumps(value)}"


def images(folder, name, shape, rows, classes):
    """Write a store of images whose classes differ a little."""
    rng = np.random.default_rng(1)
    count = sum(rows)
    y = np.arange(count) % len(classes)
    X = rng.integers(0, 200, (count, np.prod(shape)), dtype=np.uint8) + 5 * y[:, None].astype("u1")
    spec = dr.StoreSpec(name, "categorical", classes=classes, scale=1 / 255, image_shape=shape)
    return dr.create_store(str(folder / f"{name}.zarr"), X, y, parts(rows), spec=spec)


def parts(rows):
    return np.repeat(["train", "test"], rows)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with what the list's commands name: small scored stores, experiments, own digits."""
    here = tmp_path_factory.mktemp("paper")
    rng = np.random.default_rng(4)
    rows = 320, 71
    shares = np.round(np.exp(rng.normal(7.4, 1, sum(rows))))
    news = dr.create_store(str(here / "online-news.zarr"), rng.uniform(size=(sum(rows), 6)), shares,
                           parts(rows), spec=dr.StoreSpec("online-news", "real"))  # fmt: skip
    digits = tuple(map(str, range(10)))
    for store in (
        news,
        images(here, "cifar10", (3, 8, 8), (500, 100), CLASSES),
        images(here, "mnist", (28, 28), (600, 100), digits),
    ):
        dr.sample_robustness(store).write()
    (here / "notebooks" / "experiments").mkdir(parents=True)
    shutil.copytree(NOTEBOOKS / "paper" / "own-digits", here / "notebooks/paper/own-digits")
    return here


@pytest.fixture(scope="module")
def call():
    """Run a command of the list on two threads of this process."""
    with LocalCluster(
        n_workers=1, threads_per_worker=2, processes=False, protocol="tcp", host="127.0.0.1",
        dashboard_address="127.0.0.1:0", silence_logs=50,
    ) as cluster:  # fmt: skip

        def run(command):
            program, *arguments = shlex.split(smaller(command))
            assert program == "dskrobust"
            where = ["--scheduler", cluster.scheduler_address] * (arguments[0] in ON_WORKERS)
            result = CliRunner().invoke(cli.main, [*arguments, *where])
            assert result.exit_code == 0, result.output
            return result.stdout

        yield run


@pytest.mark.parametrize("entry", catalogue, ids=lambda entry: entry.name)
def test_it_runs_from_a_fresh_store(entry, folder, call, monkeypatch):
    monkeypatch.chdir(folder)
    ingest, compute, *own = entry.steps
    if entry.store == "plane":
        for made in (ingest, compute):
            call(made)
    for path in re.findall(r"notebooks/experiments/\S+", entry.needs + entry.command):
        (folder / path).write_text(quick_experiment((ROOT / path).read_text()))
    said = [call(command) for command in own or (compute,)][-1]
    written = entry.command.partition("--out ")[2]
    if written:
        assert (folder / written).read_text().startswith("<?xml")
        assert written in said
    else:
        assert len(said.splitlines()) > 1


def test_a_fresh_store_needs_no_more_than_is_said():
    for entry in catalogue:
        ingest, compute, *_ = entry.steps
        assert ingest.startswith(f"dskrobust ingest {entry.store}")
        assert compute == f"dskrobust compute {entry.store}.zarr"
        assert len(set(entry.steps)) == len(entry.steps)


def test_figure_3_shows_all_ten_subsets():
    (entry,) = (e for e in catalogue if e.name == "Figure 3")
    named = re.findall(r"--subset (\w+)=", entry.command)
    assert named == ["x", "x_L24", "x_M24", "x_L2", "x_M2", "t", "t_L", "t_M", "t_l", "t_m"]
