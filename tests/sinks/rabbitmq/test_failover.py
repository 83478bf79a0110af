"""Which address mail goes to, and when another one is tried. Brokers that store nothing, or lie."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from fastsmtp import replies
from fastsmtp.sinks.rabbitmq import channel, link
from fastsmtp.sinks.rabbitmq.failover import Addresses
from tests.support.fake_broker import FakeBroker
from tests.support.rabbitmq import free_ports
from tests.support.sink import Opened, eventually, on_uvloop, opened


@asynccontextmanager
async def cluster(count: int, **settings: Any) -> AsyncIterator[tuple[Opened, list[FakeBroker]]]:
    """A sink that knows so many brokers, in this order."""
    async with AsyncExitStack() as stack:
        brokers = [await stack.enter_async_context(FakeBroker()) for _ in range(count)]
        urls = ",".join(broker.url for broker in brokers)
        yield await stack.enter_async_context(opened(urls, "inbox", **settings)), brokers


def line(caplog: pytest.LogCaptureFixture, beginning: str) -> list[str]:
    found = [r.getMessage() for r in caplog.records if r.levelno > logging.DEBUG]
    return [each for each in found if each.startswith(beginning)]


async def first_250(rabbit: Opened, within: float) -> float:
    """Seconds until mail is stored; mail comes in all the time."""
    begun = time.monotonic()
    answers: list[asyncio.Future[Any]] = []
    while not any(each.done() and each.result() is None for each in answers):
        assert time.monotonic() - begun < within
        answers.append(rabbit.put(b"x"))
        await asyncio.sleep(0.02)  # the rate of the client
    return time.monotonic() - begun


def published(broker: FakeBroker) -> int:
    return broker.seen.count("Basic.Publish")


def connects(broker: FakeBroker) -> int:
    return broker.seen.count("Connection.Open")


@on_uvloop
async def test_publishers_and_workers_begin_at_different_addresses() -> None:
    async with cluster(3, rabbitmq_publishers=2) as (_, brokers):
        assert [connects(broker) for broker in brokers] == [1, 1, 1]
    urls = [f"amqp://host{number}/" for number in range(3)]
    firsts = [Addresses(urls, worker).line(0)[0].url for worker in range(4)]
    assert firsts == [urls[0], urls[1], urls[2], urls[0]]


@on_uvloop
async def test_a_node_that_only_nacks_is_left_for_the_next_one(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """As a node does whose leader was killed."""
    async with cluster(3) as (rabbit, brokers):
        assert await rabbit.put(b"x") is None
        brokers[0].publishes = "nack"
        assert await first_250(rabbit, 5) < 2
        assert published(brokers[0]) > 0
        before = published(brokers[0])
        assert {await rabbit.put(b"y") for _ in range(20)} == {None}
        assert published(brokers[0]) == before
        assert len(line(caplog, f"RabbitMQ at {brokers[0].url.replace(':guest@', '@')} nacks")) == 1


@on_uvloop
async def test_a_new_connection_to_the_same_node_is_tried_too() -> None:
    """There may be a load balancer behind one address."""
    async with cluster(1) as (rabbit, (broker,)):
        nacking = True

        def policy(body: bytes) -> str:
            return "nack" if nacking else "ack"

        broker.publishes = policy
        assert await rabbit.put(b"x") is replies.NACKED
        before = connects(broker)
        await eventually(lambda: connects(broker) == before + 1, 3)
        nacking = False
        assert await rabbit.put(b"x") is None


@on_uvloop
async def test_a_connection_that_ends_while_another_one_is_opened_holds_back_no_mail() -> None:
    async with cluster(1) as (rabbit, (broker,)):
        broker.publishes, broker.declares = "nack", "silent"
        opened_before = broker.seen.count("Connection.Open")
        assert await rabbit.put(b"x") is replies.NACKED
        await eventually(lambda: broker.seen.count("Connection.Open") > opened_before, 5)
        for client in broker.clients:
            client.writer.close()
        await eventually(lambda: rabbit.availability.refusal is not None, 5)
        broker.publishes, broker.declares = "ack", "ok"
        await eventually(lambda: rabbit.availability.refusal is None, 20)
        assert await asyncio.wait_for(rabbit.put(b"y"), 5) is None


@on_uvloop
async def test_where_all_nack_the_connection_stays_and_rounds_get_rare(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with a full queue that has overflow reject-publish."""
    monkeypatch.setattr(link, "FIRST_ROUND", 4.0)
    monkeypatch.setattr(channel, "NACKED", 0.2)
    async with cluster(3) as (rabbit, brokers):
        for broker in brokers:
            broker.publishes = "nack"
        begun = time.monotonic()
        while not line(caplog, "nacked: new connections"):
            assert await rabbit.put(b"x") is replies.NACKED
            await asyncio.sleep(0.02)  # the rate of the client
            assert time.monotonic() - begun < 8
        connected = sum(map(connects, brokers))
        assert connected == 2 + 3  # one more for each address
        for _ in range(30):
            assert await rabbit.put(b"x") is replies.NACKED
            await asyncio.sleep(0.05)  # the rate of the client
        assert sum(map(connects, brokers)) == connected
        for broker in brokers:
            broker.publishes = "ack"
        assert await rabbit.put(b"y") is None
        assert sum(map(connects, brokers)) == connected


