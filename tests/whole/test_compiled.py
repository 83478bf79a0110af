"""Typed Python that is always compiled: its declarations and slots agree, its machine code is new.

A slot that the `.pxd` lacks is an AttributeError at run time and nothing at compile time.
"""

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.daemon import ROOT
from tests.support.imports import module_of
from tests.support.machine_code import SUFFIX, complaints

PACKAGE = ROOT / "fastsmtp"
DECLARED = sorted(path for path in PACKAGE.rglob("*.pxd") if path.with_suffix(".py").exists())

CLASS = re.compile(r"cdef class (\w+)(?:\((\w+)\))?:")
ATTRIBUTES = re.compile(r"    cdef (?:public |readonly )?(.+)")


def declared(pxd: str) -> dict[str, set[str]]:
    """Class → its attributes in the text of a .pxd, inherited ones included."""
    found: dict[str, set[str]] = {}
    name = ""
    for line in re.sub(r" *#.*", "", pxd).splitlines():
        if begun := CLASS.match(line):
            name = begun[1]
            found[name] = set(found.get(begun[2], ()))
        elif "(" not in line and (attributes := ATTRIBUTES.match(line)):
            found[name].update(each.split()[-1] for each in attributes[1].split(","))
    return found


def classes(source: str) -> dict[str, ast.ClassDef]:
    """The classes of a .py."""
    found = ast.walk(ast.parse(source))
    return {node.name: node for node in found if isinstance(node, ast.ClassDef)}


def mro(node: ast.ClassDef, known: dict[str, ast.ClassDef]) -> list[ast.ClassDef]:
    """It and its base classes of the same file."""
    bases = [
        known[base.id] for base in node.bases if isinstance(base, ast.Name) and base.id in known
    ]
    return [node, *(each for base in bases for each in mro(base, known))]


def slots(node: ast.ClassDef) -> set[str] | None:
    """Its own `__slots__`, None where it has none."""
    for statement in node.body:
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "__slots__":
            named = ast.literal_eval(statement.value)
            return {named} if isinstance(named, str) else set(named)
    return None


def assigned(node: ast.ClassDef) -> set[str]:
    """What its methods assign to: `self.x = …`."""
    return {
        each.attr
        for each in ast.walk(node)
        if isinstance(each, ast.Attribute)
        and isinstance(each.ctx, ast.Store)
        and isinstance(each.value, ast.Name)
        and each.value.id == "self"
    }


def disagreements(pxd: str, source: str) -> list[str]:
    """Where a .pxd and its .py name different attributes."""
    found = []
    known = classes(source)
    for name, attributes in declared(pxd).items():
        if name not in known:
            found.append(f"{name} stands in the .pxd alone")
            continue
        family = mro(known[name], known)
        own = [slots(node) for node in family]
        named = set().union(*(each or () for each in own))
        used = set().union(*(assigned(node) for node in family))
        if None not in own:
            found += (f"{name}.{each}: __slots__ alone" for each in sorted(named - attributes))
            found += (f"{name}.{each}: .pxd alone" for each in sorted(attributes - named))
        found += (f"{name}.{each}: assigned, not declared" for each in sorted(used - attributes))
        found += (f"{name}.{each}: declared, never assigned" for each in sorted(attributes - used))
    return found


