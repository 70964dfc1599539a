"""What people who carry this on rely on is there, and names what there is."""

import re
import subprocess
import sys
import tomllib

import helpers
import pytest
from helpers import ROOT, TESTS, keep_seconds, load_script, seconds_of_files, slow_tests

KINDS = ("new", "changed", "fixed", "faster", "inside")
FRAGMENTS = [p for p in sorted((ROOT / "notebooks" / "changes").glob("*.md"))
             if p.name not in ("README.md", "released.md")]  # fmt: skip
PAGES = [ROOT / "README.md", ROOT / ".github" / "CONTRIBUTING.md",
         ROOT / "dskrobust" / "DESIGN.md", *sorted((ROOT / "notebooks").rglob("*.md"))]  # fmt: skip


@pytest.mark.parametrize("path", FRAGMENTS, ids=lambda path: path.name)
def test_fragments_are_named_and_short(path):
    name, kind, _ = path.name.split(".")
    assert re.fullmatch(r"[a-z0-9-]+", name)
    assert kind in KINDS
    text = path.read_text(encoding="utf-8")
    assert not text.startswith("#")
    assert 20 < len(text) < 800


def test_a_release_takes_all_fragments(tmp_path):
    release = load_script("release")
    (tmp_path / "README.md").write_text("# Changes to come\n")
    (tmp_path / "b.fixed.md").write_text("Mended\nthis.\n")
    (tmp_path / "a.new.md").write_text("Can do that.\n")
    release.release("1.2.0", "2026-01-02", tmp_path)
    (tmp_path / "c.new.md").write_text("Can do more.\n")
    release.release("1.3.0", "2026-02-03", tmp_path)
    assert (tmp_path / "released.md").read_text() == (
        "## 1.3.0 (2026-02-03)\n\n### New\n\n- Can do more.\n\n"
        "## 1.2.0 (2026-01-02)\n\n### New\n\n- Can do that.\n\n### Fixed\n\n- Mended this.\n"
    )
    assert {path.name for path in tmp_path.iterdir()} == {"README.md", "released.md"}
    for again in ("1.3.0", "1.4.0"):
        with pytest.raises(ValueError, match="released already, or there are no fragments"):
            release.release(again, "2026-02-04", tmp_path)
    (tmp_path / "d.other.md").write_text("What?\n")
    with pytest.raises(ValueError, match=r"d\.other\.md must be NAME\.KIND\.md"):
        release.release("1.4.0", "2026-02-04", tmp_path)


def test_the_version_is_one():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    recipe = (ROOT / "scripts" / "conda" / "recipe.yaml").read_text()
    assert f'__version__ = "{version}"' in (ROOT / "dskrobust" / "__init__.py").read_text()
    assert f'version: "{version}"' in recipe


def test_the_readme_of_the_fragments_has_all_kinds():
    text = (ROOT / "notebooks" / "changes" / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE) == list(KINDS)


# Changes may name what was before.
@pytest.mark.parametrize(
    "path",
    [p for p in PAGES if p not in FRAGMENTS and p.name != "released.md"],
    ids=lambda p: p.relative_to(ROOT).as_posix(),
)
def test_pages_name_files_that_exist(path):
    """Paths from the root, in backticks, links and commands."""
    text = path.read_text(encoding="utf-8")
    named = re.findall(
        r"\b(?:scripts|tests|notebooks|dskrobust)/[\w./-]*\w\.(?:py|sh|md|toml|json|sbatch)\b", text
    )
    assert [name for name in sorted(set(named)) if not (ROOT / name).exists()] == []


def test_links_between_pages_of_the_repository_lead_somewhere():
    links = {}
    for path in PAGES:
        text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
        links[path] = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text)
    inside = [(path, link) for path in links for link in links[path] if "://" not in link]
    assert [(p.name, link) for p, link in inside if not (p.parent / link).exists()] == []


def test_the_glossary_is_linked_and_has_one_meaning_a_word():
    text = (ROOT / "notebooks" / "glossary.md").read_text(encoding="utf-8")
    words = [word for row in re.findall(r"^\| (\*\*.*?) \|", text, re.MULTILINE)
             for word in re.findall(r"\*\*(.+?)\*\*", row)]  # fmt: skip
    assert len(words) > 60
    assert sorted(words) == sorted(set(words))
    assert "notebooks/glossary.md" in (ROOT / "README.md").read_text(encoding="utf-8")
    assert "glossary.md" in (ROOT / "notebooks" / "index.md").read_text(encoding="utf-8")


def test_the_paper_is_named():
    title = "Introducing Sample Robustness"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert title in project["keywords"]
    assert project["readme"] == "README.md"
    assert title in (ROOT / "README.md").read_text(encoding="utf-8")
    citing = (ROOT / "notebooks" / "citing.md").read_text(encoding="utf-8")
    assert f"title  = {{{title}}}" in citing


def test_recipes():
    text = (ROOT / ".github" / "CONTRIBUTING.md").read_text(encoding="utf-8")
    recipes = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert recipes == ["A metric", "A reduction", "A model", "A reader", "A figure"]


def test_hooks_are_those_of_the_development_environment():
    pytest.importorskip("pre_commit")
    hooks = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    assert re.findall(r"id: (\S+)", hooks) == [
        "ruff", "ruff-format", "nbstripout", "codespell", "validate-pyproject",
    ]  # fmt: skip
    subprocess.run(
        [sys.executable, "-m", "pre_commit", "validate-config", ROOT / ".pre-commit-config.yaml"],
        check=True,
    )


def test_stripping_notebooks_changes_none_of_ours(tmp_path):
    pytest.importorskip("nbstripout")
    hook = re.search(r"nbstripout (--.*)", (ROOT / ".pre-commit-config.yaml").read_text())
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        copy = tmp_path / path.name
        copy.write_bytes(path.read_bytes())
        options = hook[1].split()
        subprocess.run([sys.executable, "-m", "nbstripout", *options, copy], check=True)
        assert copy.read_bytes() == path.read_bytes()


def test_slow_tests_exist():
    missing = []
    for name in slow_tests():
        path, _, test = name.partition("::")
        function = re.sub(r"\[.*", "", test).split("::")[0]
        text = (TESTS / path).read_text(encoding="utf-8") if (TESTS / path).exists() else None
        if text is None or not re.search(rf"\b{re.escape(function)}\b", text):
            missing.append(name)
    assert missing == []


def test_every_folder_of_tests_is_one_of_the_package():
    own = {"docs", "scripts", "cli", "faults"}
    folders = {path.name for path in TESTS.iterdir() if path.is_dir() and path.name[0] not in "_."}
    rooms = {path.name for path in (ROOT / "dskrobust").iterdir() if path.is_dir()}
    assert folders - own <= rooms


def test_files_that_were_timed_are_there(tmp_path, monkeypatch):
    known = dict(seconds_of_files())
    assert [path for path in known if not (TESTS / path).is_file()] == []
    monkeypatch.setattr(helpers, "SECONDS", tmp_path / "seconds.txt")
    helpers.SECONDS.write_text("# of files\n1.0 test_floors.py\n2.0 gone.py\n")
    seconds_of_files.cache_clear()
    keep_seconds([("tests/test_public.py", 2.0), ("tests/test_public.py", 3.04)])
    kept = helpers.SECONDS.read_text()
    seconds_of_files.cache_clear()
    assert kept == "# of files\n5.0 test_public.py\n1.0 test_floors.py\n"
