"""The queue file comes and goes: it is made, or set aside with its log where it is damaged.

Both happen when it is nobody's turn to write (`file_lock`), and who has its turn looks whether the
file is still there: so nothing is written into a file that was set aside, and of several processes
that find the same damage one sets it aside. Knows nothing of what is in the file.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from glob import escape, glob

from fastsmtp.sinks.file_lock import TURN, FileLock
from fastsmtp.sinks.store_errors import BUSY, BUSY_TIMEOUT, StoreError

DAMAGED = ".damaged-"
RECOVERED = ".recovered"

_WITH_IT = ("", "-wal", "-shm")
"""The ends of a file's names, in the order in which they are renamed: without the file, `create`
finds its log; without its log, the file would seem to be whole."""


def create(path: str) -> None:
    """An empty file, mode 0600 (SQLite gives its WAL the same), in folders that are 0700.

    A file that exists is not touched. Raises OSError.
    """
    if os.path.lexists(path):  # then the folders are on the disk, too
        return
    _create_folder(os.path.dirname(path))
    with _turn(path):
        if os.path.lexists(path):
            return
        if any(os.path.lexists(path + end) for end in _WITH_IT):
            # Left by somebody who was killed while setting it aside: SQLite would delete it.
            _rename(path, _new_name(path))
        with suppress(FileExistsError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))


def set_aside(path: str, file: tuple[int, int]) -> str | None:
    """Rename the file, if it is still `file` (device and inode); gives its new name.

    None: another process was faster. Raises OSError.
    """
    path = os.path.abspath(path)
    with _turn(path):
        try:
            status = os.stat(path)
        except FileNotFoundError:
            return None
        if (status.st_dev, status.st_ino) != file:
            return None
        name = _new_name(path)
        _rename(path, name)
        return name


def was_set_aside(path: str, file: tuple[int, int]) -> bool:
    """Whether `file` (device and inode), which was at `path`, has been set aside."""
    for name in names(path):
        with suppress(FileNotFoundError):
            status = os.stat(name)
            if (status.st_dev, status.st_ino) == file:
                return True
    return False


def all_set_aside(path: str) -> list[str]:
    """What was set aside of the file at `path` and has not been recovered, oldest first."""
    return [name for name in names(path) if not name.endswith(RECOVERED)]


def names(path: str) -> list[str]:
    """What was set aside of the file at `path`, recovered or not, oldest first."""
    found = set()
    for name in glob(f"{escape(os.path.abspath(path) + DAMAGED)}*"):
        found.add(name.removesuffix("-wal").removesuffix("-shm"))
    return sorted(found)


def mark_recovered(name: str) -> str:
    """Rename what was set aside as `name`; gives its new name. Raises OSError."""
    _rename(name, name + RECOVERED)
    return name + RECOVERED


@contextmanager
def _turn(path: str) -> Iterator[None]:
    lock = FileLock(path)
    try:
        if not lock.wait(TURN, BUSY_TIMEOUT):
            raise StoreError(f"{path}: {BUSY}")
        yield
    finally:
        lock.close()


def _new_name(path: str) -> str:
    """A name that is free: with the time, UTC."""
    while True:
        name = f"{path}{DAMAGED}{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"
        if not any(os.path.lexists(name + end) for end in (*_WITH_IT, RECOVERED)):
            return name
        time.sleep(0.1)  # until the next second


def _rename(path: str, name: str) -> None:
    for end in _WITH_IT:
        with suppress(FileNotFoundError):
            os.rename(path + end, name + end)
    _sync_folder(os.path.dirname(path))


def _create_folder(path: str) -> None:
    """Make the folder and those above it, so that they are still there after a power cut.

    One that exists may have been made by a process that was killed before it had seen to that.
    """
    parent = os.path.dirname(path)
    if parent == path:
        return
    _create_folder(parent)
    if os.path.isdir(path):
        with suppress(OSError):  # it may be somebody else's
            _sync_folder(parent)
        return
    with suppress(FileExistsError):
        os.mkdir(path, 0o700)
    _sync_folder(parent)


def _sync_folder(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
