"""The documentation is built without a warning and without a network; what it links to is there."""

import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from html import escape
from html.parser import HTMLParser
from urllib.parse import unquote, urlsplit

import click
import pytest
from click.testing import CliRunner
from helpers import NOTEBOOKS, ROOT, load_script
from looking import look_at

import dskrobust as dr
from dskrobust.cli import SECTIONS, main
from dskrobust.report import catalogue

pytest.importorskip("sphinx", reason="the documentation needs the extra docs")

NO_NETWORK = """
import socket
def refuse(*args, **kwargs):
    raise OSError("the documentation must be built without a network")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
"""


class Page(HTMLParser):
    """What a page loads, links to, and can be linked to at."""

    def __init__(self, path):
        super().__init__()
        self.loaded, self.links, self.anchors = [], [], set()
        self.images, self.images_without_text = [], []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.anchors |= {given[name] for name in ("id", "name") if given.get(name)}
        if tag == "img":
            self.images.append(given.get("src", ""))
        if tag == "img" and not given.get("alt"):
            self.images_without_text.append(given.get("src", "")[:80])
        if given.get("src"):
            self.loaded.append(given["src"])
        if tag == "link" and given.get("rel") in ("stylesheet", "icon", "preload"):
            self.loaded.append(given["href"])
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Build the site as scripts/docs.sh does, and return the pages by their path."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "guard").mkdir()
    (folder / "guard" / "sitecustomize.py").write_text(NO_NETWORK)
    environment = {**os.environ, "DOCS_PYTHON": sys.executable, "PYTHONPATH": str(folder / "guard")}
    done = subprocess.run(
        [ROOT / "scripts" / "docs.sh", folder / "html"],
        env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING" not in done.stderr
    return {p.resolve(): Page(p) for p in (folder / "html").rglob("*.html")}, folder / "html"


def text_of(site, name):
    return (site[1] / name).read_text(encoding="utf-8")


def test_every_link_leads_somewhere(site):
    pages, _ = site
    assert len(pages) > 20
    broken = []
    for path, page in pages.items():
        for link in page.links + page.loaded:
            parts = urlsplit(link)
            if parts.scheme:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            known = pages[target].anchors if target in pages else None
            if not target.exists() or (parts.fragment and known and parts.fragment not in known):
                broken.append(f"{path.name}: {link}")
    assert broken == []


def test_nothing_is_loaded_from_elsewhere(site):
    from_elsewhere = {
        source
        for page in site[0].values()
        for source in page.loaded
        if urlsplit(source).scheme not in ("", "data") or urlsplit(source).netloc
    }
    assert from_elsewhere == set()


def test_pictures_of_the_pages_say_what_they_show(site):
    mine = ("index.html", "engine.html", "benchmarks.html", "gallery.html")
    without = {p.name: page.images_without_text for p, page in site[0].items() if p.name in mine}
    assert without == {name: [] for name in mine}


def test_the_public_api_is_all_there(site):
    anchors = set().union(*(page.anchors for page in site[0].values()))
    public = [name for name in dr.__all__ if name not in ("__version__", "errors")]
    assert [name for name in public if f"dskrobust.{name}" not in anchors] == []


def test_commands_and_their_help_are_all_there(site):
    page = text_of(site, "reference/cli.html")
    assert [name for name in main.commands if f'id="{name}"' not in page] == []
    assert "--memory-limit" in page


def test_every_table_and_figure_of_the_paper_is_listed(site):
    page = text_of(site, "tables-and-figures.html")
    assert [entry.name for entry in catalogue if f">{entry.name}<" not in page.replace("<p>", "")
            .replace("</p>", "")] == []  # fmt: skip


def test_formulas_are_mathml_and_benchmarks_are_drawn(site):
    page = text_of(site, "mathematics.html")
    assert page.count("<math") > 20
    assert "<mfrac>" in page
    assert text_of(site, "benchmarks.html").count("data:image/svg+xml;base64,") == 5


def test_the_page_of_benchmarks_has_every_work(site):
    figures = json.loads((NOTEBOOKS / "results" / "pairs.json").read_text())
    page = text_of(site, "benchmarks.html")
    lines = load_script("benchmarks/pairs").table(figures).splitlines()[2:]
    assert len(lines) > 5
    for line in lines:
        cells = [f"<p>{escape(cell)}</p>" for cell in line.strip("| ").split(" | ") if cell]
        assert "\n".join(f"<td>{cell}</td>" for cell in cells) in page


def test_diagrams_are_sound_xml():
    for path in (ROOT / "notebooks" / "images").glob("*.svg"):
        root = ElementTree.parse(path).getroot()
        assert root.tag.endswith("svg")
        assert root.find("{http://www.w3.org/2000/svg}title") is not None


# -- help --------------------------------------------------------------------------------------


def commands():
    return [command for members in SECTIONS.values() for command in members]


def help_of(*words):
    result = CliRunner().invoke(main, [*words, "--help"], prog_name="dskrobust")
    assert result.exit_code == 0
    return result.stdout


def test_commands_are_listed_under_what_they_are_for():
    text = help_of()
    places = [text.index(f"\n{title}:\n") for title in SECTIONS]
    assert places == sorted(places)
    assert set(main.commands) == {command.name for command in commands()}
    assert "..." not in text.partition("[ARGS]...")[2]  # nothing is cut short


@pytest.mark.parametrize("command", commands(), ids=lambda command: command.name)
def test_every_command_has_examples_and_says_what_its_options_do(command):
    text = help_of(command.name)
    assert "Example" in text
    assert f"dskrobust {command.name} " in text.partition("Example")[2]
    options = [p for p in command.params if isinstance(p, click.Option)]
    assert [p.opts for p in options if not p.help] == []


def test_a_short_flag_is_one_option():
    named = {}
    for command in commands():
        for option in (p for p in command.params if isinstance(p, click.Option)):
            for flag in (flag for flag in option.opts if not flag.startswith("--")):
                named.setdefault(flag, set()).add(option.opts[0])
    assert {flag: long for flag, long in named.items() if len(long) > 1} == {}


@pytest.mark.parametrize("command", commands(), ids=lambda command: command.name)
def test_examples_use_options_that_exist(command):
    known = {word for p in command.params for word in (*p.opts, *p.secondary_opts)}
    lines = [line.split() for line in help_of(command.name).partition("Example")[2].splitlines()
             if line.strip().startswith(f"dskrobust {command.name}")]  # fmt: skip
    used = {w for words in lines for w in words if w.startswith("-") and len(w) > 1}
    assert used <= known | {"-h", "--help"}


def complete(line, **more):
    """Return what the shell is told for the last word of a line."""
    words = line.split(" ")
    environment = {
        **os.environ, "_DSKROBUST_COMPLETE": "bash_complete", "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - 1), **more,
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", "from dskrobust.cli import main; main(prog_name='dskrobust')"],
        env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("dskrobust com", ["plain,compute", "plain,compare"]),
        ("dskrobust compute own.zarr --memory", ["plain,--memory-limit"]),
        ("dskrobust compute ow", ["dir,ow"]),
        ("dskrobust ingest own.csv --labels r", ["plain,real"]),
    ],
)
def test_the_shell_completes(line, expected):
    assert complete(line) == expected


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_switched_on_as_documented(shell):
    page = (ROOT / "notebooks" / "how-to" / "command-line.md").read_text()
    assert f"_DSKROBUST_COMPLETE={shell}_source dskrobust" in page
    done = complete("", _DSKROBUST_COMPLETE=f"{shell}_source")
    assert any("_DSKROBUST_COMPLETE" in word for word in done)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["compute", "digts.zarr"], "did you mean digits.zarr?"),
        (["plan", "digits"], "did you mean digits.zarr?"),
        (["compute", "own.csv"], "it is a file: read it with `dskrobust ingest own.csv`"),
        (["compute", "nothing.zarr"], "make one with `dskrobust ingest`"),
        (["ingest", "own.csv"], "--target COLUMN"),
        (["ingest", "own.csv", "--target", "prize"], "has no column 'prize'"),
        (["ingest", "other.csv"], "where it holds data, say --no-header"),
        (["subsets", "digits.zarr"], "run `dskrobust compute digits.zarr`"),
        (["evaluate", "digits.zarr", "--model", "kn"], "did you mean 'knn'?"),
        (["evaluate", "digits.zarr", "--model", "knn", "--train", "L100"], "(write train:L100)"),
        (["compute", "digits.zarr", "--memory-limit", "1"], "write 1GiB or 512MB"),
        (["compute", "digits.zarr", "-m", "euclid"], "choose one of euclidean"),
        (["comptue", "digits.zarr"], "did you mean 'compute'?"),
        (["compute", "digits.zarr", "--worker", "2"], "Did you mean '--workers'?"),
        (["ingest", "digits"], "--overwrite"),
    ],
)
def test_mistakes_of_newcomers_are_told_what_to_type(words, said, newcomer):
    result = CliRunner().invoke(main, words, prog_name="dskrobust")
    assert result.exit_code in (1, 2)
    last = result.stderr.strip().splitlines()[-1]
    assert said in last


