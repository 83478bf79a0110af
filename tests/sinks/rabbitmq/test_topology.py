"""Exchange, queue and binding in a real broker."""

import asyncio
import json
import logging
import re
import time
from pathlib import Path
from typing import Any

import aio_pika
import pytest
from aio_pika.abc import AbstractConnection, AbstractIncomingMessage
from aio_pika.exceptions import ChannelNotFoundEntity

from fastsmtp import replies
from fastsmtp.settings import Settings
from fastsmtp.sinks.rabbitmq.topology import FLUSH_TIME, Topology
from tests.support.rabbitmq import MAJOR, Broker, declare, drain
from tests.support.sink import eventually, on_uvloop, opened

DECISION = re.compile(
    rb"decisionh.(?:d..|w.)tid(a.|b....).{,80}?(presume_abort|committed)", re.DOTALL
)
"""A transaction's id, and its outcome so far, in Mnesia's log; Erlang writes a name as d or w."""


def queues(broker: Broker) -> dict[str, dict[str, Any]]:
    """Name → what the broker knows of the queue."""
    listed = json.loads(
        broker.ctl("list_queues", "name", "durable", "arguments", "--formatter", "json")
    )
    return {found["name"]: found for found in listed}


@on_uvloop
async def test_a_durable_queue_is_declared(broker: Broker, queue: str) -> None:
    async with opened(broker.url, queue):
        found = queues(broker)[queue]
    assert found["durable"] is True
    # RabbitMQ 4 says itself what an empty rabbitmq-queue-type has become.
    assert found["arguments"] == ([["x-queue-type", "longstr", "classic"]] if MAJOR >= 4 else [])


@on_uvloop
async def test_inbox_is_outbox_where_it_is_not_set(broker: Broker, queue: str) -> None:
    async with opened(broker.url, "", rabbitmq_outbox=queue) as rabbit:
        assert await rabbit.put(b"x") is None
    assert len(await drain(broker.url, queue)) == 1


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        ("", {"x-queue-mode": "lazy", "x-max-priority": 5}),
        ("classic", {"x-queue-type": "classic", "x-queue-mode": "lazy", "x-max-priority": 5}),
        ("quorum", {"x-queue-type": "quorum"}),
    ],
)
def test_arguments(kind: str, arguments: dict[str, object]) -> None:
    settings = Settings(rabbitmq_queue_type=kind, rabbitmq_lazy=True, rabbitmq_maxpriority=5)
    assert Topology(settings).arguments() == arguments


@on_uvloop
async def test_priority_decides_the_order(broker: Broker, queue: str) -> None:
    async with opened(broker.url, queue, rabbitmq_maxpriority=5) as rabbit:
        for priority in (1, 5, 3):
            assert await rabbit.put(b"%d" % priority, priority=priority) is None
    assert [message.body for message in await drain(broker.url, queue)] == [b"5", b"3", b"1"]


@on_uvloop
async def test_a_queue_with_other_arguments_is_used_as_it_is(
    broker: Broker, queue: str, caplog: pytest.LogCaptureFixture
) -> None:
    await declare(broker.url, queue, durable=False, x_max_length=1000)
    async with opened(broker.url, queue, rabbitmq_publishers=3) as rabbit:
        assert await rabbit.put(b"x") is None
        assert rabbit.metrics.broker_connects == 4
    (warning,) = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert queue in warning
    assert "used as it is" in warning
    assert "inequivalent arg" in warning
    assert len(await drain(broker.url, queue)) == 1


@on_uvloop
async def test_a_stream_is_taken_for_a_queue(broker: Broker, queue: str) -> None:
    await declare(broker.url, queue, x_queue_type="stream")
    async with opened(broker.url, queue, rabbitmq_declare=False) as rabbit:
        answers = await asyncio.gather(rabbit.put(b"x"), rabbit.put(bytes(3_000_000)))
        assert answers == [None, None]
    taken: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()
    async with await aio_pika.connect(broker.url) as connection, asyncio.timeout(30):
        channel = await connection.channel()
        await channel.set_qos(10)
        stream = await channel.get_queue(queue)
        await stream.consume(taken.put, arguments={"x-stream-offset": "first"})
        assert {len((await taken.get()).body) for _ in range(2)} == {1, 3_000_000}


@on_uvloop
async def test_an_exchange_of_ones_own(broker: Broker, queue: str) -> None:
    exchange = f"x-{queue}"
    async with opened(broker.url, queue, rabbitmq_exchange=exchange) as rabbit:
        assert await rabbit.put(b"x") is None
        async with await aio_pika.connect(broker.url) as connection:
            channel = await connection.channel()
            # Without a binding nobody has it.
            await (await channel.get_queue(queue)).unbind(exchange, queue)
            assert await rabbit.put(b"lost") is replies.UNROUTABLE
            # Gone under way: the next connection declares it again.
            await channel.exchange_delete(exchange)
        assert await rabbit.put(b"lost") is replies.NOT_STORED
        await eventually(lambda: rabbit.availability.refusal is None, 30)
        assert await rabbit.put(b"y") is None
    assert [message.body for message in await drain(broker.url, queue)] == [b"x", b"y"]


