"""All contenders of a workload, round after round: A B C A B C …"""

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack

from bench.contenders import Contender
from bench.verdicts import Result

WARM_UP = 2.0
"""Seconds of the round that is not counted, at most: Node compiles what it runs meanwhile."""


def interleave(
    contenders: Sequence[Contender],
    rounds: int,
    seconds: float,
    warm_up: bool,
    tell: Callable[[str], None],
) -> list[Result]:
    """Start everybody, warm them up, then let them take turns; a slow minute hits all of them."""
    results = [Result(each.name, each.answers, []) for each in contenders]
    with ExitStack() as running:
        for contender in contenders:
            tell(f"starting {contender.name}")
            contender.start()
            running.callback(contender.stop)
        for number in range(0 if warm_up else 1, rounds + 1):
            for contender, result in zip(contenders, results, strict=True):
                began = time.monotonic()
                figures = contender.round(seconds if number else min(seconds, WARM_UP))
                what = f"round {number} of {rounds}" if number else "warm-up"
                tell(f"{what}: {contender.name}, {time.monotonic() - began:.1f} s")
                if number:
                    result.rounds.append(figures)
    return results
