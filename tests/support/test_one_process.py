"""`pytest --in-memory` skips what starts a process, and nothing else, wherever the test does it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.daemon import ROOT

CONFTEST = """
from tests.support.one_process import OneProcess

def pytest_configure(config):
    config.pluginmanager.register(OneProcess())
"""

TESTS = """
import asyncio, os, signal, subprocess, threading
import pytest

def test_none(): pass

def test_a_thread(): threading.Thread(target=int).start()

def test_popen(): subprocess.Popen(["true"])

def test_fork(): os.fork()

def test_system(): os.system("true")

def test_asyncio(): asyncio.run(asyncio.create_subprocess_exec("true"))

def test_a_cleanup_that_means_a_process_kills_nobody():
    try:
        subprocess.Popen(["true"])
    finally:
        os.kill(0, signal.SIGKILL)

@pytest.fixture(scope="session")
def server(): subprocess.run(["true"])

def test_fixture(server): pass

def test_the_same_fixture_again(server): pass

def test_an_error_is_one(): assert False
"""


@pytest.mark.parametrize("workers", [(), ("-p", "xdist", "-n", "2")])
def test_what_starts_a_process_is_skipped(tmp_path: Path, workers: tuple[str, ...]) -> None:
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_it.py").write_text(TESTS)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-c", os.devnull, "--rootdir", tmp_path, "-v", *workers],
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if "PYTEST" not in name}
        | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
        start_new_session=True,
        check=False,
    )
    words = re.findall(r"test_it\.py::(\w+) (PASSED|SKIPPED|FAILED)", done.stdout)
    words += [
        (b, a) for a, b in re.findall(r"(PASSED|SKIPPED|FAILED) test_it\.py::(\w+)", done.stdout)
    ]
    outcomes = dict(words)
    assert outcomes.pop("test_none") == outcomes.pop("test_a_thread") == "PASSED", done.stdout
    assert outcomes.pop("test_an_error_is_one") == "FAILED"
    assert len(outcomes) == 7
    assert set(outcomes.values()) == {"SKIPPED"}
