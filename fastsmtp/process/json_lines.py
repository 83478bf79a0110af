"""Messages between the supervisor and a worker: JSON objects, one per line, of any length.

Both sides may be of different versions: a reload after an upgrade starts workers of the new one.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

CHUNK = 1 << 18
"""Bytes that are read at a time, at most."""


def line(message: dict[str, Any]) -> bytes:
    """One message as the other side reads it."""
    return json.dumps(message).encode() + b"\n"


async def messages(reader: asyncio.StreamReader) -> AsyncIterator[dict[str, Any]]:
    """Every message until the other side is gone; one that it did not finish is dropped.

    Not `readline`, which raises where a line is longer than the reader's limit.
    """
    pieces: list[bytes] = []  # of a line that has not ended
    try:
        while data := await reader.read(CHUNK):
            *ends, rest = data.split(b"\n")
            for end in ends:
                text = b"".join([*pieces, end])
                pieces.clear()
                yield json.loads(text)
            pieces.append(rest)
    except ConnectionError:
        return
