"""Medians with their spread, and whether they are what is expected: all that the suite computes."""

import statistics
from collections.abc import Sequence
from typing import NamedTuple

from bench.figures import COLUMNS, Figures


class Result(NamedTuple):
    """All rounds of one contender."""

    name: str
    answers: str
    rounds: list[Figures]

    def values(self, figure: str) -> list[float]:
        """Of every round that has it."""
        return [each[figure] for each in self.rounds if figure in each]

    def median(self, figure: str) -> float:
        """Over the rounds."""
        return statistics.median(self.values(figure))


class Expectation(NamedTuple):
    """`figure` of `name` is at most (or `at_least`) `factor` x the best of `others`, `plus` more.

    Without others, `factor` is the bound itself; without a factor, the ratio is only told.
    """

    figure: str
    name: str
    factor: float | None
    others: tuple[str, ...] = ()
    plus: float = 0.0  # in the figure's unit
    at_least: bool = False

    def judge(self, results: Sequence[Result]) -> str:
        """A sentence that ends with "met" or "MISSED"; "" where a contender is missing."""
        by_name = {each.name: each for each in results if each.values(self.figure)}
        there = [each for each in self.others if each in by_name]
        if self.name not in by_name or (self.others and not there):
            return ""
        found = by_name[self.name].median(self.figure)
        sentence = f"{self.name}: {COLUMNS[self.figure].heading} {found:.2f}"
        best = 1.0
        if there:
            best = (max if self.at_least else min)(
                by_name[each].median(self.figure) for each in there
            )
            sentence += (
                f", {found / best:.2f} x {'the best of ' * (len(there) > 1)}{', '.join(there)}"
            )
        if self.factor is None:
            return sentence
        bound = best * self.factor + self.plus
        met = found >= bound if self.at_least else found <= bound
        limit = f"{'at least' if self.at_least else 'at most'} {self.factor:g}"
        limit += " x" * bool(there) + f" + {self.plus:g}" * bool(self.plus)
        return f"{sentence}; expected {limit}: {'met' if met else 'MISSED'}"


def limited(results: Sequence[Result]) -> list[str]:
    """Sentences about rows that may say more of the load generator than of the server."""
    sentences = []
    for each in results:
        if each.values("load"):
            load, queued = each.median("load"), each.median("queued")
            if load + queued > 90:
                sentences.append(
                    f"{each.name}: the load generator worked {load:.0f} % of the time and waited "
                    f"for a processor {queued:.0f} %: messages/s may be its limit"
                )
    return sentences
