"""`python -m bench.compare REV [WORKLOAD …]`: is this tree slower than a revision, beyond noise?

The revision is unpacked into a temporary folder and built there; this tree is taken as it is, with
what is not committed. CPU a message of both, round after round (A B A B …), each round with a
server of its own. Ends with 1 where a workload is slower. Uses this tree's packages for both.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from bench import build

build.build()  # what the imports below need

from bench.contenders import Smtp  # noqa: E402
from bench.figures import Figures  # noqa: E402
from bench.ground import Ground  # noqa: E402
from bench.load import Load  # noqa: E402
from bench.noise import Comparison  # noqa: E402
from bench.rounds import WARM_UP, interleave  # noqa: E402
from bench.servers import Discarding, Embedded, Fastsmtp  # noqa: E402
from bench.workloads import (  # noqa: E402
    FANNED_OUT,
    KEPT_ALIVE,
    LARGE,
    MEGABYTE,
    PIPELINED,
    RECONNECT,
    STARTTLS,
    TEN_MEGABYTES,
)
from tests.support import postfix, rabbitmq  # noqa: E402
from tests.support.daemon import ROOT  # noqa: E402

LEAST_ROUNDS = 7

LOADS: dict[str, Load] = {
    "a": KEPT_ALIVE,
    "b": KEPT_ALIVE,
    "c": RECONNECT,
    "d": LARGE,
    "e": FANNED_OUT,
    "f": PIPELINED,
    "g": STARTTLS,
    "m": KEPT_ALIVE,
    "o": MEGABYTE,
    "p": TEN_MEGABYTES,
}
"""The load of each workload that can be compared."""

DISCARDED = {"b", "c"}
"""Those whose mail is thrown away."""

EMBEDDED = {"m"}
"""Those whose mail goes into the embedded queue."""


class Fresh:
    """A server for each round, warmed up: what one process has by luck does not stay."""

    def __init__(self, name: str, make: Callable[[], Smtp]) -> None:
        self.name = name
        self.answers = ""
        self.make = make

    def start(self) -> None:
        """Each round starts its own."""

    def round(self, seconds: float) -> Figures:
        smtp = self.make()
        smtp.start()
        try:
            smtp.round(WARM_UP)
            return smtp.round(seconds)
        finally:
            smtp.stop()

    def stop(self) -> None:
        """Nothing is left of a round."""


def contender(workload: str, name: str, tree: Path, ground: Ground, spill: bool) -> Fresh:
    """A workload with the fastsmtp of `tree`; `spill`: with rabbitmq-spill."""
    load = LOADS[workload]
    settings: dict[str, object] = dict(ground.certificate.settings) if load.tls else {}
    if spill:
        settings["rabbitmq_spill"] = ground.folder / "spill.db"

    def make() -> Smtp:
        server: Fastsmtp | Discarding | Embedded
        if workload in DISCARDED:
            server = Discarding(ground.folder, tree)
        elif workload in EMBEDDED:
            server = Embedded(ground.folder)
        else:
            server = Fastsmtp(ground.broker, f"compare-{name}", ground.folder, **settings)
        server.daemon.env["PYTHONPATH"] = str(tree)
        return Smtp(server, load, name)

    return Fresh(name, make)


def unpack(revision: str, folder: Path) -> Path:
    """The revision's tree, built. Raises CalledProcessError."""
    tree = folder / "base"
    tree.mkdir()
    archive = folder / "base.tar"
    subprocess.run(["git", "archive", f"--output={archive}", revision], cwd=ROOT, check=True)
    subprocess.run(["tar", "-xf", archive, "-C", tree], check=True)
    subprocess.run(
        [sys.executable, "setup.py", "-q", "build_ext", "--inplace"],
        cwd=tree,
        env=os.environ | {"FASTSMTP_BUILD": "release"},
        check=True,
    )
    return tree


def check(tree: Path) -> None:
    """A daemon with this PYTHONPATH is this tree's, compiled parts included."""
    found = subprocess.run(
        [sys.executable, "-c", "import fastsmtp._session as s; print(s.__file__)"],
        cwd=tree.parent,
        env=os.environ | {"PYTHONPATH": str(tree)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert Path(found).is_relative_to(tree), f"{found} is not of {tree}"


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.compare", description=__doc__)
    parser.add_argument("base", help="a revision of git")
    parser.add_argument("workload", nargs="*", help=f"of {', '.join(LOADS)}; a, b if none is named")
    parser.add_argument(
        "--spill", action="store_true", help="this tree has rabbitmq-spill set, the base not"
    )
    parser.add_argument("--rounds", type=int, default=9, help=f"at least {LEAST_ROUNDS} (9)")
    parser.add_argument("--seconds", type=float, default=2, help="a round (2)")
    given = parser.parse_args()
    if unknown := set(given.workload) - LOADS.keys():
        parser.error(
            f"(a) to (g), (m), (o) and (p) can be compared, not {', '.join(sorted(unknown))}"
        )
    if given.rounds < LEAST_ROUNDS:
        parser.error(f"{given.rounds} rounds say nothing; at least {LEAST_ROUNDS}")
    if missing := postfix.MISSING or rabbitmq.MISSING:
        parser.exit(2, f"{missing}\n")
    return given


def main() -> int:
    given = options()
    began = time.monotonic()

    def tell(text: str) -> None:
        print(f"{time.monotonic() - began:4.0f} s {text}", file=sys.stderr, flush=True)

    found: dict[str, Comparison] = {}
    with ExitStack() as stack:
        ground = Ground(stack)
        tell(f"building {given.base}")
        trees = {"base": unpack(given.base, ground.folder), "here": ROOT}
        for tree in trees.values():
            check(tree)
        for workload in given.workload or ("a", "b"):
            pair = [
                contender(workload, name, tree, ground, given.spill and name == "here")
                for name, tree in trees.items()
            ]
            base, here = interleave(pair, given.rounds, given.seconds, False, tell)
            found[workload] = Comparison.of(base.values("cpu"), here.values("cpu"))
            tell(f"({workload}) {found[workload]}")
    print(f"\nCPU a message, {given.rounds} pairs of {given.seconds:g} s:")
    for workload, each in found.items():
        print(f"({workload}) {each}")
    return int(any(each.slower for each in found.values()))


if __name__ == "__main__":
    sys.exit(main())
