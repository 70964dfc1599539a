"""What how-to/security.md promises: nothing runs code of a file, leaks, or is overheard."""

import ast
import getpass
import io
import json
import os
import pickle
import platform
import re
import stat
import subprocess
import sys
import tempfile
import time
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar
from xml.etree import ElementTree

import fsspec
import numpy as np
import pandas as pd
import psutil
import pyarrow as pa
import pytest
from click.testing import CliRunner
from helpers import NOTEBOOKS, ROOT
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image
from rich.console import Console

import dskrobust as dr
from dskrobust import cli, display, export
from dskrobust.credentials import anonymous, last_part, without_credentials
from dskrobust.datasets import ingest
from dskrobust.datasets.hdf5_sources import check_sources
from dskrobust.embedding import EmbeddingOptions, embed
from dskrobust.engine import scratch
from dskrobust.errors import DskrobustError, Hint, InvalidOptionError, StoreError
from dskrobust.evaluation import experiment, read_experiment
from dskrobust.report import ReportOptions, style, write_report
from dskrobust.report.rendering import script_sources
from dskrobust.show import sheets, terminal
from dskrobust.spreadsheets import harmless, harmless_frame, harmless_table
from dskrobust.store import StoreSpec, open_array

PACKAGE = ROOT / "dskrobust"
NASTY = (
    "=cmd|' /C calc'!A0", "+1+1", "-1+1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "'=1", "''=1", "＝1",
    "-1.5", "+2e3", "../../x", "a/b", "CON", "..", "<script>alert(1)</script>",
    '" onerror="alert(1)', "$x^2$", r"\$x$", "[bold]x[/bold]", "[x](javascript:1)", "a|b", r"a\|b",
    "\x1b[31mred", "\x1b]8;;https://x\x07", "\u202etxt.exe", "\u2066x\u2069", "{{ 7*7 }}", "]]>",
    "-->", "%2F", "\x00", "{x}", "%s", "line\nbreak", "&amp;",
)  # fmt: skip
names = st.one_of(
    st.sampled_from(NASTY),
    st.text(max_size=12),
    st.text(st.sampled_from("=+-@\t\r\n'\"<>&|[]\\$_/.\x1b\u202e10eE"), max_size=8),
)


