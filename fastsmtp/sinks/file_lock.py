"""Locks that say who owns a queue file, whose turn it is to write, and which processes live.

They are on single octets of `<path>-lock`, a file beside it, and belong to the open file (Linux's
open file description locks, fcntl(2)): they end with it, however the process ends. SQLite's own
locks on the queue file are not touched. Names the octets, and knows nothing of what they mean.
"""

import fcntl
import os
import struct
from contextlib import suppress
from time import monotonic, sleep

from fastsmtp import own_files

SUFFIX = "-lock"

TURN = 0  # the process that writes
NEXT = 1  # the process that will write
DRAIN = 2  # the process that publishes a spill, or a queue file
OWNER = 3  # a supervisor whose spill this is, with its workers
SUPERVISOR = 4  # that supervisor alone
MAIL = 5  # shared by all processes that add mail, for as long as they have the file open
REPAIR = 6  # the process that looks for damage, and recovers what was set aside
FIRST_HOLDER = 1 << 10  # and all behind it: processes that hold rows of a spill

NOTE_LIMIT = 100
"""Octets of what the lock file says."""

POLL_INTERVAL = 0.001
"""Seconds between two looks at a lock that another one has."""

_FLOCK = "hhqqi4x"  # struct flock: l_type, l_whence, l_start, l_len, l_pid


class FileLock:
    """One opening of the lock file; several in a process lock each other out as processes do."""

    def __init__(self, path: str, owner: tuple[int, int] | None = None) -> None:
        """`path` is the queue file's; `owner` whose lock file root makes, as uid and gid.

        None: whoever owns the queue file. Raises OSError.
        """
        self.path = path + SUFFIX
        flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
        with suppress(FileExistsError):
            descriptor = os.open(self.path, flags | os.O_CREAT | os.O_EXCL, 0o600)
            if os.geteuid() == 0:
                _give(descriptor, path, owner)
            self._descriptor = descriptor
            return
        why = own_files.refusal(self.path, own_files.OURS, any_owner=os.geteuid() == 0)
        if why:
            raise OSError(f"{self.path} {why}")
        self._descriptor = os.open(self.path, flags)

    def fileno(self) -> int:
        """The descriptor: processes that inherit it keep its locks, too."""
        return self._descriptor

    def take(self, octet: int) -> bool:
        """Take the lock on `octet`, where no other one has it."""
        try:
            self._set(fcntl.F_OFD_SETLK, fcntl.F_WRLCK, octet)
        except BlockingIOError:
            return False
        return True

    def share(self, octet: int) -> None:
        """Take a lock on `octet` that others may have, too; nobody takes it alone meanwhile."""
        self._set(fcntl.F_OFD_SETLK, fcntl.F_RDLCK, octet)

    def wait(self, octet: int, seconds: float) -> bool:
        """Take the lock on `octet` once others have let go of it; False after so many seconds.

        Looks again and again: a process that waits in the kernel cannot be told to give up.
        """
        deadline = monotonic() + seconds
        while not self.take(octet):
            if monotonic() > deadline:
                return False
            sleep(POLL_INTERVAL)
        return True

    def release(self, octet: int) -> None:
        """Let go of the lock on `octet`."""
        self._set(fcntl.F_OFD_SETLK, fcntl.F_UNLCK, octet)

    def is_taken(self, octet: int) -> bool:
        """Whether another one has the lock on `octet`."""
        asked = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, octet, 1, 0)
        found = fcntl.fcntl(self._descriptor, fcntl.F_OFD_GETLK, asked)
        return bool(struct.unpack(_FLOCK, found)[0] != fcntl.F_UNLCK)

    def note(self) -> str:
        """What the lock file says; "" at first."""
        return os.pread(self._descriptor, NOTE_LIMIT, 0).decode(errors="replace").strip()

    def write_note(self, text: str) -> None:
        """Say this in the lock file."""
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{text}\n".encode(), 0)

    def close(self) -> None:
        """Let go of all locks, unless another process has inherited the descriptor."""
        os.close(self._descriptor)

    def _set(self, command: int, kind: int, octet: int) -> None:
        fcntl.fcntl(self._descriptor, command, struct.pack(_FLOCK, kind, os.SEEK_SET, octet, 1, 0))


def _give(descriptor: int, path: str, owner: tuple[int, int] | None) -> None:
    """Let the file belong to whoever uses it."""
    if owner is None:
        with suppress(FileNotFoundError):  # the queue file is made later, and is ours
            status = os.stat(path)
            owner = status.st_uid, status.st_gid
    if owner is not None:
        os.fchown(descriptor, *owner)
