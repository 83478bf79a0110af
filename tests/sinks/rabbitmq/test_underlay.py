"""What we rely on of aiormq's insides, held against a real broker, on both event loops."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import aiormq
import pytest
import uvloop
from aiormq.exceptions import ChannelNotFoundEntity, ChannelPreconditionFailed

from fastsmtp._tail import Tail
from fastsmtp.sinks.rabbitmq import underlay
from fastsmtp.sinks.rabbitmq._amqp import Encoder
from fastsmtp.sinks.rabbitmq.underlay import Connection, Underlay, ViolationError
from tests.support.rabbitmq import Broker, declare, drain

Run = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture(params=[asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    return request.param


class Channel:
    """An open channel, an encoder for it, and what is heard of what it sent."""

    def __init__(self, connection: Connection, channel: Underlay, queue: str) -> None:
        self.connection = connection
        self.underlay = channel
        self.queue = queue
        self.encoder = Encoder(channel.number, "", queue, channel.frame_max, True, "")
        self.sent = 0
        self.told: dict[int, list[str]] = {}  # by delivery tag
        self.lost: list[str] = []  # message-ids that came back
        self.error: Exception | None = None  # to raise at the next word
        channel.listen(self)

    def send(self, count: int, size: int = 100) -> list[int]:
        """`count` publishes as one buffer: their tags; tag 7 has the message-id id7."""
        tags = list(range(self.sent + 1, self.sent + count + 1))
        for tag in tags:
            self.encoder.publish(f"id{tag}", None, "", b"", Tail.of(bytes(size)), 0)
            self.told[tag] = []
        self.sent += count
        self.underlay.send(self.encoder.take())
        return tags

    def tell(self, word: str, tag: int, multiple: bool) -> None:
        if self.error is not None:
            raise self.error
        for each in [each for each in self.told if multiple and each < tag] + [tag]:
            if not multiple or each == tag or not self.told[each]:
                self.told[each].append(word)

    def acked(self, tag: int, multiple: bool) -> None:
        self.tell("acked", tag, multiple)

    def nacked(self, tag: int, multiple: bool) -> None:
        self.tell("nacked", tag, multiple)

    def returned(self, header: bytes, reason: str) -> None:
        assert reason == "312 NO_ROUTE"
        self.lost.append(underlay.message_id(header))
        assert self.told[int(self.lost[-1][2:])] == []  # the ack comes behind

    async def answer(self) -> None:
        """The broker's answer to something else, behind all that it has said before."""
        await (await self.connection.channel()).close()

    async def heard(self, tags: list[int]) -> list[list[str]]:
        """What was told of these, when something was told of all."""
        async with asyncio.timeout(20):
            while not all(self.told[tag] for tag in tags):  # noqa: ASYNC110
                await asyncio.sleep(0.01)  # looks again
        await self.answer()  # a second word, which must not come, would have come before
        return [self.told[tag] for tag in tags]


async def over(url: str, queue: str, test: Callable[[Channel], Any]) -> None:
    """Run `test` with an open channel."""
    connection = await underlay.connect(url, None)
    try:
        await test(Channel(connection, await Underlay.open(connection), queue))
    finally:
        await connection.hang_up()


def test_batches_are_confirmed(broker: Broker, queue: str, run: Run) -> None:
    async def test(channel: Channel) -> None:
        await declare(broker.url, queue)
        tags = []
        for count in (1, 100, 1, 400):
            assert channel.underlay.is_open
            tags += channel.send(count)
            await asyncio.sleep(0)
        assert await channel.heard(tags) == [["acked"]] * 502
        assert channel.lost == []
        assert len(await drain(broker.url, queue)) == 502

    run(over(broker.url, queue, test))


@pytest.mark.parametrize("size", [0, 100, 100_000])
def test_returned_is_told_before_its_ack(broker: Broker, queue: str, run: Run, size: int) -> None:
    async def test(channel: Channel) -> None:
        tags = channel.send(20, size)
        assert await channel.heard(tags) == [["acked"]] * 20
        assert channel.lost == [f"id{tag}" for tag in tags]
        await declare(broker.url, queue)
        assert await channel.heard(channel.send(20, size)) == [["acked"]] * 20
        assert len(channel.lost) == 20

    run(over(broker.url, queue, test))


def test_a_nack_is_told(broker: Broker, queue: str, run: Run) -> None:
    async def test(channel: Channel) -> None:
        await declare(broker.url, queue, x_max_length=1, x_overflow="reject-publish")
        assert await channel.heard(channel.send(1)) == [["acked"]]
        assert await channel.heard(channel.send(1)) == [["nacked"]]

    run(over(broker.url, queue, test))


