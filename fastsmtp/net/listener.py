"""The listening sockets of a worker and the connections that came in through them."""

import asyncio
import contextlib
import ctypes
import errno
import logging
import resource
import socket
import struct
import time
from collections.abc import Iterable

from fastsmtp import replies
from fastsmtp._session import Rules
from fastsmtp.availability import Availability
from fastsmtp.metrics import Metrics
from fastsmtp.net.access import Access
from fastsmtp.net.admission import Admission
from fastsmtp.net.answerer import Answerer
from fastsmtp.net.connection import Connection, factory
from fastsmtp.net.connection_counts import ConnectionCounts
from fastsmtp.net.deadlines import Deadlines
from fastsmtp.net.proxy_acceptor import ProxyAcceptor
from fastsmtp.net.server import Server
from fastsmtp.net.tls import Certificates
from fastsmtp.questions import Question
from fastsmtp.refusals import Refusals
from fastsmtp.settings import Settings

log = logging.getLogger(__name__)

BACKLOG = 4096
"""Connections that the kernel keeps until they are accepted."""

SPARE_DESCRIPTORS = 64
"""File descriptors that are not for clients: sockets, the queue, the broker, libraries."""

HANDSHAKE = 0.1
"""Seconds in which a client's connection becomes whole, once the kernel has answered its SYN."""

SO_ATTACH_FILTER = 26
"""socket(7); Python has no name for it."""


class ListenError(OSError):
    """A port cannot be listened on; the text says which, why and what to do."""

    is_taken = False  # another socket has it


def bind(addresses: tuple[str, ...], ports: tuple[int, ...]) -> list[socket.socket]:
    """Listening sockets on all `addresses` (none: every one, IPv4 and IPv6) and `ports`.

    Raises ListenError.
    """
    sockets: list[socket.socket] = []
    try:
        for port in ports:
            for address in addresses or ("0.0.0.0", "::"):
                bound = _bind(address, port, optional=not addresses and address == "::")
                if bound is not None:
                    sockets.append(bound)
    except BaseException:
        for bound in sockets:
            bound.close()
        raise
    return sockets


def _bind(address: str, port: int, *, optional: bool) -> socket.socket | None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        listening = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    except OSError as error:
        if optional:  # a machine without IPv6
            return None
        raise ListenError(f"cannot listen on {place(address, port)}: {error.strerror}") from None
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listening.bind((address, port))
        listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        if optional and error.errno == errno.EADDRNOTAVAIL:
            return None
        failed = ListenError(_why(address, port, error))
        failed.is_taken = error.errno == errno.EADDRINUSE
        raise failed from None
    return listening


def _why(address: str, port: int, error: OSError) -> str:
    advice = {
        errno.EACCES: "; ports below 1024 need root or CAP_NET_BIND_SERVICE, or set smtp-port",
        errno.EADDRINUSE: "; another program has this port: stop it, or set smtp-port",
        errno.EADDRNOTAVAIL: "; this machine does not have the address: see smtp-ip",
    }.get(error.errno or 0, "")
    return f"cannot listen on {place(address, port)}: {error.strerror}{advice}"


def place(address: str, port: int) -> str:
    """An address and port as text, IPv6 in brackets."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def connection_limit(wanted: int) -> int:
    """`wanted` connections, or as many as the descriptor limit (raised if possible) allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + SPARE_DESCRIPTORS
    if soft < needed:
        soft = min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft < needed:
        log.warning(
            "the limit of %d open files allows %d connections, not smtp-connections = %d",
            soft,
            soft - SPARE_DESCRIPTORS,
            wanted,
        )
    return max(1, min(wanted, soft - SPARE_DESCRIPTORS))


