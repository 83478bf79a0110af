"""The only file that knows aiormq's insides, which are no promised interface.

Takes frames that we encoded ourselves and puts them on aio-pika's own connection and channel, which
stay in charge of authentication, TLS, heartbeats, topology and confirms. Never reads or writes the
socket, never numbers a publish that did not leave.

What is relied on, and held by tests/test_underlay.py against a real broker:
- `Channel.write_queue` takes `ChannelFrame(payload, should_close, drain_future)` and writes the
  payloads in order; `drain_future` gets its result once the socket's buffer has room again;
- `Channel.confirmations` maps a delivery tag to something like a future, which is asked `done()`
  and gets `set_result` for an ack, `set_exception` for a nack or a return;
- `Channel.message_id_delivery_tag` tells which delivery tag a returned message had;
- `Channel.delivery_tag` is the number of the last publish;
- `Connection.ready()` pends while the broker has blocked the connection;
- `Connection(transport_factory=…)` opens the transport.
"""

import asyncio
import dataclasses
import logging
import ssl
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import aio_pika
from aio_pika.abc import AbstractConnection
from aiormq.abc import AbstractChannel, ChannelFrame
from aiormq.channel import Channel
from aiormq.connection import TCPTransportFactory, TLSTransportFactory, TransportFactory
from aiormq.exceptions import InvalidFrameError, PublishError
from pamqp.commands import Basic
from yarl import URL

log = logging.getLogger(__name__)

WORKING = {"aio-pika": (10, 2, 1), "aiormq": (7, 2, 4), "pamqp": (4, 0, 1)}
"""Oldest version that works; a newer patch of the same minor version does too."""

REFUSED = "refused: no such vhost, no permission for it, or a connection limit"

CLOSE_TIMEOUT = 3.0
"""Seconds for an orderly end of a connection; then it is aborted."""


class UnderlayError(RuntimeError):
    """aiormq is not as expected."""


def check() -> None:
    """Raises ValueError, naming the versions that work, where aiormq is not one of them."""
    for package, oldest in WORKING.items():
        found = version(package)
        parts = tuple(int(part) for part in found.split(".")[:3] if part.isdigit())
        if parts[:2] != oldest[:2] or parts < oldest:
            raise ValueError(f"{package} {found} is installed; {_working()}")
    if [field.name for field in dataclasses.fields(ChannelFrame)] != [
        "payload",
        "should_close",
        "drain_future",
    ]:
        raise ValueError(f"aiormq {version('aiormq')} is not as expected; {_working()}")


def _working() -> str:
    needed = (
        f"{package} {'.'.join(map(str, oldest))} or a later {oldest[0]}.{oldest[1]}"
        for package, oldest in WORKING.items()
    )
    return "fastsmtp works with " + ", ".join(needed)