def invoke(*arguments):
    """Run a command here; an exception that is no error line is the test's failure."""
    result = CliRunner().invoke(cli.main, [str(each) for each in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


@pytest.fixture(scope="module")
def nasty(tmp_path_factory):
    """A scored store whose classes, groups, columns, ids and own name are hostile."""
    rows = 4 * len(NASTY)
    rng = np.random.default_rng(0)
    spec = StoreSpec("<script>=1+1</script>", "categorical", classes=NASTY, groups=NASTY[:3],
                     feature_names=NASTY[3:7])  # fmt: skip
    made = dr.create_store(
        str(tmp_path_factory.mktemp("nasty") / "nasty.zarr"),
        rng.random((rows, 4)),
        np.arange(rows) % len(NASTY),
        np.array(NASTY[:3], object)[np.arange(rows) % 3],
        ids=[f"{NASTY[k % len(NASTY)]}{k}" for k in range(rows)],
        spec=spec,
    )
    dr.label_quality(made).write()
    return made


# -- code of files ------------------------------------------------------------------------------

RUNS = {"eval", "exec", "compile", "__import__"}
READS = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal",
         "yaml", "subprocess", "runpy", "code"}  # fmt: skip
METHODS = {"read_pickle", "to_pickle", "load_state_dict_from_url", "system", "popen"}
KNOWN = {  # and why each may
    "datasets/cifar.py: import pickle",  # an unpickler that finds arrays of numbers only
}


def dangers(source, name):
    """Yield what in a module may run what it reads."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names if alias.name.split(".")[0] in READS]
            yield from (f"{name}: import {each}" for each in found)
        elif isinstance(node, ast.ImportFrom):
            if not node.level and (node.module or "").split(".")[0] in READS:
                yield f"{name}: import {node.module}"
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            given = {k.arg: ast.unparse(k.value) for k in node.keywords}
            if called in RUNS or called.split(".")[-1] in METHODS:
                yield f"{name}: {called}"
            if called == "torch.load" and given.get("weights_only") != "True":
                yield f"{name}: torch.load"
            if given.get("allow_pickle", "False") != "False":
                yield f"{name}: {called} with pickles"
            if given.get("trust_remote_code", "False") != "False":
                yield f"{name}: {called} with remote code"


def test_no_module_runs_what_it_reads():
    found = {
        danger
        for path in sorted(PACKAGE.rglob("*.py"))
        for danger in dangers(path.read_text("utf-8"), path.relative_to(PACKAGE).as_posix())
    }
    assert found == KNOWN


@pytest.mark.parametrize("line", ["import pickle", "from joblib import load", "eval('1')",
                                  "torch.load(p)", "torch.load(p, weights_only=False)",
                                  "np.load(p, allow_pickle=True)", "pd.read_pickle(p)",
                                  "os.system('x')", "exec(s)", "import yaml.cyaml"])  # fmt: skip
def test_the_search_for_what_runs_code_finds_it(line):
    assert len(list(dangers(line, "x.py"))) == 1


class Bomb:
    """What leaves a file behind when a pickle of it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def v2_array(folder, **metadata):
    plain = {"zarr_format": 2, "shape": [4, 2], "chunks": [4, 2], "dtype": "<f8", "order": "C",
             "compressor": None, "filters": None, "fill_value": None}  # fmt: skip
    (folder / ".zarray").write_text(json.dumps({**plain, **metadata}))
    return folder / "0.0"


def v3_array(folder, codec):
    chunks = {"name": "regular", "configuration": {"chunk_shape": [4, 2]}}
    keys = {"name": "default", "configuration": {"separator": "/"}}
    (folder / "zarr.json").write_text(
        json.dumps({"zarr_format": 3, "node_type": "array", "shape": [4, 2],
                    "data_type": "float64", "chunk_grid": chunks, "chunk_key_encoding": keys,
                    "fill_value": 0.0, "codecs": [{"name": codec, "configuration": {}}]})
    )  # fmt: skip
    (folder / "c" / "0").mkdir(parents=True)
    return folder / "c" / "0" / "0"


PICKLED = {"id": "pickle", "protocol": 5}


@pytest.mark.parametrize(
    "make",
    [
        lambda folder: v2_array(folder, dtype="|O", filters=[PICKLED]),
        lambda folder: v2_array(folder, filters=[{"id": "zlib", "level": 1}, PICKLED]),
        lambda folder: v2_array(folder, compressor=PICKLED),
        lambda folder: v3_array(folder, "pickle"),
        lambda folder: v3_array(folder, "numcodecs.pickle"),
    ],
)
def test_arrays_with_pickles_are_not_opened(tmp_path, make):
    chunk = make(tmp_path)
    chunk.write_bytes(pickle.dumps(Bomb(tmp_path / "ran")))
    with pytest.raises(StoreError, match="there is no Zarr array"):
        open_array(str(tmp_path))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["own.npy", "own.npz", "data_batch_1"])
def test_files_with_pickles_are_not_loaded(tmp_path, name):
    bomb = np.array([Bomb(tmp_path / "ran")], object)
    if name == "own.npz":
        np.savez(tmp_path / name, X=bomb, y=bomb)
    elif name == "own.npy":
        np.save(tmp_path / name, bomb)
        np.save(tmp_path / "y.npy", bomb)
    else:
        for k in range(1, 6):
            (tmp_path / f"data_batch_{k}").write_bytes(pickle.dumps(bomb))
        (tmp_path / "test_batch").write_bytes(pickle.dumps(bomb))
    what = ["cifar10", "--source", tmp_path] if "batch" in name else [tmp_path / name]
    more = ["--y", tmp_path / "y.npy"] if name == "own.npy" else []
    result = invoke("ingest", *what, *more, "--out", tmp_path / "o.zarr")
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "ran").exists()


