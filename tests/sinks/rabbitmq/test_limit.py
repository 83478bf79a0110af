"""The largest body: a broker that takes less than we thought is named, with what clients hear."""

from collections.abc import Callable

import pytest

from fastsmtp import replies
from fastsmtp.availability import Availability
from fastsmtp.metrics import Metrics
from fastsmtp.sinks.rabbitmq.limit import BodyLimit
from tests.support.rabbitmq import Broker
from tests.support.sink import on_uvloop, opened

MIB = 1024 * 1024


@on_uvloop
async def test_a_406_that_lowers_the_maximum_is_logged_with_what_ehlo_says(
    make_broker: Callable[..., Broker], queue: str, caplog: pytest.LogCaptureFixture
) -> None:
    broker = make_broker(max_message_size=str(2 * MIB))
    broker.start()
    settings = {"rabbitmq_maxsize": 64 * MIB}
    async with opened(broker.url, queue, **settings) as rabbit:
        for _ in range(2):
            assert await rabbit.put(bytes(3 * MIB)) is replies.TOO_LARGE
        assert rabbit.availability.maxsize == (2 * MIB - 65536) * 3 // 4
        shown = Metrics().snapshot(rabbit.availability)
        assert (shown["body_limit"], shown["size_limit"]) == (2 * MIB, 1523712)
    (line,) = [r.getMessage() for r in caplog.records if "406" in r.getMessage()]
    for part in (f"is {2 * MIB} bytes, not {64 * MIB}.", "SIZE 1523712", "max_message_size"):
        assert part in line


def test_a_406_that_names_nothing_smaller_is_no_news(caplog: pytest.LogCaptureFixture) -> None:
    limit = BodyLimit(MIB, Availability(100 * MIB))
    limit.lower(2 * MIB)
    limit.lower(MIB)
    assert caplog.text == ""
    assert limit.maximum == MIB
