"""What a user installs: an sdist builds the same wheel, and that wheel works on its own."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import time
import zipfile
from pathlib import Path

import pytest

from fastsmtp import __version__
from tests.support.daemon import ROOT
from tests.support.machine_code import SUFFIX

PLATLIB = """
from setuptools import Distribution
build = Distribution().get_command_obj("build")
build.ensure_finalized()
print(build.build_platlib)
"""

COMPILED_HERE = {"_durations", "ids"}
"""A module in Cython, and one in Python that a .pxd gives types."""


def python(interpreter: Path | str, *arguments: Path | str, cwd: Path) -> str:
    """What an isolated Python printed; it must succeed."""
    done = subprocess.run(
        [interpreter, "-I", *arguments],
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, (done.stdout + done.stderr).decode(errors="replace")
    return done.stdout.decode()


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made where the checkout's C is near: it is not translated again, and must not go in."""
    folder = tmp_path_factory.mktemp("sdist")
    built = shutil.ignore_patterns("*.so", "*.c", "__pycache__", "*.html")
    shutil.copytree(ROOT / "fastsmtp", folder / "fastsmtp", ignore=built)
    for generated in ROOT.glob("build/cython-*"):
        shutil.copytree(generated, folder / "build" / generated.name)
    for name in (
        "setup.py",
        "pyproject.toml",
        "MANIFEST.in",
        "README.md",
        "CHANGELOG.md",
        "LICENSE",
    ):
        shutil.copy(ROOT / name, folder)
    python(
        sys.executable,
        *("-c", "import setuptools.build_meta as build; build.build_sdist('dist')"),
        cwd=folder,
    )
    (made,) = (folder / "dist").iterdir()
    assert made.name == f"fastsmtp_mq-{__version__}.tar.gz"
    return made


def test_an_sdist_has_the_sources_and_no_generated_c(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    sources = {
        str(path.relative_to(ROOT))
        for suffix in ("py", "pyx", "pxd", "pyi", "typed")
        for path in (ROOT / "fastsmtp").rglob(f"*.{suffix}")
    }
    assert sources <= names
    assert not {name for name in names if name.endswith((".c", ".so", ".html"))}


@pytest.fixture
def unpacked(sdist: Path, tmp_path: Path) -> Path:
    """The sdist, beside the checkout's machine code: its compilation takes a minute.

    One module of each kind is left to the compiler; Cython translates all of them from the sdist.
    `make wheels` compiles everything.
    """
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (folder,) = tmp_path.iterdir()
    built = folder / python(sys.executable, "-c", PLATLIB, cwd=folder).strip()
    for code in (ROOT / "fastsmtp").rglob(f"*{SUFFIX}"):
        if code.name.removesuffix(SUFFIX) in COMPILED_HERE:
            continue
        copy = built / code.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(code, copy)
        os.utime(copy, (time.time() + 3600,) * 2)  # newer than the C that Cython will write
    return folder


@pytest.mark.timeout(300)
def test_the_wheel_of_the_sdist_works_in_a_clean_environment(
    unpacked: Path, tmp_path: Path
) -> None:
    python(
        sys.executable,
        *("-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", ".", unpacked),
        cwd=tmp_path,
    )
    made = {path.name.removesuffix(".o") for path in unpacked.rglob("*.o")}
    assert made == COMPILED_HERE
    (wheel,) = tmp_path.glob("*.whl")
    names = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("fastsmtp/")}
    modules = {
        path.relative_to(ROOT)
        for path in (ROOT / "fastsmtp").rglob("*.py*")
        if path.suffix == ".pyx" or (path.suffix == ".py" and path.with_suffix(".pxd").exists())
    }
    plain = {
        str(path.relative_to(ROOT))
        for suffix in ("py", "pyi", "typed")
        for path in (ROOT / "fastsmtp").rglob(f"*.{suffix}")
    }
    assert plain <= names
    assert {name.partition(".")[0] for name in names - plain} == {
        str(module.with_suffix("")) for module in modules
    }
    repair, check = (str(ROOT / "tests" / name) for name in ("repair_wheel.py", "check_wheel.py"))
    python(sys.executable, repair, str(wheel), "manylinux", cwd=tmp_path)
    (portable,) = (tmp_path / "manylinux").iterdir()
    assert re.fullmatch(
        r"fastsmtp_mq-.*-cp3\d+-cp3\d+-manylinux\w+\.manylinux_2_17_\w+\.whl", portable.name
    )
    assert " works on Python " in python(sys.executable, check, str(portable), cwd=tmp_path)


def test_an_interpreter_that_is_not_here_gets_no_wheel_and_is_named(tmp_path: Path) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "fastsmtp").mkdir()
    done = subprocess.run(
        ["make", "wheels", "PYTHONS=python3.98 python3.99"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    for name in ("python3.98", "python3.99"):
        assert f"skipped: there is no {name} here\n" in done.stdout
    assert "There is none of: python3.98 python3.99." in done.stderr


def test_no_page_installs_the_other_project_from_an_index() -> None:
    """On PyPI, fastsmtp is another project."""
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("deploy/*"), ROOT / "Makefile"]
    installs = [
        line
        for page in pages
        if page.is_file()
        for line in re.findall(r"\b(?:pip|pipx|uv)\b.*\binstall\b[^`\n]*", page.read_text("utf-8"))
    ]
    assert len(installs) > 5
    assert [line for line in installs if re.search(r"\sfastsmtp(?![\w/-])", line)] == []