def test_weights_are_only_weights(tmp_path):
    torch = pytest.importorskip("torch")
    torch.save({"weight": Bomb(tmp_path / "ran")}, tmp_path / "w.pt")
    images = np.zeros((8, 64), np.uint8)
    spec = StoreSpec("images", "categorical", image_shape=(8, 8))
    store = dr.create_store(str(tmp_path / "s.zarr"), images, np.arange(8) % 2, spec=spec)
    how = EmbeddingOptions(weights=str(tmp_path / "w.pt"), device="cpu")
    with pytest.raises(DskrobustError, match=r"w\.pt cannot be read as weights"):
        embed(store, "torch:torch.nn.Flatten", str(tmp_path / "o.zarr"), how)
    assert not (tmp_path / "ran").exists()


OWN_MODEL = "from sklearn.dummy import DummyClassifier as Own\n"


def test_a_store_never_imports_what_it_names(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "own_model.py").write_text(OWN_MODEL)
    store = ingest("digits", str(tmp_path / "d.zarr"))
    dr.sample_robustness(store).write()
    one = dr.Experiment({"x": "train"}, {"t": "test"}, [dr.Model("own_model.Own")], trials=1)
    dr.evaluate(store, one).compute()
    assert sys.modules.pop("own_model")
    (tmp_path / "own_model.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    for command in ("show", "report", "verify", "export", "subsets", "plan"):
        out = {"report": ["--out", tmp_path / "r.html"], "export": ["--out", tmp_path / "r.csv"]}
        more = ["--sample", 3] if command == "verify" else out.get(command, [])
        assert invoke(command, store.url, *more).exit_code == 0, command
    assert "own_model.Own" in (tmp_path / "r.html").read_text("utf-8")
    assert "own_model" not in sys.modules
    assert not (tmp_path / "ran").exists()


EXPERIMENT = """
trials = 1
[train]
x = "train"
[test]
t = "test"
[[models]]
kind = "{}"
"""


@pytest.mark.parametrize("kind", ["own.Estimator", "torch:own.Module"])
@pytest.mark.parametrize("other", [True, False])
def test_a_file_of_somebody_else_names_code_only_where_that_is_allowed(
    tmp_path, monkeypatch, kind, other
):
    path = tmp_path / "e.toml"
    path.write_text(EXPERIMENT.format(kind))
    assert read_experiment(path).models[0].kind == kind  # one's own
    if other:
        monkeypatch.setattr(experiment.os, "getuid", lambda: path.stat().st_uid + 1)
    else:
        path.chmod(0o666)
    with pytest.raises(InvalidOptionError, match="is an import path, whose code would run"):
        read_experiment(path)
    assert read_experiment(path, allow_import=True).models[0].kind == kind
    result = invoke("run", path, tmp_path / "none.zarr")
    assert result.exit_code == 1
    assert "--allow-import" in result.stderr
    assert result.stderr.count("\n") == 1
    result = invoke("run", path, tmp_path / "none.zarr", "--allow-import")
    assert "there is no store" in result.stderr
    path.write_text(EXPERIMENT.format("forest"))
    assert read_experiment(path).models[0].kind == "forest"  # which is no code of the file


# -- names are text -----------------------------------------------------------------------------


@settings(max_examples=300)
@given(names)
@example("'-1")
def test_csv_cells_are_no_formulas_and_come_back(name):
    cell = harmless(name)
    number = re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", cell, re.ASCII)
    assert number or cell[:1] not in tuple("=+-@\t\r\n＝＋－＠")
    back = cell[1:] if re.match("'+[=+\\-@\t\r\n＝＋－＠]", cell) else cell
    assert back == name


@given(st.lists(st.one_of(st.none(), names), min_size=1, max_size=20))
def test_tables_and_frames_have_the_same_cells(texts):
    expected = [None if text is None else harmless(text) for text in texts]
    for kind in (pa.string(), pa.large_string()):
        table = pa.table({"text": pa.array(texts, kind), "number": [-1.5] * len(texts)})
        made = harmless_table(table)
        assert made["text"].to_pylist() == expected
        assert made["number"].to_pylist() == [-1.5] * len(texts)
        assert made.schema == table.schema
    frame = pd.DataFrame({"=x": pd.Series([*texts, -1.5, 1], dtype=object)})
    assert harmless_frame(frame)["'=x"].tolist()[-2:] == [-1.5, 1]
    assert [v for v in harmless_frame(frame)["'=x"][:-2] if isinstance(v, str)] == [
        text for text in expected if text is not None
    ]


@pytest.mark.parametrize("end", [".csv", ".csv.gz"])
def test_frames_are_written_without_formulas(tmp_path, end):
    frame = pd.DataFrame({"model": ["=1", "a"], "k": pd.Series([1, None], dtype=object)})
    export.write_csv(frame, tmp_path / f"t{end}")
    read = pd.read_csv(tmp_path / f"t{end}", dtype=str, keep_default_na=False)
    assert read.to_dict("list") == {"model": ["'=1", "a"], "k": ["1", ""]}


def test_every_csv_goes_through_the_one_place():
    """Only `export` knows how CSV is written."""
    writes = re.compile(r"\bto_csv\(|CSVWriter\(|csv\.writer\(|DictWriter\(|savetxt\(")
    found = {p.name for p in PACKAGE.rglob("*.py") if writes.search(p.read_text("utf-8"))}
    assert found == {"export.py"}


def test_exported_and_listed_names_are_no_formulas(nasty, tmp_path):
    for command, file in (("export", "e.csv"), ("issues", "i.csv"), ("export", "e.parquet")):
        assert invoke(command, nasty.url, "--out", tmp_path / file).exit_code == 0
    for file in ("e.csv", "i.csv"):
        table = pd.read_csv(tmp_path / file, dtype=str, keep_default_na=False)
        bad = [c for column in table for c in table[column] if harmless(c) != c]
        bad = [c for c in bad if not c.startswith("'")]
        assert bad == []
    labels = set(pd.read_csv(tmp_path / "e.csv", keep_default_na=False)["label"])
    assert "'=cmd|' /C calc'!A0" in labels
    assert set(pd.read_parquet(tmp_path / "e.parquet")["label"]) >= set(NASTY)  # as they are


class Tags(HTMLParser):
    """The elements and attributes of a page."""

    def __init__(self, page):
        super().__init__()
        self.found = set()
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.found |= {(tag, name) for name, _ in attributes} | {(tag, "")}


CARDS = {(tag, "") for tag in ("style", "div", "b", "span", "p", "table", "tbody", "thead", "tr",
                               "th", "td", "a", "code", "svg", "text", "path", "caption", "sub",
                               "tfoot")}  # fmt: skip


@settings(max_examples=100)
@given(names, names)
def test_cards_and_sheets_show_names_as_text(one, two):
    card = display.card(
        one, two, one, display.caption(one), display.warning(one), display.link(one, two),
        display.code(one, two), display.facts([(one, two, one)]),
        display.table((one, two), [(one, two)]),
        display.histograms({one: np.array([1, 2])}, np.array([0.0, 0.5, 1.0])),
    )  # fmt: skip
    cell = sheets.Cell(((one, True),), two)
    sheet = sheets.Sheet(one, ((two, 1),), (("", one),), ((two, (cell,)),), one)
    for html in (card, sheets.to_html(sheet)):
        tags = {(tag, "") for tag, _ in Tags(html).found}
        assert tags <= CARDS | {("rect", ""), ("title", "")}
        attributes = {name for _, name in Tags(html).found}
        assert not any(name.startswith("on") for name in attributes)
        assert not re.search("[\x00-\x08\x0b-\x1f\u202a-\u202e]", html)
    lines = sheets.to_markdown(sheet).split("\n")
    assert len(lines) == 3  # no name breaks one
    for line in lines:
        bare = re.sub(r"\\[\\|<[]", "", line)  # what is escaped
        assert bare.count("|") == 3
        assert not re.search(r"[<[]", bare)


@settings(max_examples=100)
@given(names)
def test_the_terminal_is_told_nothing_but_text(name):
    out = io.StringIO()
    screen = Console(file=out, force_terminal=True, color_system=None, width=500, highlight=False)
    table = terminal.table(name, "b")
    terminal.add_row(table, name, 1)
    cell = sheets.Cell(((name, False),), name)
    sheet = sheets.Sheet("", ((name, 1),), (("", name),), ((name, (cell,)),), "")
    screen.print(table, terminal.performance_table(sheet), terminal.Progress(name, 3, "rows"))
    screen.print(terminal.Progress("x", 3, "rows"))
    bad = set(re.findall("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", out.getvalue()))
    assert bad == set()


def test_markup_of_rich_is_text(nasty):
    for command in (["show"], ["show", "20"], ["issues"], ["subsets"]):
        result = invoke(command[0], nasty.url, *command[1:])
        assert result.exit_code == 0, result.output
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e]", result.output)
    few = invoke("subsets", nasty.url, "--within", "+1+1", "--least", "10")
    assert "[bold]x[/bold]" in few.output
    facts = invoke("issues", nasty.url, "--json").output
    assert facts.isascii()  # JSON writes out whatever commands a terminal
    assert json.loads(facts)