@on_uvloop
async def test_nothing_is_declared_where_it_is_not_to_be(broker: Broker, queue: str) -> None:
    async with opened(broker.url, queue, rabbitmq_declare=False) as rabbit:
        assert await rabbit.put(b"x") is replies.UNROUTABLE
    assert queue not in queues(broker)


@on_uvloop
async def test_a_missing_exchange_is_told(
    broker: Broker, queue: str, caplog: pytest.LogCaptureFixture
) -> None:
    settings = {"rabbitmq_declare": False, "rabbitmq_exchange": f"x-{queue}"}
    async with opened(broker.url, queue, **settings) as rabbit:
        assert rabbit.availability.refusal is replies.NOT_STORED
        assert await rabbit.put(b"x") is replies.NOT_STORED
    assert f"no exchange 'x-{queue}'" in caplog.text


@pytest.mark.parametrize("name", ["ü", "a[b]"])
def test_a_name_that_amqp_does_not_allow_is_an_error_at_the_start(name: str) -> None:
    for setting in ("rabbitmq_inbox", "rabbitmq_exchange"):
        with pytest.raises(ValueError, match="rabbitmq-exchange or rabbitmq-inbox"):
            Topology(Settings(**{setting: name}))


def outcome(log: Path, queue: str) -> bytes:
    """What a broker that dies now makes of the queue: b"" where the log was begun anew."""
    octets = log.read_bytes()
    before, name, _ = octets.rpartition(b"%c" % len(queue) + queue.encode())
    if not name:
        return b""
    transaction = [tid for tid, _ in DECISION.findall(before)][-1]
    return [end for tid, end in DECISION.findall(octets) if tid == transaction][-1]


@on_uvloop
async def test_a_new_queue_is_on_the_brokers_disk_when_mail_goes_there(
    broker: Broker, queue: str
) -> None:
    """While others are busy: every tenth was not, where the broker alone was trusted."""
    (log,) = (broker.folder / "data").glob("*/LATEST.LOG")

    async def busy() -> None:
        async with opened(broker.url, f"{queue}-busy") as rabbit:
            while True:
                await asyncio.gather(*(rabbit.put(bytes(5000)) for _ in range(20)))

    others = asyncio.create_task(busy())
    outcomes = []
    for number in range(40):
        async with opened(broker.url, f"{queue}-{number}"):
            outcomes.append(outcome(log, f"{queue}-{number}"))
    others.cancel()
    assert b"presume_abort" not in outcomes
    assert outcomes.count(b"committed") > 30


async def exists(connection: AbstractConnection, queue: str) -> bool:
    channel = await connection.channel()
    try:
        await channel.declare_queue(queue, passive=True)
    except ChannelNotFoundEntity:
        return False
    await channel.close()
    return True


@on_uvloop
async def test_every_connection_waits_for_a_new_quorum_queue(broker: Broker, queue: str) -> None:
    topology = Topology(Settings(rabbitmq_inbox=queue, rabbitmq_queue_type="quorum"))
    async with (
        await aio_pika.connect(broker.url) as connection,
        await aio_pika.connect(broker.url) as another,
    ):
        began = time.monotonic()
        first = asyncio.create_task(topology.declare(connection))
        while not await exists(another, queue):  # the broker's answer is the rate
            pass
        await topology.declare(another)
        assert time.monotonic() - began >= FLUSH_TIME
        await first


@on_uvloop
async def test_mail_in_a_new_queue_that_the_brokers_default_made_a_quorum_queue_outlives_it(
    killable: Broker, queue: str
) -> None:
    """Killed within three seconds, RabbitMQ 4 came back with a queue that nobody could read."""
    killable.ctl("add_vhost", queue, "--default-queue-type", "quorum")
    killable.ctl("set_permissions", "-p", queue, "guest", ".*", ".*", ".*")
    url = f"{killable.url}{queue}"
    async with opened(url, queue) as rabbit:
        assert await rabbit.put(b"x") is None
        killable.kill()
    killable.start()
    async with opened(url, queue) as rabbit:
        await eventually(lambda: rabbit.availability.refusal is None, 30)
    async with asyncio.timeout(30):
        assert [message.body for message in await drain(url, queue)] == [b"x"]


@on_uvloop
async def test_a_new_queue_waits_for_the_disk_where_it_cannot_be_asked_for(
    broker: Broker, queue: str
) -> None:
    """Who may declare nothing else cannot hurry the broker."""
    broker.ctl("add_user", queue, "secret")
    broker.ctl("set_permissions", queue, f"^{queue}$", ".*", ".*")
    url = broker.url.replace("guest:guest", f"{queue}:secret")
    began = time.monotonic()
    async with opened(url, queue) as rabbit:
        assert time.monotonic() - began >= FLUSH_TIME
        assert await rabbit.put(b"x") is None
    began = time.monotonic()
    async with opened(url, queue):
        assert time.monotonic() - began < FLUSH_TIME