@on_uvloop
async def test_what_comes_back_is_no_reason_to_go_elsewhere() -> None:
    async with cluster(2) as (rabbit, brokers):
        brokers[0].publishes = "return"
        for _ in range(40):
            assert await rabbit.put(b"x") is replies.UNROUTABLE
            await asyncio.sleep(0.05)  # the rate of the client
        assert [connects(broker) for broker in brokers] == [1, 1]


@on_uvloop
async def test_a_silent_first_address_costs_seconds(caplog: pytest.LogCaptureFixture) -> None:
    async with cluster(2) as (rabbit, brokers):
        brokers[0].publishes = "silent"
        mute = rabbit.put(b"early")
        assert 4 < await first_250(rabbit, 15) < 8
        assert not mute.done()  # its own wait goes on, on its own connection
        assert [connects(broker) for broker in brokers] == [1, 2]
        assert len(line(caplog, "RabbitMQ at ")) == 1
        # What the silent one confirms after all is stored.
        brokers[0].confirm_all()
        assert await asyncio.wait_for(mute, 5) is None


@on_uvloop
async def test_what_was_sent_to_the_silent_one_has_its_own_tags(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Both connections have a delivery tag 1, and only one of them is confirmed."""
    monkeypatch.setattr(channel, "SILENT", 0.5)
    async with cluster(2, rabbitmq_timeout=3) as (rabbit, brokers):
        brokers[0].publishes = "silent"
        mute = [rabbit.put(b"mute") for _ in range(10)]
        await eventually(lambda: connects(brokers[1]) == 2, 5)
        await asyncio.sleep(0.3)  # until the new connection is used
        assert [await rabbit.put(b"x") for _ in range(20)] == [None] * 20
        assert await asyncio.wait_for(asyncio.gather(*mute), 8) == [replies.NOT_STORED] * 10
        assert await rabbit.put(b"x") is None
        assert rabbit.metrics.broker_lost == 10


@on_uvloop
async def test_mail_goes_over_the_connections_that_are_stored(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two of three nodes go on confirming; the third one's publisher finds no better."""
    monkeypatch.setattr(channel, "SILENT", 0.5)
    async with cluster(3, rabbitmq_publishers=3, rabbitmq_timeout=4) as (rabbit, brokers):
        brokers[0].publishes = "silent"
        mute = [rabbit.put(b"x") for _ in range(3)]
        await asyncio.sleep(0.3)  # until it is published
        brokers[0].refusal = brokers[1].refusal = brokers[2].refusal = (530, "no more")
        await asyncio.sleep(1)  # longer than SILENT
        assert sum(each.done() for each in mute) == 2
        assert [await rabbit.put(b"y") for _ in range(30)] == [None] * 30


@on_uvloop
async def test_an_address_that_does_not_answer_costs_a_quarter_of_a_second() -> None:
    async with await asyncio.start_server(mute_server, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with FakeBroker() as broker:
            begun = time.monotonic()
            async with opened(f"amqp://127.0.0.1:{port}/,{broker.url}", "inbox") as rabbit:
                assert await rabbit.put(b"x") is None
                assert time.monotonic() - begun < 2
                await eventually(lambda: connects(broker) == 2, 5)


async def mute_server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Takes connections and says nothing."""
    await reader.read(-1)
    writer.close()


@on_uvloop
async def test_a_silent_node_beside_a_dead_one_is_not_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(channel, "SILENT", 0.5)
    (dead,) = free_ports(1)
    async with FakeBroker() as broker:
        url = f"{broker.url},amqp://guest:guest@127.0.0.1:{dead}/"
        async with opened(url, "inbox") as rabbit:
            broker.publishes = "silent"
            answer = rabbit.put(b"x")
            await asyncio.sleep(2)  # tries the other one meanwhile
            assert connects(broker) == 2
            broker.confirm_all()
            assert await asyncio.wait_for(answer, 5) is None