@pytest.mark.filterwarnings("ignore:.* in no font")
def test_a_report_of_hostile_names_has_no_element_of_theirs(nasty, tmp_path):
    whole = write_report(nasty, tmp_path / "r.html").read_text("utf-8")
    scripts = re.findall("<script>(.*?)</script>", whole, re.S)
    policy = re.search('Security-Policy" content="(.*?)"', whole)[1]
    assert f"; script-src {script_sources(scripts)}" in policy  # all are ours, and no other runs
    page = re.sub("<script>.*?</script>", "", whole, flags=re.S)
    tags = Tags(page).found
    assert not {("script", ""), ("iframe", ""), ("object", "")} & tags
    assert not any(name.startswith("on") for _, name in tags)
    assert "default-src 'none'" in page  # and a browser would not run one
    assert "&lt;script&gt;" in page
    assert "49" not in re.findall(r"\{\{.*?\}\}", page)
    assert not re.search("[\x00-\x08\x0b-\x1f\u202a-\u202e]", page)


@settings(max_examples=5, suppress_health_check=[HealthCheck.too_slow])
@given(names)
def test_figures_are_xml_without_elements_of_names(name):
    @style.styled
    def made():
        figure = style.new_figure(2, 4)
        axes = figure.subplots()
        axes.plot([0, 1], gid=None)
        axes.set_title(style.short(name))
        style.legend(axes, [(axes.lines[0], style.short(name))])
        return figure

    with pytest.warns(match="in no font") if _lacks_glyphs(name) else _nothing():
        svg = style.save(made(), "svg")
    tags = {re.sub("{.*}", "", each.tag) for each in ElementTree.fromstring(svg).iter()}
    assert not tags & {"script", "a", "foreignObject", "image"}


