"""`python -m bench [WORKLOAD …]`: runs workloads (without a name all), keeps the report."""

import argparse
import resource
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import ExitStack

from bench import build

build.build()  # what the imports below need

from bench import report, workloads  # noqa: E402
from bench.ground import Ground  # noqa: E402
from bench.rounds import interleave  # noqa: E402
from tests.support import postfix, rabbitmq  # noqa: E402


def progress(workload: workloads.Workload, began: float) -> Callable[[str], None]:
    """Says what was done, and how long everything has taken."""

    def tell(text: str) -> None:
        minutes, seconds = divmod(int(time.monotonic() - began), 60)
        name = f"({workload.letter}) {workload.name}"
        print(f"{minutes:2}:{seconds:02} {name}: {text}", file=sys.stderr, flush=True)

    return tell


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    listed = ", ".join(f"{each.letter} {each.name}" for each in workloads.WORKLOADS)
    parser.add_argument("workload", nargs="*", help=f"letter or name: {listed}")
    parser.add_argument("--quick", action="store_true", help="fewer workloads, rounds, seconds")
    parser.add_argument("--rounds", type=int, help="a contender (5; 3 if quick)")
    parser.add_argument("--seconds", type=float, help="a round (3; 1 if quick)")
    given = parser.parse_args()
    given.rounds = given.rounds or (3 if given.quick else 5)
    given.seconds = given.seconds or (1 if given.quick else 3)
    try:
        given.chosen = workloads.chosen(given.workload, given.quick)
    except ValueError as error:
        parser.error(str(error))
    if missing := postfix.MISSING or rabbitmq.MISSING:
        parser.exit(1, f"{missing}\n")
    return given


def attempt(
    workload: workloads.Workload, ground: Ground, rounds: int, seconds: float, began: float
) -> report.Section | None:
    """All rounds of one workload; None, and a note, where one went wrong."""
    rounds = min(rounds, workload.rounds)
    try:
        contenders = workload.contenders(ground)
        tell = progress(workload, began)
        results = interleave(contenders, rounds, seconds, workload.warm_up, tell)
    except Exception as error:  # the others' figures are worth having
        traceback.print_exc()
        ground.note(f"({workload.letter}) {workload.name} FAILED: {type(error).__name__}: {error}")
        return None
    return report.Section(workload, results, f"{rounds} rounds of {seconds:g} s, interleaved")


def main() -> int:
    given = options()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    began = time.monotonic()
    with ExitStack() as stack:
        ground = Ground(stack)
        attempts = [
            attempt(workload, ground, given.rounds, given.seconds, began)
            for workload in given.chosen
        ]
    sections = [each for each in attempts if each]
    path = report.write(sections, report.environment(ground.versions), ground.notes)
    print(f"\n{path.read_text()}\n{path}")
    return int(len(sections) < len(attempts))


if __name__ == "__main__":
    sys.exit(main())
