"""process/entry: the command does not run beside another project that has our package."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from fastsmtp import __version__
from tests.support.daemon import COMMAND, ROOT


def install(folder: Path, name: str, version: str, *files: str) -> None:
    """Make a wheel with these files, and let pip install it into `folder`."""
    info = f"{name}-{version}.dist-info"
    wheel = folder.with_name(f"{name}-{version}-py3-none-any.whl")
    with zipfile.ZipFile(wheel, "w") as archive:
        for file in files:
            archive.writestr(file, "")
        archive.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        )
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "".join(f"{file},,\n" for file in files))
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps"]
    subprocess.run([*command, "--target", folder, wheel], check=True, timeout=60)


def version(path: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, "--version"],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("name", ["fastsmtp", "mailthing"])
def test_another_project_with_our_package_is_refused(tmp_path: Path, name: str) -> None:
    site = tmp_path / "site"
    install(site, name, "9.1", "fastsmtp/server.py")
    done = version(f"{ROOT}:{site}")
    assert (done.returncode, done.stdout) == (1, "")
    assert f"the distribution {name} 9.1 in {site} is another project" in done.stderr
    assert f"{sys.executable} -m pip uninstall {name} fastsmtp-mq\n" in done.stderr


def test_one_of_whose_package_only_half_is_left_is_refused_in_words(tmp_path: Path) -> None:
    """Theirs, installed last, has overwritten our `fastsmtp/__init__.py`."""
    site = tmp_path / "site"
    install(site, "fastsmtp", "9.1", "fastsmtp/__init__.py")
    for path in ("__main__.py", "process/__init__.py", "process/entry.py"):
        target = site / "fastsmtp" / path
        target.parent.mkdir(exist_ok=True)
        target.write_text((ROOT / "fastsmtp" / path).read_text())
    done = version(str(site))
    assert done.returncode == 1
    assert "is another project" in done.stderr
    assert "Traceback" not in done.stderr


def test_what_only_sounds_like_us_is_no_reason(tmp_path: Path) -> None:
    site = tmp_path / "site"
    install(site, "fastsmtp_mq", "0.9", "fastsmtp/server.py")  # an older one of ours
    install(site, "fastsmtp_extras", "1.0", "fastsmtp_extras/__init__.py")
    (site / "fastsmtp.egg-info").mkdir()  # a source tree's own
    done = version(f"{ROOT}:{site}:{tmp_path / 'missing'}")
    assert (done.returncode, done.stdout) == (0, f"fastsmtp {__version__}\n")
