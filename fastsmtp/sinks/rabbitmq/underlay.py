"""The only file that knows aiormq's insides, which are no promised interface.

Writes frames that we encoded ourselves between those of aio-pika's own connection, and takes what
the broker says of them out of what it reads; aio-pika stays in charge of authentication, TLS,
heartbeats, channels and topology. Opens the transport for it; never numbers a publish that did not
leave.

What is relied on, and held by tests/sinks/rabbitmq/test_underlay.py against a real broker:
- `Connection(transport_factory=…)` opens the transport, and reads and writes whole frames;
- a connection on which no frame comes for a while is given up, so a heartbeat stands for acks that
  aiormq does not see;
- `Channel.number`, `Channel.closing`, and that nothing but us publishes on the channel;
- `Connection.connection_tune.frame_max`, `Connection.server_properties`;
- `Connection.ready()` pends while the broker has blocked the connection.
"""

import asyncio
import logging
import ssl
from collections.abc import Iterable
from importlib.metadata import version
from typing import Any, SupportsIndex, cast

import aio_pika
import pamqp.frame
from aiormq.channel import Channel
from aiormq.connection import TransportFactory
from aiormq.exceptions import (
    AMQPConnectionError,
    InvalidFrameError,
    ProbableAuthenticationError,
)
from pamqp import commands
from pamqp.header import ContentHeader
from pamqp.heartbeat import Heartbeat
from yarl import URL

from fastsmtp.sinks.rabbitmq._confirms import Confirms
from fastsmtp.sinks.rabbitmq.confirm_listener import ConfirmListener

log = logging.getLogger(__name__)

WORKING = {"aio-pika": (10, 2, 1), "aiormq": (7, 2, 4), "pamqp": (4, 0, 1)}
"""Oldest version that works; a newer patch of the same minor version does too."""

OPENING_LIMIT = 64 * 1024
"""Octets that are kept of what the broker says until the connection is up."""

FRAME_LIMIT = 2**32 + 7
"""Octets of the largest frame that can be written down: no maximum was negotiated."""

METHOD_FRAME = b"\x01"
"""First octet of a broker's answer."""

PLAIN_PORT = (
    "the port answers without TLS: use amqp:// instead of amqps://, or the port where the broker "
    "speaks TLS (5671 by default)"
)

TLS_PORT = (
    "the port answers with TLS: use amqps:// instead of amqp://, or the port where the broker "
    "speaks AMQP without TLS (5672 by default)"
)

NO_AMQP = (
    "the port answers, but not with AMQP 0-9-1: is it another service's? RabbitMQ's is 5672 by "
    "default"
)

SILENCE = 1.0
"""Seconds in which aiormq has seen nothing but we have; then it is told that the broker lives."""

HEARTBEAT = Heartbeat().marshal()

CLOSE_TIMEOUT = 3.0
"""Seconds for an orderly end of a connection; then it is aborted."""


class UnderlayError(RuntimeError):
    """aiormq is not as expected."""


class ViolationError(ConnectionError):
    """The broker said what it may not say; nothing of this connection counts any more."""


class RefusedError(ConnectionError):
    """The broker was reached and let us not in; the text is its own."""


def check() -> None:
    """Raises ValueError, naming the versions that work, where aiormq is not one of them."""
    for package, oldest in WORKING.items():
        found = version(package)
        parts = tuple(int(part) for part in found.split(".")[:3] if part.isdigit())
        if parts[:2] != oldest[:2] or parts < oldest:
            raise ValueError(f"{package} {found} is installed; {_working()}")


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


class _Reader(asyncio.StreamReader):
    """What aiormq reads: everything but the confirms of publishes."""

    opening: bytes | None = b""  # all that came until the connection was up; None afterwards
    violation: ViolationError | None = None
    transport: asyncio.WriteTransport

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop=loop)
        self.confirms = Confirms()
        self._loop = loop
        self._heard = loop.time()  # when aiormq last had something to read

    def set_transport(self, transport: asyncio.BaseTransport) -> None:
        """Called before anything comes."""
        super().set_transport(transport)
        self.transport = cast(asyncio.WriteTransport, transport)

    def feed_data(self, data: Iterable[SupportsIndex]) -> None:
        """Called by the transport's protocol with all that comes, as bytes."""
        if self.exception() is not None:
            return
        data = bytes(data)
        if self.opening is not None:
            self.opening = (self.opening + data)[:OPENING_LIMIT]
            if not self.opening.startswith(METHOD_FRAME):
                self.set_exception(ConnectionError(NO_AMQP))
                return
        try:
            others = self.confirms.take(data)
        except ValueError as error:
            self.violation = ViolationError(f"RabbitMQ does not speak AMQP 0-9-1: {error}")
            self.set_exception(self.violation)
            self.transport.abort()
            return
        now = self._loop.time()
        if others:
            super().feed_data(others)
        elif self.confirms.channel and now - self._heard > SILENCE:
            super().feed_data(HEARTBEAT)
        else:
            return
        self._heard = now


