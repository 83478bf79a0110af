"""Reads the configuration anew with the code that is on disk now: in a process of its own.

A reload must not trust the code that runs since the last start: after an upgrade, it is the new
version that says what a setting means. Gives the settings as text, which any version can pass on.
"""

import asyncio
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from subprocess import PIPE

from fastsmtp.process import config
from fastsmtp.process.config import ConfigError

COMMAND = (sys.executable, "-P", "-m", "fastsmtp.process.reading")

TIMEOUT = 30.0
"""Seconds that reading may take."""


@dataclass(frozen=True, slots=True)
class Sources:
    """Where settings come from, besides the environment and the default file."""

    files: Sequence[str]
    options: Sequence[tuple[str, str]]  # of the command line: key, text


async def read_again(sources: Sources, force: bool) -> tuple[dict[str, str], list[str]]:
    """The text of every setting, and warnings; raises ConfigError.

    Without `force` an empty file is an error.
    """
    job = asdict(sources) | {"force": force}
    reader = await asyncio.create_subprocess_exec(*COMMAND, stdin=PIPE, stdout=PIPE, stderr=PIPE)
    try:
        async with asyncio.timeout(TIMEOUT):
            out, err = await reader.communicate(json.dumps(job).encode())
    except TimeoutError:
        raise ConfigError([f"reading the configuration took over {TIMEOUT:g} s"], []) from None
    finally:
        if reader.returncode is None:
            reader.kill()
            await reader.communicate()
    if reader.returncode != 0:
        last = err.decode(errors="replace").strip().rpartition("\n")[2]
        why = last or f"it ended with status {reader.returncode}"
        raise ConfigError([f"the installed fastsmtp does not work: {why}"], [])
    found = json.loads(out)
    if found["errors"]:
        raise ConfigError(found["errors"], found["warnings"])
    return found["settings"], found["warnings"]


def main() -> None:
    """The other side: sources as JSON on standard input, what was found on standard output."""
    sources = json.load(sys.stdin)
    found: dict[str, object] = {"settings": {}, "warnings": [], "errors": []}
    try:
        settings, found["warnings"] = config.load(
            sources["files"],
            os.environ,
            sources["options"],
            allow_empty=sources.get("force", True),  # an older supervisor does not say
        )
        found["settings"] = config.texts(settings)
    except ConfigError as error:
        found["errors"], found["warnings"] = error.errors, error.warnings
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