def _lacks_glyphs(name):
    from matplotlib.font_manager import FontProperties, findfont
    from matplotlib.ft2font import FT2Font

    fonts = [FT2Font(findfont(FontProperties(f))) for f in style._families()]
    return any(not any(f.get_char_index(ord(c)) for f in fonts) for c in style.short(name))


def _nothing():
    import contextlib

    return contextlib.nullcontext()


@given(names.filter(lambda name: name), names.filter(lambda name: name))
def test_members_of_archives_stay_in_their_folder(one, two):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "s.npz")
        rows = {name: np.arange(3) for name in {one, two}}
        export.write_subsets(path, rows)
        with np.load(path, allow_pickle=False) as archive:
            assert len(archive.files) == len(rows)
            for member in archive.files:
                assert not re.search(r"[/\\\x00-\x1f]", member)


@pytest.mark.parametrize("kind", ["class", "file"])
@pytest.mark.parametrize("name", ["=1+1", "<b>", "\x1b[31m", "CON", "$x$", "a\u202eb", "%2e%2e"])
def test_names_of_images_are_text(tmp_path, kind, name):
    for label in ("a", name if kind == "class" else "b"):
        file = f"{name}.png" if kind == "file" else "1.png"
        (tmp_path / "p" / label).mkdir(parents=True)
        Image.new("L", (2, 2), len(label)).save(tmp_path / "p" / label / file)
    result = invoke("ingest", tmp_path / "p", "--out", tmp_path / "s.zarr")
    assert result.exit_code == 0, result.output
    assert not re.search("[\x00-\x09\x0b-\x1f\u202a-\u202e]", result.output)
    store = dr.open_store(str(tmp_path / "s.zarr"))
    kept = store.spec.classes if kind == "class" else [Path(i).stem for i in store.ids[:]]
    assert name in kept
    assert {p.name for p in tmp_path.iterdir()} == {"p", "s.zarr"}


