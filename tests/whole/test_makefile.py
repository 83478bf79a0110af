"""`make clean` removes what was made here, and nothing else."""

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
