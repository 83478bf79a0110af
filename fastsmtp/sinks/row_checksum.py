"""The checksum of a row of a queue file: CRC-32 of all that makes the message.

Tells damage, not intent. What recipients share goes in as its own CRC-32, which is computed once.
Must give for ever what it gave to the rows that are in files.
"""

from zlib import crc32

from fastsmtp._tail import Reader, Tail
from fastsmtp.sinks.store_errors import StoreDamagedError

SLICE = 256 * 1024
"""Bytes of a large tail that are made at once."""


def of_tail(tail: Tail) -> int:
    """The CRC-32 of a tail, which is made slice by slice."""
    checksum, rest = 0, Reader(tail)
    while rest.left:
        checksum = crc32(rest.read(SLICE), checksum)
    return checksum


def of_row(
    id: str,
    priority: int | None,
    encoding: str,
    prefix: bytes,
    tail: int,
    exchange: str | None = None,
    routing_key: str | None = None,
    headers: str | None = None,
) -> int:
    """The checksum of a row whose tail has the CRC-32 `tail`."""
    rest = f"{id}\0{priority}\0{encoding}\0{tail}"
    if exchange is not None or headers is not None:
        rest += f"\0{_marked(exchange)}\0{_marked(routing_key)}\0{_marked(headers)}"
    return crc32(rest.encode(), crc32(prefix))


def check_row(
    path: str,
    checksum: int | None,
    id: str,
    priority: int | None,
    encoding: str,
    prefix: bytes,
    tail: int,
    exchange: str | None,
    routing_key: str | None,
    headers: str | None,
) -> None:
    """Raise StoreDamagedError where a row of the file at `path` is not what was stored.

    Rows of an older fastsmtp have no `checksum`: they are taken as they are.
    """
    if checksum is not None:
        row = (id, priority, encoding, prefix, tail, exchange, routing_key, headers)
        if of_row(*row) != checksum:
            raise StoreDamagedError(f"{path}: message {id} is not what was stored")


def _marked(text: str | None) -> str:
    """Tell empty text and none apart."""
    return "" if text is None else f"={text}"
