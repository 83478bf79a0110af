"""The commits of several workers wait for each other for a short time only, on a slow disk too."""

import pytest

from tests.faults.test_kills import ROUNDS, Record
from tests.faults.turns import measure

PROMISED = 0.5
"""Seconds that a commit waits for others at most, besides what the disk takes for theirs."""


@pytest.mark.timeout(120)
@pytest.mark.skipif(ROUNDS == 1, reason="measures for 20 seconds each: make faults")
@pytest.mark.parametrize("slower", [0, 0.5])
def test_no_worker_waits_long_for_the_others(slower: float, record_property: Record) -> None:
    waits = measure(20, slower)
    record_property("ledger", str(waits))
    assert min(waits.commits) > max(waits.commits) / 3, waits
    # Two others, each of which commits and then brings the WAL into the file: three fsyncs.
    assert waits.longest < 3 * PROMISED + 2 * 3 * slower, waits
