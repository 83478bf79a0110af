"""`user` and `group`: whom a worker becomes once the sockets are open, and what they may do."""

import errno
import grp
import json
import os
import pwd
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from fastsmtp.settings import Settings


class Identity(NamedTuple):
    """Numbers of whom to become."""

    uid: int
    gid: int
    name: str  # for the groups that the user is a member of


class Use(NamedTuple):
    """A file that a setting names."""

    key: str
    path: str
    writes: bool  # it is made, with its folder, where it is missing


def identity(settings: Settings) -> Identity | None:
    """Whom the settings ask for; None: nobody else. Raises ValueError for unknown names."""
    if not settings.user and not settings.group:
        return None
    user = pwd.getpwuid(os.geteuid())
    if settings.user:
        try:
            user = pwd.getpwnam(settings.user)
        except KeyError:
            raise ValueError(f"there is no user {settings.user!r} on this machine") from None
    gid = user.pw_gid
    if settings.group:
        try:
            gid = grp.getgrnam(settings.group).gr_gid
        except KeyError:
            raise ValueError(f"there is no group {settings.group!r} on this machine") from None
    return Identity(user.pw_uid, gid, user.pw_name)


def become(settings: Settings) -> None:
    """Drop to `user` and `group` for good. Raises OSError or ValueError."""
    wanted = identity(settings)
    if wanted is None or (wanted.uid, wanted.gid) == (os.geteuid(), os.getegid()):
        return
    os.initgroups(wanted.name, wanted.gid)
    os.setgid(wanted.gid)
    os.setuid(wanted.uid)


def refused(uses: Iterable[Use], identity: Identity | None) -> Iterator[tuple[Use, str]]:
    """What `identity` (None: we) may not do, and why; asked in a process that is them."""
    uses = list(uses)
    if identity is None or identity.uid == os.geteuid():
        answers = _try(uses)
    else:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "fastsmtp.process.privileges"],
            input=json.dumps(uses),
            capture_output=True,
            text=True,
            check=True,
            cwd="/",
            user=identity.uid,
            group=identity.gid,
            extra_groups=os.getgrouplist(identity.name, identity.gid),
        )
        answers = json.loads(done.stdout)
    for use, why in zip(uses, answers, strict=True):
        if why:
            yield use, why


def _try(uses: Iterable[Use]) -> list[str]:
    """Why each is not possible, "" where it is."""
    return [_try_writing(use.path) if use.writes else _try_reading(use.path) for use in uses]


def _try_reading(path: str) -> str:
    try:
        with open(path, "rb"):
            return ""
    except OSError as error:
        return str(error.strerror)


def _try_writing(path: str) -> str:
    """Nothing is made or changed: the rights of the file, or the nearest folder, decide."""
    target = Path(path).absolute()
    if target.is_dir():
        return os.strerror(errno.EISDIR)
    if target.exists() and not os.access(target, os.R_OK | os.W_OK):
        return os.strerror(errno.EACCES)
    folder = target.parent
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir():
        return f"{folder} is no folder"
    if not os.access(folder, os.W_OK | os.X_OK):
        return f"{folder}: {os.strerror(errno.EACCES)}"
    return ""


if __name__ == "__main__":
    json.dump(_try([Use(*each) for each in json.load(sys.stdin)]), sys.stdout)
