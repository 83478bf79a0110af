"""Files that mail or addresses go into: whose they must be, and what others may do with them.

A file that somebody else could read, write or swap is refused before anything is written to it.
"""

import os
import pwd
import stat

OURS = 0o600
"""The widest rights of a file of mail: nobody else reads or writes it."""

READ_BY_GROUP = 0o640
"""The widest rights of a log: programs that ship logs read it as members of its group."""

COMPANIONS = ("-wal", "-shm", "-journal", "-lock")
"""What SQLite puts beside its file, or would read there, and our lock file."""

_KINDS = {
    stat.S_IFLNK: "is a symbolic link: name the file itself",
    stat.S_IFDIR: "is a directory",
    stat.S_IFIFO: "is a FIFO, no regular file",
    stat.S_IFSOCK: "is a socket, no regular file",
    stat.S_IFCHR: "is a device, no regular file",
    stat.S_IFBLK: "is a device, no regular file",
}


def refusal(path: str, widest: int, *, any_owner: bool = False) -> str:
    """Why the file that is at `path` is not used; "" where it is, or where there is none.

    `any_owner`: whoever it belongs to. Raises OSError where its folder cannot be looked into.
    """
    try:
        return _refusal(os.lstat(path), widest, any_owner)
    except FileNotFoundError:
        return ""


def database_refusal(path: str, *, any_owner: bool) -> str:
    """Why a SQLite file, or a companion of it, is not used, with its path; "" where they are."""
    for each in (path, *(path + suffix for suffix in COMPANIONS)):
        why = refusal(each, OURS, any_owner=any_owner)
        if why:
            return f"{each} {why}"
    return ""


def open_log(path: str) -> int:
    """A descriptor that appends to the log at `path`, which is made where it is missing.

    Raises OSError, whose text says why not. Never waits, as for the reader of a FIFO.
    """
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        descriptor = os.open(path, flags, 0o600)
    except OSError as error:
        raise OSError(f"{path} {refusal(path, READ_BY_GROUP) or error.strerror}") from None
    why = _refusal(os.fstat(descriptor), READ_BY_GROUP, False)
    if why:
        os.close(descriptor)
        raise OSError(f"{path} {why}")
    return descriptor


def _refusal(status: os.stat_result, widest: int, any_owner: bool) -> str:
    kind, mode = stat.S_IFMT(status.st_mode), stat.S_IMODE(status.st_mode)
    if kind != stat.S_IFREG:
        return _KINDS.get(kind, "is no regular file")
    us = os.geteuid()
    if status.st_uid != us and not any_owner:
        return f"belongs to {_name(status.st_uid)}, not to {_name(us)}"
    if mode & ~(widest | stat.S_IXUSR):
        return f"has mode {mode:04o}, which lets others in: expected {widest:04o} or less"
    return ""


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"