class _Transport(TransportFactory):
    """Opens the connection's transport and keeps hold of both its ends."""

    reader: _Reader
    writer: asyncio.StreamWriter | None = None

    async def create(
        self, url: URL, **kwargs: Any
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        loop = asyncio.get_running_loop()
        assert url.host is not None
        assert url.port is not None
        provider = kwargs.pop("ssl_context_provider")
        context = await provider.get_context() if url.scheme == "amqps" else None
        self.reader = _Reader(loop)
        protocol = asyncio.StreamReaderProtocol(self.reader, loop=loop)
        try:
            transport, _ = await loop.create_connection(
                lambda: protocol, url.host, url.port, ssl=context, **kwargs
            )
        except OSError as error:
            why = (PLAIN_PORT,) if _is_answered_without_tls(error) else error.args
            raise AMQPConnectionError(*why) from error
        self.writer = asyncio.StreamWriter(transport, protocol, self.reader, loop)
        return self.reader, self.writer

    def foreign(self) -> str:
        """What the port speaks instead of AMQP; "" where it said nothing, or AMQP."""
        said = self.reader.opening if self.writer is not None else None
        if not said or said.startswith(METHOD_FRAME):
            return ""
        return TLS_PORT if said.startswith(b"\x15\x03") else NO_AMQP  # an alert

    def last_words(self) -> str:
        """Why the broker closed the connection while it was opened; "" where it did not."""
        left = self.reader.opening or b""
        while left:
            octets, _, frame = pamqp.frame.unmarshal(left)
            if isinstance(frame, commands.Connection.Close):
                return frame.reply_text
            left = left[octets:]
        return ""


def _is_answered_without_tls(error: OSError) -> bool:
    """Whether TLS began and something else came back; OpenSSL 3.2 and later call it otherwise."""
    words = str(error).lower()
    return isinstance(error, ssl.SSLError) and (
        "wrong version number" in words or "record layer failure" in words
    )


class Connection(aio_pika.Connection):
    """aio-pika's connection, which can also be dropped at once and says whether it is blocked."""

    def __init__(self, url: URL, **kwargs: Any) -> None:
        super().__init__(url, **kwargs)
        self.ends = self.kwargs["transport_factory"] = _Transport()

    def abort(self) -> None:
        """Drop the transport: what it has not sent is gone; aiormq notices and lets go."""
        writer = self.ends.writer
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
        if connection.ends.writer is not None and connection.ends.reader.violation is not None:
            raise connection.ends.reader.violation from error
        if isinstance(error, ProbableAuthenticationError):
            raise RefusedError(str(error)) from error
        if isinstance(error, Exception) and (words := connection.ends.foreign()):
            raise AMQPConnectionError(words) from error
        # aiormq drops the broker's own words.
        if isinstance(error, InvalidFrameError) and (words := connection.ends.last_words()):
            raise RefusedError(words) from error
        raise
    assert connection.transport is not None
    reader, tune = connection.ends.reader, connection.transport.connection.connection_tune
    reader.opening = None
    reader.confirms.frame_max = tune.frame_max or FRAME_LIMIT
    return connection


def is_ours(error: BaseException) -> bool:
    """A cancellation of this task that was asked for; aiormq fails with CancelledError, too."""
    task = asyncio.current_task()
    return isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling() > 0


def message_id(header: bytes) -> str:
    """The message-id in a content header frame, "" where it has none."""
    frame = pamqp.frame.unmarshal(header)[2]
    assert isinstance(frame, ContentHeader)
    return frame.properties.message_id or ""


class Underlay:
    """A confirming channel that takes encoded publishes."""

    def __init__(self, channel: Channel, transport: _Transport) -> None:
        if channel.delivery_tag != 0:
            raise UnderlayError(f"the channel was used already; {_working()}")
        if not channel.publisher_confirms:
            raise UnderlayError(f"the channel does not confirm; {_working()}")
        assert transport.writer is not None
        self._writer = transport.writer
        self._transport = transport.writer.transport
        self._reader = transport.reader
        self._confirms = transport.reader.confirms
        self.number = channel.number
        self.frame_max = channel.connection.connection_tune.frame_max  # octets
        self.closing: asyncio.Future[None] = channel.closing  # done once the channel is gone

    @classmethod
    async def open(cls, connection: Connection) -> "Underlay":
        """A new channel of `connection`, which has no other one that publishes."""
        channel = await connection.channel(publisher_confirms=True)
        underlay = await channel.get_underlay_channel()
        assert isinstance(underlay, Channel)
        return cls(underlay, connection.ends)

    @property
    def reason(self) -> BaseException:
        """Why the channel is gone."""
        if self._reader.violation is not None:
            return self._reader.violation
        error = None if self.closing.cancelled() else self.closing.exception()
        return error or ConnectionError("channel closed")

    @property
    def is_open(self) -> bool:
        """What is sent may leave."""
        return not self.closing.done() and not self._transport.is_closing()

    def listen(self, listener: ConfirmListener | None) -> None:
        """Tell `listener` what becomes of what is sent; None: nobody any more.

        The connection ends where it raises; a ValueError is the broker's fault, and the `reason`.
        """
        self._confirms.watch(self.number, listener)

    def send(self, frames: bytearray) -> None:
        """Write whole frames of publishes, or a part of a publish and later the rest."""
        self._transport.write(frames)

    @property
    def has_drained(self) -> bool:
        """The socket has taken everything."""
        return self._transport.get_write_buffer_size() == 0

    def drained(self) -> "asyncio.Future[None]":
        """Done when the socket's buffer has room, or the connection is gone; may fail then."""
        return asyncio.ensure_future(self._writer.drain())
