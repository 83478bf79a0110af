"""Whether figures of two revisions differ beyond noise: medians of ratios, pair by pair."""

import statistics
from collections.abc import Sequence
from math import comb
from typing import NamedTuple

CONFIDENCE = 0.95


class Comparison(NamedTuple):
    """How many times the base's CPU this tree needs: the median, and an interval around it."""

    ratio: float
    low: float
    high: float

    @classmethod
    def of(cls, base: Sequence[float], here: Sequence[float]) -> "Comparison":
        """Pair by pair: what slows the machine down for a while hits both of a pair."""
        ratios = [ours / theirs for theirs, ours in zip(base, here, strict=True)]
        return cls(statistics.median(ratios), *interval(ratios))

    @property
    def slower(self) -> bool:
        """Beyond noise."""
        return self.low > 1

    def __str__(self) -> str:
        verdict = "SLOWER" if self.slower else "faster" if self.high < 1 else "no difference"
        return (
            f"{self.ratio:.3f} x the base ({self.low:.3f} to {self.high:.3f} "
            f"with {CONFIDENCE:.0%} confidence): {verdict}"
        )


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Where the median of what `values` are drawn from lies, whatever its distribution.

    Each value is above that median with chance 1/2, so how many are is binomial: of the sorted
    values as many are dropped at either end as CONFIDENCE allows. ValueError for too few values.
    """
    ordered, tail = sorted(values), 0.0
    kept: tuple[float, float] | None = None
    for dropped in range(len(ordered) // 2):
        tail += comb(len(ordered), dropped) / 2 ** len(ordered)
        if 2 * tail > 1 - CONFIDENCE:
            break
        kept = ordered[dropped], ordered[-1 - dropped]
    if kept is None:
        raise ValueError(f"{len(ordered)} values are too few")
    return kept
