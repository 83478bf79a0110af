"""How `fastsmtp reload` finds a running supervisor and talks to it.

The supervisor listens on an abstract Unix socket that is named after its process; only root and
its own user may use it. One connection is one command, a line; the answer is lines of text and at
the end an exit status.
"""

import asyncio
import os
import re
import socket
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path

PREFIX = "fastsmtp-supervisor-"

Command = Callable[[], Awaitable[tuple[int, list[str]]]]
"""Does the work; gives the exit status and what to print."""


async def listen(reload: Command) -> asyncio.Server:
    """Take commands from now on."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if _allowed(writer.get_extra_info("socket")):
                async with asyncio.timeout(5):
                    line = await reader.readline()
                if line == b"reload\n":
                    status, said = await reload()
                    writer.write("".join(f"{each}\n" for each in [*said, status]).encode())
                    await writer.drain()
        except (TimeoutError, ConnectionError, ValueError):
            pass
        finally:
            writer.close()

    return await asyncio.start_unix_server(serve, f"\0{PREFIX}{os.getpid()}", limit=1024)


def _allowed(connection: socket.socket) -> bool:
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    _, uid, _ = struct.unpack("3i", credentials)
    return uid in (0, os.geteuid())


def running() -> list[int]:
    """Process ids of the supervisors on this machine."""
    names = Path("/proc/net/unix").read_text()
    found = {int(pid) for pid in re.findall(rf"@{PREFIX}(\d+)$", names, re.MULTILINE)}
    return sorted(found)


def ask_to_reload(pid: int) -> tuple[int, list[str]]:
    """Tell the supervisor `pid` to reload and wait until it has; gives its status and words.

    Raises OSError where it is not there or does not answer.
    """
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(120)
        connection.connect(f"\0{PREFIX}{pid}")
        connection.sendall(b"reload\n")
        with connection.makefile() as answer:
            lines = answer.read().splitlines()
    if not lines:
        raise PermissionError("only root and the user that it runs as may reload it")
    return int(lines[-1]), lines[:-1]