@pytest.fixture(scope="module")
def newcomers_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("newcomer")
    dr.ingest("digits", folder / "digits.zarr")
    (folder / "own.csv").write_text("a,b,price\n1,2,3\n4,5,6\n7,8,9\n")
    (folder / "other.csv").write_text("1;2;3\n4;5;6\n")
    return folder


@pytest.fixture
def newcomer(newcomers_folder, monkeypatch):
    monkeypatch.chdir(newcomers_folder)


@pytest.mark.parametrize("width", [1280, 800])
def test_pages_in_a_browser(browser, site, width):
    pages, folder = site
    shown = ["index.html", "benchmarks.html", "engine.html", "mathematics.html", "gallery.html"]
    shown += ["purpose.html", "reading-robustness.html", "choosing.html", "installation.html"]
    shown += [f"{path.stem}.html" for path in (ROOT / "notebooks").glob("*.ipynb")]
    for name in shown:
        text = text_of(site, name)
        found = look_at(browser, text, folder / f"looked-{width}-{name}", width)
        assert found["broken"] == found["missing"] == [], name
        assert [part for part in found["loaded"] if not part.startswith("file:")] == [], name
        assert found["page"] <= found["width"] + 1, (name, found["wide"])
        assert found["images"] == len(pages[(folder / name).resolve()].images), name