def quiet() -> None:
    """Silence the libraries' own log lines, one or more an attempt; the link tells what matters."""
    for name in ("aio_pika", "aiormq"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


class Confirmation:
    """Stands where aiormq expects the future of one publish; costs no event loop callback.

    A subclass says what becomes of it. Each is called at most once, from the event loop.
    """

    __slots__ = ()

    def confirmed(self) -> None:
        """Basic.Ack, and not returned before."""
        raise NotImplementedError

    def returned(self) -> None:
        """Basic.Return: no queue took it. The ack that follows is not told."""
        raise NotImplementedError

    def refused(self) -> None:
        """Basic.Nack, or anything else that is no ack."""
        raise NotImplementedError

    def done(self) -> bool:
        """What aiormq asks before it tells."""
        return False

    def set_result(self, frame: object) -> None:
        """Where aiormq tells an ack."""
        if type(frame) is Basic.Ack:
            self.confirmed()
        else:
            self.refused()

    def set_exception(self, exception: BaseException) -> None:
        """Where aiormq tells a nack or a return."""
        if isinstance(exception, PublishError):
            self.returned()
        else:
            self.refused()


class _Transport(TransportFactory):
    """Opens the connection's transport and keeps hold of it."""

    writer: asyncio.StreamWriter | None = None

    async def create(
        self, url: URL, **kwargs: Any
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        factory = TLSTransportFactory() if url.scheme == "amqps" else TCPTransportFactory()
        reader, self.writer = await factory.create(url, **kwargs)
        return reader, self.writer


class Connection(aio_pika.Connection):
    """aio-pika's connection, which can also be dropped at once and says whether it is blocked."""

    def __init__(self, url: URL, **kwargs: Any) -> None:
        super().__init__(url, **kwargs)
        self._transport_factory = self.kwargs["transport_factory"] = _Transport()

    def abort(self) -> None:
        """Drop the transport: what it has not sent is gone; aiormq notices and lets go."""
        writer = self._transport_factory.writer
        if writer is not None:
            writer.transport.abort()

    @property
    def is_blocked(self) -> bool:
        """The broker has sent Connection.Blocked: an alarm, nothing is stored until it clears."""
        if self.transport is None:
            return False
        probe = self.transport.connection.ready().__await__()
        try:
            next(probe)
        except StopIteration:
            return False
        probe.close()
        return True

    @property
    def server_version(self) -> str:
        """What the broker says of itself; "" where it says nothing."""
        assert self.transport is not None
        return str(self.transport.connection.server_properties.get("version", ""))

    async def hang_up(self) -> None:
        """Close in order, or after `CLOSE_TIMEOUT` by force; raises nothing."""
        closing = asyncio.ensure_future(self.close())
        # Not by cancelling: aio-pika's close waits for its own end then, which may never come.
        await asyncio.wait([closing], timeout=CLOSE_TIMEOUT)
        self.abort()
        await asyncio.wait([closing], timeout=CLOSE_TIMEOUT)
        if not closing.done() or closing.cancelled() or closing.exception() is not None:
            log.debug("closing %r: %r", self, closing)


async def connect(url: str, context: ssl.SSLContext | None) -> Connection:
    """Open one connection; raises what aio-pika raises."""
    connection = Connection(
        URL(url), ssl_context=context, client_properties={"connection_name": "fastsmtp"}
    )
    try:
        await connection.connect()
    except BaseException as error:
        connection.abort()
        await connection.hang_up()
        if isinstance(error, InvalidFrameError) and "Connection.Close" in str(error):
            raise ConnectionError(REFUSED) from error  # aiormq drops the broker's own words
        raise
    return connection


class Underlay:
    """A confirming channel that takes encoded publishes."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._queue = channel.write_queue
        self._confirmations: dict[int, Any] = channel.confirmations
        self._tags = channel.message_id_delivery_tag
        self._tag = channel.delivery_tag
        if (self._tag, len(self._confirmations), len(self._tags)) != (0, 0, 0):
            raise UnderlayError(f"the channel was used already; {_working()}")
        if not (channel.on_return_raises and channel.publisher_confirms):
            raise UnderlayError(f"the channel does not confirm; {_working()}")
        self.number = channel.number
        self.frame_max = channel.connection.connection_tune.frame_max  # octets
        self.closing: asyncio.Future[None] = channel.closing  # done once the channel is gone

    @classmethod
    async def open(cls, connection: AbstractConnection) -> "Underlay":
        """A new channel of `connection`."""
        channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
        underlay: AbstractChannel = await channel.get_underlay_channel()
        assert isinstance(underlay, Channel)
        return cls(underlay)

    @property
    def reason(self) -> BaseException:
        """Why the channel is gone."""
        error = None if self.closing.cancelled() else self.closing.exception()
        return error or ConnectionError("channel closed")

    @property
    def has_room(self) -> bool:
        """One more `send` is possible now."""
        return not self._queue.full() and not self.closing.done()

    def send(
        self,
        payload: bytearray,
        publishes: Sequence[tuple[str, Confirmation]],
        drained: "asyncio.Future[None] | None",
    ) -> None:
        """Write frames that hold the beginnings of `publishes`, in order, and nothing else begun.

        `publishes` are (message-id, whom to tell). Only while `has_room`. `drained` gets its
        result when the socket has taken it; not at all where the connection ends before.
        """
        tag = self._tag
        for message_id, confirmation in publishes:
            tag += 1
            self._confirmations[tag] = confirmation
            self._tags[message_id] = tag
        self._queue.put_nowait(ChannelFrame(payload, False, drained))  # type: ignore[arg-type]
        self._tag = self._channel.delivery_tag = tag

    def forget(self, message_id: str) -> None:
        """The broker's last word about a message was heard: a return cannot come any more."""
        self._tags.pop(message_id, None)
