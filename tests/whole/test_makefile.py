"""The Makefile: its tiers have names; `make clean` removes what was made here, and nothing else."""

import os
import re
import subprocess

import pytest

from tests.support.daemon import ROOT

MOUNTED = """
mount -t tmpfs tmpfs .tools/debian-trixie/proc
mkdir .tools/debian-trixie/proc/1
make -f "$0" clean
echo "status $?"
ls .tools/debian-trixie/proc
"""


def test_clean_leaves_alone_what_is_mounted_in_a_tree(tmp_path):
    """As /proc and /dev are, where somebody works in a Debian of `make test-debian`."""
    for folder in ("fastsmtp", "bench", ".venv", ".tools/debian-trixie/proc"):
        (tmp_path / folder).mkdir(parents=True)
    own = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    tried = subprocess.run([*own, "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"no user namespaces here: {tried.stderr.strip()}")
    done = subprocess.run(
        [*own, MOUNTED, ROOT / "Makefile"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-2:] == ["status 2", "1"]
    assert "different device" in done.stderr
    assert not (tmp_path / ".venv").exists()


def make(*arguments: str) -> str:
    return subprocess.run(
        ["make", "--no-print-directory", *arguments],
        cwd=ROOT,
        env=os.environ | {"MAKEFLAGS": ""},
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def test_the_tiers_have_names_and_contributing_knows_no_other_targets() -> None:
    told = set(re.findall(r"^make ([a-z-]+) +\S", make("help"), re.MULTILINE))
    assert {"check", "test", "faults", "fuzz", "sanitize", "debug"} <= told
    described = set(re.findall(r"`make ([a-z-]+)", (ROOT / "CONTRIBUTING.md").read_text()))
    assert {"check", "test", "faults", "fuzz"} <= described <= told


def test_check_lints_and_runs_what_starts_no_process() -> None:
    commands = make("-n", "check")
    assert "ruff check" in commands
    assert "pytest --in-memory" in commands
    assert "install-tools" not in commands


def test_faults_are_the_ledger_many_times() -> None:
    assert re.search(r"LEDGER_ROUNDS=30 .*pytest tests/faults$", make("-n", "faults"), re.MULTILINE)
    assert "LEDGER_ROUNDS=3 " in make("-n", "faults", "ROUNDS=3")
