"""`python -m tests.fuzz TARGET [SECONDS]`: look for an input that a target does not survive.

Uses atheris (dependency group `fuzz`) where it is installed, else chance alone. A failing input
is printed, and written by atheris to `crash-…` in the current folder.
"""

import contextlib
import random
import sys
import time
from pathlib import Path

try:
    import atheris
except ImportError:
    atheris = None

# The extension modules count no coverage: the model beside them does.
with atheris.instrument_imports(include=["tests"]) if atheris else contextlib.nullcontext():
    from tests.fuzz import inputs, targets

FOUND = Path(__file__).parent.parent.parent / "build" / "fuzz"
"""What atheris found worth keeping: the next run begins with it."""


def by_chance(name: str, seconds: float, seed: int) -> int:
    """Judge inputs until the time is over; gives how many. Raises what the target raised."""
    end, count = time.monotonic() + seconds, 0
    for data in inputs.endless(name, random.Random(seed)):
        if time.monotonic() > end:
            break
        count += 1
        try:
            targets.TARGETS[name](data)
        except BaseException:
            print(f"target {name}, seed {seed}, input {data!r}", file=sys.stderr)
            raise
    return count


def by_atheris(name: str, seconds: float) -> None:
    """Judge what libFuzzer makes of our words and seeds. Ends the process."""
    folder = FOUND / name
    folder.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(inputs.seeds(name)):
        (folder / f"seed-{number}").write_bytes(data)
    words = ("".join(f"\\x{octet:02x}" for octet in word[:60]) for word in inputs.WORDS[name])
    dictionary = FOUND / f"{name}.dict"
    dictionary.write_text("".join(f'"{word}"\n' for word in words if word))
    options = [f"-dict={dictionary}", f"-max_total_time={seconds:.0f}", str(folder)]
    atheris.Setup([sys.argv[0], *options], targets.TARGETS[name])
    atheris.Fuzz()


def main() -> int:
    if not 2 <= len(sys.argv) <= 3 or sys.argv[1] not in targets.TARGETS:
        print(f"usage: python -m tests.fuzz {{{','.join(targets.TARGETS)}}} [seconds]")
        return 2
    name, seconds = sys.argv[1], float(sys.argv[2]) if len(sys.argv) > 2 else 60.0
    if atheris:
        by_atheris(name, seconds)
    count = by_chance(name, seconds, seed := random.randrange(1 << 32))
    print(f"{name}: {count} inputs by chance, seed {seed}: all survived")
    return 0


if __name__ == "__main__":
    sys.exit(main())