# -- credentials, paths and users ---------------------------------------------------------------

SECRET = "wJalrXUtnFEMI"
ADDRESSES = (
    f"s3://AKIA:{SECRET}/K7+b=@bucket/x.zarr", f"s3://{SECRET}@bucket/x.zarr",
    f"https://user:{SECRET}@host/x.zarr", f"https://host:8080/x.zarr?X-Amz-Signature={SECRET}&a=b",
    f"https://host/x.zarr?token={SECRET}", f"simplecache::https://u:{SECRET}@host/x.zarr",
    f"zip://x.zarr::https://host/y.zip?sig={SECRET}",
)  # fmt: skip


@pytest.mark.parametrize("address", ADDRESSES)
def test_addresses_are_shown_without_what_lets_others_in(address):
    for text in (address, f"no store at {address}; is it there?", f"'{address}' (no)"):
        shown = without_credentials(text)
        assert SECRET not in shown
        assert without_credentials(shown) == shown
        assert ("bucket" in text) == ("bucket" in shown)
        assert text[-4:] == shown[-4:] or text == address
    assert SECRET not in last_part(address)


@pytest.mark.parametrize("address", ["s3://bucket/a@b.zarr", "tcp://10.0.0.1:8786", "/a/b?c@d",
                                     "memory://x", "https://host:80/a@b", "a@b.c: what?",
                                     "file:///home/x"])  # fmt: skip
def test_other_addresses_stay_as_they_are(address):
    assert without_credentials(address) == address


def test_only_the_last_part_is_anonymous():
    plain = {"a": "/home/ann/x.zarr/", "b": ["s3://k@b/c/y.onnx?x=1", 3], "c": "torch:own.Net"}
    assert anonymous(plain) == {"a": "x.zarr", "b": ["y.onnx", 3], "c": "torch:own.Net"}
    assert last_part("C:\\Users\\ann\\x.onnx") == "x.onnx"


@pytest.mark.parametrize("address", ADDRESSES)
def test_errors_and_lines_hold_no_credentials(address, capsys):
    error = StoreError(f"there is no store at {address}", Hint(f"open {address}", f"run {address}"))
    copy = pickle.loads(pickle.dumps(error))
    for said in (error, copy):
        assert SECRET not in f"{said} {said!r} {said.args} {said.on_command_line} {said.hint}"
    terminal.say(address)
    terminal.fact("store", address)
    terminal.say(address, stderr=True)
    with terminal.progress(f"Reading {address}", 2) as job:
        job.add(2)
    captured = capsys.readouterr()
    assert captured.out
    assert SECRET not in captured.out + captured.err


class KeyedFileSystem(fsspec.get_filesystem_class("memory")):
    """Files in memory whose addresses hold keys, as those of S3 may."""

    protocol = "keyed"
    store: ClassVar[dict] = {}
    pseudo_dirs: ClassVar[list] = [""]

    @classmethod
    def _strip_protocol(cls, path):
        path = path.removeprefix("keyed://").split("?")[0]
        return "/" + path.rpartition("@")[2].strip("/")


@pytest.fixture
def keyed():
    fsspec.register_implementation("keyed", KeyedFileSystem, clobber=True)
    yield f"keyed://AKIA:{SECRET}@bucket"
    KeyedFileSystem.store.clear()


