"""Who owns a spill: one supervisor, and the workers of all its generations, which inherit its lock.

A second instance is refused, with the process id of the first. Where a supervisor was killed, its
workers end by themselves: the next one waits for them.
"""

import asyncio
import logging
import os

from fastsmtp.process import privileges
from fastsmtp.settings import Settings
from fastsmtp.sinks.file_lock import OWNER, SUPERVISOR, FileLock

log = logging.getLogger(__name__)

POLL_INTERVAL = 0.05
"""Seconds between two looks whether old workers have ended."""


class OwnedError(OSError):
    """Somebody else owns the file; the text names who."""


class Owned:
    """One file that is ours until `close`."""

    def __init__(self, path: str, shared: FileLock, own: FileLock) -> None:
        self.path = path
        self._shared = shared
        self._own = own

    def fileno(self) -> int:
        """The descriptor that workers inherit."""
        return self._shared.fileno()

    def close(self) -> None:
        """Let go of it; workers that have inherited it keep it until they end."""
        self._own.close()
        self._shared.close()


def path_of(settings: Settings) -> str:
    """The file that an instance with these settings must own; "": none."""
    return os.path.abspath(settings.rabbitmq_spill) if settings.rabbitmq_spill else ""


async def take(settings: Settings, seconds: float) -> Owned:
    """Own what `rabbitmq-spill` names; it is set.

    Workers whose supervisor is gone have so many seconds to end. Raises OwnedError or OSError.
    """
    path = path_of(settings)
    identity = privileges.identity(settings)
    owner = None if identity is None else (identity.uid, identity.gid)
    own = FileLock(path, owner)
    shared = FileLock(path, owner)
    try:
        if not own.take(SUPERVISOR):
            raise OwnedError(
                f"rabbitmq-spill: {path} belongs to another fastsmtp that runs, process "
                f"{own.note()}: each instance needs a spill of its own"
            )
        await _wait(shared, path, seconds)
    except BaseException:
        own.close()
        shared.close()
        raise
    own.write_note(str(os.getpid()))
    return Owned(path, shared, own)


async def _wait(shared: FileLock, path: str, seconds: float) -> None:
    """Until the workers of a supervisor that is gone have ended."""
    deadline = asyncio.get_running_loop().time() + seconds
    before = shared.note()
    told = False
    while not shared.take(OWNER):
        if not told:
            told = True
            log.warning(
                "rabbitmq-spill: %s is still in use by workers of process %s, which is gone: "
                "waiting until they have ended",
                path,
                before,
            )
        if asyncio.get_running_loop().time() > deadline:
            raise OwnedError(
                f"rabbitmq-spill: {path} is still in use by workers of process {before}, which "
                f"did not end within {seconds:g} s: end them"
            )
        await asyncio.sleep(POLL_INTERVAL)
