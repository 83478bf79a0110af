"""How `fastsmtp reload` finds a running supervisor and talks to it.

The supervisor listens on a Unix socket that is named after its process, mode 0600: whoever is
neither root nor its own user cannot connect, and so cannot take a place either. One connection is
one command, a line; the answer is lines of text and at the end an exit status. /proc/net/unix says
where the socket is. Anyone may give such a name to a socket of their own: both sides look whom they
talk to.
"""

import asyncio
import contextlib
import logging
import os
import re
import socket
import stat
import struct
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

log = logging.getLogger(__name__)

PREFIX = "fastsmtp-supervisor-"
TEMPORARY = "fastsmtp-"
"""Beginning of the name of a folder for one socket, where there is no better place."""

Command = Callable[[bool], Awaitable[tuple[int, list[str]]]]
"""Does the work, by force if True; gives the exit status and what to print."""

LINES = {b"reload\n": False, b"reload --force\n": True}
"""What may be asked for, and whether by force."""


@contextlib.asynccontextmanager
async def listening(reload: Command) -> AsyncIterator[None]:
    """Inside, commands are taken."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if _peer(writer.get_extra_info("socket"))[1] not in (0, os.geteuid()):
                return
            async with asyncio.timeout(5):
                line = await reader.readline()
            if line in LINES:
                status, said = await reload(LINES[line])
            else:
                status, said = 1, ["it knows no such command"]
            writer.write("".join(f"{each}\n" for each in [*said, status]).encode())
            await writer.drain()
        except (TimeoutError, ConnectionError, ValueError):
            pass
        finally:
            writer.close()

    try:
        path = _path()
        server = await asyncio.start_unix_server(serve, sock=_bound(path), limit=1024)
    except OSError as error:
        log.warning("fastsmtp reload will not find this process, SIGHUP will: %s", error)
        yield
        return
    try:
        yield
    finally:
        server.close()
        _remove(path)


def _path() -> Path:
    """Where to listen: in the first of these folders that is there and ours to write."""
    given = os.environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]  # systemd's
    folders = [given, "/run" if os.geteuid() == 0 else os.environ.get("XDG_RUNTIME_DIR", "")]
    for folder in folders:
        if folder and os.access(folder, os.W_OK | os.X_OK):
            _sweep(Path(folder))
            return Path(folder).absolute() / f"{PREFIX}{os.getpid()}"
    return Path(tempfile.mkdtemp(prefix=TEMPORARY)) / f"{PREFIX}{os.getpid()}"


def _bound(path: Path) -> socket.socket:
    path.unlink(missing_ok=True)
    mask = os.umask(0o177)
    bound = socket.socket(socket.AF_UNIX)
    try:
        bound.bind(str(path))
    except OSError as error:
        bound.close()
        raise OSError(f"{path}: {error.strerror or error}") from None
    finally:
        os.umask(mask)
    return bound


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)
        if path.parent.name.startswith(TEMPORARY):
            path.parent.rmdir()


def _sweep(folder: Path) -> None:
    """Remove the sockets of supervisors that were killed."""
    for path in folder.glob(f"{PREFIX}*"):
        if not Path("/proc", path.name.removeprefix(PREFIX)).exists():
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
                probe.setblocking(False)
                try:
                    probe.connect(str(path))
                except ConnectionRefusedError:  # else it is another container's
                    path.unlink()


def _peer(connection: socket.socket) -> tuple[int, int]:
    """Process and user at the other end."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    pid, uid, _ = struct.unpack("3i", credentials)
    return pid, uid


def running() -> list[int]:
    """Process ids of the supervisors on this machine."""
    return sorted({pid for pid, path in _named() if _reachable(pid, path)})


def _named() -> list[tuple[int, str]]:
    """Process id and path of every socket that is named as a supervisor's."""
    names = Path("/proc/net/unix").read_text(errors="replace")
    found = re.findall(rf" (/\S.*/{PREFIX}(\d+))$", names, re.MULTILINE)
    return [(int(pid), path) for path, pid in found]


def _reachable(pid: int, path: str) -> str:
    """The path of a supervisor's socket as we see it; "" where it is none of that process's user.

    A service may have a /tmp of its own.
    """
    for seen in (path, f"/proc/{pid}/root{path}"):
        with contextlib.suppress(OSError):
            status = os.lstat(seen)
            users = {0, os.stat(f"/proc/{pid}").st_uid}
            if stat.S_ISSOCK(status.st_mode) and status.st_uid in users:
                return seen
    return ""


def ask_to_reload(pid: int, force: bool) -> tuple[int, list[str]]:
    """Tell the supervisor `pid` to reload and wait until it has; gives its status and words.

    Raises OSError where it is not there or does not answer.
    """
    paths = [_reachable(pid, path) for named, path in _named() if named == pid]
    if not any(paths):
        raise FileNotFoundError("it has no socket for commands, or none that this user can reach")
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(120)
        connection.connect(next(filter(None, paths)))
        if _peer(connection)[0] != pid:
            raise PermissionError("another process has taken its name")
        connection.sendall(next(line for line, forces in LINES.items() if forces == force))
        with connection.makefile() as answer:
            lines = answer.read().splitlines()
    if not lines:
        raise ConnectionError("it ended before it answered")
    return int(lines[-1]), lines[:-1]
