"""Builds the load generator's extension module in place, when it is not there or older."""

import subprocess
import sys
import sysconfig
from pathlib import Path

SOURCE = Path(__file__).with_name("_client.pyx")


def build() -> None:
    """Make what `bench._client` is imported from. Raises CalledProcessError."""
    target = SOURCE.with_suffix(sysconfig.get_config_var("EXT_SUFFIX"))
    if target.exists() and target.stat().st_mtime > SOURCE.stat().st_mtime:
        return
    subprocess.run(
        [
            *(sys.executable, "-m", "Cython.Build.Cythonize", "--inplace", "--force", "--quiet"),
            *("-3", "-X", "wraparound=False", "-X", "boundscheck=False", str(SOURCE)),
        ],
        check=True,
    )
