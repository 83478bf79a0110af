"""The command's entry: refuses to run where another distribution owns our files.

Our distribution is fastsmtp-mq, since PyPI's fastsmtp is another project with the same package and
command. Where both are installed, each has overwritten files of the other, and what runs is a
mixture. The command asks once; workers do not.
"""

import os
import sys

DISTRIBUTION = "fastsmtp-mq"
PACKAGE = "fastsmtp"


def main() -> int:
    """Run the command line; gives the exit status (1: the environment cannot be used)."""
    if found := foreign(sys.path):
        what, folder = found
        print(
            f"fastsmtp: error: the distribution {what} in {folder} is another project with the "
            f"same package, {PACKAGE}: each overwrites files of the other. Run\n"
            f"  {sys.executable} -m pip uninstall {what.partition(' ')[0]} {DISTRIBUTION}\n"
            f"and install {DISTRIBUTION} again, best in an environment of its own.",
            file=sys.stderr,
        )
        return 1
    from fastsmtp.process import cli  # late: in a mixture of two projects this fails

    return cli.main()


def foreign(folders: list[str]) -> tuple[str, str] | None:
    """Find an installed distribution, other than ours, that has our name or files of our package.

    Gives "NAME VERSION" and the folder. Only reads the folders of the import path:
    importlib.metadata takes ten times as long.
    """
    for folder in folders:
        try:
            names = os.listdir(folder or ".")
        except OSError:  # not there, or a zip file
            continue
        for metadata in names:
            stem, kind = os.path.splitext(metadata)
            name, _, version = stem.partition("-")
            # A source tree has NAME.egg-info, without a version.
            if kind not in (".dist-info", ".egg-info") or not version:
                continue
            name = name.replace("_", "-").replace(".", "-").lower()
            if name == DISTRIBUTION:
                continue
            if name == PACKAGE or _owns(os.path.join(folder, metadata, "RECORD")):
                return f"{name} {version}", folder
    return None


def _owns(record: str) -> bool:
    """Whether a RECORD lists files of our package."""
    try:
        with open(record, "rb") as file:
            return b"\n" + PACKAGE.encode() + b"/" in b"\n" + file.read()
    except OSError:  # Debian's packages have none
        return False
