"""A broker that stores nothing, for faults that a real one cannot be made to show quickly.

Speaks as much AMQP as fastsmtp does, over one port of 127.0.0.1. What it does is set by attributes,
which a test may change while clients are connected. Where RabbitMQ itself shows a fault, use that.
"""

import asyncio
import contextlib
from collections.abc import Callable

import pamqp.frame
from pamqp import commands
from pamqp.body import ContentBody
from pamqp.header import ContentHeader, ProtocolHeader
from pamqp.heartbeat import Heartbeat

NO_SUCH_QUEUE = (404, "NOT_FOUND - no queue in vhost '/'")


class FakeBroker:
    """Use `async with`. Names of queues and exchanges mean nothing to it."""

    def __init__(self) -> None:
        self.version = "3.10.8"
        # "ack", "nack", "return" (then ack), "silent", or a lie: "too many" (acks publishes that
        # were never made), "closed" (acks behind Channel.Close), "huge" (begins a frame of 2 GiB);
        # or which of them by the body
        self.publishes: str | Callable[[bytes], str] = "ack"
        self.declares = "ok"  # or "silent"; what a passive declaration gets, too
        self.messages = 0  # in every queue, as it says
        self.missing = False  # passive declarations get a 404
        self.refusal: tuple[int, str] | None = None  # Connection.Close instead of OpenOk
        self.acks_early = False  # a publish is confirmed before its body has come
        self.is_blocked = False  # a publish gets Connection.Blocked alone
        self.seen: list[str] = []  # names of the methods that clients sent, in order
        self.ids: list[str] = []  # message-ids that were published, in order
        self.properties: list[ContentHeader] = []  # of these
        self.clients: list[_Client] = []
        self.publisher: _Client | None = None  # who published last
        self.tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> "FakeBroker":
        self.server = await asyncio.start_server(self.accept, "127.0.0.1", 0)
        port = self.server.sockets[0].getsockname()[1]
        self.url = f"amqp://guest:guest@127.0.0.1:{port}/"
        return self

    async def __aexit__(self, *_: object) -> None:
        self.server.close()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client = _Client(self, reader, writer)
        self.clients.append(client)
        self.tasks.add(asyncio.create_task(client.serve()))

    def hang_up(self) -> None:
        """End all connections."""
        for client in self.clients:
            client.writer.close()
        self.clients.clear()

    def confirm_all(self) -> None:
        """Confirm what was published in silence."""
        for client in self.clients:
            for channel, tag in client.tags.items():
                client.say(channel, commands.Basic.Ack(tag, multiple=True))


class _Client:
    """One connection; delivery tags count on each channel."""

    def __init__(
        self, broker: FakeBroker, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.broker = broker
        self.reader = reader
        self.writer = writer
        self.tags: dict[int, int] = {}  # of the last publish, by channel
        self.publish = commands.Basic.Publish()
        self.header: ContentHeader | None = None
        self.due = 0  # octets of the body that are still to come
        self.body = b""

    async def serve(self) -> None:
        with (
            contextlib.closing(self.writer),
            contextlib.suppress(asyncio.IncompleteReadError, ConnectionError),
        ):
            await self.reader.readexactly(len(ProtocolHeader().marshal()))
            self.say(0, commands.Connection.Start(server_properties={
                "product": "RabbitMQ", "version": self.broker.version,
                "capabilities": {"publisher_confirms": True, "basic.nack": True,
                                 "connection.blocked": True,
                                 "authentication_failure_close": True}}))  # fmt: skip
            while True:
                start = await self.reader.readexactly(7)
                rest = await self.reader.readexactly(int.from_bytes(start[3:7]) + 1)
                _, channel, frame = pamqp.frame.unmarshal(start + rest)
                self.take(channel, frame)
                await self.writer.drain()

    def say(self, channel: int, frame: object) -> None:
        self.writer.write(pamqp.frame.marshal(frame, channel))

    def take(self, channel: int, frame: object) -> None:
        """One frame of the client's."""
        if isinstance(frame, ContentHeader):
            self.header, self.due, self.body = frame, frame.body_size, b""
            if self.broker.acks_early:
                self.say(channel, commands.Basic.Ack(self.tags.get(channel, 0) + 1))
        elif isinstance(frame, ContentBody):
            self.due -= len(frame.value)
            self.body += frame.value
        elif isinstance(frame, Heartbeat):
            self.say(0, Heartbeat())
            return
        else:
            self.broker.seen.append(frame.name)
            self.obey(channel, frame)
            return
        if not self.due:
            self.published(channel)

    def published(self, channel: int) -> None:
        """A whole publish."""
        tag = self.tags[channel] = self.tags.get(channel, 0) + 1
        assert self.header is not None
        self.broker.ids.append(self.header.properties.message_id)
        self.broker.properties.append(self.header)
        self.broker.publisher = self
        policy = self.broker.publishes
        if not isinstance(policy, str):
            policy = policy(self.body)
        if self.broker.is_blocked:
            self.say(0, commands.Connection.Blocked("low on memory"))
            return
        if policy == "silent":
            return
        if policy == "huge":
            self.writer.write(b"\x02\0\1\x7f\xff\xff\xf0" + bytes(1_000_000))
            return
        if policy == "too many":
            self.say(channel, commands.Basic.Ack(tag + 1000, multiple=True))
            return
        if policy == "closed":
            self.say(channel, commands.Channel.Close(*NO_SUCH_QUEUE, 60, 40))
        if policy == "return":
            exchange, key = self.publish.exchange, self.publish.routing_key
            self.say(channel, commands.Basic.Return(312, "NO_ROUTE", exchange, key))
            self.say(channel, ContentHeader(body_size=0, properties=self.header.properties))
        confirm = commands.Basic.Nack if policy == "nack" else commands.Basic.Ack
        self.say(channel, confirm(tag))

    def obey(self, channel: int, method: object) -> None:
        """One method; every other one is answered as if it were done."""
        broker, answer = self.broker, None
        if isinstance(method, commands.Basic.Publish):
            self.publish = method
        elif isinstance(method, commands.Connection.StartOk):
            answer = commands.Connection.Tune(2047, 131072, 60)
        elif isinstance(method, commands.Connection.Open) and broker.refusal:
            answer = commands.Connection.Close(*broker.refusal, 10, 40)
        elif isinstance(method, commands.Queue.Declare | commands.Exchange.Declare):
            answer = self.declared(method)
        elif type(method).synchronous and method.valid_responses:
            answer = getattr(*_named(method.valid_responses[0]))()
        if answer is not None:
            self.say(channel, answer)

    def declared(self, method: object) -> object:
        if self.broker.declares == "silent":
            return None
        if self.broker.missing and method.passive:
            return commands.Channel.Close(*NO_SUCH_QUEUE, 50, 10)
        if isinstance(method, commands.Exchange.Declare):
            return commands.Exchange.DeclareOk()
        return commands.Queue.DeclareOk(method.queue or "made", self.broker.messages, 0)


def _named(name: str) -> tuple[object, str]:
    """The class of commands and the method's name of "Channel.OpenOk"."""
    group, _, method = name.partition(".")
    return getattr(commands, group), method
