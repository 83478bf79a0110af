import os
import random

import pytest

from tests.faults.ledger import Ledger


@pytest.fixture
def ledger() -> Ledger:
    """LEDGER_SEED repeats a run's choices; what the processes do meanwhile cannot be repeated."""
    return Ledger(int(os.environ.get("LEDGER_SEED") or random.randrange(1 << 32)))
