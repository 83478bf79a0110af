"""Waiting for what another thread or process is about to do."""

import time
from collections.abc import Callable


def until(true: Callable[[], object], timeout: float = 30.0) -> None:
    """Look until `true()` is; fails after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not true():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.01)
