"""A queue that is deleted while mail goes there is declared anew, and is on disk before mail is."""

import asyncio
import logging
import time

import aio_pika
import pytest

from fastsmtp import replies
from tests.support.fake_broker import FakeBroker
from tests.support.rabbitmq import Broker, drain
from tests.support.sink import eventually, on_uvloop, opened


async def delete(url: str, queue: str) -> None:
    async with await aio_pika.connect(url) as connection:
        await (await connection.channel()).queue_delete(queue)


@pytest.mark.parametrize("exchange", ["", "renewed"])
@on_uvloop
async def test_it_is_declared_anew_within_a_second(
    broker: Broker, queue: str, exchange: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    settings = {"rabbitmq_publishers": 2, "rabbitmq_exchange": exchange}
    async with opened(broker.url, queue, **settings) as rabbit:
        assert await rabbit.put(b"x") is None
        await delete(broker.url, queue)
        assert await rabbit.put(b"x") is replies.UNROUTABLE
        begun = time.monotonic()
        stored: list[bytes] = []
        while time.monotonic() - begun < 1.5:
            body = b"%d" % len(stored)
            if await rabbit.put(body) is None:
                stored.append(body)
            await asyncio.sleep(0.01)  # the rate of the client
        assert len(stored) > 5
        assert f"RabbitMQ has the queue '{queue}', declared anew" in caplog.text
        assert rabbit.metrics.broker_connects == 3
    assert [message.body for message in await drain(broker.url, queue)] == stored


@on_uvloop
async def test_nothing_is_published_between_the_declaration_and_the_disk() -> None:
    async with (
        FakeBroker() as broker,
        opened(broker.url, "inbox", rabbitmq_queue_type="quorum") as rabbit,
    ):
        assert await rabbit.put(b"x") is None
        broker.publishes, broker.missing = "return", True
        assert await rabbit.put(b"x") is replies.UNROUTABLE
        broker.publishes = "ack"
        declared = broker.seen.count("Queue.Declare")
        # It is looked for, then declared.
        await eventually(lambda: broker.seen.count("Queue.Declare") == declared + 2, 3)
        begun = time.monotonic()
        assert await rabbit.put(b"y") is None
        assert time.monotonic() - begun > 2  # a quorum queue has three seconds


@on_uvloop
async def test_what_is_on_its_way_is_waited_for() -> None:
    """It would be routed to the new queue, and confirmed before that is on disk."""
    async with FakeBroker() as broker, opened(broker.url, "inbox") as rabbit:
        broker.publishes = lambda body: "silent" if body == b"slow" else "return"
        slow = rabbit.put(b"slow")
        assert await rabbit.put(b"x") is replies.UNROUTABLE
        declared = broker.seen.count("Queue.Declare")
        await asyncio.sleep(1)  # longer than a declaration takes to begin
        assert broker.seen.count("Queue.Declare") == declared
        broker.publishes = "ack"
        broker.confirm_all()
        assert await slow is None
        await eventually(lambda: broker.seen.count("Queue.Declare") > declared, 3)
        assert await rabbit.put(b"y") is None