class Listener:
    """Accepts clients on bound sockets until it is stopped."""

    def __init__(
        self,
        settings: Settings,
        availability: Availability,
        metrics: Metrics,
        refusals: Refusals,
        answerers: dict[type[Question], Answerer],
        counts: ConnectionCounts,
    ) -> None:
        limit = connection_limit(settings.smtp_connections)
        certificates = Certificates(settings) if settings.smtp_certificate else None
        self._server = Server(
            Rules(settings, answerers),
            availability,
            metrics,
            refusals,
            Admission(Access(settings), counts, limit),
            answerers,
            certificates,
        )
        availability.memory.when_scarce = self._regulate
        self._deadlines = Deadlines(self._server.open, availability.memory, settings)
        self._has_proxies = bool(settings.smtp_proxy)
        self._accepting: list[asyncio.Server] = []
        self._proxy_acceptor: ProxyAcceptor | None = (
            None  # in place of servers, where there are proxies
        )

    async def start(
        self, sockets: Iterable[socket.socket], tls_sockets: Iterable[socket.socket] = ()
    ) -> None:
        """Accept on `sockets`, and on those that are TLS at once; others may have them, too."""
        self._deadlines.start()
        if self._server.certificates is not None:
            self._server.certificates.start()
        if self._has_proxies:
            self._proxy_acceptor = ProxyAcceptor(self._server)
        for bound in sockets:
            await self._accept(bound, tls_first=False)
        for bound in tls_sockets:
            await self._accept(bound, tls_first=True)

    @property
    def certificate_ends(self) -> dict[str, float]:
        """See `Certificates.ends`."""
        certificates = self._server.certificates
        return {} if certificates is None else certificates.ends

    def _regulate(self) -> None:
        """Let content wait, where it has to, before any of it is read."""
        for connection in list(self._server.open):
            if connection.session.filling and not connection.flow.claim.charged:
                connection.flow.regulate()

    async def _accept(self, bound: socket.socket, *, tls_first: bool) -> None:
        if self._proxy_acceptor is not None:
            self._proxy_acceptor.open(bound, tls_first=tls_first)
            return
        accepting = await asyncio.get_running_loop().create_server(
            factory(self._server, tls_first=tls_first), sock=bound, backlog=BACKLOG
        )
        self._accepting.append(accepting)

    async def stop(self, grace: float) -> None:
        """Let transactions end within `grace` seconds, then say 421 to the rest.

        Who connects meanwhile is told 421, unless `close` was called.
        """
        server = self._server
        server.refusal = replies.STOPPING
        remaining = set(server.open)
        for connection in remaining:
            connection.stop()
        await self._until_gone(remaining, grace)
        self._deadlines.stop()
        if server.certificates is not None:
            server.certificates.stop()
        self.close()
        if self._proxy_acceptor is not None:
            await self._proxy_acceptor.finish()
        await asyncio.sleep(0)  # who was accepted last is in `open` then
        for connection in list(server.open):
            connection.close(replies.STOPPING)
        await self._until_gone(server.open, 1.0)
        for connection in list(server.open):
            connection.abort()

    def close(self) -> None:
        """Accept no more; the supervisor has the sockets still, so nobody waiting is reset."""
        for accepting in self._accepting:
            accepting.close()
        if self._proxy_acceptor is not None:
            self._proxy_acceptor.close()

    async def _until_gone(self, connections: set[Connection], seconds: float) -> None:
        """Wait until none of `connections` is open, for `seconds` at most."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not connections.isdisjoint(self._server.open):
                    self._server.lost.clear()
                    await self._server.lost.wait()


def turn_away(sockets: list[socket.socket], tls_sockets: list[socket.socket]) -> None:
    """Close listening sockets; who waits in their backlog, and would be reset, is told 421.

    Where TLS comes first there is nothing to say before a handshake: they are only hung up on.
    Takes HANDSHAKE seconds, in which connections that have begun become whole.
    """
    if not sockets and not tls_sockets:
        return
    for listening in (*sockets, *tls_sockets):
        _drop_new(listening)
    time.sleep(HANDSHAKE)
    for listening in sockets:
        _empty(listening, replies.STOPPING.wire)
    for listening in tls_sockets:
        _empty(listening, b"")


def _empty(listening: socket.socket, words: bytes) -> None:
    with listening, contextlib.suppress(OSError):  # BlockingIOError: nobody is left
        while True:
            client, _ = listening.accept()
            with client, contextlib.suppress(OSError):
                client.send(words, socket.MSG_DONTWAIT)
                client.shutdown(socket.SHUT_WR)
                client.recv(65536, socket.MSG_DONTWAIT)  # unread, a PROXY header means a reset


def _drop_new(listening: socket.socket) -> None:
    """Let the kernel drop SYNs: else who comes between the last accept and the close is reset.

    Their client sends another a second later, and is refused like everyone then.
    """
    program = b"".join(
        struct.pack("HBBI", *instruction)
        for instruction in (
            (0x30, 0, 0, 13),  # load the flags of the TCP header
            (0x45, 0, 1, 0x02),  # skip one instruction unless SYN is set
            (0x06, 0, 0, 0),  # drop
            (0x06, 0, 0, 0xFFFF),  # keep
        )
    )
    memory = ctypes.create_string_buffer(program)
    fprog = struct.pack("HP", 4, ctypes.addressof(memory))
    with contextlib.suppress(OSError):  # without it, the gap is some microseconds
        listening.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, fprog)