def test_no_byte_holds_the_key_of_an_address(keyed, tmp_path, capfd):
    table = pd.DataFrame({"a": np.arange(40.0), "b": np.arange(40.0) ** 2, "y": ["x", "z"] * 20})
    with fsspec.open(f"{keyed}/own.csv", "w") as file:
        table.to_csv(file, index=False)
    said = []

    def run(*arguments):
        said.append(invoke(*arguments).output)

    url = f"{keyed}/own.zarr"
    run("ingest", f"{keyed}/own.csv?token={SECRET}", "--target", "y", "--out", url,
        "--test-size", "0.5")  # fmt: skip
    store = dr.open_store(url)
    quality = dr.label_quality(store).write()
    said += [shown for each in (store, quality.scores) for shown in (repr(each), html_of(each))]
    for command in (["show"], ["plan"], ["verify"], ["subsets"], ["issues"], ["show", "--json"],
                    ["report", "--out", tmp_path / "r.html"], ["report", "--out", f"{url}.html"],
                    ["export", "--out", tmp_path / "r.csv"], ["evaluate", "--model", "nothing"],
                    ["append", f"{keyed}/none.csv"], ["report", "--figure", "2"],
                    ["compute", "--metric", "nothing"]):  # fmt: skip
        run(command[0], url, *command[1:])
    assert all(said)
    captured = capfd.readouterr()
    assert SECRET not in "".join(said) + captured.out + captured.err
    written = [value.getvalue() for value in KeyedFileSystem.store.values()]
    written += [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) > 10
    assert not any(SECRET.encode() in each for each in written)
    assert any(b"dskrobust issues" in each for each in written)  # the page names commands


def html_of(shown):
    return shown._repr_html_()


def traces(folder):
    """Return what may tell where and by whom something was made."""
    host, user = platform.node(), getpass.getuser()
    return [t for t in (str(folder), str(Path.home()), host, f"/{user}/") if len(t) > 3]


def test_anonymous_pages_and_stores_name_no_folder_host_or_user(tmp_path):
    folder = tmp_path / "home" / "ann"
    folder.mkdir(parents=True)
    table = pd.DataFrame({"a": np.arange(40.0), "b": np.arange(40.0) ** 2, "y": ["x", "z"] * 20})
    table.to_csv(folder / "own.csv", index=False)
    store = ingest(str(folder / "own.csv"), str(folder / "own.zarr"))
    dr.sample_robustness(store).write()
    how = EmbeddingOptions(device="cpu", anonymous=True)
    made = embed(store, _doubled, str(folder / "emb.zarr"), how)
    assert made.spec.provenance["source"] == "own.zarr"
    dr.sample_robustness(made).write()
    page = write_report(made, folder / "r.html", options=ReportOptions(anonymous=True))
    result = invoke("report", store.url, "--anonymous", "--out", folder / "own.html")
    assert result.exit_code == 0, result.output
    files = [page, folder / "own.html"]
    files += [p for s in (store, made) for p in Path(s.url).rglob("*") if p.is_file()]
    for path in files:
        content = path.read_bytes()
        assert not [t for t in traces(tmp_path) if t.encode() in content], path
    told = write_report(store, folder / "told.html").read_text("utf-8")
    assert str(folder) in told  # so that its commands can be run


def _doubled(batch):
    return batch * 2


# -- files that lead elsewhere ------------------------------------------------------------------


@pytest.fixture
def hdf5(tmp_path):
    """A folder with a file of its own, beside another file and a secret."""
    import h5py

    (tmp_path / "own").mkdir()
    (tmp_path / "secret.txt").write_bytes(bytes(range(12)))
    for place in (tmp_path, tmp_path / "own"):
        with h5py.File(place / "other.h5", "w") as other:
            other["X"] = np.arange(12.0).reshape(6, 2)
    with h5py.File(tmp_path / "own" / "own.h5", "w") as file:
        file["y"] = np.arange(6) % 2
    return tmp_path / "own" / "own.h5"


def linked(file, place):
    import h5py

    file["X"] = h5py.ExternalLink(str(place / "other.h5"), "X")


def virtual(file, place):
    import h5py

    layout = h5py.VirtualLayout((6, 2), "f8")
    layout[:] = h5py.VirtualSource(str(place / "other.h5"), "X", (6, 2))
    file.create_virtual_dataset("V", layout)
    own = h5py.VirtualLayout((6, 2), "f8")  # one of one
    own[:] = h5py.VirtualSource(file["V"])
    file.create_virtual_dataset("X", own)


def raw(file, place):
    file.create_dataset("X", (6, 2), "u1", external=[(str(place / "secret.txt"), 0, 12)])


@pytest.mark.parametrize("lead", [linked, virtual])
def test_hdf5_is_followed_in_its_folder(hdf5, lead):
    import h5py

    with h5py.File(hdf5, "a") as file:
        lead(file, hdf5.parent)
    store = ingest(str(hdf5), str(hdf5.with_suffix(".zarr")))
    assert store.features[:].ravel().tolist() == list(range(12))


