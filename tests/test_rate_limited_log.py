"""The first event of a kind is a line at once, what follows is counted: one line per interval."""

import asyncio
import logging
import re
from collections.abc import Iterator

import pytest

from fastsmtp.rate_limited_log import RateLimitedLog
from tests.support.sink import eventually, on_uvloop

log = logging.getLogger("fastsmtp.tests")


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Iterator[list[str]]:
    """What was written, which grows; durations are 'S'."""
    caplog.set_level(logging.INFO)
    written: list[str] = []

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            written.append(re.sub(r"\d+ s\)", "S)", record.getMessage()))

    handler = Kept()
    log.addHandler(handler)
    yield written
    log.removeHandler(handler)


@on_uvloop
async def test_the_first_is_written_at_once_and_a_count_after_the_interval(
    lines: list[str],
) -> None:
    limited = RateLimitedLog(log, logging.INFO, 0.3)
    for number in range(100):
        limited.event("kind", "event %d", number)
        limited.event("other", "other")
    assert lines == ["event 0", "other"]
    # Without any further event.
    await eventually(lambda: len(lines) == 4, 3)
    assert lines[2:] == ["event 99 (99 like this in S)", "other (99 like this in S)"]
    # A count is a line, too: the next one comes an interval later.
    limited.event("kind", "again")
    assert len(lines) == 4
    await eventually(lambda: len(lines) == 5, 3)
    assert lines[-1] == "again (1 like this in S)"


@on_uvloop
async def test_a_kind_that_was_quiet_for_an_interval_is_written_at_once(lines: list[str]) -> None:
    limited = RateLimitedLog(log, logging.INFO, 0.1)
    limited.event("kind", "first")
    await asyncio.sleep(0.2)  # longer than the interval
    limited.event("kind", "second")
    assert lines == ["first", "second"]


@on_uvloop
async def test_nothing_is_under_way_where_nothing_was_counted(lines: list[str]) -> None:
    limited = RateLimitedLog(log, logging.INFO, 0.1)
    limited.event("kind", "first")
    assert limited._timer is None
    limited.event("kind", "second")
    assert limited._timer is not None
    await eventually(lambda: limited._timer is None, 3)
    assert len(lines) == 2


@on_uvloop
async def test_what_was_counted_is_written_at_the_end(lines: list[str]) -> None:
    limited = RateLimitedLog(log, logging.INFO)
    for _ in range(3):
        limited.event("kind", "event")
    limited.close()
    assert lines == ["event", "event (2 like this in S)"]
    limited.close()
    assert len(lines) == 2


@on_uvloop
async def test_kinds_without_end_take_no_memory_and_few_lines(lines: list[str]) -> None:
    limited = RateLimitedLog(log, logging.INFO, 2, max_kinds=10)
    for number in range(1000):
        limited.event(number, "from %d", number)
    assert len(lines) == 10
    assert len(limited._kinds) == 11
    await eventually(lambda: len(lines) == 11, 3 * 2)
    assert lines[-1] == "more than 10 kinds of such events (990 like this in S)"
    await asyncio.sleep(2.1)  # longer than the interval
    limited.event("new", "there is room again")
    assert lines[-1] == "there is room again"


@on_uvloop
async def test_nothing_is_counted_that_would_not_be_written(lines: list[str]) -> None:
    limited = RateLimitedLog(log, logging.DEBUG)
    for _ in range(3):
        limited.event("kind", "event")
    limited.close()
    assert lines == []
