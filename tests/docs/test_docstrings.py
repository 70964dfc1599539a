"""Docstrings of the public API are numpydoc's: complete, in order, true to the signatures."""

import dataclasses
import inspect
import tomllib

import pytest
from helpers import ROOT

import dskrobust as dr

docscrape = pytest.importorskip("numpydoc.docscrape", reason="numpydoc is in the extra docs")
validate = pytest.importorskip("numpydoc.validate").validate
settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["numpydoc_validation"]
EXCLUDED = set(settings["checks"]) - {"all"}
PUBLIC = [name for name in dr.__all__ if name != "__version__"]


def members(name):
    """Yield the public methods and properties of a class, without those that inherit their text."""
    thing = getattr(dr, name)
    if not inspect.isclass(thing):
        return
    for base in thing.__mro__:
        if base.__module__.startswith("dskrobust"):
            for member, value in vars(base).items():
                ours = inspect.isfunction(value) or isinstance(value, property | classmethod)
                if ours and not member.startswith("_") and not inherits(thing, member):
                    yield f"{name}.{member}"


def inherits(thing, member):
    """Whether a member has no text of its own, but a base class's has."""
    texts = [vars(base)[member].__doc__ for base in thing.__mro__ if member in vars(base)]
    return not texts[0] and any(texts)


def errors(name):
    """Return what numpydoc objects to, without what the settings exclude.

    The fields of a dataclass are its parameters; a section Attributes describes them.
    """
    found = [error for error in validate(f"dskrobust.{name}")["errors"] if error[0] not in EXCLUDED]
    thing = getattr(dr, name, None)
    if dataclasses.is_dataclass(thing):
        found = [error for error in found if error[0] != "PR01"]
        described = {a.strip() for entry in attributes(thing) for a in entry.name.split(",")}
        missing = {f.name for f in dataclasses.fields(thing) if f.init} - described
        found += [("PR01", f"fields {sorted(missing)} are not described")] if missing else []
    return [f"{code} {text}" for code, text in found]


def attributes(thing):
    sections = docscrape.ClassDoc(thing, config={"show_class_members": False})
    return [*sections["Attributes"], *sections["Parameters"]]


@pytest.mark.parametrize("name", PUBLIC)
def test_docstring(name):
    assert errors(name) == []


@pytest.mark.parametrize("name", sorted({m for name in PUBLIC for m in members(name)}))
def test_docstring_of_a_member(name):
    ignored = ("PR01", "PR02")  # the parameters of short methods are said in the first line
    assert [error for error in errors(name) if not error.startswith(ignored)] == []
