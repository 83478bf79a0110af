"""A descriptor of a file that SQLite has open, which does not drop SQLite's locks.

To close any descriptor of a file drops all locks that the process has on it (fcntl(2)), SQLite's
among them. So all who open a queue file in this process share one descriptor of it, and it is
closed when the last one has let go of it: each must have closed its SQLite connections before.
"""

import os
from threading import Lock

_lock = Lock()
_shared: dict[tuple[int, int], tuple[int, int]] = {}
"""Device and inode → the descriptor, and how many use it."""


class FileDescriptor:
    """One user's; `number` is for reading alone."""

    def __init__(self, path: str) -> None:
        """Raises OSError."""
        with _lock:
            status = os.stat(path)
            self.file = status.st_dev, status.st_ino
            if self.file not in _shared:
                number = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                status = os.fstat(number)  # of another file where it was replaced in between
                self.file = status.st_dev, status.st_ino
                _shared.setdefault(self.file, (number, 0))
            self.number, users = _shared[self.file]
            _shared[self.file] = self.number, users + 1

    def close(self) -> None:
        """Let go of it; once or more often."""
        with _lock:
            if self.number < 0:
                return
            self.number = -1
            number, users = _shared.pop(self.file)
            if users > 1:
                _shared[self.file] = number, users - 1
            else:
                os.close(number)