@pytest.mark.parametrize(
    ("lead", "place"),
    [(linked, "outside"), (virtual, "outside"), (raw, "outside"), (virtual, "gone"), (raw, "gone")],
)
def test_hdf5_leads_out_of_no_folder(hdf5, lead, place):
    import h5py

    with h5py.File(hdf5, "a") as file:
        lead(file, hdf5.parent.parent if place == "outside" else hdf5.parent / "gone")
    result = invoke("ingest", hdf5, "--out", hdf5.with_suffix(".zarr"))
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert re.search(
        r"data set '/?[XV]' .* (copy it into the file|name the data sets)", result.stderr
    )


def test_a_circle_of_hdf5_ends(hdf5):
    import h5py

    with h5py.File(hdf5, "a") as file:
        layout = h5py.VirtualLayout((6, 2), "f8")
        layout[:] = h5py.VirtualSource(".", "X", (6, 2))
        file.create_virtual_dataset("X", layout)
    with h5py.File(hdf5) as file:
        check_sources(hdf5, file["X"])


# -- listeners and temporary files --------------------------------------------------------------


def listeners(arguments, folder):
    """Run a command; return the addresses that it and its children ever listened at."""
    command = [sys.executable, "-m", "dskrobust", *arguments]
    found = set()
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          env={**os.environ, "PYTHONPATH": str(ROOT)}) as process:  # fmt: skip
        root = psutil.Process(process.pid)
        while process.poll() is None:
            try:
                for each in (root, *root.children(recursive=True)):
                    sockets = each.net_connections("tcp")
                    found |= {s.laddr.ip for s in sockets if s.status == psutil.CONN_LISTEN}
            except psutil.Error:  # gone meanwhile
                continue
            finally:
                time.sleep(0.02)  # between looks
        output = process.stdout.read().decode()
    assert process.returncode == 0, output
    return found


HERE = {"127.0.0.1"}
XGBOOST = ["--model", "xgboost", "--grid", "rounds=1", "--set", "max_depth=1", "--workers", "1"]
LISTENING = {
    "compute": (["compute", "d.zarr", "--workers", "1"], HERE),
    "xgboost": (["evaluate", "d.zarr", *XGBOOST], HERE),
    # Of several parts its workers listen to each other, where nobody can tell them: see the page.
    "xgboost of several parts": (["evaluate", "wide.zarr", *XGBOOST], HERE | {"0.0.0.0"}),
}


@pytest.mark.parametrize("command", LISTENING)
def test_nothing_listens_beyond_this_machine(tmp_path, command):
    arguments, expected = LISTENING[command]
    if "d.zarr" in arguments:
        ingest("digits", str(tmp_path / "d.zarr"))
    else:
        X, y = np.zeros((70, 2**18), np.uint8), np.arange(70) % 2
        dr.create_store(str(tmp_path / "wide.zarr"), X, y, np.repeat(["train", "test"], [68, 2]))
    assert listeners(arguments, tmp_path) == expected


def test_scratch_stores_are_private(tmp_path):
    data = SimpleNamespace(X=np.zeros((4, 2)), y=np.zeros(4, np.int64), shape=(4, 2),
                           split=np.zeros(4, np.int16))  # fmt: skip
    spec = scratch.scratch_spec(("all",), 1.0, "categorical")
    graph, _, _, url = scratch.scratch_graph(data, spec, str(tmp_path))
    make, *arguments = next(iter(graph.values()))  # the first task, which makes the store
    make(*arguments)
    assert stat.S_IMODE(os.stat(url).st_mode) == 0o700


def test_every_promise_names_a_test_that_is_there():
    page = (NOTEBOOKS / "how-to" / "security.md").read_text("utf-8")
    named = set(re.findall(r"`(test_\w+)`", page))
    files = (ROOT / "tests").rglob("test_*.py")
    there = {name for p in files for name in re.findall(r"def (test_\w+)", p.read_text("utf-8"))}
    assert len(named) > 10
    assert named <= there
