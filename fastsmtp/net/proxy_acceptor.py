"""The accept loop of ports where `smtp-proxy` is set.

Lets the PROXY header of a peer in `smtp-proxy` come in, then makes a `Connection` of the socket,
of which nothing behind the header has been read: it may be TLS. Other peers come in at once.
Nothing is ever said before the header.
"""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable

from fastsmtp._proxy import Header, NoHeaderError, ProxyError, parse
from fastsmtp.addresses import plain_address
from fastsmtp.background_tasks import BackgroundTasks
from fastsmtp.net.connection import factory
from fastsmtp.net.server import Server

log = logging.getLogger(__name__)

HEADER_TIMEOUT = 5.0
"""Seconds in which the whole header must come."""

LONGEST = 16 + 4096
"""Octets of the longest header."""

BATCH = 64
"""Connections that are accepted before others have their turn."""

SPARE = 32
"""Connections above the limit whose header may be on its way, so that they can be told 421."""

LAST_CALL = 1.0
"""Seconds that a header which is on its way has at the end, so that its client is told 421."""

PAUSE = 1.0
"""Seconds until the next try where the system has nothing left for another connection."""

Failure = tuple[str, str]
"""One of `metrics.PROXY_FAILURES`, and why in words."""


class ProxyAcceptor:
    """Every such port of one worker."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._open: set[socket.socket] = set()  # listening
        self._pending: set[PendingHeader] = set()
        self._none_pending = asyncio.Event()
        self._tasks = BackgroundTasks()  # a socket becomes a connection

    def open(self, bound: socket.socket, *, tls_first: bool) -> None:
        """Accept on this socket, too; `tls_first`: headers aside, TLS comes first on it."""
        bound.setblocking(False)
        self._open.add(bound)
        self._loop.add_reader(bound, self._accept, bound, tls_first)

    def close(self) -> None:
        """Accept no more; who has begun a header may finish it."""
        for bound in self._open:
            self._loop.remove_reader(bound)
            bound.close()
        self._open.clear()

    async def finish(self) -> None:
        """Cut off who does not finish its header at once; the others are connections then."""
        if self._pending:
            self._none_pending.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._none_pending.wait(), LAST_CALL)
        for pending in list(self._pending):
            pending.end()
        await self._tasks.wait()

    def _accept(self, bound: socket.socket, tls_first: bool) -> None:
        for _ in range(BATCH):
            try:
                client, address = bound.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                log.error("no connection can be accepted: %s", error.strerror)
                self._loop.remove_reader(bound)
                self._loop.call_later(PAUSE, self._resume, bound, tls_first)
                return
            client.setblocking(False)
            self._admit(client, plain_address(address[0]), tls_first)

    def _resume(self, bound: socket.socket, tls_first: bool) -> None:
        if bound in self._open:
            self._loop.add_reader(bound, self._accept, bound, tls_first)

    def _admit(self, client: socket.socket, ip: str, tls_first: bool) -> None:
        server = self._server
        if not server.admission.access.is_proxy(ip):
            self._connect(client, tls_first, None)
        elif len(server.open) + len(self._pending) >= server.admission.limit + SPARE:
            server.complaints.refused(ip, "too_many", "too many connections")
            client.close()
        else:
            pending = PendingHeader(client, ip, tls_first, self._ended)
            self._pending.add(pending)
            pending.start(self._loop)

    def _ended(
        self, pending: "PendingHeader", header: Header | None, failure: Failure | None
    ) -> None:
        """Its header is there; or else why it is closed, None where that is nobody's fault."""
        self._pending.discard(pending)
        if not self._pending:
            self._none_pending.set()
        if header is not None:
            self._connect(pending.client, pending.tls_first, header)
            return
        if failure is not None:
            self._server.complaints.refused(pending.ip, *failure)
        pending.client.close()

    def _connect(self, client: socket.socket, tls_first: bool, header: Header | None) -> None:
        made = factory(self._server, tls_first=tls_first, header=header)
        self._tasks.start(self._make_connection(client, made))

    async def _make_connection(
        self, client: socket.socket, made: Callable[[], asyncio.Protocol]
    ) -> None:
        try:
            await self._loop.connect_accepted_socket(made, client)
        except OSError:  # gone already
            client.close()


class PendingHeader:
    """An accepted socket whose PROXY header is on its way."""

    def __init__(
        self,
        client: socket.socket,
        ip: str,
        tls_first: bool,
        ended: Callable[["PendingHeader", Header | None, Failure | None], None],
    ) -> None:
        """`ended` is called once, with the header, or with why there is none."""
        self.client = client
        self.ip = ip
        self.tls_first = tls_first  # what is behind the header is TLS
        self._ended = ended
        self._data = b""  # of the header, and nothing behind it
        self._loop: asyncio.AbstractEventLoop
        self._timer: asyncio.TimerHandle

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Read, for HEADER_TIMEOUT seconds at most."""
        self._loop = loop
        self._timer = loop.call_later(HEADER_TIMEOUT, self._late)
        loop.add_reader(self.client, self._read)

    def end(self, header: Header | None = None, failure: Failure | None = None) -> None:
        """Read no more."""
        self._timer.cancel()
        self._loop.remove_reader(self.client)
        self._ended(self, header, failure)

    def _late(self) -> None:
        what = "its PROXY header is unfinished" if self._data else "no PROXY header has come"
        why = f"{what} after {HEADER_TIMEOUT:g} s: is send-proxy set at the proxy?"
        self.end(failure=("timeout", why))

    def _read(self) -> None:
        try:
            came = self.client.recv(LONGEST, socket.MSG_PEEK)
            if came:
                self._take(came)
            elif self._data:
                self.end(failure=("unfinished", "it ended within its PROXY header"))
            else:  # a health check of a mere connect says nothing at all
                self.end()
        except NoHeaderError as error:
            self.end(failure=("missing", str(error)))
        except ProxyError as error:
            self.end(failure=("malformed", str(error)))
        except (BlockingIOError, InterruptedError):
            return
        except OSError:  # reset
            self.end()

    def _take(self, came: bytes) -> None:
        """Consume what is certainly the header's; left there, it would wake us for ever."""
        header = parse(self._data + came)
        if isinstance(header, int):
            self._data += self.client.recv(len(came))
        else:
            self.client.recv(header.size - len(self._data))
            self.end(header)
