"""HTTP for whoever watches: /metrics, /healthz and /ready, and nothing else.

Answers one request per connection and closes it. A client has `TIMEOUT` for all of it, whatever it
does; a request is at most `MAX_REQUEST` octets, and at most `MAX_CLIENTS` are served at a time.
"""

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from http import HTTPStatus

from fastsmtp.counters import IN_A_ROW, LAST_STORED, Snapshot
from fastsmtp.net.listener import place
from fastsmtp.process import exposition

log = logging.getLogger(__name__)

TIMEOUT = 10.0
"""Seconds, from the connection to the last octet of the answer."""

MAX_REQUEST = 8 * 1024
MAX_CLIENTS = 32

HOLD = 30.0
"""Seconds that `/ready` fails after the last of several publishes that failed in a row."""

Address = tuple[str, int]

Collect = Callable[[], Awaitable[Snapshot]]
"""Gives the total over all workers (`totals.total`), as it is now."""

Response = tuple[HTTPStatus, str, bytes]
"""Status, content type, body."""


def trouble(snapshot: Snapshot) -> str:
    """Why no mail can come in; "" where it can."""
    if not sum(snapshot.get("workers", {}).values()):
        return "no worker is up"
    if not snapshot["accepting"]:
        return f"mail is refused for now: {'; '.join(snapshot.get('trouble', ())) or 'no reason'}"
    return _failing(snapshot)


def _failing(snapshot: Snapshot) -> str:
    """Why the last publishes of all workers were not stored; "" where that is past."""
    found = []
    for label, count in snapshot.get("failures", {}).items():
        at, _, reason = label.partition(" ")
        if float(at) > snapshot.get(LAST_STORED, 0.0):
            found += [(float(at), reason)] * count
    if len(found) < IN_A_ROW:
        return ""
    at, reason = max(found)
    return f"mail is not stored: {reason}" if time.monotonic() - at < HOLD else ""


class Site:
    """The listener; on no address at first."""

    def __init__(self, collect: Collect) -> None:
        self._collect = collect
        self._address: Address | None = None
        self._server: asyncio.Server | None = None
        self._clients = 0

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
        """Listen no more."""
        if self._server:
            self._server.close()

    async def _listen(self, address: Address) -> asyncio.Server:
        try:
            server = await asyncio.start_server(self._take, *address, limit=MAX_REQUEST)
        except OSError as error:
            why = os.strerror(error.errno) if error.errno else error
            raise OSError(f"metrics-address: {place(*address)}: {why}") from error
        log.info("metrics: http://%s/metrics", place(*server.sockets[0].getsockname()[:2]))
        return server

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client, from its beginning to its end."""
        self._clients += 1
        writer.transport.set_write_buffer_limits(0)  # drain() waits for everything
        try:
            async with asyncio.timeout(TIMEOUT):
                writer.write(await self._serve(reader))
                await writer.drain()
            writer.close()
        except (TimeoutError, ConnectionError):
            writer.transport.abort()
        finally:
            self._clients -= 1

    async def _serve(self, reader: asyncio.StreamReader) -> bytes:
        if self._clients > MAX_CLIENTS:
            return _written(_plain(HTTPStatus.SERVICE_UNAVAILABLE, "too many clients"))
        try:
            method, target = await _request(reader)
        except ValueError:
            return _written(_plain(HTTPStatus.BAD_REQUEST))
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
        if path == "/ready":
            why = trouble(await self._collect())
            if why:
                return _plain(HTTPStatus.SERVICE_UNAVAILABLE, why)
            return _plain(HTTPStatus.OK, "ready")
        if path == "/metrics":
            shown = exposition.text(await self._collect())
            return HTTPStatus.OK, exposition.CONTENT_TYPE, shown
        return _plain(HTTPStatus.NOT_FOUND, "there are /metrics, /healthz and /ready")


async def _request(reader: asyncio.StreamReader) -> tuple[str, str]:
    """Method and target (RFC 9112 §3); header fields are read and mean nothing here.

    Raises ValueError where it is no HTTP, or too long.
    """
    first = line = await reader.readline()
    octets = len(line)
    while line not in (b"\r\n", b"\n"):
        line = await reader.readline()
        octets += len(line)
        if not line or octets > MAX_REQUEST:
            raise ValueError(first)
    method, target, version = first.decode("ascii").split()
    if not version.startswith("HTTP/1."):
        raise ValueError(first)
    return method, target


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