def test_drained_once_the_socket_has_room_and_not_before(
    paused: Broker, queue: str, run: Run
) -> None:
    async def test(channel: Channel) -> None:
        await declare(paused.url, queue)
        await asyncio.wait_for(channel.underlay.drained(), 30)
        paused.pause()
        tags = channel.send(200, 100_000)
        drained = channel.underlay.drained()
        await asyncio.sleep(0.5)  # the broker is stopped: nothing can come after it
        assert not drained.done()
        paused.resume()
        await asyncio.wait_for(drained, 30)
        assert await channel.heard(tags) == [["acked"]] * 200

    run(over(paused.url, queue, test))


def test_drained_does_not_outlive_the_connection(paused: Broker, queue: str, run: Run) -> None:
    async def test(channel: Channel) -> None:
        paused.pause()
        channel.send(200, 100_000)
        drained = channel.underlay.drained()
        await asyncio.sleep(0)
        assert not drained.done()
        channel.connection.abort()
        assert not channel.underlay.is_open
        await asyncio.wait([drained], timeout=30)
        assert drained.done()
        drained.exception()
        assert not channel.underlay.is_open

    run(over(paused.url, queue, test))


def test_why_a_channel_ended_is_known(broker: Broker, queue: str, run: Run) -> None:
    async def test(channel: Channel) -> None:
        channels = channel.underlay
        channel.encoder = Encoder(channels.number, "no-such-exchange", "", 4096, True, "")
        (tag,) = channel.send(1)
        await asyncio.wait([channels.closing], timeout=30)
        assert isinstance(channels.reason, ChannelNotFoundEntity)
        assert "no-such-exchange" in str(channels.reason)
        assert not channels.is_open
        assert channel.told[tag] == []

    run(over(broker.url, queue, test))


def test_an_aborted_connection_ends_its_channel(broker: Broker, queue: str, run: Run) -> None:
    async def test(channel: Channel) -> None:
        channel.connection.abort()
        await asyncio.wait([channel.underlay.closing], timeout=30)
        assert channel.underlay.closing.done()
        assert not isinstance(channel.underlay.reason, ChannelPreconditionFailed)

    run(over(broker.url, queue, test))


@pytest.mark.parametrize("error", [ValueError, RuntimeError])
def test_an_error_of_the_listener_ends_the_connection(
    broker: Broker,
    queue: str,
    run: Run,
    caplog: pytest.LogCaptureFixture,
    error: type[Exception],
) -> None:
    """One of them is the broker's fault, which the channel's user is told; others are logged."""

    async def test(channel: Channel) -> None:
        await declare(broker.url, queue)
        channel.error = error("from a test")
        channel.send(10)
        await asyncio.wait([channel.underlay.closing], timeout=30)
        assert channel.underlay.closing.done()
        assert not channel.underlay.is_open
        assert channel.told == {tag: [] for tag in range(1, 11)}
        is_violation = isinstance(channel.underlay.reason, ViolationError)
        assert is_violation == (error is ValueError)
        assert "from a test" in (str(channel.underlay.reason) if is_violation else caplog.text)

    run(over(broker.url, queue, test))


def test_who_listens_no_more_is_told_no_more(broker: Broker, queue: str, run: Run) -> None:
    async def test(channel: Channel) -> None:
        await declare(broker.url, queue)
        channel.send(1)
        channel.underlay.listen(None)
        channel.send(10)
        await channel.answer()
        assert channel.told == {tag: [] for tag in range(1, 12)}
        assert channel.underlay.is_open
        assert len(await drain(broker.url, queue)) == 11

    run(over(broker.url, queue, test))


def test_acks_alone_keep_a_connection_and_silence_ends_it(
    paused: Broker, queue: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broker that sends acks sends no heartbeat: aiormq sees nothing at all of it."""
    # Two seconds of patience instead of six.
    monkeypatch.setattr(aiormq.Connection, "HEARTBEAT_GRACE_MULTIPLIER", 1)

    async def test(channel: Channel) -> None:
        loop = asyncio.get_running_loop()
        await declare(paused.url, queue)
        end = loop.time() + 5
        while loop.time() < end:
            tags = channel.send(1)
            await asyncio.sleep(0.05)  # acks keep coming
            assert channel.underlay.is_open
        assert await channel.heard(tags) == [["acked"]]
        paused.pause()
        await asyncio.wait([channel.underlay.closing], timeout=9)
        assert channel.underlay.closing.done()

    run(over(paused.url + "?heartbeat=1", queue, test))


def test_the_broker_tells_its_version(broker: Broker, queue: str, run: Run) -> None:
    async def test(channel: Channel) -> None:
        assert channel.connection.server_version.split(".")[0] in ("3", "4")
        assert not channel.connection.is_blocked

    run(over(broker.url, queue, test))


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
