"""How `fastsmtp reload` finds a running supervisor and talks to it.

The supervisor listens on an abstract Unix socket that is named after its process; only root and
its own user may use it. One connection is one command, a line; the answer is lines of text and at
the end an exit status. Such a name is free to anyone: both sides look whom they talk to.
"""

import asyncio
import contextlib
import logging
import os
import re
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

log = logging.getLogger(__name__)

PREFIX = "fastsmtp-supervisor-"

Command = Callable[[], Awaitable[tuple[int, list[str]]]]
"""Does the work; gives the exit status and what to print."""


@contextlib.asynccontextmanager
async def listening(reload: Command) -> AsyncIterator[None]:
    """Inside, commands are taken."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(5):
                line = await reader.readline()
            if _peer(writer.get_extra_info("socket"))[1] not in (0, os.geteuid()):
                status, said = 1, ["only root and the user that it runs as may reload it"]
            elif line == b"reload\n":
                status, said = await reload()
            else:
                status, said = 1, ["it knows no such command"]
            writer.write("".join(f"{each}\n" for each in [*said, status]).encode())
            await writer.drain()
        except (TimeoutError, ConnectionError, ValueError):
            pass
        finally:
            writer.close()

    try:
        server = await asyncio.start_unix_server(serve, f"\0{PREFIX}{os.getpid()}", limit=1024)
    except OSError as error:
        log.warning("fastsmtp reload will not find this process, SIGHUP will: %s", error)
        yield
        return
    try:
        yield
    finally:
        server.close()


def _peer(connection: socket.socket) -> tuple[int, int]:
    """Process and user at the other end."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    pid, uid, _ = struct.unpack("3i", credentials)
    return pid, uid


def running() -> list[int]:
    """Process ids of the supervisors on this machine."""
    names = Path("/proc/net/unix").read_text(errors="replace")
    found = {int(pid) for pid in re.findall(rf"@{PREFIX}(\d+)$", names, re.MULTILINE)}
    return sorted(found)


def ask_to_reload(pid: int) -> tuple[int, list[str]]:
    """Tell the supervisor `pid` to reload and wait until it has; gives its status and words.

    Raises OSError where it is not there or does not answer.
    """
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(120)
        connection.connect(f"\0{PREFIX}{pid}")
        if _peer(connection)[0] != pid:
            raise PermissionError("another process has taken its name")
        connection.sendall(b"reload\n")
        with connection.makefile() as answer:
            lines = answer.read().splitlines()
    if not lines:
        raise ConnectionError("it ended before it answered")
    return int(lines[-1]), lines[:-1]
