"""The fake broker is one to fastsmtp: what it is told to do is what mail meets."""

import pytest

from fastsmtp import replies
from tests.support.fake_broker import FakeBroker
from tests.support.sink import eventually, on_uvloop, opened


@on_uvloop
async def test_each_policy_is_what_mail_meets() -> None:
    async with FakeBroker() as broker, opened(broker.url, "inbox") as rabbit:
        assert await rabbit.put(b"x" * 300_000) is None
        broker.publishes = "nack"
        assert await rabbit.put(b"x") is replies.NACKED
        broker.publishes = "return"
        assert await rabbit.put(b"x") is replies.UNROUTABLE
        broker.publishes = "ack"
        assert await rabbit.put(b"") is None
        assert broker.seen.count("Basic.Publish") == 4


@on_uvloop
async def test_a_refusal_has_the_brokers_words(caplog: pytest.LogCaptureFixture) -> None:
    async with FakeBroker() as broker:
        broker.refusal = (530, "NOT_ALLOWED - no more connections")
        async with opened(broker.url, "inbox") as rabbit:
            assert "refused the connection" in caplog.text
            assert "(NOT_ALLOWED - no more connections)" in caplog.text
            broker.refusal = None
            await eventually(lambda: rabbit.availability.refusal is None, 30)


@on_uvloop
async def test_a_blocked_connection() -> None:
    async with FakeBroker() as broker:
        broker.is_blocked = True
        async with opened(broker.url, "inbox", rabbitmq_timeout=1) as rabbit:
            assert await rabbit.put(b"x") is replies.NO_SPACE
            assert rabbit.metrics.broker_state == "blocked"
            assert rabbit.availability.trouble == "RabbitMQ has an alarm of memory or disk"