@pytest.mark.parametrize("path", DECLARED, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_pxd_and_its_class_name_the_same_attributes(path: Path) -> None:
    assert disagreements(path.read_text(), path.with_suffix(".py").read_text()) == []


def test_there_is_typed_python() -> None:
    assert len(DECLARED) > 10
    assert len(declared((PACKAGE / "questions.pxd").read_text())["Message"]) == 6


PXD = """
from fastsmtp.peer cimport Peer
cdef class Base:
    cdef readonly Peer peer
cdef class Made(Base):
    cdef public unsigned int[::1] counts  # of all
    cdef object _one, _two
    cpdef int take(self, bytes data) except -1
"""
PY = """
class Base:
    __slots__ = ("peer",)
    def __init__(self, peer):
        self.peer = peer
class Made(Base):
    __slots__ = ("_one", "_two", "counts")
    def __init__(self, peer):
        super().__init__(peer)
        self._one, self._two = 1, 2
        self.counts = []
"""


@pytest.mark.parametrize(
    ("pxd", "source", "found"),
    [
        (PXD, PY, []),
        (
            PXD,
            PY.replace('"counts")', '"counts", "more")').replace("= []", "= self.more = []"),
            ["Made.more: __slots__ alone", "Made.more: assigned, not declared"],
        ),
        (
            PXD.replace("_one, _two", "_one, _two, _more"),
            PY,
            ["Made._more: .pxd alone", "Made._more: declared, never assigned"],
        ),
        (
            PXD,
            re.sub("    __slots__.*\n", "", PY) + "    def late(self):\n        self.more = 1\n",
            ["Made.more: assigned, not declared"],
        ),
        (PXD, PY.replace("class Made", "class Renamed"), ["Made stands in the .pxd alone"]),
    ],
)
def test_a_disagreement_is_found(pxd: str, source: str, found: list[str]) -> None:
    assert disagreements(pxd, source) == found


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package whose three modules are compiled: b cimports a, c cimports b."""
    made = tmp_path / "fastsmtp"
    (made / "net").mkdir(parents=True)
    files = {
        "a.py": "",
        "a.pxd": "",
        "net/b.py": "",
        "net/b.pxd": "from fastsmtp.a cimport A",
        "_c.pyx": "from fastsmtp.net cimport b\nfrom fastsmtp.plain import a",
        "plain.py": "",
    }
    for name, text in files.items():
        (made / name).write_text(text)
    for name in ("a", "net/b", "_c"):
        (made / f"{name}{SUFFIX}").touch()
    for path in made.rglob("*.*"):
        os.utime(path, (1000, 1000))
    return made


def test_nothing_is_said_of_what_is_compiled(package: Path) -> None:
    os.utime(package / "plain.py")
    assert list(complaints(package)) == []


@pytest.mark.parametrize(
    ("changed", "modules"),
    [
        ("a.py", ["a"]),
        ("a.pxd", ["_c", "a", "b"]),
        ("net/b.pxd", ["_c", "b"]),
        ("_c.pyx", ["_c"]),
    ],
)
def test_machine_code_is_older_than_what_it_was_made_from(
    package: Path, changed: str, modules: list[str]
) -> None:
    os.utime(package / changed)
    expected = [f"{package / changed} is newer than {module}{SUFFIX}" for module in modules]
    assert list(complaints(package)) == expected


@pytest.mark.parametrize(("source", "name"), [("a.py", "a"), ("_c.pyx", "_c")])
def test_machine_code_of_another_interpreter_is_none(package: Path, source: str, name: str) -> None:
    (package / f"{name}{SUFFIX}").rename(package / f"{name}.cpython-27-x86_64-linux-gnu.so")
    expected = f"{package / source} is not compiled for this interpreter"
    assert list(complaints(package)) == [expected]


def test_machine_code_that_nothing_is_the_source_of_hides_a_module(package: Path) -> None:
    code = package / f"plain{SUFFIX}"
    code.touch()
    (complaint,) = complaints(package)
    assert complaint.startswith(f"{code} is compiled from nothing that is here")


@pytest.mark.parametrize("missing", [False, True])
def test_a_test_run_refuses_to_begin(tmp_path: Path, missing: bool) -> None:
    for part in ("fastsmtp", "tests"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    if missing:
        (tmp_path / "fastsmtp" / f"_session{SUFFIX}").unlink()
        expected = "_session.pyx is not compiled for this interpreter"
    else:
        os.utime(tmp_path / "fastsmtp" / "replies.pxd")
        expected = f"replies.pxd is newer than _session{SUFFIX}"
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "tests/test_layers.py"],
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if "PYTEST" not in name},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.returncode == pytest.ExitCode.USAGE_ERROR, run.stdout + run.stderr
    assert expected in run.stderr


def test_every_compiled_module_is_known_to_the_walk() -> None:
    names = {module_of(path, PACKAGE) for path in PACKAGE.rglob(f"*{SUFFIX}")}
    assert {"_session", "replies", "sinks.rabbitmq.publisher"} <= names
