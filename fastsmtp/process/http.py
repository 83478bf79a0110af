"""HTTP for whoever watches: /metrics, /healthz, /started and /ready, and nothing else.

Answers one request per connection and closes it. A client has `TIMEOUT` for all of it, whatever it
does; a request is at most `MAX_REQUEST` bytes. Of the clients that the server waits for, to send a
request or to read the answer, the one that has waited longest gives way to a new one, so silent
clients keep nobody out. /healthz needs no worker and no place among those whose answer is made.
"""

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from http import HTTPStatus

from fastsmtp.background_tasks import BackgroundTasks
from fastsmtp.counters import Snapshot
from fastsmtp.net.listener import place
from fastsmtp.process import exposition
from fastsmtp.process.health import trouble, unstarted

log = logging.getLogger(__name__)

TIMEOUT = 10.0
"""Seconds, from the connection to the last byte of the answer."""

MAX_REQUEST = 8 * 1024

MAX_IDLE = 256
"""Clients that the server waits for."""

BATCH = 64
"""Connections that are accepted in one turn of the event loop: a client that sends its request at
once is read before `MAX_IDLE` others can come."""

BACKLOG = 1024
"""Connections that the kernel keeps. One that finds no place is tried again a second later."""

MAX_BUSY = 32
"""Answers that are made at a time."""

Address = tuple[str, int]

Collect = Callable[[], Coroutine[None, None, Snapshot]]
"""Gives the total over all workers (`totals.total`), as it is now."""

Request = tuple[str, str]
"""Method, target."""

Response = tuple[HTTPStatus, str, bytes]
"""Status, content type, body."""


class Site:
    """The listener; on no address at first."""

    def __init__(self, collect: Collect) -> None:
        self._collect = collect
        self._address: Address | None = None
        self._server: asyncio.Server | None = None
        self._idle: dict[asyncio.StreamWriter, None] = {}  # the longest idle one comes first
        self._tasks = BackgroundTasks()  # one per client
        self._busy = 0  # answers that are being made
        self._asking: asyncio.Task[Snapshot] | None = None  # all workers, for all clients
        self._shown: tuple[Snapshot, bytes] = {}, b""  # the last page, and what is on it
        self._started = False  # /started was 200

    @contextlib.asynccontextmanager
    async def moved(self, address: Address | None) -> AsyncIterator[None]:
        """Listen on `address`: inside as well, afterwards only; as before where that raises.

        Raises OSError, whose text says what to change. None: listen nowhere.
        """
        old = new = self._server
        if address != self._address:
            new = None if address is None else await self._listen(address)
        try:
            yield
        except BaseException:
            if new and new is not old:
                new.close()
            raise
        self._server, self._address = new, address
        if old and old is not new:
            old.close()

    def close(self) -> None:
        """Listen no more, and hang up on every client."""
        if self._server:
            self._server.close()
        self._tasks.cancel()

    async def _listen(self, address: Address) -> asyncio.Server:
        try:
            server = await asyncio.start_server(
                self._accept, *address, limit=MAX_REQUEST, backlog=BATCH
            )
        except OSError as error:
            why = os.strerror(error.errno) if error.errno else error
            raise OSError(f"metrics-address: {place(*address)}: {why}") from error
        for bound in server.sockets:
            with bound.dup() as same:
                same.listen(BACKLOG)
        log.info("metrics: http://%s/metrics", place(*server.sockets[0].getsockname()[:2]))
        return server

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._tasks.start(self._take(reader, writer))

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one client, from its beginning to its end."""
        writer.transport.set_write_buffer_limits(0)  # drain() waits for everything
        try:
            async with asyncio.timeout(TIMEOUT):
                with self._idling(writer):
                    request = await _request(reader)
                writer.write(await self._answer(request))
                with self._idling(writer):
                    await writer.drain()
            writer.close()
        except (TimeoutError, ConnectionError):
            pass
        finally:
            if not writer.is_closing():
                writer.transport.abort()

    @contextlib.contextmanager
    def _idling(self, writer: asyncio.StreamWriter) -> Iterator[None]:
        """The server waits for this client, which gives way to others meanwhile."""
        if len(self._idle) >= MAX_IDLE:
            longest = next(iter(self._idle))
            del self._idle[longest]
            longest.transport.abort()
        self._idle[writer] = None
        try:
            yield
        finally:
            self._idle.pop(writer, None)

    async def _answer(self, request: Request | None) -> bytes:
        if request is None:
            return _written(_plain(HTTPStatus.BAD_REQUEST))
        method, target = request
        if method not in ("GET", "HEAD"):
            return _written(_plain(HTTPStatus.METHOD_NOT_ALLOWED))
        try:
            response = await self._response(target.partition("?")[0])
        except Exception:
            log.exception("the metrics cannot be told")
            response = _plain(HTTPStatus.INTERNAL_SERVER_ERROR)
        return _written(response, with_body=method == "GET")

    async def _response(self, path: str) -> Response:
        if path == "/healthz":
            return _plain(HTTPStatus.OK, "alive")
        if path == "/started" and self._started:
            return _plain(HTTPStatus.OK, "started")
        if path not in ("/metrics", "/ready", "/started"):
            return _plain(HTTPStatus.NOT_FOUND, "there are /metrics, /healthz, /started and /ready")
        if self._busy >= MAX_BUSY:
            return _plain(HTTPStatus.SERVICE_UNAVAILABLE, "too many clients")
        self._busy += 1
        try:
            snapshot = await self._ask_workers()
        finally:
            self._busy -= 1
        if path == "/metrics":
            return HTTPStatus.OK, exposition.CONTENT_TYPE, self._page(snapshot)
        why = (trouble if path == "/ready" else unstarted)(snapshot)
        if why:
            return _plain(HTTPStatus.SERVICE_UNAVAILABLE, why)
        self._started = self._started or path == "/started"
        return _plain(HTTPStatus.OK, path[1:])

    async def _ask_workers(self) -> Snapshot:
        """What they tell now; whoever asks while they are being asked gets the same."""
        if self._asking is None or self._asking.done():
            self._asking = asyncio.ensure_future(self._collect())
        return await asyncio.shield(self._asking)

    def _page(self, snapshot: Snapshot) -> bytes:
        """The text for Prometheus, made once per snapshot: it takes milliseconds."""
        if self._shown[0] is not snapshot:
            self._shown = snapshot, exposition.text(snapshot)
        return self._shown[1]


async def _request(reader: asyncio.StreamReader) -> Request | None:
    """Method and target (RFC 9112 §3); header fields are read and mean nothing here.

    None where it is no HTTP, or too long.
    """
    try:
        first = line = await reader.readline()
        size = len(line)
        while line not in (b"\r\n", b"\n"):
            line = await reader.readline()
            size += len(line)
            if not line or size > MAX_REQUEST:
                return None
        method, target, version = first.decode("ascii").split()
    except ValueError:
        return None
    return (method, target) if version.startswith("HTTP/1.") else None


def _plain(status: HTTPStatus, words: str = "") -> Response:
    return status, "text/plain; charset=utf-8", f"{words or status.phrase}\n".encode()


def _written(response: Response, with_body: bool = True) -> bytes:
    status, content_type, body = response
    allow = "Allow: GET, HEAD\r\n" if status is HTTPStatus.METHOD_NOT_ALLOWED else ""
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\n"
        f"Content-Type: {content_type}\r\n"
        f"Content-Length: {len(body)}\r\n"
        f"Cache-Control: no-store\r\n"
        f"Connection: close\r\n{allow}\r\n"
    )
    return head.encode() + body * with_body
