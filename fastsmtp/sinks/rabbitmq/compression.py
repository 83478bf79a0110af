"""rabbitmq-encoding: gzip. Each body becomes one gzip member (RFC 1952).

What recipients share is compressed once, whatever stands before it: a member begins with the
recipient's prefix in stored blocks (RFC 1951 §3.2.4), goes on with the shared data and ends with a
checksum of its own.
"""

import struct
import zlib
from collections.abc import Sequence

from fastsmtp._tail import Reader, Tail
from fastsmtp.payload import Outgoing

INLINE = 64 * 1024
"""Bytes of a tail that is compressed at once; more would keep the event loop from other sessions.
"""

SLICE = 1024 * 1024
"""Bytes of a tail that are made at once to be compressed. After each the thread has to wait for the
GIL, 5 ms where the event loop is busy."""

STORED = 0xFFFF
"""Bytes of the longest stored block."""

_HEAD = b"\x1f\x8b\x08\0\0\0\0\0\x04\xff"  # deflate, no time, fastest, unknown system

_CRC_32 = 0xEDB88320  # the polynomial, lowest power first, as all remainders here


def compress(message: Sequence[Outgoing]) -> list[Outgoing]:
    """The same messages with compressed bodies. Lets other threads run meanwhile."""
    compressed: list[Outgoing] = []
    tail, shared = None, None
    for outgoing in message:
        if shared is None or outgoing.tail is not tail:
            tail, shared = outgoing.tail, _Shared(outgoing)
        compressed.append(shared.member(outgoing))
    return compressed


class _Shared:
    """The compressed form of a tail, for all whose body ends with it."""

    def __init__(self, first: Outgoing) -> None:
        # Level 1: JSON text shrinks well enough, at a third of the default's time.
        deflate = zlib.compressobj(1, wbits=-zlib.MAX_WBITS)
        self._pieces: list[bytes] = []
        self._length = first.tail.size
        self._prefix_checksum = zlib.crc32(first.prefix)
        self._checksum = self._prefix_checksum  # of the first body
        self._shift = 0  # made when it is needed
        tail = Reader(first.tail)
        while tail.left:
            text = tail.read(SLICE)
            self._checksum = zlib.crc32(text, self._checksum)
            self._pieces.append(deflate.compress(text))
        self._pieces.append(deflate.flush())

    def member(self, outgoing: Outgoing) -> Outgoing:
        """`outgoing`, which has this tail, with a compressed body."""
        prefix = outgoing.prefix
        size = (len(prefix) + self._length) & 0xFFFFFFFF
        return Outgoing(
            outgoing.id,
            outgoing.priority,
            outgoing.encoding,
            _HEAD + _stored(prefix),
            Tail.plain(self._pieces, struct.pack("<LL", self._checksum_behind(prefix), size)),
            outgoing.route,
            outgoing.accepted,
            outgoing.fingerprint,
        )

    def _checksum_behind(self, prefix: bytes) -> int:
        """The CRC-32 of `prefix` and the tail, which is not read again.

        Remainders of equally long texts differ by that of their difference.
        """
        difference = zlib.crc32(prefix) ^ self._prefix_checksum
        if not difference:
            return self._checksum
        self._shift = self._shift or _shift(self._length)
        return self._checksum ^ _product(difference, self._shift)


def _stored(text: bytes) -> bytes:
    """`text` as stored blocks, none of them the last."""
    blocks = b""
    for start in range(0, len(text), STORED):
        part = text[start : start + STORED]
        blocks += struct.pack("<BHH", 0, len(part), len(part) ^ STORED) + part
    return blocks


def _shift(count: int) -> int:
    """The factor by which a CRC-32 changes where `count` zero bytes follow: x to the 8 * count."""
    factor, square = 1 << 31, 1 << 23  # 1, x to the 8
    while count:
        if count & 1:
            factor = _product(factor, square)
        square = _product(square, square)
        count >>= 1
    return factor


def _product(one: int, other: int) -> int:
    """The product of two polynomials over GF(2), modulo that of CRC-32."""
    product = 0
    while one:
        if one & 1 << 31:
            product ^= other
        one = one << 1 & 0xFFFFFFFF
        other = other >> 1 ^ (_CRC_32 if other & 1 else 0)
    return product
