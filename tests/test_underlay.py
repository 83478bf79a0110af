"""What we rely on of aiormq's insides, held against a real broker, on both event loops."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop
from aiormq.exceptions import ChannelNotFoundEntity, ChannelPreconditionFailed

from fastsmtp.sinks.rabbitmq import underlay
from fastsmtp.sinks.rabbitmq._amqp import Encoder
from fastsmtp.sinks.rabbitmq.underlay import Confirmation, Connection, Underlay
from tests.support.rabbitmq import Broker, declare, drain

Run = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture(params=[asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    return request.param


class Heard(Confirmation):
    """Keeps what it was told."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.event = asyncio.Event()

    def tell(self, what: str) -> None:
        self.told.append(what)
        self.event.set()

    def confirmed(self) -> None:
        self.tell("confirmed")

    def returned(self) -> None:
        self.tell("returned")

    def refused(self) -> None:
        self.tell("refused")


class Channel:
    """An open channel and an encoder for it."""

    def __init__(self, connection: Connection, channel: Underlay, queue: str) -> None:
        self.connection = connection
        self.underlay = channel
        self.encoder = Encoder(channel.number, "", queue, channel.frame_max, True, "")
        self.sent = 0

    def send(self, count: int, size: int = 100, drained: Any = None) -> list[Heard]:
        """`count` publishes as one buffer."""
        heard = [Heard() for _ in range(count)]
        publishes = []
        for each in heard:
            self.sent += 1
            self.encoder.publish(f"id{self.sent}", None, "", b"", bytes(size), 0)
            publishes.append((f"id{self.sent}", each))
        self.underlay.send(self.encoder.take(), publishes, drained)
        return heard


async def told(heard: list[Heard]) -> list[list[str]]:
    async with asyncio.timeout(10):
        for each in heard:
            await each.event.wait()
    await asyncio.sleep(0.1)  # for a second word that must not come
    return [each.told for each in heard]


async def over(broker: Broker, queue: str, test: Callable[[Channel], Any]) -> None:
    """Run `test` with an open channel."""
    connection = await underlay.connect(broker.url, None)
    try:
        await test(Channel(connection, await Underlay.open(connection), queue))
    finally:
        await connection.hang_up()


def test_batches_are_confirmed_one_by_one(broker: Broker, queue: str, run: Run) -> None:
    async def test(channel: Channel) -> None:
        await declare(broker.url, queue)
        heard = []
        for count in (1, 100, 1, 400):
            assert channel.underlay.has_room
            heard += channel.send(count)
            await asyncio.sleep(0)
        assert await told(heard) == [["confirmed"]] * 502
        assert len(await drain(broker.url, queue)) == 502

    run(over(broker, queue, test))


def test_returned_is_told_and_not_confirmed(broker: Broker, queue: str, run: Run) -> None:
    async def test(channel: Channel) -> None:
        lost = channel.send(20)
        assert await told(lost) == [["returned"]] * 20
        await declare(broker.url, queue)
        assert await told(channel.send(20)) == [["confirmed"]] * 20

    run(over(broker, queue, test))


def test_a_nack_is_told(broker: Broker, queue: str, run: Run) -> None:
    async def test(channel: Channel) -> None:
        await declare(broker.url, queue, x_max_length=1, x_overflow="reject-publish")
        assert await told(channel.send(1)) == [["confirmed"]]
        await asyncio.sleep(0.1)
        assert await told(channel.send(1)) == [["refused"]]

    run(over(broker, queue, test))


def test_drained_is_told_once_the_socket_has_it(broker: Broker, queue: str, run: Run) -> None:
    async def test(channel: Channel) -> None:
        drained = asyncio.get_running_loop().create_future()
        channel.send(50, 100_000, drained)
        await asyncio.wait_for(drained, 10)

    run(over(broker, queue, test))


def test_no_room_while_nothing_is_drained(paused: Broker, queue: str) -> None:
    async def test(channel: Channel) -> None:
        await declare(paused.url, queue)
        paused.pause()
        drained = asyncio.get_running_loop().create_future()
        heard = channel.send(200, 100_000, drained)
        writes = 0
        while channel.underlay.has_room:
            heard += channel.send(1)
            writes += 1
            await asyncio.sleep(0.001)
        assert 0 < writes < 100
        assert not drained.done()
        paused.resume()
        assert await told(heard) == [["confirmed"]] * len(heard)
        assert drained.done()

    uvloop.run(over(paused, queue, test))


def test_why_a_channel_ended_is_known(broker: Broker, queue: str, run: Run) -> None:
    async def test(channel: Channel) -> None:
        underlays = channel.underlay
        encoder = Encoder(underlays.number, "no-such-exchange", "", 4096, True, "")
        heard = Heard()
        encoder.publish("id", None, "", b"", b"x", 0)
        underlays.send(encoder.take(), [("id", heard)], None)
        await asyncio.wait([underlays.closing], timeout=10)
        assert isinstance(underlays.reason, ChannelNotFoundEntity)
        assert "no-such-exchange" in str(underlays.reason)
        assert not underlays.has_room
        assert heard.told == []

    run(over(broker, queue, test))


def test_an_aborted_connection_ends_its_channel(broker: Broker, queue: str, run: Run) -> None:
    async def test(channel: Channel) -> None:
        channel.connection.abort()
        await asyncio.wait([channel.underlay.closing], timeout=5)
        assert channel.underlay.closing.done()
        assert not isinstance(channel.underlay.reason, ChannelPreconditionFailed)

    run(over(broker, queue, test))


def test_the_broker_tells_its_version(broker: Broker, queue: str, run: Run) -> None:
    async def test(channel: Channel) -> None:
        assert channel.connection.server_version.split(".")[0] in ("3", "4")
        assert not channel.connection.is_blocked

    run(over(broker, queue, test))


def test_what_is_installed_works() -> None:
    underlay.check()


@pytest.mark.parametrize(
    ("package", "found"),
    [("aiormq", "6.9.0"), ("aiormq", "7.2.3"), ("aiormq", "7.3.0"), ("aio-pika", "9.5.8")],
)
def test_another_version_is_refused_and_the_right_ones_are_named(
    monkeypatch: pytest.MonkeyPatch, package: str, found: str
) -> None:
    installed = underlay.version
    monkeypatch.setattr(
        underlay, "version", lambda name: found if name == package else installed(name)
    )
    with pytest.raises(ValueError, match=rf"{package} {found} is installed; .*aiormq 7\.2\.4"):
        underlay.check()
