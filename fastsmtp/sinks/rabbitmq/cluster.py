"""Where the mail goes: the addresses of one broker or cluster, how to get in, what is there.

Opens connections, declares what must exist, learns the limit of bodies. Keeps no connection.
"""

import asyncio
import ssl

from fastsmtp.settings import Settings
from fastsmtp.sinks.rabbitmq import underlay as underlays
from fastsmtp.sinks.rabbitmq._amqp import Encoder
from fastsmtp.sinks.rabbitmq.failover import Addresses, public
from fastsmtp.sinks.rabbitmq.limit import BodyLimit
from fastsmtp.sinks.rabbitmq.renewal import Renewal
from fastsmtp.sinks.rabbitmq.topology import Topology
from fastsmtp.sinks.rabbitmq.underlay import Connection, Underlay

OPEN_TIMEOUT = 10.0
"""Seconds for one address: connect, log in, declare, open a channel."""


class Cluster:
    """Shared by all connections of a worker."""

    def __init__(self, settings: Settings, limit: BodyLimit, worker: int = 0) -> None:
        """Raises OSError for TLS files that cannot be read, ValueError for what cannot work.

        `worker` counts from 0.
        """
        self.addresses = Addresses(settings.rabbitmq_address, worker)
        self.timeout = settings.rabbitmq_timeout  # seconds that one message waits
        self.window = settings.rabbitmq_throttle  # publishes in flight on a connection
        self.limit = limit
        self._settings = settings
        self.topology = Topology(settings)
        self.renewal = Renewal(self.topology)
        self._context = None
        if any(address.startswith("amqps:") for address in settings.rabbitmq_address):
            self._context = tls_context(settings)

    def encoder(self, channel: int, frame_max: int) -> Encoder:
        """What publishes over one channel; `frame_max` in octets."""
        settings = self._settings
        return Encoder(
            channel,
            settings.rabbitmq_exchange,
            settings.rabbitmq_inbox,
            frame_max,
            settings.rabbitmq_persistent,
            settings.rabbitmq_encoding,
        )

    async def open(self, address: str) -> tuple[Connection, Underlay]:
        """A connection and its confirming channel; raises in many ways, TimeoutError among them."""
        async with asyncio.timeout(OPEN_TIMEOUT):
            connection = await self.connect(address)
            try:
                await self.topology.declare(connection)
                underlay = await Underlay.open(connection)
            except BaseException:
                connection.abort()
                await connection.hang_up()
                raise
        self.limit.connected(connection.server_version)
        return connection, underlay

    async def connect(self, address: str) -> Connection:
        """A connection that is logged in; raises what `underlay.connect` raises."""
        return await underlays.connect(address, self._context)

    def describe(self, connection: Connection) -> str:
        """What mail meets over this connection, for the log."""
        queue = f"queue {self.topology.queue!r}"
        if self.topology.is_missing:
            queue += " is missing: mail is answered 451 4.3.5 until it exists"
        return f"version {connection.server_version or 'unknown'}; {queue}; {self.limit}"

    def __str__(self) -> str:
        return ", ".join(map(public, self._settings.rabbitmq_address))


def tls_context(settings: Settings) -> ssl.SSLContext:
    """For amqps, as rabbitmq-verify, -ca, -certificate and -key say; raises OSError."""
    context = ssl.create_default_context(cafile=settings.rabbitmq_ca or None)
    if not settings.rabbitmq_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if settings.rabbitmq_certificate:
        context.load_cert_chain(settings.rabbitmq_certificate, settings.rabbitmq_key or None)
    return context
