"""A disk that is recorded and that fails on command, for the files below one folder.

Processes that are started with `Disk.environment` have a library preloaded (disk.c) that writes
down what they do to these files, and that makes their calls fail, or last long, as `Faults` says
at the moment. No privilege and no device is needed.
"""

import ctypes
import errno
import functools
import mmap
import os
import shlex
import struct
import subprocess
import sysconfig
import tempfile
from collections.abc import Iterator
from enum import IntEnum
from pathlib import Path
from typing import NamedTuple

SOURCE = Path(__file__).parent / "disk.c"

ALL = -1
"""Every call fails, until `Faults.heal`."""

_built = tempfile.TemporaryDirectory(prefix="fastsmtp-disk-")


class Op(IntEnum):
    """What a record is about; `enum op` of disk.c."""

    OPEN = 1
    WRITE = 2
    TRUNCATE = 3
    SYNC = 4
    SYNCED = 5
    MKDIR = 6
    UNLINK = 7
    RENAME = 8
    FOLDER = 9


class Record(NamedTuple):
    """`struct record` of disk.c."""

    op: Op
    result: int
    id: int  # of the open file
    offset: int  # or a length, or for SYNC and SYNCED what both have in common
    path: str
    data: bytes


class _Control(ctypes.Structure):
    _fields_ = tuple(
        (name, ctypes.c_int32)
        for name in (
            *("sync_delay", "sync_errno", "sync_left", "write_errno", "write_left"),
            *("failed", "lock", "last_id"),
        )
    )


class Faults:
    """What is wrong with the disk now, in all processes that have the control file at `path`."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        with open(path, "r+b") as file:
            self._map = mmap.mmap(file.fileno(), ctypes.sizeof(_Control))
        self._now = _Control.from_buffer(self._map)

    @property
    def failed(self) -> int:
        """Calls that were made to fail so far."""
        return int(self._now.failed)

    def fail_syncs(self, times: int = ALL, error: int = errno.EIO) -> None:
        """Let fsync and fdatasync fail so many times."""
        self._now.sync_errno = error
        self._now.sync_left = times

    def fail_writes(self, times: int = ALL, error: int = errno.EIO) -> None:
        """Let writes fail so many times; with EROFS also whatever else changes the disk."""
        self._now.write_errno = error
        self._now.write_left = times

    def slow_down(self, seconds: float) -> None:
        """Let every fsync last so much longer."""
        self._now.sync_delay = int(1000 * seconds)

    def heal(self) -> None:
        """Nothing is wrong any more."""
        self._now.sync_left = self._now.write_left = self._now.sync_delay = 0


class Disk:
    """The files below `folder`, which exists, is a folder and is not opened by anybody yet."""

    def __init__(self, folder: Path, work: Path, *, recorded: bool = False) -> None:
        """`work`, an existing folder elsewhere, is for the log and the control file."""
        self.folder = folder.resolve()
        control = work / "control"
        control.write_bytes(bytes(ctypes.sizeof(_Control)))
        self.faults = Faults(control)
        self.environment = {
            # A sanitizer's library wants to be the first.
            "LD_PRELOAD": f"{os.environ.get('LD_PRELOAD', '')} {_library()}".strip(),
            "DISK_FOLDER": str(self.folder),
            "DISK_CONTROL": str(control),
        }
        self._log = work / "log"
        if recorded:
            self._log.touch()
            self.environment["DISK_LOG"] = str(self._log)

    def records(self) -> Iterator[Record]:
        """What was recorded so far; paths begin below the folder, without a slash."""
        head = struct.Struct("<BiQqII")
        log = self._log.read_bytes()
        place = 0
        while place < len(log):
            op, result, id, offset, path_size, data_size = head.unpack_from(log, place)
            path_end = place + head.size + path_size
            path = log[place + head.size : path_end].decode()
            place = path_end + data_size
            data = log[path_end:place]
            yield Record(Op(op), result, id, offset, self._below(path), data)

    def _below(self, path: str) -> str:
        return path.removeprefix(str(self.folder)).strip("/")


@functools.cache
def _library() -> Path:
    """The preloaded library, compiled with the compiler that extension modules are made with."""
    path = Path(_built.name) / "disk.so"
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
    command = [*compiler, "-shared", "-fPIC", "-O1", "-o", path, SOURCE, "-ldl"]
    subprocess.run(command, check=True, env={**os.environ, "LD_PRELOAD": ""})
    return path
