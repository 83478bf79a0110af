"""`fastsmtp queue recover`: what is whole in a damaged queue file, back into the queue.

The daemon does the same by itself with what it has set aside; this is for files that were copied,
moved or set aside elsewhere, and for a queue whose daemon does not run. See `sinks/recovery.py`.
"""

import fcntl
import os
import struct
from contextlib import suppress

from fastsmtp.sinks import file_moves
from fastsmtp.sinks.file_lock import REPAIR, SUFFIX, FileLock
from fastsmtp.sinks.recovery import is_queue, recover
from fastsmtp.sinks.spill_file import SpillFile
from fastsmtp.sinks.store import Store
from fastsmtp.sinks.store_errors import BUSY_TIMEOUT, StoreDamagedError, StoreError

WINDOW = 32 << 20
"""Bytes of bodies that are read at once."""

_FLOCK = "hhqqi4x"  # struct flock: l_type, l_whence, l_start, l_len, l_pid

_SHARED = (1 << 30) + 2, 510
"""First octet and number of those that SQLite locks while a file is open."""


def run(queue: str, file: str, spill: str = "") -> int:
    """Recover `file` into the queue at `queue`; gives the exit status. Raises OSError.

    `spill` is rabbitmq-spill: where that is the queue, what comes back is published by the daemon.
    """
    queue, file = os.path.abspath(queue), os.path.abspath(file)
    owner = _owner(file)
    if os.path.exists(queue) and os.path.exists(file) and os.path.samefile(queue, file):
        file = _set_aside(queue)
        print(f"{queue} is damaged: it is set aside as {file}")
    elif file_moves.DAMAGED not in os.path.basename(file):
        _refuse_open(file)
    _create(queue, owner)
    lock = FileLock(queue)
    try:
        if not lock.wait(REPAIR, BUSY_TIMEOUT):
            raise StoreError(f"{queue}: fastsmtp recovers a file at this moment; see its log")
        store = SpillFile(queue) if spill and queue == os.path.abspath(spill) else Store(queue)
        try:
            done = recover(file, store)
        finally:
            store.close()
        if not done or not any(done):
            raise StoreError(f"{file}: there is no message of a queue in it")
        print(f"{done}; the queue is {queue}")
        if file in file_moves.all_set_aside(queue):
            kept = file_moves.mark_recovered(file)
            print(f"The damaged file is kept as {kept}: delete it when you do not need it.")
    finally:
        lock.close()
    return 0


def _owner(file: str) -> tuple[int, int]:
    """User and group of the file, or of its log where there is nothing else."""
    try:
        status = os.stat(file)
    except FileNotFoundError:
        with suppress(FileNotFoundError):
            log = os.stat(file + "-wal")
            return log.st_uid, log.st_gid
        raise
    return status.st_uid, status.st_gid


def _set_aside(queue: str) -> str:
    """Set the queue itself aside, which must be damaged; gives its new name."""
    status = os.stat(queue)
    try:
        store = Store(queue)
        try:
            if store.is_sound(lambda: True) and _reads_well(store):
                raise StoreError(f"{queue} is the queue itself, and not damaged")
        finally:
            store.close()
    except StoreDamagedError:
        if not is_queue(queue):
            raise
    name = file_moves.set_aside(queue, (status.st_dev, status.st_ino))
    if name is None:
        raise StoreError(f"{queue}: fastsmtp has set it aside at this moment; see its log")
    return name


def _reads_well(store: Store) -> bool:
    """Read every message. Raises StoreDamagedError where one is not what was stored."""
    last = 0
    while rows := store.after(last, 500, WINDOW):
        last = rows[-1][0]
    return True


def _refuse_open(file: str) -> None:
    """Raise StoreError where another process has the file open: its mail is no lost mail."""
    with suppress(FileNotFoundError):
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        try:
            asked = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, *_SHARED, 0)
            kind, *_, process = struct.unpack(_FLOCK, fcntl.fcntl(descriptor, fcntl.F_GETLK, asked))
        finally:
            os.close(descriptor)
        if kind != fcntl.F_UNLCK:
            raise StoreError(
                f"{file} is in use by process {process}: its messages would be stored twice"
            )


def _create(queue: str, owner: tuple[int, int]) -> None:
    """Make the queue where it is missing; root makes it for whom the damaged file belongs to."""
    if not os.path.exists(queue):
        file_moves.create(queue)
        if os.geteuid() == 0:
            for each in (queue, queue + SUFFIX):
                os.chown(each, *owner)
